"""Verdicts and cells: traps of scoring, no score without knowledge, empty cells are absent."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radvqa_jax.evaluation.normalize import comparable
from radvqa_jax.evaluation.scoring import compare, score, verdict
from radvqa_jax.files import read_jsonl
from radvqa_jax.schema import Record

CHOICES = ["CT", "MRI", "Pneumonia", "Normal chest"]


def record(reference: str, prediction: str = "", **fields: Any) -> Record:
    fields = {"question_id": "q0", "image_id": "i0", "question": "Is it?", "logprobs": []} | fields
    return Record(reference=reference, predictions=[prediction], **fields)


TRAPS = read_jsonl(Path(__file__).parent / "traps.jsonl")


@pytest.mark.parametrize("trap", TRAPS, ids=[f"{i}-{trap['prediction'][:20]!a}" for i, trap in enumerate(TRAPS)])
def test_known_traps_have_their_outcome(trap: dict[str, Any]) -> None:
    row = record(trap["reference"], choices=trap["choices"])
    assert verdict(row, trap["prediction"]).outcome == trap["outcome"], trap["why"]


def test_the_trap_file_holds_every_outcome_and_says_why() -> None:
    assert len(TRAPS) >= 80 and all(trap["why"] for trap in TRAPS)
    assert {trap["outcome"] for trap in TRAPS} == {"correct", "incorrect", "unparsed"}
    assert len({(t["reference"], t["prediction"], *t["choices"]) for t in TRAPS}) == len(TRAPS)


def test_a_repeated_long_reference_is_correct_and_an_empty_answer_is_unparsed() -> None:
    row = record("surgery is the treatment of choice")
    assert verdict(row, "Surgery is the treatment of choice").outcome == "correct"
    assert verdict(record("and"), "").outcome == "unparsed"


def test_questions_whose_image_is_unknown_count_as_images_of_their_own() -> None:
    found = score([record("yes", "yes" if k < 4 else "no", question_id=str(k), image_id="") for k in range(8)])
    assert found.overall is not None and found.overall.n_images == 8
    low, high = found.overall.interval or (0.5, 0.5)
    assert low < 0.5 < high


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
    with pytest.raises(ValueError, match="'PET' is not among the choices"):
        verdict(record("PET", choices=CHOICES), "A")


def listings(options: list[str]) -> list[str]:
    """Replies that name every option, by letter, by text or by both, in many shapes."""
    letters = [chr(65 + i) for i in range(len(options))]
    pairs = list(zip(letters, options, strict=True))
    shapes = ["{}. {}", "({}) {}", "{}: {}", "**{}** {}", "{}) {}"]
    parts = [letters, [letter.lower() for letter in letters], options]
    parts += [[shape.format(*pair) for pair in pairs] for shape in shapes]
    joined = [joint.join(part) for part in parts for joint in (" ", ", ", "\n", " or ", " and ", "/", ". ", "; ")]
    frames = ["{}", "Answer: {}", "The answer is {}.", "- {}"]
    return ["all of the above", *(frame.format(text) for text in joined for frame in frames)]


WORDS = st.sampled_from(
    "yes no Yes, no. normal note not and or maybe answer: the / A B (C) D. is because wrong 2 5cm , ; ** - \n".split(
        " "
    )
)
CONSTANTS = st.one_of(st.lists(WORDS, max_size=8).map(" ".join), st.text(max_size=25))
properties = settings(max_examples=150, deadline=None, database=None, derandomize=True)


@properties
@given(CONSTANTS | st.sampled_from(listings(["yes", "no"])))
def test_a_constant_answer_is_never_right_for_yes_and_for_no(text: str) -> None:
    right = [verdict(record(reference), text).outcome == "correct" for reference in ("yes", "no")]
    assert not all(right)  # so it is right for at most the majority class


@pytest.mark.parametrize("options", [CHOICES, ["left lung", "right lung"], ["no finding", "a mass", "x-ray"]])
def test_naming_every_option_chooses_none(options: list[str]) -> None:
    row = record(options[0], choices=options)
    chosen = {text: found.read for text in listings(options) if (found := verdict(row, text)).outcome != "unparsed"}
    assert chosen == {}


POOL = ["CT", "MRI", "PET", "X-ray", "left lung", "right lung", "pneumonia", "no finding"]


@properties
@given(st.data())
def test_a_constant_choice_never_beats_the_most_frequent_letter_or_text(data: st.DataObject) -> None:
    options = data.draw(st.permutations(POOL))[:4]
    references = data.draw(st.lists(st.sampled_from(options), min_size=1, max_size=25))
    rows = [record(reference, choices=data.draw(st.permutations(options))) for reference in references]
    letters = Counter(chr(65 + row.choices.index(row.reference)) for row in rows)
    best = max(*letters.values(), *Counter(references).values())
    text = data.draw(
        CONSTANTS
        | st.sampled_from([*"ABCD", *options, *listings(options)])
        | st.tuples(WORDS, st.sampled_from(POOL)).map(" ".join)
    )
    assert sum(verdict(row, text).outcome == "correct" for row in rows) <= best


OPEN = ["left lung", "right lung", "liver, spleen", "two", "5 cm", "50 mm", "axial", "liver"]


@properties
@given(
    st.lists(st.sampled_from(OPEN), min_size=1, max_size=20),
    CONSTANTS | st.lists(st.sampled_from(OPEN), max_size=8).map(", ".join) | st.just(" or ".join(OPEN)),
)
def test_a_constant_open_answer_never_beats_the_majority(references: list[str], text: str) -> None:
    majority = max(Counter(map(comparable, references)).values())
    assert sum(verdict(record(ref), text).outcome == "correct" for ref in references) <= majority


def test_cells_count_answers_overall_and_by_attribute() -> None:
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
    assert scores.by["modality"]["CT"].n == 2  # rows without a modality are in no cell
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
    a[:8] = [r._replace(organ="lung") for r in a[:8]]
    found = compare(a, b[::-1])
    difference = found["overall"]
    assert (difference["value"], difference["n"], difference["n_images"]) == (0.25, 40, 20)
    assert 0 < difference["interval"][0] < 0.25 < difference["interval"][1]
    assert list(found["by"]) == ["organ"] and found["by"]["organ"]["lung"]["n"] == 8
    with pytest.raises(ValueError, match=r"1 are in one only, first \[\('', '39'\)\]"):
        compare(a, b[:-1])
