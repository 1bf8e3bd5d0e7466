"""Checks of sets of pairs: repetitions, blind wordings, balance; and how all checks run together."""

import dataclasses
from collections import Counter
from typing import Any

import pytest

from radvqa_jax.config import ChecksConfig
from radvqa_jax.synthesis import balance, blind, suite
from radvqa_jax.synthesis.checks import Check, Item, Result, each, funnel, run_checks
from radvqa_jax.synthesis.duplicates import Known, across_sets, within_images
from radvqa_jax.synthesis.planted import make_candidate, phantom_evidence
from tfds_builders.phantom_rad.plan import plan_split

IMAGES = plan_split("train", 400)
LONG = "Which irregular hyperdense structure lies beside the anterior margin of the third lumbar vertebra?"


def item(number: int, question: str, answer: str, **fields: Any) -> Item:
    image = IMAGES[number]
    candidate = dataclasses.replace(make_candidate(image, (question, answer)), **fields)
    return Item(candidate, phantom_evidence(image))


def outcomes(results: list[Result]) -> list[str]:
    return [result.outcome for result in results]


# --- duplicates ---


@pytest.mark.parametrize(
    ("first", "second", "repeated"),
    [
        (("What is seen?", "A cyst"), ("what is  seen", "a cyst."), True),
        (
            ("What abnormality is seen in the image?", "A cyst"),
            ("What abnormality is seen in this image?", "A cyst"),
            True,
        ),
        (("Is there a cyst?", "yes"), ("Is there a cyst?", "no"), True),  # one of them is wrong
        (("What is seen?", "A cyst"), ("What is seen?", "A fracture"), True),
        (
            ("Is the cyst on the left side of the image?", "no"),
            ("Is the cyst on the right side of the image?", "no"),
            False,
        ),
        (("Is there a cyst?", "no"), ("Is there a mass?", "no"), False),
        (("Is this a CT scan?", "no"), ("Is this an MRI scan?", "no"), False),
        (("Which level is L3?", "middle"), ("Which level is L4?", "middle"), False),
        (("What modality is this?", "CT"), ("What plane is this?", "axial"), False),
    ],
)
def test_a_pair_repeats_one_about_its_image(first: Any, second: Any, repeated: bool) -> None:
    results = within_images([item(0, *first), item(0, *second)], near=0.9)
    assert outcomes(results) == ["passed", "failed" if repeated else "passed"]


def test_the_same_pair_about_another_image_is_not_a_repetition() -> None:
    results = within_images([item(0, "What is seen?", "A cyst"), item(1, "What is seen?", "A cyst")], near=0.9)
    assert outcomes(results) == ["passed", "passed"]


def test_the_repeated_pair_is_named() -> None:
    first, second = item(0, "What is seen?", "A cyst"), item(0, "What is seen ?", "A cyst")
    assert within_images([first, second], near=0.9)[1].other == first.candidate.candidate_id


def test_a_training_pair_that_repeats_a_test_pair_goes_and_the_test_pair_stays() -> None:
    near = LONG.replace("irregular", "regular")
    pairs = [
        item(0, LONG, "An osteophyte", split="train"),
        item(1, near, "An osteophyte", split="validation"),
        item(2, LONG, "An osteophyte", split="test"),
        item(3, LONG, "An osteophyte", split="train"),
        item(4, "What is seen?", "A cyst", split="train"),
        item(5, "What is seen?", "A cyst", split="test"),
    ]
    found = across_sets(pairs, [], jaccard=0.5, least=8)
    assert outcomes(found) == ["failed", "failed", "passed", "failed", "not_applicable", "not_applicable"]
    assert found[0].other == f"test {pairs[2].candidate.candidate_id}"


def test_two_training_pairs_about_different_images_may_be_the_same() -> None:
    pairs = [item(n, LONG, "An osteophyte", split="train") for n in range(2)]
    assert outcomes(across_sets(pairs, [], jaccard=0.5, least=8)) == ["passed", "passed"]


def test_a_question_of_an_evaluated_set_is_contamination_and_is_named() -> None:
    known = [Known("vqa_rad/official:test", "12", LONG, "An osteophyte"), Known("x:test", "1", "Is it?", "yes")]
    far = "Which smooth round lesion is seen within the left kidney next to its upper pole calyx?"
    pairs = [item(0, f"{LONG} ", "an osteophyte"), item(1, far, "A cyst"), item(2, "Is it?", "yes", split="train")]
    found = across_sets(pairs, known, jaccard=0.5, least=8)
    assert outcomes(found) == ["failed", "passed", "not_applicable"]
    assert found[0].other == "vqa_rad/official:test 12"


# --- blind ---


def test_a_wording_with_one_answer_fails_as_a_whole_and_an_even_one_passes() -> None:
    sure = [item(n, "What is this?", "CT" if n % 20 else "MRI") for n in range(100)]
    even = [item(n, "Is it left?", "yes" if n % 2 else "no") for n in range(100)]
    rare = [item(n, f"Is it number {n}?", "yes") for n in range(30)]
    found = blind.lookup([*sure, *even, *rare], share=0.9, seen=20, tag=False)
    assert set(outcomes(found[:100])) == {"failed"}  # the rare MRI as well: otherwise it would always be the answer
    assert set(outcomes(found[100:200])) == {"passed"}
    assert set(outcomes(found[200:])) == {"not_applicable"}
    assert "95%" in found[0].reason
    assert set(outcomes(blind.lookup(sure, share=0.9, seen=20, tag=True))) == {"tagged"}


