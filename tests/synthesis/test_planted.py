"""The checks are measured: false pairs of every kind among right ones, with floors on recall and precision."""

import pytest

from radvqa_jax.config import ChecksConfig
from radvqa_jax.synthesis import planted, suite
from radvqa_jax.synthesis.checks import Item, run_checks
from radvqa_jax.synthesis.planted import MEANT_FOR, make_candidate, measure, phantom_evidence, plant
from tfds_builders.phantom_rad.attributes import FINDINGS
from tfds_builders.phantom_rad.plan import plan_split

SET_WISE = ("blind_lookup", "balance")  # they check sets of pairs, not faults that are planted in one


@pytest.fixture(scope="module")
def measured() -> dict:
    pairs = plant(700, seed=3)
    checked = run_checks([pair.item for pair in pairs], suite.all_checks(ChecksConfig(), known=[]), off=SET_WISE)
    return measure(pairs, checked)


@pytest.mark.parametrize("kind", MEANT_FOR)
def test_nearly_all_false_pairs_of_each_kind_are_caught(measured: dict, kind: str) -> None:
    recall = measured["kinds"][kind]["recall"]
    assert recall["n"] >= 30
    assert recall["value"] >= 0.95, measured["kinds"][kind]["missed"]
    assert recall["interval"][0] >= 0.85


def test_nearly_all_rejected_pairs_are_false(measured: dict) -> None:
    wrongly = {name: check["wrongly"] for name, check in measured["checks"].items() if check["wrongly"]}
    assert measured["overall"]["precision"]["value"] >= 0.98, wrongly
    assert measured["right"] > 2 * measured["false"]


@pytest.mark.parametrize("name", sorted({names[0] for names in MEANT_FOR.values()}))
def test_each_check_is_precise_and_catches_what_it_is_for(measured: dict, name: str) -> None:
    check = measured["checks"][name]
    assert check["precision"]["value"] >= 0.98, check["wrongly"]
    for kind, names in planted.MEANT_FOR.items():
        if names[0] == name:
            assert check["caught"][kind] >= 0.85 * measured["kinds"][kind]["recall"]["n"]


def test_every_check_of_single_pairs_is_measured(measured: dict) -> None:
    assert [name for name, check in measured["checks"].items() if check["precision"] is None] == [
        "contamination",
        *SET_WISE,
    ]


# Wordings that planted.py does not have: the checks were not written for them.
def _other_wordings(kind: str, side: str, modality: str, organ: str) -> list[tuple[str, str]]:
    return [
        (f"Can you locate the {kind}?", f"Yes, it is in the {side} half."),
        (f"The {kind} is found on which side of the body?", f"{side.capitalize()}-sided"),
        (f"Would you call this {modality} abnormal?", "Yes"),
        ("Which pathology do you recognize?", f"I recognize a {kind}"),
        (f"Name the technique with which this {organ} was imaged.", f"By {modality}"),
        (f"What lies to the {side}?", f"A {kind}"),
        (f"Are there signs of a {kind} in the {organ}?", f"Yes, a {kind} on the {side}"),
    ]


def test_wordings_that_the_checks_have_not_seen() -> None:
    checks = suite.all_checks(ChecksConfig(), known=[])
    modalities = ("CT", "MRI", "X-ray")
    right, false = [], []
    for image in plan_split("validation", 120, seed=5):
        at = image.attributes
        if not at.side:
            continue
        other = "left" if at.side == "right" else "right"
        wrong_kind = next(kind for kind in FINDINGS if kind != at.finding)
        wrong_modality = next(m for m in modalities if m != at.view.modality)
        truth = _other_wordings(at.finding, at.side, at.view.modality, at.view.organ)
        lies = [
            *(_other_wordings(at.finding, other, at.view.modality, at.view.organ)[n] for n in (0, 1, 5, 6)),
            *(_other_wordings(wrong_kind, at.side, at.view.modality, at.view.organ)[n] for n in (0, 3, 5, 6)),
            *(_other_wordings(at.finding, at.side, wrong_modality, at.view.organ)[n] for n in (2, 4)),
        ]
        evidence = phantom_evidence(image)
        right += [Item(make_candidate(image, pair), evidence) for pair in truth]
        false += [Item(make_candidate(image, pair), evidence) for pair in lies]
    rejected_right = [c for c in run_checks(right, checks, off=(*SET_WISE, "duplicate")) if not c.accepted]
    kept_false = [c for c in run_checks(false, checks, off=(*SET_WISE, "duplicate")) if c.accepted]
    assert len(right) > 150 and len(false) > 200
    caught = len(false) - len(kept_false)
    assert caught >= 0.95 * len(false), [(c.item.candidate.question, c.item.candidate.answer) for c in kept_false[:5]]
    assert caught >= 0.98 * (caught + len(rejected_right)), [
        (c.item.candidate.question, c.item.candidate.answer, c.failed, c.results["words"].reason)
        for c in rejected_right[:9]
    ]
