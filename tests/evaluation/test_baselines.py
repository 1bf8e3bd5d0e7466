"""Blind baselines: their inputs, ties and choices; and that swapped images are really other images."""

import io
import random
from typing import Any

import numpy as np
import PIL.Image
import pytest

from radvqa_jax.evaluation.baselines import (
    agreeing,
    blank_image,
    distinct,
    letter_frequency,
    longest_option,
    majority,
    question_only,
    swap_images,
)
from radvqa_jax.evaluation.scoring import score


def row(question: str = "", answer: str = "", **fields: Any) -> dict[str, Any]:
    names = "image_id case_id question_id answer_type question_type modality organ plane source".split()
    return dict.fromkeys(names, "") | {"choices": []} | {"question": question, "answer": answer} | fields


TRAIN = [
    row("Is there a mass?", "Yes", answer_type="closed"),
    row("is there a  mass", "yes", answer_type="closed"),
    row("Is there a mass?", "no", answer_type="closed"),
    row("Is it normal?", "no", answer_type="closed"),
    row("Is it large?", "no", answer_type="closed"),
    row("Which plane?", "axial", answer_type="open"),
    row("Which organ?", "liver", answer_type="open"),
    row("Which organ?", "axial", answer_type="open"),
    row("", "", caption="no question"),
]


def test_question_only_falls_back_from_question_to_type_to_all() -> None:
    asked = ["IS THERE A MASS?", "Is there an effusion?", "Which modality?", "What else?"]
    test = [
        row(question, "reference", question_id=str(i), image_id="i", answer_type=kind)
        for i, (question, kind) in enumerate(zip(asked, ["closed", "closed", "open", ""], strict=True))
    ]
    records = question_only(TRAIN, test)
    assert [r.predictions for r in records] == [["Yes"], ["no"], ["axial"], ["no"]]
    assert [r.predictions for r in majority(TRAIN, test)] == [["no"], ["no"], ["axial"], ["no"]]
    assert records[0].run == "question_only" and records[0].image_used == ""
    assert (records[0].question_id, records[0].reference, records[0].answer_type) == ("0", "reference", "closed")


def test_ties_do_not_depend_on_the_order_of_rows() -> None:
    train = [row("Which side?", answer) for answer in ("right", "left", "both")] + [row("Where?", "right")]
    test = [row("Which side?", "left", question_id="1")]
    rng = random.Random(0)
    for _ in range(10):
        rng.shuffle(train)
        assert question_only(train, test)[0].predictions == ["right"]  # the more frequent of all rows
        assert question_only(train[:0] + [t for t in train if t["question"] == "Which side?"], test)[0].predictions == [
            "both"
        ]  # then the alphabet


def test_choices_bound_the_guess() -> None:
    choices = ["Kidney", "Liver", "Spleen"]
    test = [row("Which organ?", "Spleen", question_id="1", image_id="i", choices=choices)]
    assert question_only(TRAIN, test)[0].predictions == ["Liver"]
    assert question_only([row("q", "brain")], test)[0].predictions == ["Kidney"]


def test_the_question_only_baseline_never_reads_the_test_answer() -> None:
    test = [row("Is there a mass?", answer, question_id=answer, image_id="i") for answer in ("yes", "no", "maybe so")]
    assert len({r.predictions[0] for r in question_only(TRAIN, test)}) == 1
    overall = score(question_only(TRAIN, test)).overall
    assert overall is not None and overall.correct == 1


def test_the_baseline_without_training_rows_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"got none\. Set eval.train_source"):
        question_only([row("", "")], [])


