"""Verdicts and cells: the traps of scoring, nothing wins without knowing, empty is absent."""

import itertools
import random
from collections import Counter
from typing import Any

import pytest

from radvqa_jax.evaluation.normalize import normalize
from radvqa_jax.evaluation.scoring import compare, score, verdict
from radvqa_jax.schema import Record

CHOICES = ["CT", "MRI", "Pneumonia", "Normal chest"]


def record(reference: str, prediction: str = "", **fields: Any) -> Record:
    fields = {"question_id": "q0", "image_id": "i0", "question": "Is it?", "logprobs": []} | fields
    return Record(reference=reference, predictions=[prediction], **fields)


@pytest.mark.parametrize(
    ("reference", "prediction", "outcome"),
    [
        ("No", "The image is normal", "unparsed"),
        ("No", "note the clips", "unparsed"),
        ("No", "no", "correct"),
        ("No", "Yes, normal", "incorrect"),
        ("Yes", "Yes, abnormal", "correct"),
        ("Yes.", "yes", "correct"),
        ("Yes", "yes and no", "unparsed"),
        ("Yes", "", "unparsed"),
        ("Yes", "I cannot answer this question.", "unparsed"),
        ("left lung", "Left lung.", "correct"),
        ("left lung", "Answer: the left lung", "correct"),
        ("left lung", "left lung or right lung", "incorrect"),
        ("left lung", "left", "incorrect"),
        ("left lung", "", "unparsed"),
        ("left lung", "...", "unparsed"),
        ("left lung", "Sorry, as a base VLM I am not trained to answer this question.", "unparsed"),
        ("Not sure", "not sure", "correct"),
        ("surgery is the treatment of choice", "Surgery is the treatment of choice", "correct"),
        ("the treatment of choice is surgery", "the treatment of choice is surgery", "correct"),
        ("liver, spleen", "Spleen and liver", "correct"),
        ("liver, spleen", "liver", "incorrect"),
        ("5.6cm", "5.6 cm", "correct"),
        ("no contrast", "contrast", "incorrect"),
        ("No abnormality", "no", "incorrect"),
        ("and", "", "unparsed"),
    ],
)
def test_verdict_without_choices(reference: str, prediction: str, outcome: str) -> None:
    assert verdict(record(reference), prediction).outcome == outcome


@pytest.mark.parametrize(
    ("reference", "prediction", "outcome"),
    [
        ("Normal chest", "Answer: **D**", "correct"),
        ("D", "normal chest", "correct"),
        ("CT", "Answer: **D**", "incorrect"),
        ("CT", "A, B, C, D", "unparsed"),
        ("CT", "", "unparsed"),
    ],
)
def test_verdict_with_choices(reference: str, prediction: str, outcome: str) -> None:
    assert verdict(record(reference, choices=CHOICES), prediction).outcome == outcome


def test_yes_no_choices_take_letters_and_sentences() -> None:
    row = record("Yes", choices=["No", "Yes"])
    assert [verdict(row, text).outcome for text in ("B", "Yes, abnormal", "A", "yes or no")] == [
        "correct",
        "correct",
        "incorrect",
        "unparsed",
    ]


def test_a_verdict_says_what_was_read() -> None:
    assert verdict(record("no"), "No, it isn't") == ("correct", "yes/no", "no")
    assert verdict(record("CT", choices=CHOICES), "B") == ("incorrect", "choice", "mri")
    assert verdict(record("left"), "The Right.") == ("incorrect", "whole answer", "right")


def test_references_that_cannot_be_scored() -> None:
    with pytest.raises(ValueError, match=r"'q0' has the empty reference ' \. '"):
        verdict(record(" . "), "yes")
    with pytest.raises(ValueError, match="'PET' is none of the choices"):
        verdict(record("PET", choices=CHOICES), "A")


def listings(options: list[str]) -> list[str]:
    """Returns replies that name every option, by letter, by text or by both, in many shapes."""
    letters = [chr(65 + i) for i in range(len(options))]
    pairs = list(zip(letters, options, strict=True))
    shapes = ["{}. {}", "({}) {}", "{}: {}", "**{}** {}", "{}) {}"]
    parts = [letters, [letter.lower() for letter in letters], options]
    parts += [[shape.format(*pair) for pair in pairs] for shape in shapes]
    joined = [joint.join(part) for part in parts for joint in (" ", ", ", "\n", " or ", " and ", "/", ". ", "; ")]
    frames = ["{}", "Answer: {}", "The answer is {}.", "- {}"]
    return ["all of the above", *(frame.format(text) for text in joined for frame in frames)]


def test_a_constant_answer_never_beats_the_majority_of_yes_no() -> None:
    rng = random.Random(0)
    words = ["yes", "no", "Yes,", "no.", "normal", "note", "not", "and", "or", "maybe", "\n", "answer:", "the", "/"]
    constants = [*listings(["yes", "no"]), *(" ".join(rng.choices(words, k=rng.randint(1, 7))) for _ in range(1500))]
    for _ in range(5):
        references = rng.choices(["yes", "no"], weights=[rng.random(), rng.random()], k=40)
        majority = max(Counter(references).values())
        for text in constants:
            right = {ref: verdict(record(ref), text).outcome == "correct" for ref in ("yes", "no")}
            assert not all(right.values()), text
            assert sum(right[ref] for ref in references) <= majority, text


