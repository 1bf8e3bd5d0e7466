"""The files of a prepared set of written questions: a data card, its rows as jsonl, and Croissant metadata."""

import datetime
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tfds_builders
from radvqa_jax.evaluation.tables import format_cell
from radvqa_jax.files import sha256, write_json, write_jsonl, write_text
from tfds_builders.features import TEXT_FEATURES
from tfds_builders.written.written_dataset_builder import PROVENANCE

CARD = "README.md"
ROWS = "questions.jsonl"
CROISSANT = "croissant.json"
CROISSANT_VERSION = "http://mlcommons.org/croissant/1.1"
_USE = "Fine-tuning vision-language models for radiological visual question answering, and research on it."
_LIMITS = (
    "Not for clinical use. The pairs were not written by physicians, and a pair that passed the checks may be wrong. "
    "Written test questions measure agreement with captions, not with radiologists."
)
_EXTRA = {
    "yes_no": "whether the reference is yes or no",
    "choices": "options of a multiple-choice question",
    "answer_index": "index into choices; -1 if there are none",
}
_TYPES = {"yes_no": "BOOL", "answer_index": "INTEGER"}


def licence(dataset: str) -> str:
    """The licence according to the data set's README; empty if the README gives none."""
    path = Path(tfds_builders.__path__[0]) / dataset / "README.md"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    section = re.search(r"^## Licence\n+(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return " ".join(section[1].split()) if section else ""


def _set_name(fingerprint: Mapping[str, Any]) -> str:
    name = "/".join(filter(None, (fingerprint["dataset"], fingerprint["builder_config"])))
    return f"{name}:{fingerprint['split']} (version {fingerprint['version']}, {fingerprint['rows']} rows)"


def _measured(about: Mapping[str, Any]) -> list[str]:
    measured = about["measured"]
    if not measured:
        return ["The checks were not measured (synthesis.measure=0)."]
    lines = [
        f"On {measured['false']} false pairs planted among {measured['right']} right ones about phantoms whose truth "
        "is known, without a language model. Intervals are 95 %, over images. The captions there are short and "
        "synthetic; on real captions the checks may do worse.",
        "",
        "| planted | recall |",
        "|---|---|",
        *(f"| {kind} | {format_cell(row['recall'])} |" for kind, row in measured["kinds"].items()),
        f"| all | {format_cell(measured['overall']['recall'])} |",
        "",
        f"Precision of all checks together: {format_cell(measured['overall']['precision'])}.",
    ]
    return lines


def _read_by_people(about: Mapping[str, Any]) -> list[str]:
    review = about["review"]
    if not review:
        return ["Nobody has read a sample of the pairs."]
    lines = [
        f"- {reader} read {row['n']} pairs and passed {row['passed']}; precision of all checks "
        f"{format_cell(row['checks']['all checks']['precision'])}, recall "
        f"{format_cell(row['checks']['all checks']['recall'])}."
        for reader, row in review["readers"].items()
    ]
    for row in review["kappa"]:
        kappa = "undefined" if row["kappa"] is None else f"{row['kappa']:.2f}"
        lines.append(f"- {row['a']} and {row['b']}: Cohen's kappa {kappa} over {row['n']} pairs.")
    return lines


def make_card(about: Mapping[str, Any], *, counts: Mapping[str, int]) -> str:
    """The data card as Markdown.

    Args:
        about: the content of written.json.
        counts: rows by split.
    """
    datasets = list(dict.fromkeys(entry["dataset"] for entry in about["sources"]))
    notes = ["**All images are synthetic.**"] if about["synthetic"] else []
    if about["planted"]:
        notes.append(f"**{about['planted']} written pairs were made false on purpose, for an ablation.**")
    if "_unchecked" in about["name"]:
        notes.append("**This set holds every written pair, whether or not it passed the checks.**")
    funnel = [
        f"| {row['check']} | {row['version']} | {'off' if row['off'] else row['failed']} | {row['left']} | "
        f"{row['about']} |"
        for row in about["funnel"]
    ]
    models = ", ".join(about["models"]) or "none: templates alone"
    lines = [
        f"# {about['name']}: written questions",
        "",
        *(line for note in notes for line in (note, "")),
        f"Question-answer pairs written from captions and cases by radvqa_jax {about['radvqa_jax']}, and checked.",
        "",
        "## Intended use",
        "",
        f"{_USE} {_LIMITS}",
        "",
        "## Sources and licences",
        "",
        *(f"- {_set_name(entry)}" for entry in about["sources"]),
        "",
        *(f"- Licence of {name}: {licence(name) or 'not stated'}" for name in datasets),
        "",
        "The questions add no right to images, captions and cases.",
        "",
        "## How they were written",
        "",
        f"- Writers: {', '.join(about['writers'])}",
        f"- Language model: {models}",
        f"- Prompts and templates, sha256: {', '.join(about['prompts_sha256']) or 'none'}",
        f"- Pairs written: {about['written']}; accepted: {about['accepted']}",
        "- Rows here: " + ", ".join(f"{split} {n}" for split, n in counts.items()),
        "",
        "All pairs of a case are in one split.",
        "",
        "## Checks",
        "",
        "| check | version | rejected | left | a pair that fails |",
        "|---|---|---|---|---|",
        *funnel,
        "",
        *_measured(about),
        "",
        "## Read by people",
        "",
        *_read_by_people(about),
        "",
    ]
    return "\n".join(lines)


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    names = [*TEXT_FEATURES, *PROVENANCE, *_EXTRA]
    return {name: row[name] for name in names}


def make_croissant(about: Mapping[str, Any], *, digest: str, date: datetime.datetime) -> dict[str, Any]:
    """The metadata in Croissant 1.1.

    Args:
        about: the content of written.json.
        digest: sha256 of questions.jsonl.
        date: of the questions.

    Raises:
        ValueError: if mlcroissant is not installed, or reports an error in the metadata.
    """
    try:
        import mlcroissant as mlc
    except ModuleNotFoundError as error:
        raise ValueError("Croissant metadata need the extra `croissant`: pip install -e '.[croissant]'.") from error
    docs = {**TEXT_FEATURES, **PROVENANCE, **_EXTRA}
    fields = [
        mlc.Field(
            id=f"questions/{name}",
            name=name,
            description=doc,
            data_types=[getattr(mlc.DataType, _TYPES.get(name, "TEXT"))],
            **({"is_array": True, "array_shape": "-1"} if name == "choices" else {}),
            source=mlc.Source(file_object="questions-jsonl", extract=mlc.Extract(column=name)),
        )
        for name, doc in docs.items()
    ]
    names = list(dict.fromkeys(entry["dataset"] for entry in about["sources"]))
    metadata = mlc.Metadata(
        conforms_to=[CROISSANT_VERSION],
        name=about["name"],
        description=(
            f"Question-answer pairs written from captions and cases of {', '.join(names)} and checked; "
            f"{about['accepted']} of {about['written']} were accepted. README.md is the data card."
        ),
        license=[f"{name}: {licence(name) or 'not stated'}" for name in names],
        version="1.0.0",
        date_published=date,
        machine_annotation_tools=[f"radvqa_jax {about['radvqa_jax']}", *about["models"]],
        data_use_cases=[_USE],
        data_limitations=[_LIMITS],
        data_annotation_protocol=[f"{row['check']} {row['version']}: {row['about']}" for row in about["funnel"]],
        cite_as="Questions written and checked by radvqa_jax.",
        distribution=[
            mlc.FileObject(
                id="questions-jsonl",
                name=ROWS,
                description="Every row without its image.",
                content_url=ROWS,
                encoding_formats=["application/jsonlines"],
                sha256=digest,
            )
        ],
        record_sets=[mlc.RecordSet(id="questions", name="questions", key=["questions/question_id"], fields=fields)],
    )
    return metadata.to_json()


def write_card(
    folder: Path, about: Mapping[str, Any], *, rows: Iterable[Mapping[str, Any]], date: datetime.datetime
) -> None:
    """Writes the card, the rows without images and, if mlcroissant is installed, the metadata into a folder."""
    counts: Counter[str] = Counter()

    def counted() -> Iterable[dict[str, Any]]:
        for row in rows:
            counts[row["split"]] += 1
            yield _plain(row)

    write_jsonl(folder / ROWS, counted())
    write_text(folder / CARD, make_card(about, counts=counts))
    try:
        metadata = make_croissant(about, digest=sha256(folder / ROWS), date=date)
    except ValueError as error:
        print(f"{folder / CROISSANT} is not written. {error}", flush=True)
        return
    write_json(folder / CROISSANT, metadata)
