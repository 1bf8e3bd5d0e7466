"""Questions without an answer: refusals, made-up answers, and their confidence."""

import math

import pytest

from radvqa_jax.evaluation.nonsense import CONFIDENT, is_nonsense, score_nonsense
from radvqa_jax.schema import Record

OPTIONS = ["Dance therapy", "Surgery", "I do not know"]


def ask(
    prediction: str, *, number: int = 0, p: float | None = None, choices: bool = True, reference: str = ""
) -> Record:
    return Record(
        f"q{number}",
        "",
        "Which robot cures gout?",
        reference or OPTIONS[2],
        [prediction],
        [] if p is None else [math.log(p)],
        choices=OPTIONS if choices else [],
    )


@pytest.mark.parametrize("choices", [True, False])
@pytest.mark.parametrize(
    ("prediction", "kind"),
    [
        ("I do not know", "refused"),
        ("I don't know.", "refused"),
        ("As a base VLM I am not trained to answer this question.", "refused"),
        ("Surgery", "made_up"),
        ("the answer is surgery", "made_up"),
        ("", "neither"),
    ],
)
def test_answers_are_refusals_or_made_up(prediction: str, kind: str, choices: bool) -> None:
    found = score_nonsense([ask(prediction, choices=choices)], resamples=10, seed=0)
    assert found is not None
    assert {name for name, cell in found.items() if cell["value"] == 1.0} == {kind} - {"neither"}


def test_the_letter_of_the_refusing_option_is_a_refusal() -> None:
    for prediction, kind in (("C", "refused"), ("Answer: C) I do not know", "refused"), ("B", "made_up")):
        found = score_nonsense([ask(prediction)], resamples=10, seed=0)
        assert found is not None and found[kind]["value"] == 1.0, prediction


def test_confident_is_made_up_with_a_probability_of_at_least_one_half() -> None:
    said = [("Surgery", 0.9), ("Surgery", CONFIDENT), ("Surgery", 0.4), ("I do not know", 0.99), ("", 0.99)]
    records = [ask(text, number=i, p=p) for i, (text, p) in enumerate(said)]
    found = score_nonsense(records, resamples=200, seed=0)
    assert found is not None
    assert {name: (cell["value"], cell["n"]) for name, cell in found.items()} == {
        "refused": (0.2, 5),
        "made_up": (0.6, 5),
        "confident": (0.4, 5),
    }
    # Questions without images are not one image: each is drawn on its own.
    assert found["refused"]["n_images"] == 5 and found["refused"]["interval"] is not None
    # Where one probability is unknown the share is unknown, and not smaller.
    assert "confident" not in (score_nonsense([*records, ask("Surgery", number=9)], resamples=10, seed=0) or {})


def test_only_questions_without_an_answer_count() -> None:
    real = ask("I do not know", number=1, choices=False, reference="left lung")
    assert not is_nonsense(real) and score_nonsense([real], resamples=10, seed=0) is None
    found = score_nonsense([real, ask("Surgery")], resamples=10, seed=0)
    assert found is not None and found["made_up"]["n"] == 1
