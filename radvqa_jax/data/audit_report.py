"""The audit as audit.json and audit.html (pages.py)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from radvqa_jax import __version__, files
from radvqa_jax.data.audit import consequences
from radvqa_jax.data.audit_pictures import picture_pairs
from radvqa_jax.data.rows import RowSource
from radvqa_jax.pages import SERIES, figure_settings, figure_url, render_page

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
LONGEST_DRAWN = 60  # words; longer texts are in the last bar


def _lengths(lengths: Mapping[str, int]) -> np.ndarray:
    """[LONGEST_DRAWN + 1]: rows with 0, 1, … words."""
    bars = np.zeros(LONGEST_DRAWN + 1, np.int64)
    for length, n in lengths.items():
        bars[min(int(length), LONGEST_DRAWN)] += n
    return bars


def draw_lengths(split: Mapping[str, Any]) -> str:
    """Draws the lengths of questions and answers of one set; the address of an SVG."""
    # A set of captions has no questions.
    keys = ("question_words", "answer_words") if split["distinct_questions"] else ("answer_words",)
    with figure_settings(**{"font.size": 9}):
        figure = Figure(figsize=(3.6 * len(keys), 2.4), layout="constrained")
        for axis, key in zip(figure.subplots(1, len(keys), squeeze=False)[0], keys, strict=True):
            axis.bar(range(LONGEST_DRAWN + 1), _lengths(split[key]), width=1.0, color=SERIES[0])
            axis.set(xlabel=f"words of {key.removesuffix('_words')}s", ylabel="rows")
        return figure_url(figure)


def commonest_answers(split: Mapping[str, Any]) -> list[tuple[str, int, float]]:
    """The commonest answers of a set, with their number of rows and its share of the largest one."""
    found = [(answer, n) for answer, n in split["answers"].items() if answer != "(others)"][:ANSWERS_DRAWN]
    return [(answer, n, n / found[0][1]) for answer, n in found]


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
    """(set, baseline, [overall, closed, open]); a cell without rows is empty."""
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


def write_audit(workdir: Path, report: Mapping[str, Any], *, sets: Mapping[str, RowSource] | None = None) -> Path:
    """Writes audit.json and audit.html, and returns the path of the page.

    Args:
        workdir: the folder.
        report: of `audit`, with `near_bits`, `accepted` and, where they were scored, `blind` answers.
        sets: name -> rows, to show small copies of shared images; None = the page holds no image.
    """
    files.write_json(workdir / "audit.json", report)
    pictures = {
        (pair["first"], pair["second"]): picture_pairs(sets[pair["first"]], sets[pair["second"]], pair)
        for pair in report["shared"]
        if sets and pair["first"] != pair["second"]
    }
    leaks = {kind.replace("_", " ") for pair in report["shared"] for kind in pair["leak"]}
    page = render_page(
        _TEMPLATES,
        "audit",
        report=report,
        consequences=consequences(report),
        kinds=KINDS,
        texts=TEXTS,
        figures={name: draw_lengths(split) for name, split in report["splits"].items()},
        answers={name: commonest_answers(split) for name, split in report["splits"].items()},
        counts={name: _counts(split) for name, split in report["splits"].items()},
        blind=_blind(report.get("blind", {})),
        pictures=pictures,
        images=sets is not None,
        leak_kinds=", ".join(sorted(leaks)),
        version=__version__,
    )
    path = workdir / "audit.html"
    files.write_text(path, page)
    return path
