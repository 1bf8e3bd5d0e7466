"""The cases of a report: a random sample of questions with all answers and verdicts."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from radvqa_jax.config import ReportConfig
from radvqa_jax.data.image import thumbnail
from radvqa_jax.evaluation import scoring
from radvqa_jax.evaluation.report import BLIND_LABELS, Experiment, run_label
from radvqa_jax.evaluation.score_types import QUESTION_ONLY, UNSEEN
from radvqa_jax.pages import data_url
from radvqa_jax.schema import Record

SIDE = 320  # pixels of the longer side of a case's image
# The filters of cases: data attribute -> label.
FILTERS = {
    "rule": "verdict of the rules",
    "judge": "verdict of the judge",
    "blind": "question only",
    "type": "answer type",
    "organ": "organ",
    "modality": "modality",
}


def _sets(experiment: Experiment) -> dict[str, Sequence[Record]]:
    """All sets of answers, by label: the runs, the last first; then the answers without the image."""
    answers = {run_label(name): records for name, records in list(experiment.runs.items())[::-1]}
    last = list(experiment.runs)[-1]
    for kind in UNSEEN:
        if records := experiment.unseen.get(kind, {}).get(last):
            answers[f"{run_label(last)}, with {UNSEEN[kind]}"] = records
            break
    if experiment.question_only:
        answers[BLIND_LABELS[QUESTION_ONLY]] = experiment.question_only
    return answers


def _judgements(experiment: Experiment, name: str, record: Record) -> list[dict[str, str]]:
    """The verdict of every judge on a record of a run."""
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
    """A record's answers with their verdicts; the first answer counts."""
    answers = [{"text": text, "verdict": scoring.verdict(record, text)} for text in record.predictions]
    probability = f"{math.exp(min(0.0, record.logprobs[0])):.2f}" if record.logprobs else ""
    return {"answers": answers, "verdict": answers[0]["verdict"], "probability": probability, "judges": []}


def sample_cases(experiment: Experiment, config: ReportConfig, *, seed: int) -> list[dict[str, Any]]:
    """A random sample of questions, with all answers and verdicts."""
    sets = {label: {(r.source, r.question_id): r for r in records} for label, records in _sets(experiment).items()}
    last = list(experiment.runs)[-1]
    records = experiment.runs[last]
    chosen = np.random.default_rng(seed).choice(len(records), size=min(config.cases, len(records)), replace=False)
    cases = []
    for record in (records[i] for i in sorted(chosen)):
        key = (record.source, record.question_id)
        lines: list[dict[str, Any]] = [{"label": label, **_answer(found[key])} for label, found in sets.items()]
        for line, name in zip(lines, list(experiment.runs)[::-1], strict=False):
            line["judges"] = _judgements(experiment, name, sets[run_label(name)][key])
        own = lines[0]
        shown = experiment.image(record) if config.images and experiment.image else None
        cases.append(
            {
                "record": record,
                "lines": lines,
                "image": data_url(thumbnail(shown, side=SIDE), kind="jpeg") if shown else "",
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


def filters(cases: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The values that each filter offers; a filter with a single value is left out."""
    values = {name: sorted({case["tags"][name] for case in cases} - {""}) for name in FILTERS}
    return {name: found for name, found in values.items() if len(found) > 1}
