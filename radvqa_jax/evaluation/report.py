"""What an experiment shows: scores.json with every number, a table for the terminal, and report.html for people.

The page is one file without scripts, fonts or links: its Content-Security-Policy forbids every load but the images
inside it, and every text goes through the template's escaping.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
from matplotlib.figure import Figure

from radvqa_jax import __version__, files
from radvqa_jax.evaluation import scoring
from radvqa_jax.schema import Record

RUN_LABELS = {"base": "before", "stage1": "after stage 1", "stage2": "after stage 2"}
GROUP_LABELS = {group: group.replace("_", " ") for group in scoring.GROUPS}
COLUMNS = ("overall", "closed", "open")
# Answers of a run that did not see the image of the question.
UNSEEN = {"swapped": "another case's image", "swapped_any": "any other image", "blank": "a blank image"}
BLIND_LABELS = {
    "question_only": "question only (no image)",
    "majority": "majority answer (no image)",
    "longest_option": "longest option (no image)",
    "letter_frequency": "commonest letter (no image)",
}
_TEMPLATES = Path(__file__).parent / "templates"
_PNG = b"\x89PNG\r\n\x1a\n"


def run_label(name: str) -> str:
    """Returns how tables call a run: before, after stage 1, …, or its own name."""
    return RUN_LABELS.get(name, name)


@dataclass(frozen=True)
class Experiment:
    """What a report is made of. Every list of records answers the same questions."""

    title: str
    runs: Mapping[str, Sequence[Record]]  # in the order of the table: base, stage1, stage2
    question_only: Sequence[Record] = ()
    majority: Sequence[Record] = ()
    # run -> its answers to another case's image of the same modality and organ, to that of any case, to a blank image.
    swapped: Mapping[str, Sequence[Record]] = field(default_factory=dict)
    swapped_any: Mapping[str, Sequence[Record]] = field(default_factory=dict)
    blank: Mapping[str, Sequence[Record]] = field(default_factory=dict)
    # longest_option and letter_frequency: for questions with choices only.
    guesses: Mapping[str, Sequence[Record]] = field(default_factory=dict)
    losses: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)  # stage -> rows with step, loss
    overlays: Sequence[Mapping[str, Any]] = ()  # png (bytes), caption, question, reference, prediction
    # Anything that JSON can hold: config hash, checkpoint sha256, data fingerprints, versions. synthetic=True is shown.
    provenance: Mapping[str, Any] = field(default_factory=dict)


def _over(a: Sequence[Record], b: Sequence[Record], **bootstrap: int) -> dict[str, Any]:
    """Returns accuracy of a minus b, paired, for each column, and `by` group."""
    found = scoring.compare(a, b, **bootstrap)
    columns = {column: cell for column, cell in found["by"].get("answer_type", {}).items() if column in COLUMNS}
    return {"overall": found["overall"], **columns, "by": found["by"]}


def _check_same_questions(experiment: Experiment) -> None:
    """Raises ValueError, naming the first odd set, if the sets of records do not answer the same questions."""
    sets = {name: records for name, records in experiment.runs.items()}
    for kind in UNSEEN:
        sets |= {f"{name}, {kind}": records for name, records in getattr(experiment, kind).items()}
    sets |= {"question_only": experiment.question_only, "majority": experiment.majority}
    asked = {name: {(r.source, r.question_id) for r in records} for name, records in sets.items() if records}
    first, *others = asked
    for name in others:
        if unshared := sorted(asked[first] ^ asked[name]):
            raise ValueError(
                f"Runs are compared on the same questions, but {len(unshared)} are in only one of {first!r} and "
                f"{name!r}, first {unshared[:3]}. Evaluate both on the same source and split."
            )


def build_scores(experiment: Experiment, *, resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Returns every number of the report as plain JSON values; a cell without questions is absent.

    Keys: `title`, `synthetic`, `method`, `runs` (run -> cells, with `swapped`, `swapped_any`, `blank`, and
    `over_question_only`, `over_swapped`, … where there are such records), `baselines` (`question_only`, `majority`, and
    for multiple choice `longest_option`, `letter_frequency`), `losses`, `provenance`.

    Raises:
        ValueError: if two sets of records do not answer the same questions.
    """
    if not experiment.runs or not all(experiment.runs.values()):
        raise ValueError(f"A report needs runs with records; got { {k: len(v) for k, v in experiment.runs.items()} }.")
    for kind in UNSEEN:
        if unknown := sorted(set(getattr(experiment, kind)) - set(experiment.runs)):
            raise ValueError(f"Records of {kind} of {unknown}, which are not among the runs {list(experiment.runs)}.")
    _check_same_questions(experiment)
    bootstrap = {"resamples": resamples, "seed": seed}
    baselines = {"question_only": experiment.question_only, "majority": experiment.majority, **experiment.guesses}
    runs = {}
    for name, records in experiment.runs.items():
        cells = scoring.score(records, **bootstrap).to_json()
        if experiment.question_only:
            cells["over_question_only"] = _over(records, experiment.question_only, **bootstrap)
        for kind in UNSEEN:
            if unseen := getattr(experiment, kind).get(name):
                cells[kind] = scoring.score(unseen, **bootstrap).to_json()
                cells[f"over_{kind}"] = _over(records, unseen, **bootstrap)
        runs[name] = cells
    return {
        "title": experiment.title,
        "synthetic": bool(experiment.provenance.get("synthetic", False)),
        "method": {
            "scorer": f"radvqa {__version__} rules, first prediction, unparsed counts as not correct",
            "interval": "95 % percentile bootstrap over images; exact binomial where all images are alike",
            "resamples": resamples,
            "seed": seed,
        },
        "runs": runs,
        "baselines": {k: scoring.score(v, **bootstrap).to_json() for k, v in baselines.items() if v},
        "losses": {stage: [dict(row) for row in rows] for stage, rows in experiment.losses.items()},
        "provenance": dict(experiment.provenance),
    }


