"""Written questions as a prepared data set, which replaces the old one only when it is complete."""

import dataclasses
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import tensorflow_datasets as tfds
from pydantic import Field

from radvqa_jax import locks, typed_json
from radvqa_jax.data import prepared_files
from radvqa_jax.data.prepared_files import PreparedFile
from radvqa_jax.data.replacing import place_beside, remove_leftovers, replace
from radvqa_jax.data.rows import plain
from radvqa_jax.files import private_files, write_json
from radvqa_jax.shell import command
from tfds_builders.written.written_dataset_builder import NAME, Builder

DATASET = "written"
ABOUT_FILE = "written.json"
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class _About:
    """written.json, as runners/check_questions.py writes it."""

    __pydantic_config__ = typed_json.STRICT
    radvqa_jax: str
    name: str
    sources: list[dict[str, Any]]  # fingerprints of the sets that the questions are about (data/sources.py)
    settings: dict[str, Any]
    checks: dict[str, str]
    checks_sha256: str
    written: Annotated[int, Field(ge=0)]
    accepted: Annotated[int, Field(ge=0)]
    planted: Annotated[int, Field(ge=0)]
    measured: Any
    review: Any
    balance: Any
    models: list[str]
    writers: list[str]
    prompts_sha256: list[str]
    synthetic: bool
    funnel: list[dict[str, Any]]
    seed: int | None = None  # older records do not have these
    prepared_files: dict[str, PreparedFile] = dataclasses.field(default_factory=dict)
    content: dict[str, str] = dataclasses.field(default_factory=dict)


def check_name(name: str) -> None:
    """Raises ValueError if the name of written questions cannot be the name of a folder."""
    if not NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot name written questions: give small letters, digits and underscores, beginning with a "
            "letter, such as rocov2_questions (synthesis.name, or builder_config of dataset='written')."
        )


def written_builder(name: str, data_dir: str | Path, **options: Any) -> Builder:
    """The builder of the questions with that name.

    Raises:
        ValueError: if it cannot be the name of a folder.
    """
    check_name(name)
    config = tfds.core.BuilderConfig(name=name, description="Questions written from captions and cases.")
    return Builder(data_dir=Path(data_dir).expanduser(), config=config, file_format="array_record", **options)


def write_command(name: str, *, data_dir: str = "") -> str:
    """The command that writes the questions with that name."""
    dataset = name.removesuffix("_unchecked").removesuffix("_questions")
    parts = ["--config", f"configs/write_questions.py:{dataset}"]
    parts += [f"--config.synthesis.name={name.removesuffix('_unchecked')}"]
    parts += ["--config.synthesis.unchecked=true"] if name.endswith("_unchecked") else []
    parts += [f"--config.data.data_dir={data_dir}"] if data_dir else []
    return command(*parts, "--workdir", f"runs/{name}")


def read_about(folder: Path) -> dict[str, Any]:
    """The content of a prepared set's written.json: its writers, its checks, and the accepted pairs.

    Raises:
        ValueError: naming file and field, if it was not written by this package.
    """
    about = dataclasses.asdict(typed_json.read(folder / ABOUT_FILE, _About))
    if not all(isinstance(source.get("dataset"), str) for source in about["sources"]):
        raise ValueError(f"{folder / ABOUT_FILE}: every entry of field `sources` must name its `dataset`.")
    return about


def say_origin(folder: Path) -> str:
    """The origin of the questions of a prepared folder, in words."""
    about = read_about(folder)
    sources = dict.fromkeys(entry["dataset"] for entry in about["sources"])
    return (
        f"written by {', '.join([*about['writers'], *about['models']])} about {', '.join(sources)}; "
        f"{about['accepted']} of {about['written']} pairs accepted"
    )


def _with_files(rows: Iterable[Row]) -> Iterator[Row]:
    for row in rows:
        yield row | {"image": io.BytesIO(row["image"])}


def read_texts(builder: Builder) -> Iterator[Row]:
    """Yields every row of prepared questions without its image, as plain values."""
    decoders = {"image": tfds.decode.SkipDecoding()}
    for split in builder.info.splits:
        records: Any = builder.as_data_source(split, decoders=decoders)  # pyright: ignore[reportCallIssue] decorated
        for record in records:
            yield {name: plain(value) for name, value in record.items() if name != "image"}


def prepare_written(
    name: str,
    *,
    data_dir: str,
    rows: Mapping[str, Callable[[], Iterable[Row]]],
    about: Mapping[str, Any],
    finish: Callable[[Path, Callable[[], Iterator[Row]], Mapping[str, Any]], None] = lambda folder, rows, about: None,
) -> Path:
    """Prepares written questions and returns their folder.

    Args:
        name: of the questions.
        data_dir: folder of prepared data sets.
        rows: split -> function that gives its rows: common features, provenance, and `image` as bytes.
        about: the content of written.json.
        finish: writes the other files of the folder, given the new folder, all rows without images, and `about`.

    An earlier set with the same name stays until the new one is complete, and is then replaced.
    """
    check_name(name)
    place = Path(data_dir).expanduser() / DATASET / name / str(Builder.VERSION)  # not opened: it may be damaged
    place.parent.mkdir(parents=True, exist_ok=True)
    with locks.hold(place.parent, doing=f"preparing written questions {name}", wait=True), private_files():
        remove_leftovers(place)
        beside = place_beside(place)
        try:
            builder = written_builder(
                name, beside, rows={split: (lambda give=give: _with_files(give())) for split, give in rows.items()}
            )
            builder.download_and_prepare()
            new = Path(builder.data_dir)
            write_json(new / ABOUT_FILE, dict(about) | prepared_files.describe(builder))
            finish(new, lambda: read_texts(builder), about)
            replace(place, new)
        finally:
            remove_leftovers(place)
    return place
