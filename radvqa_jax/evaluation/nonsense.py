"""Questions that have no answer (Med-HALT's invented ones, Pal et al. 2023): does a model admit it, or invent one?

Med-Idefics asked its model five of them and judged the output by eye; here every answer is counted.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from radvqa_jax.evaluation import intervals, scoring
from radvqa_jax.evaluation.polarity import is_refusal
from radvqa_jax.schema import Record

CONFIDENT = 0.5  # probability of the whole answer


def is_nonsense(record: Record) -> bool:
    """Whether the reference says that the question cannot be answered."""
    return is_refusal(record.reference)


def score_nonsense(records: Sequence[Record], *, resamples: int, seed: int) -> dict[str, Any] | None:
    """The scores of answers to questions that have no answer; None if there is no such question.

    Keys, each a cell: `refused` (a refusal, or the option that says so), `made_up` (any other readable answer), and
    `confident`, the share that is made up with a probability of at least `CONFIDENT`, if log-probabilities are known.
    An empty or unreadable answer counts in neither.
    """
    chosen = [record for record in records if is_nonsense(record)]
    if not chosen:
        return None
    outcomes = [v.outcome for v in scoring.first_verdicts(chosen)]
    said = [record.predictions[0] for record in chosen]
    refused = np.array([o == "correct" or is_refusal(text) for o, text in zip(outcomes, said, strict=True)])
    made_up = ~refused & np.array([outcome == "incorrect" for outcome in outcomes])
    shares = {"refused": refused, "made_up": made_up}
    if all(record.logprobs for record in chosen):
        sure = np.array([math.exp(record.logprobs[0]) >= CONFIDENT for record in chosen])
        shares["confident"] = made_up & sure
    images = [f"{record.source}\t{record.question_id}" for record in chosen]  # the image has no meaning here
    return {
        name: scoring.cell_to_json(
            intervals.mean_interval(values.astype(np.float64), images, resamples=resamples, seed=seed)
        )
        for name, values in shares.items()
    }
