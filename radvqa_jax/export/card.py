"""The model card of an export: its kind, origin, terms and scores."""

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jinja2
from pydantic import Field

from radvqa_jax import files, typed_json

TEMPLATE = Path(__file__).parent / "templates" / "card.md"
BUILDERS = Path(__file__).parents[2] / "tfds_builders"
UNKNOWN_LICENCE = "its README names no licence; see its authors"


class Card(NamedTuple):
    """The content of a card."""

    title: str
    format: str  # peft, huggingface or big_vision
    base: str  # name of the base checkpoint
    base_sha256: str
    variant: str
    resolution: int  # pixels
    prompt: str  # for questions
    dtype: str
    recipe: Sequence[str]  # lines
    datasets: Sequence[tuple[str, str]]  # (name, licence)
    scores: Sequence[Mapping[str, Any]]  # name, value, n, interval
    check: str  # how the export was verified
    notes: Sequence[str]
    version: str  # of radvqa_jax
    trained_with_prompt: bool = False  # whether the adapter says that its training was configured with this prompt


def licence_of(dataset: str) -> str:
    """The section `Licence` of the data set's README, as one line."""
    readme = BUILDERS / dataset / "README.md"
    if not readme.is_file():
        return UNKNOWN_LICENCE
    _, _, rest = readme.read_text(encoding="utf-8").partition("\n## Licence\n")
    text = " ".join(rest.partition("\n## ")[0].split())
    return text or UNKNOWN_LICENCE


_Share = Annotated[float, Field(ge=0, le=1)]


class _Overall(NamedTuple):
    value: _Share
    n: Annotated[int, Field(ge=1)]
    interval: Annotated[list[_Share], Field(min_length=2, max_length=2)] | None


def read_scores(path: str) -> list[dict[str, Any]]:
    """The overall cells of a scores.json: (run, value, n, interval) for each run in it.

    Raises:
        ValueError: if it is not a scores.json of this project, or a score in it has no n.
    """
    text = files.read_json(path)
    runs = text.get("runs") if isinstance(text, dict) else None
    if not isinstance(runs, dict) or not runs:
        raise ValueError(
            f"{path} is no scores.json: it has no `runs`. Give the file that mode=score or mode=job wrote."
        )
    found = []
    for name, cells in runs.items():
        overall = cells.get("overall") if isinstance(cells, dict) else None
        if overall is None or (isinstance(overall, dict) and overall.get("value") is None):
            continue  # nothing was scored; a card says nothing then
        if isinstance(overall, dict) and not isinstance(overall.get("n"), int):
            raise ValueError(f"{path}: runs.{name}.overall has no n. A score without its number of rows is not shown.")
        wanted = {key: overall.get(key) for key in _Overall._fields} if isinstance(overall, dict) else overall
        cell = typed_json.check(wanted, _Overall, where=f"{path}: runs.{name}.overall")
        found.append({"name": name, **cell._asdict()})
    return found


def _plain(text: str) -> str:
    """A name as one line of Markdown that is neither HTML nor another cell of a table."""
    return re.sub(r"([\\\\|`\[\]])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def render(card: Card) -> str:
    """The card as Markdown with the metadata block that the Hub reads."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["plain"] = _plain
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(card=card)