def _column(cells: Mapping[str, Any], column: str) -> Mapping[str, Any] | None:
    """Returns the cell of a column of the table, or None."""
    return cells.get("overall") if column == "overall" else cells.get("by", {}).get("answer_type", {}).get(column)


def format_cell(cell: Mapping[str, Any] | None, *, signed: bool = False, n: bool = True) -> str:
    """Returns a cell as text; an absent one is a dash.

    >>> format_cell({"value": 0.873, "interval": [0.85, 0.893], "n": 600})
    '0.873 [0.85, 0.89] n=600'
    """
    if cell is None:
        return "-"
    sign = "+" if signed else ""
    bounds = ", ".join(f"{bound:{sign}.2f}" for bound in cell["interval"] or ())
    return f"{cell['value']:{sign}.3f} [{bounds or 'no interval'}]" + (f" n={cell['n']}" if n else "")


def table_rows(scores: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the rows of the main table: `label`, `kind` (run, beside, over, blind), a `cells` entry per column."""
    rows: list[dict[str, Any]] = []

    def add(label: str, kind: str, cells: Mapping[str, Any]) -> None:
        rows.append({"label": label, "kind": kind, "cells": {c: _column(cells, c) for c in COLUMNS}})

    for name, run in scores["runs"].items():
        add(run_label(name), "run", run)
        for kind, label in UNSEEN.items():
            if kind in run:
                add(f"with {label}", "beside", run[kind])
        for kind, label in {"question_only": "question only", **UNSEEN}.items():
            if over := run.get(f"over_{kind}"):
                rows.append({"label": f"over {label}", "kind": "over", "cells": {c: over.get(c) for c in COLUMNS}})
    for name, cells in scores["baselines"].items():
        add(BLIND_LABELS[name], "blind", cells)
    return rows


def format_table(scores: Mapping[str, Any]) -> str:
    """Returns the main table for the terminal: accuracy, 95 % interval and n, with the baselines beside each run."""
    header = ["accuracy", *COLUMNS, "unparsed"]
    lines = [header]
    for row in table_rows(scores):
        signed = row["kind"] == "over"
        overall = row["cells"]["overall"]
        indent = "  " if row["kind"] in ("beside", "over") else ""
        cells = [format_cell(row["cells"][column], signed=signed) for column in COLUMNS]
        lines.append([indent + row["label"], *cells, "" if signed else str(overall["unparsed"])])
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    overall = next(iter(scores["runs"].values()))["overall"]
    text.insert(1, "-" * max(map(len, text)))
    first = next(iter(scores["runs"].values()))
    paired = " Rows that begin with `over` are paired." if any(key.startswith("over_") for key in first) else ""
    text.append(
        f"{overall['n']} questions on {overall['n_images']} images. [95 % interval by bootstrap over images].{paired}"
    )
    if scores["synthetic"]:
        text.append("Synthetic data: these figures say nothing about real radiographs.")
    return "\n".join(text)


def _data_url(data: bytes, *, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _loss_figure(losses: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, str] | None:
    """Returns an image of the loss curves, one panel a stage, and the same in words; None if there is no loss."""
    curves = {
        stage: {
            key: np.array([[row["step"], row[key]] for row in rows if key in row], dtype=np.float64)
            for key in sorted({key for row in rows for key in row if "loss" in key})
        }
        for stage, rows in losses.items()
    }
    curves = {stage: lines for stage, lines in curves.items() if lines}
    if not curves:
        return None
    words = []
    # A fixed salt and no date: the same losses give the same file.
    with matplotlib.rc_context({"svg.hashsalt": "radvqa", "font.size": 9}):
        figure = Figure(figsize=(4.2 * len(curves), 2.8), layout="constrained")
        for axis, (stage, lines) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
            title = run_label(stage).removeprefix("after ")
            for style, (key, points) in zip(("-", "--", ":", "-.") * len(lines), lines.items(), strict=False):
                marker = "." if len(points) < 30 else ""  # a single point draws no line
                axis.plot(points[:, 0], points[:, 1], style, marker=marker, label=key, linewidth=1.3)
                (first, start), (last, end) = points[0], points[-1]
                words.append(f"{title}, {key}: {start:.3f} at step {first:.0f}, {end:.3f} at step {last:.0f}")
            axis.set(title=title, xlabel="step", ylabel="loss")
            axis.grid(alpha=0.3)
            if len(lines) > 1:
                axis.legend(frameon=False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return {"src": _data_url(buffer.getvalue(), kind="svg+xml"), "words": "; ".join(words)}


def _overlays(overlays: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns the overlays with their PNG as a data URL."""
    for index, overlay in enumerate(overlays):
        if not bytes(overlay["png"]).startswith(_PNG):
            raise ValueError(f"overlays[{index}]['png'] must be the bytes of a PNG file; got {overlay['png'][:8]!r}.")
    return [dict(overlay) | {"src": _data_url(bytes(overlay["png"]), kind="png")} for overlay in overlays]


def _cases(experiment: Experiment, *, limit: int, seed: int) -> list[dict[str, Any]]:
    """Returns a random sample of questions with every run's answer and verdict; the question-only answer is last."""
    answers = {run_label(name): records for name, records in experiment.runs.items()}
    if experiment.swapped:
        name, records = list(experiment.swapped.items())[-1]
        answers[f"{run_label(name)}, with another case's image"] = records
    if experiment.question_only:
        answers["question only (no image)"] = experiment.question_only
    by_question = {label: {(r.source, r.question_id): r for r in records} for label, records in answers.items()}
    records = next(iter(experiment.runs.values()))
    chosen = np.random.default_rng(seed).choice(len(records), size=min(limit, len(records)), replace=False)
    cases = []
    for record in (records[i] for i in sorted(chosen)):
        lines = []
        for label, found in by_question.items():
            prediction = found[record.source, record.question_id].predictions[0]
            lines.append({"label": label, "prediction": prediction, "verdict": scoring.verdict(record, prediction)})
        cases.append({"record": record, "answers": lines})
    return cases


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Returns (dotted name, text) for each leaf of nested mappings."""
    if isinstance(value, Mapping):
        return [pair for key, item in value.items() for pair in _flat(item, f"{name}.{key}" if name else str(key))]
    return [(name, ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value))]


def write_report(
    folder: str | Path, experiment: Experiment, *, scores: Mapping[str, Any], cases: int = 40, seed: int = 0
) -> Path:
    """Writes scores.json and report.html into `folder`, each whole or not at all; returns the page's path.

    Args:
        folder: made if it is missing.
        experiment: what the scores were built from.
        scores: from `build_scores`.
        cases: how many questions are listed, drawn at random.
        seed: of that draw.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(format_cell=format_cell)
    runs = scores["runs"].values()
    groups = {  # group -> value -> number of images
        group: {value: cell["n_images"] for run in runs for value, cell in sorted(run["by"].get(group, {}).items())}
        for group in GROUP_LABELS
    }
    page = environment.get_template("report.html").render(
        scores=scores,
        columns=COLUMNS,
        rows=table_rows(scores),
        group_labels=GROUP_LABELS,
        groups={group: values for group, values in groups.items() if values},
        compared={run_label(k): v for k, v in scores["runs"].items()}
        | ({"question only": scores["baselines"]["question_only"]} if "question_only" in scores["baselines"] else {}),
        loss=_loss_figure(experiment.losses),
        overlays=_overlays(experiment.overlays),
        cases=_cases(experiment, limit=cases, seed=seed),
        provenance=_flat(experiment.provenance),
        case_seed=seed,
    )
    folder = Path(folder)
    files.write_json(folder / "scores.json", scores)
    files.write_text(folder / "report.html", page)
    return folder / "report.html"
