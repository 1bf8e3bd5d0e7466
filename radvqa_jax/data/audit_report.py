"""The audit as audit.json and audit.html: one page without scripts, fonts or links, every text escaped."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
from matplotlib.figure import Figure

from radvqa_jax import __version__, files

_TEMPLATES = Path(__file__).parent / "templates"
KINDS = (
    ("images", "images"),
    ("near images", "near_images"),
    ("pictures of MedPix", "medpix_pictures"),
    ("cases", "cases"),
    ("triplets", "triplets"),
    ("questions", "questions"),
)
TEXTS = (
    ("answers that may stand for none", "placeholder_answers"),
    ("openings that many answers share", "template_openings"),
)
ANSWERS_DRAWN = 12
LABEL_LENGTH = 28  # characters of an answer in a figure
LONGEST_DRAWN = 60  # words; longer texts are in the last bar


def _lengths(lengths: Mapping[str, int]) -> np.ndarray:
    """Returns [LONGEST_DRAWN + 1]: rows with 0, 1, … words."""
    bars = np.zeros(LONGEST_DRAWN + 1, np.int64)
    for length, n in lengths.items():
        bars[min(int(length), LONGEST_DRAWN)] += n
    return bars


def draw_set(split: Mapping[str, Any]) -> bytes:
    """Returns an SVG with the commonest answers, and the lengths of questions and answers, of one set."""
    answers = [(answer, n) for answer, n in split["answers"].items() if answer != "(others)"][:ANSWERS_DRAWN]
    # A fixed salt and no date: the same data give the same file. Text that looks like mathematics is drawn as it is.
    with matplotlib.rc_context({"svg.hashsalt": "radvqa", "font.size": 9, "text.parse_math": False}):
        figure = Figure(figsize=(11, 2.9), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        labels = [answer if len(answer) <= LABEL_LENGTH else answer[: LABEL_LENGTH - 1] + "…" for answer, _ in answers]
        left.barh(range(len(answers)), [n for _, n in answers], color="#7fb0e0")
        left.set(yticks=range(len(answers)), yticklabels=labels, xlabel="rows")
        left.invert_yaxis()
        asked = bool(split["distinct_questions"])  # a set of captions has no questions
        middle.set_visible(asked)
        for axis, key in ((middle, "question_words"), (right, "answer_words")):
            axis.bar(range(LONGEST_DRAWN + 1), _lengths(split[key]), width=1.0, color="#7fb0e0")
            axis.set(xlabel=f"words of {key.removesuffix('_words')}s", ylabel="rows")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _counts(split: Mapping[str, Any]) -> list[tuple[str, str]]:
    closed = split["closed"]
    share = f" ({closed['not_yes_no'] / closed['rows']:.1%})" if closed["rows"] else ""
    return [
        ("rows", str(split["rows"])),
        ("images", str(split["images"])),
        ("rows without an image", str(split["rows_without_image"])),
        ("pictures of MedPix", str(split["medpix_pictures"])),
        ("cases", str(split["cases"])),
        ("rows without a case", str(split["rows_without_case"])),
        ("different questions", str(split["distinct_questions"])),
        ("different answers", str(split["distinct_answers"])),
        ("closed answers that are not yes or no", f"{closed['not_yes_no']} of {closed['rows']}{share}"),
        ("multiple choice", str(split["multiple_choice"])),
        ("empty answers", str(split["empty_answers"])),
        ("repeated question-answer-image triplets", str(split["repeated_triplets"])),
        ("questions with several answers about one image", str(split["contradictions"])),
        ("pairs of nearly the same image", str(split["near_pairs_within"])),
    ]


def _cell(cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return ""
    interval = "" if cell["interval"] is None else f" [{cell['interval'][0]:.2f}, {cell['interval'][1]:.2f}]"
    return f"{cell['value']:.3f}{interval} n={cell['n']}"


def _blind(blind: Mapping[str, Any]) -> list[tuple[str, str, list[str]]]:
    """Returns (set, baseline, [overall, closed, open]); a cell without rows is empty."""
    return [
        (
            name,
            kind.replace("_", " "),
            [
                _cell(scores.get("overall")),
                *(_cell(scores["by"].get("answer_type", {}).get(c)) for c in ("closed", "open")),
            ],
        )
        for name, kinds in blind.items()
        for kind, scores in kinds.items()
    ]


def write_audit(workdir: Path, report: Mapping[str, Any]) -> Path:
    """Writes audit.json and audit.html, and returns the path of the page."""
    files.write_json(workdir / "audit.json", report)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    figures = {
        name: "data:image/svg+xml;base64," + base64.b64encode(draw_set(split)).decode()
        for name, split in report["splits"].items()
    }
    leaks = {kind.replace("_", " ") for pair in report["shared"] for kind in pair["leak"]}
    page = environment.get_template("audit.html").render(
        report=report,
        kinds=KINDS,
        texts=TEXTS,
        figures=figures,
        counts={name: _counts(split) for name, split in report["splits"].items()},
        blind=_blind(report["blind"]),
        leak_kinds=", ".join(sorted(leaks)),
        version=__version__,
    )
    path = workdir / "audit.html"
    files.write_text(path, page)
    return path
