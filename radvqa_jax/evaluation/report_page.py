"""report.html: one file that loads nothing (pages.py), with one script, which filters the list of cases."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from radvqa_jax import files
from radvqa_jax.config import ReportConfig
from radvqa_jax.data.image import decode_image
from radvqa_jax.evaluation import paper_figures, reliance, review, scoring
from radvqa_jax.evaluation import report_figures as figures
from radvqa_jax.evaluation.report import (
    COLUMNS,
    GROUP_LABELS,
    Experiment,
    cut_lines,
    judge_lines,
    review_lines,
    run_label,
    table_rows,
)
from radvqa_jax.evaluation.tables import format_cell
from radvqa_jax.pages import data_url, flat_lines, render_page
from radvqa_jax.schema import Record

_TEMPLATES = Path(__file__).parent / "templates"
_PNG = b"\x89PNG\r\n\x1a\n"
_SIDE = 320  # pixels of the longer side of a case's image
# What cases can be filtered by: data attribute -> label.
FILTERS = {
    "rule": "verdict of the rules",
    "judge": "verdict of the judge",
    "blind": "question only",
    "type": "answer type",
    "organ": "organ",
    "modality": "modality",
}


def _overlays(overlays: Sequence[Mapping[str, Any]], *, images: bool) -> list[dict[str, Any]]:
    """Returns the overlays with their PNG as a data URL; without images, nothing to show."""
    for index, overlay in enumerate(overlays):
        if not bytes(overlay["png"]).startswith(_PNG):
            raise ValueError(f"overlays[{index}]['png'] must be the bytes of a PNG file; got {overlay['png'][:8]!r}.")
    return [
        dict(overlay) | {"src": data_url(bytes(overlay["png"]), kind="png") if images else ""} for overlay in overlays
    ]


def _thumbnail(data: bytes) -> str:
    """Returns a small copy of an image as a data URL: pixels only, nothing else that the file may hold."""
    image = Image.fromarray(decode_image(data))
    image.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=85)
    return data_url(buffer.getvalue(), kind="jpeg")


def _sets(experiment: Experiment) -> dict[str, Sequence[Record]]:
    """Returns everything that answers a question, by label; the question-only answers are last."""
    answers = {run_label(name): records for name, records in experiment.runs.items()}
    if experiment.swapped:
        name, records = list(experiment.swapped.items())[-1]
        answers[f"{run_label(name)}, with another case's image"] = records
    if experiment.question_only:
        answers["question only (no image)"] = experiment.question_only
    return answers


def _judgements(experiment: Experiment, name: str, record: Record) -> list[dict[str, str]]:
    """Returns what every judge says about a record of a run."""
    found = []
    for judge in experiment.judged.get(name, ()):
        line = judge.find(record)
        right = judge.correct(line)
        outcome = "unjudged" if right is None else "correct" if right else "incorrect"
        score = "" if line is None or line.score is None else f"score {line.score}"
        reason = "not asked" if line is None else line.reason or line.why
        found.append({"who": str(judge.about["model"]), "outcome": outcome, "score": score, "reason": reason})
    return found


def _answer(record: Record) -> dict[str, Any]:
    """Returns a record's answers with their verdicts, the first of which counts."""
    answers = [{"text": text, "verdict": scoring.verdict(record, text)} for text in record.predictions]
    probability = f"{np.exp(min(0.0, record.logprobs[0])):.2f}" if record.logprobs else ""
    return {"answers": answers, "verdict": answers[0]["verdict"], "probability": probability, "judges": []}


