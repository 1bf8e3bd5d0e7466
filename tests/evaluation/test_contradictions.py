"""Answers about one image that exclude each other: those that the rule finds, and those that it leaves alone."""

import random
from collections.abc import Sequence

import pytest

from radvqa_jax.evaluation.contradictions import KINDS, score_contradictions
from radvqa_jax.schema import Record
from tfds_builders.phantom_rad.questions import ABNORMALITY, CLOSED, OPEN

Said = tuple[str, str, str]  # question_type, question, answer


def records(*said: Said, image: str = "a", references: Sequence[str] = ()) -> list[Record]:
    return [
        Record(f"{image}{n}", image, question, [*references, *[""] * len(said)][n], [answer], question_type=kind)
        for n, (kind, question, answer) in enumerate(said)
    ]


def found(*said: Said) -> tuple[dict[str, int], dict[str, int]]:
    """({kind: pairs}, {kind: those that exclude each other}) of answers about one image."""
    by = score_contradictions(records(*said), resamples=10)["by"]
    return {kind: by[kind]["n"] for kind in by}, {k: by[k]["contradictory"] for k in by if by[k]["contradictory"]}


CT, MODALITY = ("", "Is this a CT scan?"), ("modality", "What imaging modality is this?")
EXCLUDE: list[tuple[str, Said, Said]] = [
    ("same question", ("", "Is there a nodule?", "yes"), ("", "Does the image show a nodule?", "No.")),
    ("same words", ("", "Is there a nodule?", "yes"), ("", "is there a nodule", "no")),
    ("same question", (*MODALITY, "CT"), (*CT, "no")),
    ("one value", (*MODALITY, "MRI"), (*CT, "yes")),
    ("one value", (*MODALITY, "CT"), ("", "Which modality was used?", "X-ray")),
    ("one value", ("plane", "What imaging plane is this?", "axial"), ("", "Is the imaging plane coronal?", "yes")),
    ("one value", ("", "Which part of the body is this?", "Head"), ("", "Is this an image of the chest?", "yes")),
    ("same question", ("", "Does this image look normal?", "yes"), ("", "Is this image abnormal?", "yes")),
    ("normal and a finding", ("", "Does this image look normal?", "yes"), ("", "Is there a fracture?", "yes")),
    ("normal and a finding", ("", "Is this image abnormal?", "no"), ("finding", "What is the main finding?", "cyst")),
    ("same question", ("finding", "Is there a calcification?", "no"), ("finding", "What is seen?", "calcification")),
]
AGREE: list[tuple[Said, Said]] = [
    ((*MODALITY, "CT"), (*CT, "yes")),
    ((*CT, "no"), ("", "Is this an MRI scan?", "no")),
    (("", "Is there a nodule?", "yes"), ("", "Is there a cyst?", "no")),
    (("", "Is this image abnormal?", "yes"), ("", "Is there a fracture?", "no")),  # another finding may be present
    (("", "Is there a fracture?", "yes"), ("finding", "What is the main finding?", "cyst")),  # both may be present
    (("", "Does this image show the chest?", "yes"), ("", "Does this image show the abdomen?", "yes")),
    ((*CT, "yes"), ("modality", "Is this a CT angiogram?", "no")),
    (("modality", "Is this a T2-weighted image?", "no"), (*MODALITY, "MRI")),
    (("plane", "Is this a PA film?", "no"), ("plane", "What imaging plane is this?", "frontal")),
    (("", "Is the lesion small?", "yes"), ("", "Is the lesion large?", "no")),
    (("", "Is the lesion on the left side?", "yes"), ("", "Is the lesion on the right side?", "yes")),  # two lesions
    (("", "Is there no nodule?", "yes"), ("", "Is there a nodule?", "yes")),  # a negation: not certain
    (("", "Is this CT or MRI?", "CT"), (*MODALITY, "MRI")),
    ((*MODALITY, "CT or MRI"), (*MODALITY, "X-ray")),
    ((*MODALITY, "not CT"), (*MODALITY, "MRI")),
]


@pytest.mark.parametrize(("kind", "one", "other"), EXCLUDE)
def test_answers_that_exclude_each_other_are_found(kind: str, one: Said, other: Said) -> None:
    for said in ((one, other), (other, one)):
        assert found(*said) == ({kind: 1}, {kind: 1})


@pytest.mark.parametrize(("one", "other"), AGREE)
def test_answers_that_may_both_be_true_are_left_alone(one: Said, other: Said) -> None:
    assert found(one, other)[1] == {} == found(other, one)[1]


def test_answers_about_two_images_never_exclude_each_other() -> None:
    (_, one, other) = EXCLUDE[0]
    apart = [*records(one), *records(other, image="b")]
    assert score_contradictions(apart)["overall"] == {}
    imageless = [record._replace(image_id="") for record in records(one, other)]
    assert score_contradictions(imageless)["overall"] == {}


@pytest.mark.parametrize(("shown", "pairs"), [("ab", 0), ("bb", 1), (("blank", "blank"), 1), ("a ", 1)])
def test_a_pair_was_shown_one_image(shown: Sequence[str], pairs: int) -> None:
    """If another image is drawn for each question, two right answers about two images differ. Empty: the own image."""
    _, one, other = EXCLUDE[0]
    made = [r._replace(image_used=image.strip()) for r, image in zip(records(one, other), shown, strict=True)]
    assert score_contradictions(made)["overall"].get("contradictory", 0) == pairs


def test_the_share_has_its_pairs_images_and_interval_and_does_not_depend_on_the_order() -> None:
    (_, one, other), agrees = EXCLUDE[0], AGREE[0]
    made = [record for n in range(6) for record in records(one, other, image=f"bad {n}", references=("yes", "yes"))]
    made += [record for n in range(18) for record in records(*agrees, image=f"good {n}", references=("CT", "yes"))]
    scores = score_contradictions(made, resamples=200)
    overall = scores["overall"]
    assert (overall["value"], overall["n"], overall["n_images"], overall["contradictory"]) == (0.25, 24, 24, 6)
    assert overall["interval"][0] < 0.25 < overall["interval"][1]
    assert scores["references"]["contradictory"] == 0 and scores["references"]["n"] == 24
    random.Random(0).shuffle(made)
    assert score_contradictions(made, resamples=200) == scores


def test_the_right_answers_to_all_wordings_of_a_phantom_never_exclude_each_other() -> None:
    """Every question about one image, answered correctly; one wrong answer then contradicts another."""
    image = {"modality": "CT", "plane": "axial", "organ": "head", "finding": "nodule", "side": "left", "size": "small"}
    said: list[Said] = []
    for kind, value in image.items():
        said += [(kind, text, value) for text in OPEN[kind]]
        said += [
            (kind, text, "yes" if asked == value else "no") for asked, texts in CLOSED[kind].items() for text in texts
        ]
    said += [("abnormality", text, answer) for text, answer in ABNORMALITY]
    pairs, broken = found(*said)
    assert set(pairs) == set(KINDS) - {"same words"} and not broken
    wrong = [(k, q, {"yes": "no", "no": "yes"}[a]) if q == ABNORMALITY[0][0] else (k, q, a) for k, q, a in said]
    assert set(found(*wrong)[1]) == {"same question", "normal and a finding"}


def test_a_chinese_answer_claims_nothing() -> None:
    pair = [record._replace(language="zh") for record in records(*EXCLUDE[0][1:])]
    assert score_contradictions(pair)["overall"] == {}
