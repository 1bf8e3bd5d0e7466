"""Questions of an image asked in a row: accuracy by turn against another way of asking, and the content of prompts."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from radvqa_jax.data.history import count_turns, earlier_numbers
from radvqa_jax.evaluation import intervals, scoring
from radvqa_jax.schema import Record

LAST = 6  # this turn and all later ones are one row: few images have this many questions


def turn_numbers(records: Sequence[Record]) -> np.ndarray:
    """The turn of each record, from 1: the number of questions about its image up to it, in this order."""
    ids = [f"{record.source}\t{record.image_id}" if record.image_id else "" for record in records]
    return np.array([len(earlier) + 1 for earlier in earlier_numbers(ids)], dtype=np.int64)


def score_turns(
    records: Sequence[Record], others: Sequence[Record], *, resamples: int = 2000, seed: int = 0
) -> list[dict[str, Any]]:
    """Accuracy by turn, and the paired difference from the same questions asked in another way.

    A row has `turn` ("1" to "5", "6 and later"), `overall` and `other`, accuracies, and `difference`: value, interval
    over images, n and n_images. The first turn has no history, so its difference shows the effect of the prompt alone.

    Args:
        records: of one run, in the order in which the questions were asked.
        others: of another run, with the same questions.
        resamples: bootstrap resamples of images.
        seed: of the bootstrap.

    Raises:
        ValueError: if the two do not answer the same questions.
    """
    mine = scoring.correct_answers(scoring.first_verdicts(records))
    theirs = scoring.correct_answers(scoring.first_verdicts(scoring.pair(records, others)))
    images, turns = scoring.image_ids(records), turn_numbers(records).clip(max=LAST)
    bootstrap: dict[str, Any] = {"resamples": resamples, "seed": seed}
    rows = []
    for turn in np.unique(turns).tolist():
        chosen = turns == turn
        estimates = {
            "overall": intervals.mean_interval(mine[chosen], images[chosen], **bootstrap),
            "other": intervals.mean_interval(theirs[chosen], images[chosen], **bootstrap),
            "difference": intervals.paired_difference(mine[chosen], theirs[chosen], images[chosen], **bootstrap),
        }
        label = str(turn) if turn < LAST else f"{LAST} and later"
        rows.append({"turn": label} | {name: scoring.cell_to_json(value) for name, value in estimates.items()})
    return rows


def held(records: Sequence[Record]) -> dict[str, Any]:
    """The numbers of earlier turns that the prompts held and left out; see `data.history.count_turns`."""
    return count_turns([{"image_id": r.image_id, "question": r.question, "_history": r.history} for r in records])
