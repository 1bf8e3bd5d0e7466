"""Computes every number of an experiment's report, as plain values, and a table for the terminal; see report_page."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from radvqa_jax import __version__
from radvqa_jax.evaluation import intervals, paper_figures, reliance, scoring
from radvqa_jax.evaluation.calibration import calibrate
from radvqa_jax.evaluation.judge_file import JudgeFile, judge_labels
from radvqa_jax.evaluation.judge_scores import score_judge
from radvqa_jax.evaluation.nonsense import score_nonsense
from radvqa_jax.evaluation.review import Reading, score_readings
from radvqa_jax.evaluation.score_types import (
    BEFORE,
    QUESTION_ONLY,
    UNSEEN,
    Cell,
    Cells,
    ExperimentScores,
    RunScores,
    column,
)
from radvqa_jax.evaluation.tables import align, format_cell
from radvqa_jax.schema import Record

GROUP_LABELS = {group: group.replace("_", " ") for group in scoring.GROUPS}
COLUMNS = ("overall", "closed", "open")
BLIND_LABELS = {
    "question_only": "question only (no image)",
    "majority": "majority answer (no image)",
    "longest_option": "longest option (no image)",
    "letter_frequency": "commonest letter (no image)",
}


def run_label(name: str) -> str:
    """The label of a run in tables: before, after stage 1, …, or its own name."""
    stage = re.fullmatch(r"stage(\d+)", name)
    return f"after stage {stage[1]}" if stage else "before" if name == BEFORE else name


class ShownMap(NamedTuple):
    """One case of which the report shows the image and a map."""

    question: str
    reference: str
    prediction: str
    outcome: str  # correct, incorrect or unparsed
    image: bytes  # a PNG file
    map: bytes  # … with its colour scale printed below
    caption: str  # what the map is, and its figures against the marked region


@dataclass(frozen=True)
class Experiment:
    """The inputs of a report. Every list of records answers the same questions."""

    title: str
    runs: Mapping[str, Sequence[Record]]  # in the order of the table; the summary is about the last
    one_training: bool = False  # the runs are BEFORE and then the stages of one training, each compared with BEFORE
    question_only: Sequence[Record] = ()
    majority: Sequence[Record] = ()
    # kind of UNSEEN -> run -> its answers to another case's image of the same modality and organ, to that of any case,
    # to a blank image.
    unseen: Mapping[str, Mapping[str, Sequence[Record]]] = field(default_factory=dict)
    # longest_option and letter_frequency: for questions with choices only.
    guesses: Mapping[str, Sequence[Record]] = field(default_factory=dict)
    losses: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)  # stage -> rows with step, loss
    judged: Mapping[str, Sequence[JudgeFile]] = field(default_factory=dict)  # run -> the verdicts of each judge
    readings: Sequence[Reading] = ()  # clinicians' readings of the runs' answers
    image: Callable[[Record], bytes] | None = None  # the image of a question, as an encoded file; None = no access
    missing: Sequence[str] = ()  # sentences on parts that could not be made
    maps: Sequence[ShownMap] = ()
    leaks: Sequence[str] | None = None  # one sentence for each leak from training into evaluation; None = not audited
    questions: Mapping[str, Any] | None = None  # the catch of each check of written questions (synthesis/report.py)
    # Any JSON values: config hash, checkpoint sha256, data fingerprints, versions. The page shows synthetic=True.
    provenance: Mapping[str, Any] = field(default_factory=dict)


def _check_same_questions(experiment: Experiment) -> None:
    """Raises ValueError, naming the first set that differs, if the sets of records do not answer the same questions."""
    sets = {name: records for name, records in experiment.runs.items()}
    for kind, by_run in experiment.unseen.items():
        sets |= {f"{name}, {kind}": records for name, records in by_run.items()}
    sets |= {"question_only": experiment.question_only, "majority": experiment.majority}
    asked = {name: {(r.source, r.question_id) for r in records} for name, records in sets.items() if records}
    first, *others = asked
    for name in others:
        if unshared := sorted(asked[first] ^ asked[name]):
            raise ValueError(
                f"Runs are compared on the same questions, but {len(unshared)} are in only one of {first!r} and "
                f"{name!r}, first {unshared[:3]}. Evaluate both on the same source and split."
            )
        scoring.pair(sets[first], sets[name])  # raises if one question_id has two texts or references


def _score_run(experiment: Experiment, name: str, **bootstrap: int) -> RunScores:
    """Scores one run and all answers that it is compared with."""
    records, judges = experiment.runs[name], experiment.judged.get(name, ())
    unseen = {kind: found for kind in UNSEEN if (found := experiment.unseen.get(kind, {}).get(name))}
    blind: dict[str, Sequence[Record]] = {QUESTION_ONLY: experiment.question_only, **unseen}
    if experiment.one_training and name != BEFORE:
        blind[BEFORE] = experiment.runs[BEFORE]
    measured: dict[str, Any] = {
        "unseen": {kind: scoring.score(found, **bootstrap).to_json() for kind, found in unseen.items()},
        "over": {kind: scoring.compare(records, other, **bootstrap) for kind, other in blind.items() if other},
        "reliance": {UNSEEN[kind]: reliance.of_records(records, found, **bootstrap) for kind, found in unseen.items()},
        "judged": {judge.name: score_judge(judge, records, **bootstrap) for judge in judges},
        "calibration": calibrate(records, **bootstrap),
        "nonsense": score_nonsense(records, **bootstrap),
        "cut": count_cut(records),
        "review": score_readings(experiment.readings, name, records, judges, **bootstrap),
    }
    cells: Any = scoring.score(records, **bootstrap).to_json()
    return cells | {key: value for key, value in measured.items() if value}


def build_scores(experiment: Experiment, *, resamples: int = 2000, seed: int = 0) -> ExperimentScores:
    """Computes every number of the report (score_types.py); a cell without questions is absent.

    Raises:
        ValueError: if two sets of records do not answer the same questions.
    """
    if not experiment.runs or not all(experiment.runs.values()):
        raise ValueError(f"A report needs runs with records; got { {k: len(v) for k, v in experiment.runs.items()} }.")
    for kind, by_run in experiment.unseen.items():
        if unknown := sorted(set(by_run) - set(experiment.runs)):
            raise ValueError(f"Records of {kind} of {unknown}, which are not among the runs {list(experiment.runs)}.")
    _check_same_questions(experiment)
    bootstrap = {"resamples": resamples, "seed": seed}
    baselines = {QUESTION_ONLY: experiment.question_only, "majority": experiment.majority, **experiment.guesses}
    scored: dict[str, Any] = {k: scoring.score(v, **bootstrap).to_json() for k, v in baselines.items() if v}
    scores: ExperimentScores = {
        "title": experiment.title,
        "synthetic": bool(experiment.provenance.get("synthetic", False)),
        "method": {
            "scorer": f"radvqa {__version__} rules, first prediction, unparsed counts as not correct",
            "interval": intervals.METHOD,
            "resamples": resamples,
            "seed": seed,
        },
        "runs": {name: _score_run(experiment, name, **bootstrap) for name in experiment.runs},
        "baselines": scored,
        "papers": paper_figures.find(next(iter(experiment.runs.values()))),
        "losses": {stage: [dict(row) for row in rows] for stage, rows in experiment.losses.items()},
        "provenance": dict(experiment.provenance),
    }
    if uncounted := Counter(reading.run for reading in experiment.readings if reading.run not in experiment.runs):
        scores["readings_of_others"] = dict(uncounted)
    if experiment.leaks is not None:
        scores["leaks"] = list(experiment.leaks)
    if experiment.missing:
        scores["missing"] = list(experiment.missing)
    return scores


def _judge_cells(judge: Mapping[str, Any]) -> dict[str, Any]:
    parts = {"overall": judge["overall"]} | judge["by_answer_type"]
    found = {c: part for c in COLUMNS if (part := parts.get(c)) and part["accuracy"]}
    return {c: found[c]["accuracy"] | {"unparsed": found[c]["unjudged"]} if c in found else None for c in COLUMNS}


def judge_lines(scores: ExperimentScores) -> list[str]:
    """A line for each judge and run: success rate of attacks, unjudged answers, agreement with the rules."""
    lines = []
    for name, run in scores["runs"].items():
        labels = judge_labels({judge: found["about"] for judge, found in run.get("judged", {}).items()})
        for named, judge in run.get("judged", {}).items():
            attack, control = judge["attacks"].get("any attack"), judge["attacks"].get("control")
            kappa = judge["agreement_with_rules"]
            words = [f"{run_label(name)}, judge {labels[named]}:"]
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
    """The number of first answers cut by the token limit, and of answers that record it; empty if none does."""
    known = [record.ended[0] for record in records if record.ended]
    return {"cut": known.count(False), "of": len(known)} if known else {}


def leak_lines(scores: ExperimentScores) -> list[str]:
    """A line for each leak between training and evaluation."""
    end = "The scores do not show how the model answers about unseen images and cases."
    return [f"LEAK: {line} {end}" for line in scores.get("leaks", [])]


def cut_lines(scores: ExperimentScores) -> list[str]:
    """A line for each run with answers that were cut."""
    return [
        f"{run_label(name)}: decode.max_new_tokens cut {found['cut']} of {found['of']} answers before they ended."
        for name, run in scores["runs"].items()
        if (found := run.get("cut")) and found["cut"]
    ]


def review_lines(scores: ExperimentScores) -> list[str]:
    """A line for each reader and run with the accuracy as read, and one for each pair of judging parties with kappa."""
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
            lines.append(
                f"{label}: {found['stale']} rows of sheets are about answers that have changed; they do not count."
            )
        if found["unknown"]:
            lines.append(
                f"{label}: {found['unknown']} rows of sheets do not count: these answers hold no such question, by its "
                "id or by the row's `content`."
            )
    if others := scores.get("readings_of_others"):
        named = ", ".join(f"{run_label(name)} ({count})" for name, count in others.items())
        here = ", ".join(map(run_label, scores["runs"]))
        lines.append(
            f"{sum(others.values())} rows of sheets do not count: they are about {named}, and the runs here are {here}."
            " eval.names gives runs other names."
        )
    return lines


class TableRow(NamedTuple):
    """A row of the main table."""

    label: str
    kind: Literal["run", "beside", "over", "judge", "blind"]
    cells: dict[str, Cell | None]  # by column; in a row of a judge `unparsed` is the number of unjudged answers


def _run_rows(name: str, run: RunScores) -> Iterator[TableRow]:
    """Yields the row of a run, then its answers to other images, its differences from baselines, and its judges."""

    def columns(cells: Cells) -> dict[str, Cell | None]:
        return {c: column(cells, c) for c in COLUMNS}

    yield TableRow(run_label(name), "run", columns(run))
    for kind, cells in run.get("unseen", {}).items():
        yield TableRow(f"with {UNSEEN[kind]}", "beside", columns(cells))
    labels = {BEFORE: run_label(BEFORE), QUESTION_ONLY: "question only", **UNSEEN}
    for kind, cells in run.get("over", {}).items():
        yield TableRow(f"over {labels[kind]}", "over", columns(cells))
    judged = run.get("judged", {})
    for name, label in judge_labels({name: judge["about"] for name, judge in judged.items()}).items():
        yield TableRow(f"judged by {label}", "judge", _judge_cells(judged[name]))


def table_rows(scores: ExperimentScores, *, last_first: bool = False) -> list[TableRow]:
    """The rows of the main table, run by run; with `last_first` in reverse, then the blind baselines."""
    runs = list(scores["runs"].items())
    rows = [row for name, run in (reversed(runs) if last_first else runs) for row in _run_rows(name, run)]
    for name, cells in scores["baselines"].items():
        rows.append(TableRow(BLIND_LABELS[name], "blind", {c: column(cells, c) for c in COLUMNS}))
    return rows


def format_table(scores: ExperimentScores) -> str:
    """The main table for the terminal: accuracy, 95 % interval and n, with the baselines of each run."""
    lines = [["accuracy", *COLUMNS, "unparsed"]]
    for row in table_rows(scores):
        signed, overall = row.kind == "over", row.cells["overall"]
        indent = "  " if row.kind in ("beside", "over", "judge") else ""
        cells = [format_cell(row.cells[name], signed=signed) for name in COLUMNS]
        unparsed = "" if signed or overall is None else str(overall.get("unparsed", ""))
        lines.append([indent + row.label, *cells, unparsed])
    text = align(lines)
    overall = next(iter(scores["runs"].values()))["overall"]
    paired = " Rows that begin with `over` are paired." if any("over" in run for run in scores["runs"].values()) else ""
    text.append(f"{overall['n']} questions on {overall['n_images']} images. [95 % interval over images].{paired}")
    text += leak_lines(scores) + cut_lines(scores) + judge_lines(scores) + review_lines(scores)
    text += [f"{paper_figures.describe_figure(figure)} (their figure)" for figure in scores["papers"]]
    if scores["synthetic"]:
        text.append("Synthetic data: these figures say nothing about real radiographs.")
    return "\n".join(text)