def _cases(experiment: Experiment, config: ReportConfig, *, seed: int) -> list[dict[str, Any]]:
    """Returns a random sample of questions, with every answer to them and what is said about it."""
    sets = {label: {(r.source, r.question_id): r for r in records} for label, records in _sets(experiment).items()}
    last = list(experiment.runs)[-1]
    records = experiment.runs[last]
    chosen = np.random.default_rng(seed).choice(len(records), size=min(config.cases, len(records)), replace=False)
    cases = []
    for record in (records[i] for i in sorted(chosen)):
        key = (record.source, record.question_id)
        lines: list[dict[str, Any]] = [{"label": label, **_answer(found[key])} for label, found in sets.items()]
        for line, name in zip(lines, experiment.runs, strict=False):
            line["judges"] = _judgements(experiment, name, sets[run_label(name)][key])
        own = lines[len(experiment.runs) - 1]
        shown = experiment.image(record) if config.images and experiment.image else None
        cases.append(
            {
                "record": record,
                "lines": lines,
                "image": _thumbnail(shown) if shown else "",
                "tags": {
                    "rule": own["verdict"].outcome,
                    "judge": own["judges"][0]["outcome"] if own["judges"] else "",
                    "blind": lines[-1]["verdict"].outcome if experiment.question_only else "",
                    "type": record.answer_type,
                    "organ": record.organ,
                    "modality": record.modality,
                },
            }
        )
    return cases


def _filters(cases: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Returns the values that each filter offers; one that would not tell cases apart is left out."""
    values = {name: sorted({case["tags"][name] for case in cases} - {""}) for name in FILTERS}
    return {name: found for name, found in values.items() if len(found) > 1}


def _render(experiment: Experiment, scores: Mapping[str, Any], config: ReportConfig, *, seed: int) -> str:
    groups = {  # group -> value -> number of images
        group: {
            value: cell["n_images"]
            for run in scores["runs"].values()
            for value, cell in sorted(run["by"].get(group, {}).items())
        }
        for group in GROUP_LABELS
    }
    papers, conditions = paper_figures.as_rows(scores["papers"])
    cases = _cases(experiment, config, seed=seed)
    compared = {run_label(name): run for name, run in scores["runs"].items()}
    if "question_only" in scores["baselines"]:
        compared["question only"] = scores["baselines"]["question_only"]
    return render_page(
        _TEMPLATES,
        "report",
        scores=scores,
        format_cell=format_cell,
        columns=COLUMNS,
        rows=table_rows(scores),
        papers=papers,
        conditions=conditions,
        cut_lines=cut_lines(scores),
        judge_lines=judge_lines(scores),
        review_lines=review_lines(scores),
        run_label=run_label,
        group_labels=GROUP_LABELS,
        groups={group: values for group, values in groups.items() if values},
        compared=compared,
        loss=figures.loss_figure(experiment.losses),
        organs=figures.group_figure(scores, "organ"),
        calibration=figures.calibration_figure(scores),
        agreement=figures.agreement_figure(scores),
        overlays=_overlays(experiment.overlays, images=config.images),
        cases=cases,
        filters=_filters(cases),
        filter_labels=FILTERS,
        images=config.images,
        provenance=flat_lines({**experiment.provenance, "method": scores["method"]}),
        case_seed=seed,
        questions=experiment.questions,
        relied=reliance.reliance_rows(
            {run_label(name): run["reliance"] for name, run in scores["runs"].items() if "reliance" in run}
        ),
        reliance_notes=reliance.NOTES.replace("`", ""),
        sampled={
            name: run["samples"] for name, run in scores["runs"].items() if run.get("samples", {}).get("answers", 1) > 1
        },
    )


def write_report(
    folder: str | Path,
    experiment: Experiment,
    *,
    scores: Mapping[str, Any],
    config: ReportConfig | None = None,
    seed: int = 0,
) -> Path:
    """Writes scores.json and report.html into `folder`, each whole or not at all; returns the page's path.

    With `report.review_rows`, review_sheet.csv too.

    Args:
        folder: made if it is missing.
        experiment: what the scores were built from.
        scores: from `build_scores`.
        config: images, number of cases, review sheet.
        seed: of the draw of cases and of the sheet's rows.
    """
    config = config or ReportConfig()
    page = _render(experiment, scores, config, seed=seed)
    folder = Path(folder)
    files.write_json(folder / "scores.json", scores)
    files.write_text(folder / "report.html", page)
    if config.review_rows:
        review.write_sheet(folder / "review_sheet.csv", dict(experiment.runs), rows=config.review_rows, seed=seed)
    return folder / "report.html"
