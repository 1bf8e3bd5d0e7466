"""Does one system answer better than another? A paired comparison on the same questions, cell by cell.

Three results are given together. The difference, with its bootstrap interval over images, is the size of the effect.
McNemar's exact test (McNemar 1947; binomial on the questions that only one of the two answers correctly) is the one
that papers print; it assumes independent questions, which several questions about one image are not. The test by images
flips whole images (Winkler et al. 2015) and keeps their questions together. If the two tests disagree, believe the
second.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from radvqa_jax.evaluation import intervals
from radvqa_jax.evaluation.scoring import (
    GROUPS,
    cell_to_json,
    group,
    pair,
    paired_answers,
)
from radvqa_jax.evaluation.tables import align, format_p
from radvqa_jax.schema import Record

_CHUNK = 4_000_000  # signs drawn at a time


def mcnemar(only_a: int, only_b: int) -> float:
    """The two-sided exact p of McNemar's test; 1 if the two never differ.

    >>> mcnemar(1, 8)
    0.0390625
    """
    discordant = only_a + only_b
    return float(stats.binomtest(only_a, discordant, 0.5).pvalue) if discordant else 1.0


def flip_images(
    difference: Float[np.ndarray, " n"], images: np.ndarray, *, draws: int = 10_000, seed: int = 0
) -> float:
    """The two-sided p of the mean difference, if the two systems are exchangeable image by image.

    The signs of whole images are flipped at random; p = (1 + as extreme) / (1 + draws), so it is never 0.
    """
    sums = np.bincount(np.unique(images, return_inverse=True)[1], weights=difference)
    sums = sums[sums != 0]  # an image where both are equally good never changes the sum
    if not len(sums):
        return 1.0
    rng = np.random.default_rng(seed)
    observed, extreme, step = abs(sums.sum()), 0, max(1, _CHUNK // len(sums))
    for start in range(0, draws, step):
        signs = rng.choice(np.array([-1.0, 1.0]), size=(min(step, draws - start), len(sums)))
        extreme += int((np.abs(signs @ sums) >= observed - 1e-9).sum())
    return (1 + extreme) / (1 + draws)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values corrected for multiple comparisons (Holm 1979), in the same order.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return corrected.tolist()


def _effect(only_a: int, only_b: int) -> dict[str, float | None]:
    """The effect sizes of paired proportions: Cohen's g and the odds ratio; None where they do not exist.

    g = only_a / (only_a + only_b) - 1/2, from -0.5 to 0.5 (Cohen 1988: 0.05 small, 0.15 medium, 0.25 large); the
    conditional odds ratio is only_a / only_b.
    """
    discordant = only_a + only_b
    return {
        "cohen_g": only_a / discordant - 0.5 if discordant else None,
        "odds_ratio": only_a / only_b if only_b else None,
    }


class _Paired(NamedTuple):
    """Right (1.0) or wrong (0.0) answers of two runs to the same questions, and the questions' images."""

    mine: Float[np.ndarray, " n"]
    theirs: Float[np.ndarray, " n"]
    images: np.ndarray

    def cell(self, rows: Sequence[int], *, resamples: int, draws: int, seed: int) -> dict[str, Any]:
        """The comparison over some of the questions."""
        in_a, in_b, where = self.mine[rows], self.theirs[rows], self.images[rows]
        both = int((in_a * in_b).sum())
        only_a, only_b = int(in_a.sum()) - both, int(in_b.sum()) - both
        difference = intervals.paired_difference(in_a, in_b, where, resamples=resamples, seed=seed)
        return {
            "n": difference.n,
            "n_images": difference.n_images,
            "a": cell_to_json(intervals.mean_interval(in_a, where, resamples=resamples, seed=seed)),
            "b": cell_to_json(intervals.mean_interval(in_b, where, resamples=resamples, seed=seed)),
            "difference": cell_to_json(difference),
            "both": both,
            "only_a": only_a,
            "only_b": only_b,
            "neither": difference.n - both - only_a - only_b,
            "p_mcnemar": mcnemar(only_a, only_b),
            "p_images": flip_images(in_a - in_b, where, draws=draws, seed=seed),
            **_effect(only_a, only_b),
        }


def renamed_images(answers: Iterable[tuple[str, str, str, str]], *, mine: str = "A", theirs: str = "B") -> str:
    """A note on questions whose images have other names in one place than in another; empty if the names agree.

    Two programs may name the same images differently, for instance by path. Then each name in one always pairs with
    one name in the other, and the other does not use it for another image. An image without a name is not compared.

    Args:
        answers: (source, question_id, image_id in the one, image_id in the other).
        mine: what the one is called.
        theirs: what the other is called.

    Raises:
        ValueError: if the names are not such a renaming, so that the two disagree about the image of a question.
    """
    named = [found for found in answers if found[2] and found[3]]
    pairs = {(source, x, y) for source, _, x, y in named}
    renamed = {found for found in pairs if found[1] != found[2]}
    if not renamed:
        return ""
    in_one, in_other = ({(found[0], found[place]) for found in pairs} for place in (1, 2))
    question, x, y = next((question, x, y) for _, question, x, y in named if x != y)
    example = f"question {question!r} is about image {x!r} in {mine} and {y!r} in {theirs}"
    taken = any((source, one) in in_other or (source, two) in in_one for source, one, two in renamed)
    if len(pairs) != len(in_one) or len(pairs) != len(in_other) or taken:
        raise ValueError(
            f"{mine} and {theirs} disagree about the image of a question: {example}. Answers about different images "
            "cannot be paired. Use one release of the data, or write the same image_id in both."
        )
    return (
        f"{len(renamed)} of {len(pairs)} images have other names in {theirs}: {example}. They are taken as the same "
        f"images, because each name in {mine} always pairs with one name in {theirs}."
    )


