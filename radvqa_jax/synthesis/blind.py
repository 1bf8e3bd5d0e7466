"""Tests whether a question can be answered without its image, by a lookup of its wording in the other pairs."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from radvqa_jax.evaluation.baselines import question_only
from radvqa_jax.evaluation.normalize import normalize
from radvqa_jax.synthesis.checks import PASSED, Item, Result

FOLDS = 5


def _row(item: Item) -> dict[str, Any]:
    pair = item.candidate
    missing = dict.fromkeys(("organ", "modality", "plane"), "")
    return missing | {
        "question_id": pair.candidate_id,
        "image_id": pair.image_id,
        "question": pair.question,
        "answer": pair.answer,
        "answer_type": pair.answer_type,
        "question_type": pair.question_type,
        "choices": pair.choices,
        "source": pair.dataset,
    }


def lookup(items: Sequence[Item], *, share: float, seen: int, tag: bool) -> list[Result]:
    """The pairs whose wording a lookup of answers by question gets right without any image.

    The pairs are divided into folds by case. The lookup (evaluation/baselines.question_only) learns from all other
    folds. A wording fails as a whole if the lookup is right in at least `share` of its pairs: if only those were
    dropped, the rare answer would become the certain one.

    Args:
        items: the pairs of all splits.
        share: of a wording's pairs.
        seen: the least number of pairs that a wording must have.
        tag: tag instead of failing.
    """
    cases = sorted({item.candidate.case_id for item in items})
    fold_of = {case: number % FOLDS for number, case in enumerate(cases)}
    forms = [normalize(item.candidate.question) for item in items]
    counted = Counter(forms)
    right: defaultdict[str, int] = defaultdict(int)
    asked: defaultdict[str, int] = defaultdict(int)
    rows = [_row(item) for item in items]
    for fold in range(FOLDS):
        test = [
            n for n, item in enumerate(items) if fold_of[item.candidate.case_id] == fold and counted[forms[n]] >= seen
        ]
        train = [row for row, item in zip(rows, items, strict=True) if fold_of[item.candidate.case_id] != fold]
        if not test or not train:
            continue
        for n, record in zip(test, question_only(train, [rows[n] for n in test]), strict=True):
            asked[forms[n]] += 1
            right[forms[n]] += normalize(record.predictions[0]) == normalize(record.reference)
    results = []
    for form in forms:
        if asked[form] < seen:
            results.append(Result("not_applicable", f"its wording occurs {counted[form]} times; {seen} are needed"))
        elif right[form] / asked[form] >= share:
            why = f"answered without the image in {right[form] / asked[form]:.0%} of {asked[form]} pairs"
            results.append(Result("tagged" if tag else "failed", why))
        else:
            results.append(PASSED)
    return results
