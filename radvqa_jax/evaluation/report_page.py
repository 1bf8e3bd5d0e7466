"""report.html: one file that loads nothing (pages.py), with one script that filters the list of cases."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from radvqa_jax import files
from radvqa_jax.config import ReportConfig
from radvqa_jax.evaluation import paper_figures, reliance, report_summary, review
from radvqa_jax.evaluation import report_figures as figures
from radvqa_jax.evaluation.report import (
    BLIND_LABELS,
    COLUMNS,
    GROUP_LABELS,
    Experiment,
    ShownMap,
    cut_lines,
    judge_lines,
    review_lines,
    run_label,
    table_rows,
)
from radvqa_jax.evaluation.report_cases import FILTERS, filters, sample_cases
from radvqa_jax.evaluation.score_types import QUESTION_ONLY, Cells, ExperimentScores
from radvqa_jax.evaluation.tables import format_cell
from radvqa_jax.pages import data_url, flat_lines, render_page
from radvqa_jax.schema import Record

_TEMPLATES = Path(__file__).parent / "templates"
_PNG = b"\x89PNG\r\n\x1a\n"
# Meanings of VQA-RAD's codes (Lau et al. 2018, table 2).
_VQA_RAD_CODES = {
    "ABD": "abdomen",
    "ABN": "abnormality",
    "ATTRIB": "other attribute",
    "COUNT": "counting",
    "POS": "position",
    "PRES": "presence of an object or condition",
}
# Files that the report links to: path -> what it is.
_BESIDE = {
    "saliency/viewer.html": "Viewer: what the model read in the image",
    "audit.html": "Audit of the data",
    "questions/questions.html": "Written questions",
    "table.txt": "table.txt",
    "published.txt": "published.txt",
    "scores.json": "scores.json",
    "predictions": "predictions",
}


def _maps(maps: Sequence[ShownMap], *, images: bool) -> list[dict[str, Any]]:
    """The cases with image and map as data URLs; empty if images may not be shown."""
    shown = []
    for index, each in enumerate(maps):
        for name in ("image", "map"):
            data: bytes = getattr(each, name)
            if not data.startswith(_PNG):
                raise ValueError(f"maps[{index}].{name} must be the bytes of a PNG file; got {data[:8]!r}.")
        urls = {name: data_url(getattr(each, name), kind="png") if images else "" for name in ("image", "map")}
        shown.append(each._asdict() | urls)
    return shown


def explain_code(value: str, records: Sequence[Record]) -> str:
    """The meaning of a group's value if it is a code of VQA-RAD, else an empty text."""
    if not all(record.source.startswith("VQA-RAD") for record in records):
        return ""
    found = [_VQA_RAD_CODES.get(code, "") for code in value.split(", ")]
    return ", ".join(
        meaning or code.lower() for meaning, code in zip(found, value.split(", "), strict=True) if any(found)
    )


def _groups(scores: ExperimentScores) -> dict[str, dict[str, int]]:
    """group -> value -> number of images, for groups that have values."""
    found = {
        group: {
            value: cell["n_images"]
            for run in scores["runs"].values()
            for value, cell in sorted(run["by"].get(group, {}).items())
        }
        for group in GROUP_LABELS
    }
    return {group: values for group, values in found.items() if values}


def _shown_in_numbers(scores: ExperimentScores) -> dict[str, Any]:
    """The values of the template that come from the scores alone."""
    papers, conditions = paper_figures.as_rows(scores["papers"])
    runs = dict(list(scores["runs"].items())[::-1])
    labels = {name: run_label(name) for name in runs}
    compared: dict[str, Cells] = {labels[name]: run for name, run in runs.items()}
    if QUESTION_ONLY in scores["baselines"]:
        compared["question only"] = scores["baselines"][QUESTION_ONLY]
    relied = {labels[name]: run["reliance"] for name, run in runs.items() if "reliance" in run}
    return {
        "scores": scores,
        "sentences": report_summary.sentences(scores, label=labels[next(iter(runs))]),
        "dots": report_summary.dots(scores, run_labels=labels, blind_labels=BLIND_LABELS),
        "rows": table_rows(scores, last_first=True),
        "papers": papers,
        "conditions": conditions,
        "cut_lines": cut_lines(scores),
        "judge_lines": judge_lines(scores),
        "review_lines": review_lines(scores),
        "groups": _groups(scores),
        "compared": compared,
        "organs": figures.group_figure(scores, "organ"),
        "calibration": figures.calibration_figure(scores),
        "agreement": figures.agreement_figure(scores),
        "relied": reliance.reliance_rows(relied),
        "reliance_notes": reliance.NOTES.replace("`", ""),
        "sampled": {
            name: samples for name, run in runs.items() if (samples := run.get("samples")) and samples["answers"] > 1
        },
    }


def _render(
    experiment: Experiment, scores: ExperimentScores, config: ReportConfig, *, links: Mapping[str, str], seed: int
) -> str:
    cases = sample_cases(experiment, config, seed=seed)
    records = next(iter(experiment.runs.values()))
    return render_page(
        _TEMPLATES,
        "report",
        **_shown_in_numbers(scores),
        links=links,
        format_cell=format_cell,
        columns=COLUMNS,
        run_label=run_label,
        explain_code=lambda value: explain_code(value, records),
        group_labels=GROUP_LABELS,
        loss=figures.loss_figure(experiment.losses),
        maps=_maps(experiment.maps, images=config.images),
        cases=cases,
        filters=filters(cases),
        filter_labels=FILTERS,
        images=config.images,
        provenance=flat_lines({**experiment.provenance, "method": scores["method"]}),
        case_seed=seed,
        questions=experiment.questions,
    )


def write_report(
    folder: str | Path,
    experiment: Experiment,
    *,
    scores: ExperimentScores,
    config: ReportConfig | None = None,
    seed: int = 0,
) -> Path:
    """Writes scores.json and report.html into `folder`, each whole or not at all; returns the page's path.

    The page links to the files that exist when it is written. With `report.review_rows`, review_sheet.csv too.

    Args:
        folder: made if it is missing.
        experiment: what the scores were built from.
        scores: from `build_scores`.
        config: images, number of cases, review sheet.
        seed: of the draw of cases and of the sheet's rows.
    """
    config, folder = config or ReportConfig(), Path(folder)
    links = {path: label for path, label in _BESIDE.items() if (folder / path).exists() or path == "scores.json"}
    page = _render(experiment, scores, config, links=links, seed=seed)
    files.write_json(folder / "scores.json", scores)
    files.write_text(folder / "report.html", page)
    if config.review_rows:
        review.write_sheet(folder / "review_sheet.csv", dict(experiment.runs), rows=config.review_rows, seed=seed)
    return folder / "report.html"