def test_swapped_images_are_of_another_image_and_case() -> None:
    rng = random.Random(0)
    for seed in range(25):
        images = {
            f"i{k}": {
                "case_id": rng.choice(["", "c0", "c1", "c2", "c3"]),
                "modality": rng.choice(["CT", "MRI", ""]),
                "organ": rng.choice(["lung", "brain"]),
            }
            for k in range(rng.randint(6, 20))
        }
        images["other"] = {"case_id": "c9", "modality": "CT", "organ": "lung"}
        images["more"] = {"case_id": "c8", "modality": "US", "organ": "neck"}
        rows = [row("q", "a", image_id=i, **images[i]) for i in rng.choices(list(images), k=60)]
        rows += [row("q", "a", image_id=i, **images[i]) for i in ("other", "more")]
        swapped = swap_images(rows, seed=seed)
        assert swapped == swap_images(rows, seed=seed)
        for mine, other in zip(rows, (rows[i] for i in swapped), strict=True):

            def allowed(r: dict[str, Any], mine: dict[str, Any] = mine) -> bool:
                same_case = r["case_id"] and r["case_id"] == mine["case_id"]
                return r["image_id"] != mine["image_id"] and not same_case

            assert allowed(other)
            both = [r for r in rows if allowed(r) and (r["modality"], r["organ"]) == (mine["modality"], mine["organ"])]
            modality = [r for r in rows if allowed(r) and r["modality"] == mine["modality"]]
            assert other in (both or modality or rows)


def test_swapped_images_are_drawn_evenly_over_images_not_rows() -> None:
    rows = [row("q", "a", image_id="many") for _ in range(60)] + [row("q", "a", image_id=f"i{k}") for k in range(4)]
    drawn = [rows[i]["image_id"] for i in swap_images(rows * 2, seed=0)[:60]]
    assert set(drawn) == {"i0", "i1", "i2", "i3"}
    singles = [swap_images(rows, seed=s)[-1] for s in range(200)]
    assert 25 < sum(rows[i]["image_id"] == "many" for i in singles) < 75  # one image in four


def test_images_without_another_one_to_swap_with_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"Image 'a' \(case ''\) cannot be swapped: 2 rows"):
        swap_images([row("q", "a", image_id="a")] * 2, seed=0)
    with pytest.raises(ValueError, match=r"Image 'a' \(case 'c'\) cannot be swapped"):
        swap_images([row("q", "a", image_id=i, case_id="c") for i in "ab"], seed=0)
    assert swap_images([], seed=0) == []


def test_guesses_from_the_options_alone() -> None:
    train = [row("q", answer, choices=["ab", "cd", "ef"]) for answer in ("cd", "cd", "ef")]
    train += [row("q", "ab", choices=["ab", "cd"])] * 5 + [row("q", "x")]
    test = [
        row("q", "three", question_id="0", choices=["one", "three", "six"]),
        row("q", "b", question_id="1", choices=["a", "b"]),
        row("q", "long", question_id="2"),  # no choices: not of this baseline
        row("q", "d", question_id="3", choices=["a", "b", "c", "d"]),
    ]
    assert [r.predictions[0] for r in longest_option(test)] == ["three", "a", "a"]
    frequent = letter_frequency(train, test)
    # The second of three, the first of two, and over all sizes the first (5 of 8).
    assert [(r.question_id, r.predictions[0]) for r in frequent] == [("0", "three"), ("1", "a"), ("3", "a")]
    assert [r.predictions[0] for r in letter_frequency([], test)] == ["one", "a", "a"]
    assert {r.run for r in frequent} == {"letter_frequency"}


def test_a_blank_image_has_no_content() -> None:
    pixels = np.asarray(PIL.Image.open(io.BytesIO(blank_image())))
    assert pixels.shape == (8, 8, 3) and set(pixels.ravel()) == {128}


def test_distinct_prompts_are_answered_once() -> None:
    prompts = ["q", "r", "q", "q", "s", "r"]
    first, which = distinct(prompts)
    assert [prompts[first[i]] for i in which] == prompts and len(first) == 3


def test_swaps_that_had_to_leave_the_group_are_counted() -> None:
    rows = [row("q", "a", image_id=i, modality=m, organ="lung") for i, m in (("a", "CT"), ("b", "CT"), ("c", "MR"))]
    others = swap_images(rows, seed=0)
    assert others[:2] == [1, 0] and agreeing(rows, others) == 2
    anywhere = [swap_images(rows, seed=seed, by=())[0] for seed in range(20)]
    assert set(anywhere) == {1, 2}
