"""Several answers: each reading of MedM's rule on patterns that distinguish the readings, and MedM's frame."""

from itertools import product

import numpy as np
import pytest

from radvqa_jax.evaluation.samples import Instability, frame, is_unstable, penalised, score_samples
from radvqa_jax.schema import Record


def record(index: int, predictions: list[str], reference: str = "A") -> Record:
    return Record(str(index), str(index // 2), "q", reference, predictions, [], choices=["A1", "B1", "C1", "D1"])


@pytest.mark.parametrize(
    ("labels", "distinct", "no_majority", "differs_from_first", "mostly_wrong"),  # A is right
    [
        ("AAAAA", False, False, False, False),
        ("BBBBB", False, False, False, True),
        ("AAABC", True, False, False, False),  # 3-1-1: three labels, one of them with a majority
        ("ABBBC", True, False, True, True),
        ("BAAAA", False, False, True, False),
        ("AABBC", True, True, True, True),
        ("AABBB", False, False, True, True),
        ("ABCDA", True, True, True, True),
    ],
)
def test_the_four_readings(
    labels: str, distinct: bool, no_majority: bool, differs_from_first: bool, mostly_wrong: bool
) -> None:
    readings: dict[Instability, bool] = {
        "distinct": distinct,
        "no_majority": no_majority,
        "differs_from_first": differs_from_first,
        "mostly_wrong": mostly_wrong,
    }
    for reading, expected in readings.items():
        assert is_unstable(list(labels), [label == "A" for label in labels], reading) == expected, reading


def test_no_majority_is_three_that_differ_from_the_commonest() -> None:
    for labels in product("ABCD", repeat=5):
        commonest = max(labels, key=labels.count)
        differing = sum(label != commonest for label in labels)
        assert is_unstable(labels, [True] * 5, "no_majority") == (differing >= 3)


def test_the_three_penalties() -> None:
    correct, unstable = np.array([1.0, 1.0, 0.0, 0.0]), np.array([False, True, False, True])
    zero, minus, point = (penalised(correct, unstable, p) for p in ("item_zero", "minus_item", "percentage_point"))
    assert zero[0].mean() == 0.25 and minus[0].mean() == 0.0 and point[0].mean() == pytest.approx(0.5 - 2 * 0.01)
    for values, (low, high) in (zero, minus, point):
        assert low <= values.min() and values.max() <= high


def test_scores_of_five_answers() -> None:
    rows = [record(0, list("AAAAA")), record(1, list("AABBC")), record(2, ["A1", "a", "A. A1", "(A)", "Answer: A"])]
    rows.append(record(3, ["", "?", "maybe", "A", "B"]))
    found = score_samples(rows, resamples=200)
    assert found["answers"] == 5 and found["distinct"] == {"1": 2, "3": 2}  # unparsed answers are one label
    assert found["agreement"]["value"] == pytest.approx((1 + 0.2 + 1 + 0.3) / 4)
    wrong = -(2 * 0.4 * np.log2(0.4) + 0.2 * np.log2(0.2)), -(0.6 * np.log2(0.6) + 2 * 0.2 * np.log2(0.2))
    assert found["entropy_bits"]["value"] == pytest.approx(sum(wrong) / 4)
    assert found["accuracy_of_the_first"]["value"] == 0.75
    assert found["penalised"]["no_majority"]["unstable"]["value"] == 0.25
    assert found["chosen"]["value"] == 0.5 and found["chosen"]["instability"] == "no_majority"
    assert found["penalised"]["distinct"]["minus_item"]["value"] == 0.25
    assert found["penalised"]["no_majority"]["percentage_point"]["value"] == pytest.approx(0.74)
    other = score_samples(rows, resamples=200, instability="mostly_wrong", penalty="minus_item")["chosen"]
    assert other["value"] == pytest.approx(0.75 - 0.5)


def test_the_frame_has_mean_and_deviation_of_samples_and_of_all() -> None:
    rng = np.random.default_rng(0)
    correct = rng.random((1000, 5)) < 0.4
    found = frame(correct, seed=1)
    assert found == frame(correct, seed=1) != frame(correct, seed=2)
    assert found["sampled"]["size"] == 200 and found["sampled"]["runs"] == 5 and found["full"]["size"] == 1000
    assert found["sampled"]["mean"] == pytest.approx(0.4, abs=0.05) and 0.005 < found["sampled"]["sd"] < 0.07
    assert found["full"]["mean"] == pytest.approx(correct.mean())
    assert found["full"]["sd"] == pytest.approx(correct.mean(axis=0).std(ddof=1))


def test_a_frame_without_variation_has_no_standard_deviation() -> None:
    found = frame(np.ones((50, 1), bool))
    assert found["sampled"] == {"mean": 1.0, "sd": None, "runs": 5, "size": 50, "seed": 0}
    assert found["full"]["sd"] is None
    assert frame(np.eye(300, 1, dtype=bool))["sampled"]["sd"] is not None  # samples differ


def test_one_answer_has_no_agreement() -> None:
    found = score_samples([record(i, ["A"]) for i in range(4)])
    assert set(found) == {"answers", "frame"} and score_samples([]) == {}
    with pytest.raises(ValueError, match=r"the same number of answers; got \[1, 2\]"):
        score_samples([record(0, ["A"]), record(1, ["A", "B"])])


def test_a_list_in_another_order_or_words_is_the_same_answer() -> None:
    said = ["left, right", "right, left", "right and left", "left side, right side", "right-sided, left"]
    row = Record("0", "0", "Where?", "midline", said, [])
    found = score_samples([row, row._replace(question_id="1", image_id="1")], resamples=200)
    assert found["distinct"] == {"1": 2} and found["agreement"]["value"] == 1.0
