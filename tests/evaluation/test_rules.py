"""The two verdicts on an answer: known failures by kind, made-up answers, and properties for any text and size."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radvqa_jax.evaluation.rules import Verdict, language_of, verdict, verdicts
from radvqa_jax.files import read_jsonl

from .rules_case import CHOICES, PIECES, record

FOLDER = Path(__file__).parent


def of_row(row: dict[str, Any]) -> Verdict:
    asked = record(row["reference"], row["question"], choices=row.get("choices", []), language=row.get("language", ""))
    return verdict(asked, row["prediction"])


def wrong(rows: list[dict[str, Any]]) -> list[str]:
    """The rows with another outcome than wanted; any outcome except correct counts as `not correct`."""
    found = []
    for row in rows:
        outcome = of_row(row).outcome
        if outcome != row["want"] and not (row["want"] in ("notcorrect", "not correct") and outcome != "correct"):
            found.append(f"{outcome}: {json.dumps(row, ensure_ascii=False)}")
    return found


CASES = read_jsonl(FOLDER / "cases.jsonl")
ANSWERS: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
for answer in read_jsonl(FOLDER / "answers.jsonl"):
    ANSWERS[answer["kind"]].append(answer)


@pytest.mark.parametrize("case", CASES, ids=[f"{i}-{case['prediction'][:20]!a}" for i, case in enumerate(CASES)])
def test_known_failures(case: dict[str, Any]) -> None:
    assert not wrong([case]), case["why"]


@pytest.mark.parametrize("kind", sorted(ANSWERS))
def test_made_up_answers(kind: str) -> None:
    assert wrong(ANSWERS[kind]) == []


def test_the_made_up_answers_are_many_and_go_both_ways() -> None:
    assert len(ANSWERS) >= 8 and sum(map(len, ANSWERS.values())) > 1000
    for kind, rows in ANSWERS.items():
        wants = {row["want"] for row in rows}
        assert "correct" in wants and len(wants) > 1, kind


properties = settings(max_examples=60, deadline=None, database=None, derandomize=True)
OPEN = ["left lung", "right lung", "liver, spleen", "two", "5 cm", "axial", "liver", "CT", "MRI", "pneumonia", "female"]
DENIALS = [
    "not {}",
    "It is not {}.",
    "The answer is not {}.",
    "I don't think it is {}.",
    "I doubt that the answer is {}",
    "{} is wrong.",
    "{} is incorrect",
    "{} is not correct.",
    "{} is not the answer.",
    "{} can be excluded",
    "{} is unlikely",
    "It is not the case that the answer is {}.",
    "It would be wrong to say {}",
    "Anything but {}.",
    "The wrong answer is {}.",
    "My previous answer was {}.",
    "If it were bright, the answer would be {}.",
    "The answer is {}. This is wrong.",
    "{}? No.",
]
REASONS = [
    ". There is no mass in the left lung.",
    ". The image shows it on the right side.",
    ", because the other lung is clear and no fracture is seen.",
    "\n\nExplanation: the answer is based on the opacity; option A is wrong.",
    ". The exact size cannot be determined.",
    ". This is supported by the bright signal.",
    " since there is no effusion",
    ", as the signal is high in the liver",
    "\nReason: MRI would show more.",
]
ASKED = [
    record("yes", "Is there a mass in the left lung?"),
    record("no", "Is there a mass in the left lung?"),
    *(record(reference, "What is shown?") for reference in OPEN),
    *(record(reference, "Which one?", choices=CHOICES) for reference in CHOICES),
]


@pytest.mark.parametrize("denial", DENIALS)
def test_a_right_answer_that_is_denied_is_not_correct(denial: str) -> None:
    letters = [(asked, chr(65 + CHOICES.index(asked.reference))) for asked in ASKED if asked.choices]
    for asked, answer in [*((asked, asked.reference) for asked in ASKED), *letters]:
        if (answer, denial) == ("no", "{}? No."):
            continue
        for verdict_ in verdicts(asked, denial.format(answer)):
            assert verdict_.outcome != "correct", (denial, answer)


@pytest.mark.parametrize("reason", REASONS)
def test_a_reason_changes_no_verdict(reason: str) -> None:
    for asked in ASKED:
        answers = list(CHOICES) + list("ABCD") if asked.choices else ["yes", "no"] if asked in ASKED[:2] else OPEN
        for answer in answers:
            assert verdict(asked, answer + reason).outcome == verdict(asked, answer).outcome, (answer, reason)


@properties
@given(
    st.permutations(CHOICES),
    st.sampled_from(CHOICES),
    st.sampled_from(["{}", "Answer: {}", "{}, because it is.", "I think: {}"]),
)
def test_permuting_the_options_changes_nothing(order: list[str], said: str, frame: str) -> None:
    for reference in CHOICES:
        one, other = (record(reference, choices=choices) for choices in (CHOICES, list(order)))
        assert verdict(one, frame.format(said)).outcome == verdict(other, frame.format(said)).outcome
        letters = [chr(65 + choices.index(said)) for choices in (CHOICES, list(order))]
        assert verdict(one, f"({letters[0]})") == verdict(other, f"({letters[1]})")


QUESTIONS = [
    "Is the lesion on the left or right side?",
    "Is this a CT or an MRI?",
    "Is there a mass in the lung?",
    "Is this normal?",
    "What organ is shown, the liver or the spleen?",
    "How many nodules are there?",
]


@pytest.mark.parametrize("question", QUESTIONS)
def test_repeating_the_question_is_never_right(question: str) -> None:
    references = ["yes", "no", "left", "right", "CT", "MRI", "mass", "normal", "liver", "spleen", "2", "left side"]
    for reference in references:
        for echo in (question, question.rstrip("?"), f"Question: {question}", f"{question} {question}"):
            assert verdict(record(reference, question), echo).outcome != "correct", (reference, echo)


LANGUAGES = st.sampled_from(["en", "zh", ""])


@settings(max_examples=150, deadline=None, database=None, derandomize=True)
@given(
    st.lists(PIECES, max_size=30).map(" ".join) | st.text(max_size=60),
    st.sampled_from([*OPEN, "yes", "no", "是", "左肺"]),
    LANGUAGES,
)
def test_any_text_has_a_verdict(text: str, reference: str, language: str) -> None:
    for choices in ([], [reference, "other thing"]):
        found = verdicts(record(reference, "Is it the left lung?", choices=choices, language=language), text)
        for verdict_ in found:
            assert verdict_.outcome in ("correct", "incorrect", "unparsed")
            assert (verdict_.read == "") == (verdict_.outcome == "unparsed")


@properties
@given(
    st.lists(st.sampled_from(OPEN), min_size=2, max_size=4, unique=True),
    st.sampled_from([", ", " and ", " or ", "; ", ". ", "\n", "/", " "]),
)
def test_naming_several_answers_is_not_one_of_them(said: list[str], joint: str) -> None:
    for frame in ("{}", "The answer is {}.", "The image shows {}.", "It is {}."):
        text = frame.format(joint.join(said))
        right = [
            reference for reference in said if verdict(record(reference, "What is shown?"), text).outcome == "correct"
        ]
        assert right == [], text


TWINS = ["left-right", "upper-lower", "anterior-posterior", "frontal-parietal", "mild-severe"]
STATED = [
    ("Is there a {} fracture?", "There is a {} fracture.", "There is no {} fracture."),
    ("Is there consolidation in the {} lung?", "There is consolidation in the {} lung.", "The {} lung is clear."),
    ("Is there a {} effusion?", "{} effusion is seen.", "No {} effusion."),
    ("Is the {} lobe abnormal?", "The {} lobe is abnormal.", "The {} lobe is normal."),
    ("Is the {} chamber enlarged?", "The {} chamber is enlarged.", "The {} chamber is not enlarged."),
]


@pytest.mark.parametrize("twins", [pair for twins in TWINS for pair in (twins.split("-"), twins.split("-")[::-1])])
def test_a_statement_about_another_side_level_or_size_is_not_read(twins: list[str]) -> None:
    for question, *statements in STATED:
        for statement, answer in zip(statements, ("correct", "incorrect"), strict=True):
            outcomes = [
                verdict(record("yes", question.format(twins[0])), statement.format(said)).outcome for said in twins
            ]
            assert outcomes == [answer, "unparsed"], (question, statement, twins)


def test_the_language_decides_and_one_without_rules_is_named() -> None:
    assert language_of(record("yes")) == "en" and language_of(record("左肺")) == "zh"
    assert (
        language_of(record("yes", language="zh-CN")) == "zh" and language_of(record("是", language="English")) == "en"
    )
    assert verdict(record("X-Ray"), "X光").outcome == "correct"
    assert verdict(record("X-Ray", language="en"), "X光").outcome == "incorrect"
    with pytest.raises(
        ValueError, match="'q0' is in the language 'fr', for which there are no scoring rules; known: en, zh"
    ):
        verdict(record("oui", language="fr"), "oui")


def test_predictions_and_references_that_are_not_text_are_named() -> None:
    for prediction in (None, 5, float("nan"), ["yes"]):
        with pytest.raises(ValueError, match="'q0': a prediction must be a text"):
            verdict(record("yes"), prediction)
    for reference in (None, 5, float("nan")):
        with pytest.raises(ValueError, match="'q0': the reference must be a text"):
            verdict(record("yes")._replace(reference=reference), "yes")  # pyright: ignore[reportArgumentType]
    assert verdict(record("yes"), "Yes \ud800").outcome == "correct"


def test_the_two_verdicts_differ_only_in_terms_frames_and_statements() -> None:
    for reference, question, answer in [
        ("nodules", "", "nodule"),
        ("axial", "", "axial plane"),
        ("female", "", "The patient is a female."),
        ("no", "Is there a fracture?", "There is no fracture."),
        ("磁共振", "这是什么?", "MRI"),
    ]:
        found = verdicts(record(reference, question), answer)
        assert found.exact.outcome != "correct" and found.radvqa.outcome == "correct", answer
    for reference, answer in [("left lung", "Answer: the left lung"), ("5 cm", "50 mm"), ("no", "No, it is normal")]:
        assert {found.outcome for found in verdicts(record(reference), answer)} == {"correct"}