# --- balance ---


def test_a_common_answer_is_cut_to_its_share_and_rare_ones_stay() -> None:
    pairs = [item(n, "Is it left?", "yes" if n < 80 else "no") for n in range(100)]
    found = balance.even_out(pairs, share=0.6, seen=20, seed=1)
    left = Counter(
        pair.candidate.answer for pair, result in zip(pairs, found, strict=True) if result.outcome == "passed"
    )
    assert left == {"no": 20, "yes": 30}
    assert found == balance.even_out(pairs, share=0.6, seen=20, seed=1)
    assert found != balance.even_out(pairs, share=0.6, seen=20, seed=2)


@pytest.mark.parametrize(("share", "others", "kept"), [(0.6, 2, 3), (0.6, 4, 6), (0.6, 3, 4), (0.5, 7, 7), (0.9, 1, 9)])
def test_no_more_pairs_are_cut_than_the_share_asks_for(share: float, others: int, kept: int) -> None:
    pairs = [item(n, "Is it left?", "no" if n < others else "yes") for n in range(others + 30)]
    found = balance.even_out(pairs, share=share, seen=10, seed=0)
    assert outcomes(found).count("passed") == others + kept


def test_the_yes_and_no_of_rare_wordings_are_balanced_together_and_splits_apart() -> None:
    pairs = [
        item(n, f"Is it number {n}?", "yes" if n % 10 else "no", split=("train", "test")[n % 2]) for n in range(200)
    ]
    found = balance.even_out(pairs, share=0.5, seen=20, seed=0)
    kept = [pair.candidate for pair, result in zip(pairs, found, strict=True) if result.outcome == "passed"]
    assert Counter((pair.split, pair.answer) for pair in kept) == {
        ("train", "no"): 20,
        ("train", "yes"): 20,
        ("test", "yes"): 100,  # no "no" there: a single answer is left to the blind check
    }


def test_every_letter_is_right_equally_often() -> None:
    choices = ["cyst", "nodule", "mass", "scar"]
    pairs = [
        item(n, f"Which of {n}?", "cyst", kind="multiple_choice", answer_type="closed", choices=choices).candidate
        for n in range(40)
    ]
    shown = balance.letter_orders(pairs, seed=0)
    assert Counter(order.index("cyst") for order in shown.values()) == dict.fromkeys(range(4), 10)
    assert all(sorted(order) == sorted(choices) for order in shown.values())
    assert balance.describe_balance(pairs, shown)["train"]["letters"] == dict.fromkeys("ABCD", 10)
    assert balance.describe_balance(pairs)["train"]["letters"] == {"A": 40}


# --- together ---


def test_every_check_answers_for_every_pair_and_says_what_did_not_run() -> None:
    pairs = [
        item(0, "What modality is this?", IMAGES[0].attributes.view.modality),
        item(1, "How old is the patient?", "54-year-old"),
    ]
    checks = suite.all_checks(ChecksConfig(), known=[])
    right, old = run_checks(pairs, checks, off=("leak",))
    assert set(right.results) == set(old.results) == {check.name for check in checks}
    assert right.accepted and not old.accepted
    assert old.failed == ["age", "words"]
    assert old.results["leak"] == right.results["leak"] == Result("off")
    assert old.results["duplicate"].outcome == "not_run"  # and so it hides no right pair


def test_the_funnel_counts_what_each_check_alone_rejects() -> None:
    pairs = [item(n, f"What is {n}?", "CT") for n in range(6)]
    numbers = {pair.candidate.candidate_id: n for n, pair in enumerate(pairs)}

    def below(limit: int) -> Any:
        return each(lambda pair: "low" if numbers[pair.candidate.candidate_id] < limit else "")

    checks = [Check("a", "1", "rules", "", below(2), on_all=True), Check("b", "1", "rules", "", below(3), on_all=True)]
    rows = funnel(run_checks(pairs, checks), checks)
    assert [(row["failed"], row["alone"], row["left"]) for row in rows] == [(2, 0, 4), (3, 1, 3)]


def test_the_funnel_ends_with_the_pairs_that_are_accepted() -> None:
    """Readers may keep a pair that a check rejects."""
    pairs = [item(n, f"What is {n}?", "CT") for n in range(3)]
    review = Check("review", "1", "review", "", lambda items: [Result("kept")] + [Result("failed")] * 2, on_all=True)
    checks = [Check("a", "1", "rules", "", lambda items: [Result("failed")] * 2 + [Result("passed")]), review]
    checked = run_checks(pairs, checks)
    assert [row["left"] for row in funnel(checked, checks)] == [1, sum(pair.accepted for pair in checked)] == [1, 1]


def test_a_check_that_does_not_exist_cannot_be_left_out() -> None:
    with pytest.raises(ValueError, match="names \\['words2'\\]"):
        run_checks([], suite.all_checks(ChecksConfig(), known=[]), off=("words2",))


def test_a_check_that_forgets_a_pair_is_an_error() -> None:
    broken = Check("broken", "1", "rules", "", lambda items: [Result("passed")])
    with pytest.raises(ValueError, match="gave 1 results for 2 pairs"):
        run_checks([item(0, "a?", "b"), item(1, "a?", "b")], [broken])