@pytest.mark.parametrize("options", [CHOICES, ["left lung", "right lung"], ["no finding", "a mass", "x-ray"]])
def test_naming_every_option_chooses_none(options: list[str]) -> None:
    row = record(options[0], choices=options)
    chosen = {text: verdict(row, text).read for text in listings(options) if verdict(row, text).outcome != "unparsed"}
    assert chosen == {}


def test_a_constant_choice_never_beats_the_most_frequent_letter_or_text() -> None:
    rng = random.Random(1)
    pool = ["CT", "MRI", "PET", "X-ray", "left lung", "right lung", "pneumonia", "no finding"]
    for _ in range(20):
        options = rng.sample(pool, 4)
        rows = [record(reference, choices=rng.sample(options, 4)) for reference in rng.choices(options, k=25)]
        letters = Counter(chr(65 + row.choices.index(row.reference)) for row in rows)
        best = max(*letters.values(), *Counter(row.reference for row in rows).values())
        constants = [*letters, *options, *rng.sample(listings(options), 15)]
        constants += [
            f"{rng.choice('ABCD')}{rng.choice(['. ', chr(10), ' or ', ': '])}{rng.choice(pool)}" for _ in range(15)
        ]
        for text in constants:
            assert sum(verdict(row, text).outcome == "correct" for row in rows) <= best, text


def test_a_constant_open_answer_is_right_where_it_is_the_reference_only() -> None:
    rng = random.Random(2)
    pool = ["left lung", "right lung", "liver, spleen", "two", "5 cm", "axial"]
    everything = [joint.join(pool) for joint in (", ", " ", " or ", "\n")]
    for _ in range(10):
        references = rng.choices(pool, k=20)
        majority = max(Counter(map(normalize, references)).values())
        for text in [*pool, *everything, *map(", ".join, itertools.permutations(pool, 2))]:
            assert sum(verdict(record(ref), text).outcome == "correct" for ref in references) <= majority, text


def test_cells() -> None:
    rows = [
        record("yes", "yes", question_id="1", image_id="a", answer_type="closed", organ="lung", modality="CT"),
        record("yes", "no", question_id="2", image_id="a", answer_type="closed", organ="lung"),
        record("no", "normal", question_id="3", image_id="b", answer_type="closed", organ="brain", modality="CT"),
        record("axial", "axial", question_id="4", image_id="b", answer_type="open", organ="brain"),
    ]
    scores = score(rows)
    overall = scores.overall
    assert overall is not None
    assert (overall.n, overall.n_images, overall.correct, overall.unparsed, overall.value) == (4, 2, 2, 1, 0.5)
    assert overall.interval is not None and overall.interval[0] <= 0.5 <= overall.interval[1]
    assert {k: (c.n, c.correct, c.unparsed) for k, c in scores.by["answer_type"].items()} == {
        "closed": (3, 1, 1),
        "open": (1, 1, 0),
    }
    assert scores.by["organ"]["lung"].interval is None  # one image
    assert scores.by["modality"]["CT"].n == 2  # rows that do not say their modality are in no cell
    assert scores.by["plane"] == {}


def test_empty_is_absent() -> None:
    assert score([]).overall is None
    assert score([]).to_json() == {"by": {}}
    assert "plane" not in score([record("yes", "yes", organ="lung")]).to_json()["by"]


def test_only_the_first_prediction_counts() -> None:
    row = record("yes")._replace(predictions=["no", "yes", "yes"])
    overall = score([row]).overall
    assert overall is not None and overall.correct == 0


def test_repeated_questions_and_absent_predictions_are_refused() -> None:
    with pytest.raises(ValueError, match="'q0' of vqa_rad occurs twice"):
        score([record("yes", "yes", source="vqa_rad")] * 2)
    with pytest.raises(ValueError, match="'q0' has no prediction"):
        score([record("yes")._replace(predictions=[])])
    both = [record("yes", "yes", source=source) for source in ("vqa_rad", "slake")]
    overall = score(both).overall
    assert overall is not None and (overall.n, overall.n_images) == (2, 2)


def test_compare_pairs_by_question() -> None:
    a = [record("yes", "yes", question_id=str(i), image_id=str(i // 2)) for i in range(40)]
    b = [r._replace(predictions=["no" if i % 4 == 0 else "yes"]) for i, r in enumerate(a)]
    difference = compare(a, b[::-1])
    assert (difference.value, difference.n, difference.n_images) == (0.25, 40, 20)
    assert difference.interval is not None and 0 < difference.interval[0] < 0.25 < difference.interval[1]
    with pytest.raises(ValueError, match=r"1 are in one only, first \[\('', '39'\)\]"):
        compare(a, b[:-1])
