"""Scores from verdicts of a language model: accuracy, unjudged answers, attack success, agreement with the rules."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from radvqa_jax.evaluation import attacks, intervals, scoring
from radvqa_jax.evaluation.agreement import Agreement, cohen_kappa
from radvqa_jax.evaluation.judge_file import JudgeFile, question_hash
from radvqa_jax.evaluation.review import Reading
from radvqa_jax.schema import Record


def _mean(values: Sequence[float], images: Sequence[str], *, bounds: tuple[float, float], **bootstrap: Any) -> Any:
    if not values:
        return None
    estimate = intervals.mean_interval(np.array(values, np.float64), images, bounds=bounds, **bootstrap)
    return scoring.cell_to_json(estimate)


def _cell(judged: JudgeFile, records: Sequence[Record], **bootstrap: int) -> dict[str, Any] | None:
    """Accuracy and the mean score over those of the records that were judged; None without records."""
    if not records:
        return None
    found = [(record, line) for record in records if (line := judged.find(record)) and line.score is not None]
    images = [record.cluster for record, _ in found]
    correct = [float(bool(judged.correct(line))) for _, line in found]
    scores = [float(line.score or 0) for _, line in found]
    low, high = judged.about["scores"][0], judged.about["scores"][-1]
    return {
        "accuracy": _mean(correct, images, bounds=(0.0, 1.0), **bootstrap),
        "score": _mean(scores, images, bounds=(float(low), float(high)), **bootstrap),
        "unjudged": len(records) - len(found),
    }


def _attack_cells(judged: JudgeFile, records: Sequence[Record], **bootstrap: int) -> dict[str, Any]:
    """{attack: share of wrong answers that were judged right}; an unjudged answer does not count as judged right.

    Attacks on a question whose text, options or reference have changed since do not count.
    """
    by_question = {(record.source, record.question_id): record for record in records}
    mine = [
        line
        for line in judged.attacks
        if (record := by_question.get((line.source, line.question_id))) and line.attacked in ("", question_hash(record))
    ]
    groups = {"any attack": [line for line in mine if line.attack != attacks.CONTROL]}
    groups |= {name: [line for line in mine if line.attack == name] for name in attacks.NAMES}
    cells = {}
    for name, chosen in groups.items():
        images = [by_question[line.source, line.question_id].cluster for line in chosen]
        values = [float(judged.correct(line) is True) for line in chosen]
        if cell := _mean(values, images, bounds=(0.0, 1.0), **bootstrap):
            cells[name] = cell | {"unjudged": sum(line.score is None for line in chosen)}
    return cells


def human_agreement(
    judged: JudgeFile, read: Sequence[tuple[Reading, Record]], *, resamples: int, seed: int
) -> dict[str, Agreement]:
    """{reader: agreement of the judge with them}, over the answers that both judged; runs that say the same count once.

    `read` comes from `match_readings`; a run may have another name in the sheet.
    """
    said: dict[str, dict[tuple[str, str, str], tuple[bool, bool, str]]] = {}
    for reading, record in read:
        if (verdict := judged.correct(judged.find(record))) is not None:
            key = (record.source, record.question_id, reading.content)
            said.setdefault(reading.reader, {})[key] = (reading.correct, verdict, record.cluster)
    agreements = {}
    for reader, found in said.items():
        human, machine, images = map(list, zip(*found.values(), strict=True))
        if agreement := cohen_kappa(human, machine, images, resamples=resamples, seed=seed):
            agreements[reader] = agreement
    return agreements


def describe_agreement(reader: str, agreement: Agreement) -> str:
    """The agreement with one reader, for the terminal."""
    kappa = "no kappa: both give the same verdict throughout"
    if agreement.kappa is not None:
        low_high = agreement.interval and " [{:.3f}, {:.3f}]".format(*agreement.interval)
        kappa = f"kappa {agreement.kappa:.3f}{low_high or ''}"
    return (
        f"  agreement with reader {reader}: {kappa}; equal verdicts on {agreement.agree:.1%} of n={agreement.n} "
        f"answers about {agreement.n_images} images"
    )


def score_judge(judged: JudgeFile, records: Sequence[Record], *, resamples: int, seed: int) -> dict[str, Any]:
    """Every number of one judge about one run, as plain JSON values.

    Keys: `overall` and `by_answer_type` (each `accuracy` and `score` over the judged answers, and the number
    of `unjudged` ones), `attacks`, `agreement_with_rules` (kappa over the answers that both could read), `about`.
    """
    bootstrap = {"resamples": resamples, "seed": seed}
    types = sorted({record.answer_type for record in records} - {""})
    by_type = {kind: _cell(judged, [r for r in records if r.answer_type == kind], **bootstrap) for kind in types}
    pairs = [
        (judged.correct(judged.find(record)), verdict.outcome == "correct", record.cluster)
        for record, verdict in zip(records, scoring.first_verdicts(records), strict=True)
        if verdict.outcome != "unparsed"
    ]
    pairs = [pair for pair in pairs if pair[0] is not None]
    agreement = cohen_kappa([p[0] for p in pairs], [p[1] for p in pairs], [p[2] for p in pairs], **bootstrap)
    return {
        "about": dict(judged.about),
        "overall": _cell(judged, records, **bootstrap),
        "by_answer_type": by_type,
        "attacks": _attack_cells(judged, records, **bootstrap),
        "agreement_with_rules": agreement and agreement.to_json(),
    }