def _image_notes(a: Sequence[Record], b: Sequence[Record]) -> list[str]:
    """Notes on paired records whose images are unknown in both, or have other names in b than in a."""
    pairs = list(zip(a, b, strict=True))
    unknown = sum(not (x.image_id or y.image_id) for x, y in pairs)
    note = renamed_images((x.source, x.question_id, x.image_id, y.image_id) for x, y in pairs)
    told = (
        f"The image of {unknown} of {len(a)} questions is unknown: each of these counts as an image of its own, and "
        "intervals are too narrow where several are about one image."
    )
    return [told] * bool(unknown) + [note] * bool(note)


def _asked_notes(name: str, records: Sequence[Record]) -> list[str]:
    """Notes on a run that was shown other images, and on sampled answers of which only the first is compared."""
    others = sum(record.image_used not in ("", record.image_id) for record in records)
    most = max(len(record.predictions) for record in records)
    shown = (
        f"{name} was shown another image than the question's, or a blank one, for {others} of {len(records)} questions."
    )
    first = f"{name} has up to {most} answers to a question; the first of each is compared."
    return [shown] * bool(others) + [first] * (most > 1)


def say_same(a: Sequence[Record], b: Sequence[Record]) -> list[str]:
    """A note on two runs of the same questions whose first predictions are all the same."""
    if any(x.predictions[:1] != y.predictions[:1] for x, y in zip(a, pair(a, b), strict=True)):
        return []
    return [f"A and B give the same answer to each of the {len(a)} questions. Do both files hold the same answers?"]


def _paired(a: Sequence[Record], b: Sequence[Record]) -> _Paired:
    if not a:
        raise ValueError("A comparison needs records, and the first file has none.")
    return _Paired(*paired_answers(a, b))


def compare_overall(
    a: Sequence[Record], b: Sequence[Record], *, resamples: int = 2000, draws: int = 10_000, seed: int = 0
) -> dict[str, Any]:
    """The cell `overall` of `compare_runs`."""
    return _paired(a, b).cell(range(len(a)), resamples=resamples, draws=draws, seed=seed)


def correct_for_number(cells: Sequence[dict[str, Any]]) -> None:
    """Adds `p_mcnemar_holm` and `p_images_holm` to cells: p corrected by Holm over all of them."""
    for test in ("p_mcnemar", "p_images"):
        for found, corrected in zip(cells, holm([found[test] for found in cells]), strict=True):
            found[f"{test}_holm"] = corrected


def compare_runs(
    a: Sequence[Record], b: Sequence[Record], *, resamples: int = 2000, draws: int = 10_000, seed: int = 0
) -> dict[str, Any]:
    """The paired comparison of the first predictions of two runs: overall, and for each value of each group.

    Keys: `overall`, `by` ({field: {value: cell}}) and `said`, the notes that a reader needs first, one sentence each. A
    cell holds `n`, `n_images`, the two accuracies `a` and `b`, their `difference` with its interval, how many questions
    both, only one or neither has right, the p of both tests and the effect sizes. Cells in `by` also hold p corrected
    by Holm over all of them (`p_mcnemar_holm`, `p_images_holm`); `overall` is the primary comparison and is not
    corrected. A cell without questions is absent.

    Raises:
        ValueError: if there is no record, or the two do not answer the same questions, with the same references, about
            the same images.
    """
    paired = _paired(a, b)
    notes = _image_notes(a, pair(a, b)) + _asked_notes("A", a) + _asked_notes("B", b)
    asked = {"resamples": resamples, "draws": draws, "seed": seed}
    groups = {field: {value: paired.cell(rows, **asked) for value, rows in group(a, field).items()} for field in GROUPS}
    correct_for_number([found for values in groups.values() for found in values.values()])
    overall = paired.cell(range(len(a)), **asked)
    by = {field: values for field, values in groups.items() if values}
    return {"said": notes, "overall": overall, "by": by}


def _row(label: str, cell: Mapping[str, Any], *, overall: bool = False) -> list[str]:
    difference = cell["difference"]
    bounds = ", ".join(f"{bound:+.3f}" for bound in difference["interval"] or ()) or "no interval"
    end = "" if overall else "_holm"
    g = cell["cohen_g"]
    return [
        label,
        str(cell["n"]),
        str(cell["n_images"]),
        f"{cell['a']['value']:.3f}",
        f"{cell['b']['value']:.3f}",
        f"{difference['value']:+.3f} [{bounds}]",
        f"{cell['only_a']}:{cell['only_b']}",
        "-" if g is None else f"{g:+.2f}",
        format_p(cell[f"p_mcnemar{end}"]),
        format_p(cell[f"p_images{end}"]),
    ]


def format_comparison(comparison: Mapping[str, Any], *, a: str, b: str) -> str:
    """The comparison as a table for the terminal; `a` and `b` are the names of the two systems."""
    header = ["cell", "n", "images", "A", "B", "A - B", "only A:B", "g", "p McNemar", "p images"]
    lines = [header, _row("overall", comparison["overall"], overall=True)]
    for field, values in comparison["by"].items():
        lines += [_row(f"{field.replace('_', ' ')}: {value}", cell) for value, cell in values.items()]
    return "\n".join(
        [
            f"A: {a}\nB: {b}",
            *comparison["said"],
            *align(lines),
            "A - B with its 95 % interval over images. `only A:B`: questions that one alone has right; g:",
            "Cohen's g. `p McNemar` takes questions as independent; `p images` flips whole images. Below overall, p is",
            "corrected by Holm over all those cells.",
        ]
    )
