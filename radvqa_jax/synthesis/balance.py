"""The balance of answers, before and after: yes and no, letters, and the answers to one wording.

Rules, each with its own draw from the seed. Within a split, a wording that occurs often enough keeps at most a given
share of any one answer; pairs above that share are dropped at random. Rarer yes/no wordings are treated as one wording.
A wording with a single answer is left to the blind check. Options are reordered so that every letter is right equally
often.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from radvqa_jax.evaluation.normalize import normalize
from radvqa_jax.synthesis import claims
from radvqa_jax.synthesis.candidates import Candidate
from radvqa_jax.synthesis.checks import PASSED, Item, Result

RARE = "(rare yes or no questions)"
LISTED = 20


def _answer(pair: Candidate) -> str:
    return claims.yes_or_no(pair.answer, polar=pair.kind == "closed") or normalize(pair.answer)


def even_out(items: Sequence[Item], *, share: float, seen: int, seed: int) -> list[Result]:
    """The surplus pairs; each split is balanced separately.

    Args:
        items: pairs that passed all other checks.
        share: the largest share of a wording's pairs that one answer may have.
        seen: the least number of pairs that a wording must have.
        seed: of the draw.
    """
    counted = Counter((item.candidate.split, normalize(item.candidate.question)) for item in items)
    groups: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for number, item in enumerate(items):
        pair, form = item.candidate, (item.candidate.split, normalize(item.candidate.question))
        if counted[form] >= seen:
            groups[form].append(number)
        elif pair.kind == "closed":
            groups[pair.split, RARE].append(number)
    results: list[Result] = [PASSED] * len(items)
    rng = np.random.default_rng([seed, 1])
    for _, numbers in sorted(groups.items()):
        answers = Counter(_answer(items[number].candidate) for number in numbers)
        top, most = max(answers.items(), key=lambda pair: (pair[1], pair[0]))
        others = len(numbers) - most
        if len(numbers) < seen or not others or most <= share * len(numbers):
            continue
        keep = int(share * others / (1 - share) + 1e-9)  # 0.6 * 2 / (1 - 0.6) is a little below 3
        those = [number for number in numbers if _answer(items[number].candidate) == top]
        for number in rng.permutation(those)[keep:]:
            why = f"{top!r} answers {most} of {len(numbers)} pairs of its wording; {keep} of them are kept"
            results[int(number)] = Result("failed", why)
    return results


def letter_orders(pairs: Sequence[Candidate], *, seed: int) -> dict[str, list[str]]:
    """{candidate_id: options in the order to show} for multiple-choice pairs.

    Among questions with the same number of options, the counts of right answers by letter differ by at most one.
    """
    rng = np.random.default_rng([seed, 2])
    by_size: defaultdict[int, list[Candidate]] = defaultdict(list)
    for pair in pairs:
        if pair.kind == "multiple_choice":
            by_size[len(pair.choices)].append(pair)
    shown = {}
    for size, those in sorted(by_size.items()):
        letters = rng.permutation(np.arange(len(those)) % size)
        for pair, letter in zip(those, letters, strict=True):
            right = next(choice for choice in pair.choices if normalize(choice) == normalize(pair.answer))
            wrong = [choice for choice in pair.choices if choice != right]
            others = [wrong[int(number)] for number in rng.permutation(len(wrong))]
            shown[pair.candidate_id] = [*others[: int(letter)], right, *others[int(letter) :]]
    return shown


def describe_balance(pairs: Sequence[Candidate], shown: dict[str, list[str]] | None = None) -> dict[str, Any]:
    """The composition of pairs, by split.

    Keys of a split: `pairs`, `kinds`, `yes_no` {yes, no}, `letters` {A: n}, `question_types`, `forms`: the commonest
    wordings with their number, and the share of their commonest answer.
    """
    found: dict[str, Any] = {}
    for split in sorted({pair.split for pair in pairs}):
        own = [pair for pair in pairs if pair.split == split]
        answers: defaultdict[str, Counter[str]] = defaultdict(Counter)
        letters: Counter[str] = Counter()
        for pair in own:
            answers[" ".join(pair.question.split())][_answer(pair)] += 1
            choices = (shown or {}).get(pair.candidate_id, pair.choices)
            plain = [normalize(choice) for choice in choices]
            if normalize(pair.answer) in plain:
                letters[chr(ord("A") + plain.index(normalize(pair.answer)))] += 1
        common = sorted(answers, key=lambda form: (-answers[form].total(), form))[:LISTED]
        found[split] = {
            "pairs": len(own),
            "kinds": dict(sorted(Counter(pair.kind for pair in own).items())),
            "yes_no": dict(sorted(Counter(_answer(pair) for pair in own if pair.kind == "closed").items())),
            "letters": dict(sorted(letters.items())),
            "question_types": dict(Counter(pair.question_type or "(none)" for pair in own).most_common(LISTED)),
            "forms": [
                {"question": form, "pairs": answers[form].total(), "most": top, "share": n / answers[form].total()}
                for form in common
                for top, n in [answers[form].most_common(1)[0]]
            ],
        }
    return found
