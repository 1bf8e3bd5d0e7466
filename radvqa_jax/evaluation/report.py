"""What an experiment shows: every number as plain values, and a table for the terminal. The page is in report_page."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from radvqa_jax import __version__
from radvqa_jax.evaluation import paper_figures, reliance, scoring
from radvqa_jax.evaluation.calibration import calibrate
from radvqa_jax.evaluation.judge_file import JudgeFile
from radvqa_jax.evaluation.judge_scores import score_judge
from radvqa_jax.evaluation.nonsense import score_nonsense
from radvqa_jax.evaluation.review import Reading, score_readings
from radvqa_jax.evaluation.tables import align, format_cell
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
    judged: Mapping[str, Sequence[JudgeFile]] = field(default_factory=dict)  # run -> what each judge said
    readings: Sequence[Reading] = ()  # what clinicians said about the runs' answers
    image: Callable[[Record], bytes] | None = None  # the image of a question, as an encoded file; None = no access
    missing: Sequence[str] = ()  # sentences on what could not be made
    overlays: Sequence[Mapping[str, Any]] = ()  # png (bytes), caption, question, reference, prediction
    questions: Mapping[str, Any] | None = None  # what each check of written questions caught (synthesis/report.py)
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
    `over_question_only`, `over_swapped`, …, `reliance` where there are such records; `judged`,
    `calibration`, `nonsense`, `cut`, `review` where there is something to say), `baselines` (`question_only`,
    `majority`, and for multiple choice `longest_option`, `letter_frequency`), `papers` (what others print for the same
    data), `losses`, `provenance`.

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
                cells.setdefault("reliance", {})[UNSEEN[kind]] = reliance.of_records(records, unseen, **bootstrap)
        judges = experiment.judged.get(name, ())
        cells["judged"] = {judge.name: score_judge(judge, records, **bootstrap) for judge in judges}
        cells["calibration"] = calibrate(records, **bootstrap)
        cells["nonsense"] = score_nonsense(records, **bootstrap)
        cells["cut"] = count_cut(records)
        cells["review"] = score_readings(experiment.readings, name, records, judges, **bootstrap)
        runs[name] = {key: value for key, value in cells.items() if value or key in ("overall", "by")}
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
        "papers": paper_figures.find(next(iter(experiment.runs.values()))),
        "losses": {stage: [dict(row) for row in rows] for stage, rows in experiment.losses.items()},
        "provenance": dict(experiment.provenance),
    } | ({"missing": list(experiment.missing)} if experiment.missing else {})


def _column(cells: Mapping[str, Any], column: str) -> Mapping[str, Any] | None:
    """Returns the cell of a column of the table, or None."""
    return cells.get("overall") if column == "overall" else cells.get("by", {}).get("answer_type", {}).get(column)


def _judge_cells(judge: Mapping[str, Any]) -> dict[str, Any]:
    parts = {"overall": judge["overall"]} | judge["by_answer_type"]
    found = {c: part for c in COLUMNS if (part := parts.get(c)) and part["accuracy"]}
    return {c: found[c]["accuracy"] | {"unparsed": found[c]["unjudged"]} if c in found else None for c in COLUMNS}


def judge_lines(scores: Mapping[str, Any]) -> list[str]:
    """Returns a line for each judge and run: how often attacks succeed, what is unjudged, agreement with the rules."""
    lines = []
    for name, run in scores["runs"].items():
        for judge in run.get("judged", {}).values():
            attack, control = judge["attacks"].get("any attack"), judge["attacks"].get("control")
            kappa = judge["agreement_with_rules"]
            words = [f"{run_label(name)}, judge {judge['about']['model']} ({judge['about']['prompt']}):"]
            words.append(
                f"attack success {format_cell(attack)}, same wrong answers without attack {format_cell(control)};"
            )
            words.append(f"{judge['overall']['unjudged']} unjudged;")
            if kappa is None or kappa["kappa"] is None:
                words.append("no kappa with the rules.")
            else:
                words.append(f"kappa with the rules {format_cell(kappa | {'value': kappa['kappa']})}.")
            lines.append(" ".join(words))
    return lines


def count_cut(records: Sequence[Record]) -> dict[str, int]:
    """Returns how many first answers ran out of tokens before they ended, of how many that say; empty if none says."""
    known = [record.ended[0] for record in records if record.ended]
    return {"cut": known.count(False), "of": len(known)} if known else {}


def cut_lines(scores: Mapping[str, Any]) -> list[str]:
    """Returns a line for each run with answers that were cut."""
    return [
        f"{run_label(name)}: decode.max_new_tokens cut {found['cut']} of {found['of']} answers before they ended."
        for name, run in scores["runs"].items()
        if (found := run.get("cut")) and found["cut"]
    ]


def review_lines(scores: Mapping[str, Any]) -> list[str]:
    """Returns a line for each reader and run, and one for each pair of who judged: accuracy as read, and kappa."""
    lines = []
    for name, run in scores["runs"].items():
        found = run.get("review")
        if not found:
            continue
        label = run_label(name)
        lines += [f"{label}, read by {reader}: {format_cell(cell)}." for reader, cell in found["readers"].items()]
        for pair in found["agreement"]:
            if pair["kappa"] is not None:
                lines.append(
                    f"{label}, {pair['a']} and {pair['b']}: kappa {format_cell(pair | {'value': pair['kappa']})}."
                )
        if found["stale"]:
            lines.append(f"{label}: {found['stale']} rows of sheets are about answers that have changed; not counted.")
    return lines


def table_rows(scores: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the rows of the main table: `label`, `kind` (run, beside, over, judge, blind), `cells` by column.

    In a row of a judge, `unparsed` of its first cell is the number of unjudged answers.
    """
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
        for judge in run.get("judged", {}).values():
            label = f"judged by {judge['about']['model']}"
            rows.append({"label": label, "kind": "judge", "cells": _judge_cells(judge)})
    for name, cells in scores["baselines"].items():
        add(BLIND_LABELS[name], "blind", cells)
    return rows


def format_table(scores: Mapping[str, Any]) -> str:
    """Returns the main table for the terminal: accuracy, 95 % interval and n, with the baselines beside each run."""
    lines = [["accuracy", *COLUMNS, "unparsed"]]
    for row in table_rows(scores):
        signed = row["kind"] == "over"
        overall = row["cells"]["overall"]
        indent = "  " if row["kind"] in ("beside", "over", "judge") else ""
        cells = [format_cell(row["cells"][column], signed=signed) for column in COLUMNS]
        unparsed = "" if signed or overall is None else str(overall["unparsed"])
        lines.append([indent + row["label"], *cells, unparsed])
    text = align(lines)
    overall = next(iter(scores["runs"].values()))["overall"]
    first = next(iter(scores["runs"].values()))
    paired = " Rows that begin with `over` are paired." if any(key.startswith("over_") for key in first) else ""
    text.append(
        f"{overall['n']} questions on {overall['n_images']} images. [95 % interval by bootstrap over images].{paired}"
    )
    text += cut_lines(scores) + judge_lines(scores) + review_lines(scores)
    text += [f"{paper_figures.describe(figure)} (their figure)" for figure in scores["papers"]]
    if scores["synthetic"]:
        text.append("Synthetic data: these figures say nothing about real radiographs.")
    return "\n".join(text)
