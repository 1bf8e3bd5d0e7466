"""Measures the checks: false pairs of known kinds, planted among right ones about phantoms whose truth is known.

No image is rendered: the plan of phantom_rad gives the content of each image. Every kind has several wordings, so that
a check is not measured only on the sentence for which it was written.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from radvqa_jax.evaluation.intervals import mean_interval
from radvqa_jax.synthesis.candidates import Candidate, candidate_id
from radvqa_jax.synthesis.checks import Checked, Item
from radvqa_jax.synthesis.planted_pairs import KINDS, WORDED, Pair, repeats, right_pairs
from radvqa_jax.synthesis.support import Evidence
from tfds_builders.phantom_rad.attributes import VIEWS, Attributes, caption
from tfds_builders.phantom_rad.plan import PlannedImage, plan_split
from tfds_builders.phantom_rad.questions import OPPOSITE

DUPLICATE, OPTIONS, SUPPORT = "duplicate", "wrong options", "wrong support"
RIGHT_PAIRS = 8  # about one image
# Kind -> the checks that must catch it; a pair that another check catches also counts as caught.
MEANT_FOR = {
    "wrong side": ("words",),
    "invented finding": ("words",),
    "wrong modality": ("words",),
    "unanswerable": ("words", "history"),
    "leaking": ("leak",),
    "history": ("history", "age"),
    "measurement": ("measurement",),
    DUPLICATE: ("duplicate",),
    "date": ("date",),
    "code": ("code",),
    "name": ("name",),
    "caption wording": ("caption_wording",),
    "filler": ("filler",),
    "no answer": ("unanswered",),
    "wrong form": ("form",),
    OPTIONS: ("options",),
    "too long": ("length",),
    "other language": ("language",),
    SUPPORT: ("span",),
}


def make_candidate(image: PlannedImage, pair: Pair, row: Mapping[str, str] | None = None) -> Candidate:
    """A pair about a phantom as a writer would have written it.

    Args:
        image: its content.
        pair: question and answer.
        row: dataset, builder_config, split, case_id, image_id and caption of a prepared row; otherwise the image's own.
    """
    question, answer = pair
    closed = answer.strip(" .").casefold().split(",")[0] in OPPOSITE
    own = {"dataset": "phantom_rad", "builder_config": "", "split": "train", "caption": caption(image.attributes)}
    at = own | {"case_id": image.case_id, "image_id": image.image_id} | dict(row or {})
    place = {"dataset": at["dataset"], "builder_config": at["builder_config"], "image_id": at["image_id"]}
    return Candidate(
        candidate_id=candidate_id(**place, writer="templates", question=question, answer=answer, choices=()),
        dataset=at["dataset"],
        builder_config=at["builder_config"],
        image_id=at["image_id"],
        prepared_split=at["split"],
        split=at["split"],
        case_id=at["case_id"],
        caption_sha256=hashlib.sha256(at["caption"].encode()).hexdigest(),
        writer="templates",
        prompt_sha256="",
        model="",
        seed=0,
        reply_id="",
        question=question,
        answer=answer,
        kind="closed" if closed else "open",
        answer_type="closed" if closed else "open",
    )


def phantom_evidence(image: PlannedImage) -> Evidence:
    """The evidence in a prepared row of phantom_rad."""
    at = image.attributes
    row = {"modality": at.view.modality, "organ": at.view.organ, "plane": at.view.plane}
    lesion = {"finding": at.finding, "side": at.side, "size": at.size}
    return Evidence.of(row | lesion | {"caption": caption(at)})


def planned_of(row: Mapping[str, Any]) -> PlannedImage:
    """The content of the image of a prepared row of phantom_rad.

    Raises:
        ValueError: if the row is of another data set.
    """
    wanted = (row.get("modality"), row.get("organ"), row.get("plane"))
    views = [view for view in VIEWS if (view.modality, view.organ, view.plane) == wanted]
    if not views or "finding" not in row:
        raise ValueError(
            f"synthesis.plant makes pairs false whose truth is known, and {row.get('source')!r} is not phantom_rad. "
            "Set synthesis.plant=0."
        )
    attributes = Attributes(views[0], row["finding"], row["side"], row["size"])
    patient, number = str(row["image_id"]).split("-")[1:3]
    return PlannedImage(int(patient), int(number), attributes, ())


def _reshape(pair: Candidate, kind: str, rng: np.random.Generator) -> Candidate:
    """Makes a right pair false outside its words: with wrong options, or with support that no caption has."""
    answer = pair.answer.rstrip(".")
    if kind == OPTIONS:
        options = [
            ["spleen", "femur", "aorta"],
            [answer, answer.upper(), "spleen"],
            [answer],
            [answer, "Both of these"],
        ]
        choices = options[int(rng.integers(len(options)))]
        return replace(pair, kind="multiple_choice", answer_type="closed", answer=answer, choices=choices)
    words = ["as seen on the earlier scan", "an ill-defined shadow", f"{answer} of the spleen", "no abnormality at all"]
    return replace(pair, support=words[int(rng.integers(len(words)))])


class Planted(NamedTuple):
    """A pair, and the kind of error in it; empty if it is right."""

    item: Item
    kind: str


def plant(images: int, *, seed: int = 0, false_share: float = 0.3) -> list[Planted]:
    """Right and false pairs about `images` planned phantoms, in the order of the images.

    Args:
        images: their number.
        seed: of the plan and of the choice of pairs.
        false_share: the approximate share of false pairs; every kind is planted equally often if an image has such a
            pair.
    """
    rng = np.random.default_rng([seed, 17])
    makers = KINDS | WORDED
    kinds = [*makers, DUPLICATE, OPTIONS, SUPPORT]
    false = max(1, round(RIGHT_PAIRS * false_share / (1 - false_share)))
    found: list[Planted] = []
    for number, image in enumerate(plan_split("train", images, seed=seed)):
        evidence = phantom_evidence(image)
        distinct = list(dict(reversed(right_pairs(image))).items())  # one answer for each question
        chosen = [distinct[int(n)] for n in rng.permutation(len(distinct))[:RIGHT_PAIRS]]
        pairs = [(pair, "") for pair in chosen]
        for turn in range(false):
            kind = kinds[(number * false + turn) % len(kinds)]
            again = chosen[int(rng.integers(len(chosen)))]
            if kind in (OPTIONS, SUPPORT):
                options = [distinct[int(n)] for n in rng.permutation(len(distinct))[RIGHT_PAIRS:]]
            else:
                options = repeats(again) if kind == DUPLICATE else makers[kind](image, rng)
            if options:
                pairs.append((options[int(rng.integers(len(options)))], kind))
        for pair, kind in pairs:
            candidate = make_candidate(image, pair)
            if kind in (OPTIONS, SUPPORT):
                candidate = _reshape(candidate, kind, rng)
            found.append(Planted(Item(candidate, evidence), kind))
    return found


def spoil(rows: Sequence[Mapping[str, Any]], n: int, *, seed: int) -> list[tuple[Candidate, str]]:
    """`n` false pairs with their kinds, about drawn rows of phantom_rad, each (image, pair) at most once.

    Args:
        rows: one for each image, with `dataset`, `builder_config` and `split` in addition to the fields of the set.
        n: the number of pairs.
        seed: of the draw.

    Raises:
        ValueError: if the rows belong to another data set, or allow fewer than `n` false pairs.
    """
    rng = np.random.default_rng([seed, 19])
    found: dict[str, tuple[Candidate, str]] = {}
    kinds = list(KINDS)
    for turn in range(20 * n):
        if len(found) == n:
            break
        row, kind = rows[int(rng.integers(len(rows)))], kinds[turn % len(kinds)]
        options = KINDS[kind](image := planned_of(row), rng)
        if options:
            candidate = make_candidate(image, options[int(rng.integers(len(options)))], row)
            found.setdefault(candidate.candidate_id, (candidate, kind))
    if len(found) < n:
        raise ValueError(f"Only {len(found)} different false pairs of {n} could be made about {len(rows)} images.")
    return list(found.values())


def _estimate(hits: Sequence[bool], images: Sequence[str], seed: int) -> dict[str, Any] | None:
    if not hits:
        return None
    found = mean_interval(np.array(hits, np.float64), list(images), resamples=1000, seed=seed)
    return found._asdict() | {"interval": None if found.interval is None else list(found.interval)}


def measure(planted: Sequence[Planted], checked: Sequence[Checked], *, seed: int = 0) -> dict[str, Any]:
    """Recall and precision of the checks on planted pairs.

    Keys: `kinds` {kind: recall of all checks together, with the missed pairs}, `checks` {check: precision, caught by
    kind}, `overall` {recall, precision}; each figure with its 95 % interval over images and n.
    """
    pairs = list(zip(planted, checked, strict=True))
    images = [plan.item.candidate.image_id for plan in planted]

    def over(chosen: Iterator[tuple[int, bool]]) -> dict[str, Any] | None:
        listed = list(chosen)
        return _estimate([hit for _, hit in listed], [images[number] for number, _ in listed], seed)

    kinds = {
        kind: {
            "recall": over((n, not c.accepted) for n, (p, c) in enumerate(pairs) if p.kind == kind),
            "meant_for": list(MEANT_FOR[kind]),
            "missed": [
                [p.item.candidate.question, p.item.candidate.answer, p.item.evidence.caption]
                for p, c in pairs
                if p.kind == kind and c.accepted
            ][:5],
        }
        for kind in MEANT_FOR
    }
    names = list(checked[0].results) if checked else []
    checks = {}
    for name in names:
        flagged = [(n, bool(p.kind)) for n, (p, c) in enumerate(pairs) if name in c.failed]
        checks[name] = {
            "precision": over(iter(flagged)),
            "caught": {kind: sum(name in c.failed for p, c in pairs if p.kind == kind) for kind in MEANT_FOR},
            "wrongly": [
                [p.item.candidate.question, p.item.candidate.answer, c.results[name].reason]
                for p, c in pairs
                if not p.kind and name in c.failed
            ][:5],
        }
    return {
        "right": sum(not p.kind for p in planted),
        "false": sum(bool(p.kind) for p in planted),
        "kinds": kinds,
        "checks": checks,
        "overall": {
            "recall": over((n, not c.accepted) for n, (p, c) in enumerate(pairs) if p.kind),
            "precision": over((n, bool(p.kind)) for n, (p, c) in enumerate(pairs) if not c.accepted),
        },
    }
