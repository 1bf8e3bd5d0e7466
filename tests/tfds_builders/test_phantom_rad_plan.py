"""The plan of phantom_rad: balanced questions and lesions, answers that follow from the attributes."""

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

import numpy as np
import pytest

from tfds_builders.phantom_rad.attributes import FINDINGS, SIDES, SIZES, VIEWS, Attributes
from tfds_builders.phantom_rad.phantom_rad_dataset_builder import Builder
from tfds_builders.phantom_rad.plan import SPLITS, PlannedImage, plan_split
from tfds_builders.phantom_rad.questions import Question

# Answers to every wording, written again from the words alone.
REGIONS = "chest|abdomen|head|knee|pelvis"
LOOKUP: list[tuple[str, Callable[[Attributes], str]]] = [
    (r"modality", lambda a: a.view.modality),
    (r"[wW]hich? .*\bplane\b|[wW]hat .*\bplane\b", lambda a: a.view.plane),
    (r"body", lambda a: a.view.organ),
    (r"[wW]hat .*(seen|finding|lesion is this)", lambda a: a.finding),
    (r"which side|Which side", lambda a: a.side),
    (r"How large|the size", lambda a: a.size),
]
YES: list[tuple[str, Callable[[Attributes, str], bool]]] = [
    (r"\b(CT|MRI|X-ray)\b", lambda a, word: a.view.modality == word),
    (r"\b(axial|coronal|sagittal|frontal|lateral)\b", lambda a, word: a.view.plane == word),
    (rf"\b({REGIONS})\b", lambda a, word: a.view.organ == word),
    (rf"\b({'|'.join(FINDINGS)})\b", lambda a, word: a.finding == word),
    (r"\b(left|right)\b", lambda a, word: a.side == word),
    (r"\b(small|large)\b", lambda a, word: a.size == word),
    (r"\b(abnormality|abnormal)\b", lambda a, _: bool(a.finding)),
    (r"\b(normal)\b", lambda a, _: not a.finding),
]


@pytest.fixture(scope="module")
def plans() -> dict[str, list[PlannedImage]]:
    """The plan of every split of the default config."""
    config = Builder.builder_configs["default"]
    return {split: plan_split(split, getattr(config, split), seed=config.seed) for split in SPLITS}


def questions(items: Iterable[PlannedImage]) -> list[tuple[Attributes, Question]]:
    return [(item.attributes, question) for item in items for question in item.questions]


def test_splits_share_no_patient_and_patients_have_one_to_three_images(plans: dict[str, list[PlannedImage]]) -> None:
    cases = {split: Counter(item.case_id for item in items) for split, items in plans.items()}
    assert {split: len(items) for split, items in plans.items()} == {"train": 3000, "validation": 100, "test": 200}
    for one, other in itertools.combinations(SPLITS, 2):
        assert not set(cases[one]) & set(cases[other])
    for counts in cases.values():
        assert set(counts.values()) == {1, 2, 3}
    images = [item.image_id for items in plans.values() for item in items]
    assert len(set(images)) == len(images)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_guess_from_the_question_alone_stays_low(plans: dict[str, list[PlannedImage]], split: str) -> None:
    seen, fallback = defaultdict(Counter), defaultdict(Counter)
    for _, question in questions(plans["train"]):
        seen[question.question][question.answer] += 1
        fallback[question.closed][question.answer] += 1
    right = defaultdict(list)
    for _, question in questions(plans[split]):
        counts = seen.get(question.question) or fallback[question.closed]
        hit = counts.most_common(1)[0][0] == question.answer
        for group in ("all", "closed" if question.closed else "open", question.question_type):
            right[group].append(hit)
    rates = {group: np.mean(hits) for group, hits in right.items()}
    assert rates["all"] <= 0.47
    assert rates["closed"] <= 0.55
    assert rates["open"] <= 0.4
    assert max(rates.values()) <= 0.56, rates


def test_every_wording_is_balanced(plans: dict[str, list[PlannedImage]]) -> None:
    for split, items in plans.items():
        counts = defaultdict(Counter)
        for _, question in questions(items):
            counts[question.question][question.answer] += 1
        for wording, answers in counts.items():
            if set(answers) & {"yes", "no"}:
                assert set(answers) <= {"yes", "no"}, wording
                assert abs(answers["yes"] - answers["no"]) <= 2, (split, wording, answers)
            elif set(answers) <= {"left", "right"} | {"small", "large"}:
                assert max(answers.values()) - min(answers.values()) <= 3, (split, wording, answers)


def test_lesions_are_balanced_within_every_view(plans: dict[str, list[PlannedImage]]) -> None:
    for split, items in plans.items():
        by_view = defaultdict(list)
        for item in items:
            by_view[item.attributes.view].append(item.attributes)
        assert set(by_view) == set(VIEWS)
        for view, shown in by_view.items():
            lesions = [attributes for attributes in shown if attributes.finding]
            assert abs(2 * len(lesions) - len(shown)) <= 2, (split, view)
            for words, field in ((SIDES, "side"), (SIZES, "size")):
                counts = Counter(getattr(attributes, field) for attributes in lesions)
                if view.has_side or field == "size":
                    assert abs(counts[words[0]] - counts[words[1]]) <= 6, (split, view, counts)
                else:
                    assert set(counts) == {""}
    found = Counter(item.attributes.finding for item in plans["train"])
    assert found[""] == 1500
    assert min(found.values()) >= 195 and max(v for k, v in found.items() if k) <= 345, found


def test_a_yes_does_not_only_tell_abnormal_from_normal(plans: dict[str, list[PlannedImage]]) -> None:
    asked = [(a, q) for a, q in questions(plans["train"]) if q.question_type == "finding" and q.closed]
    on_abnormal = Counter(q.answer for a, q in asked if a.finding)
    assert 0.25 <= on_abnormal["no"] / on_abnormal.total() <= 0.45


def test_every_answer_follows_from_the_attributes(plans: dict[str, list[PlannedImage]]) -> None:
    kinds = Counter()
    for attributes, question in questions(plans["train"] + plans["test"]):
        text = question.question
        if question.closed:
            answers = [
                "yes" if rule(attributes, match[1]) else "no"
                for pattern, rule in YES
                if (match := re.search(pattern, text))
            ]
        else:
            answers = [rule(attributes) for pattern, rule in LOOKUP if re.search(pattern, text)]
        assert answers == [question.answer], (text, question.answer, attributes)
        assert question.question_type != "side" or attributes.side
        kinds[question.question_type, question.closed] += 1
    both = {
        (kind, closed) for kind in ("modality", "plane", "organ", "finding", "side", "size") for closed in (True, False)
    }
    assert set(kinds) == both | {("abnormality", True)}


def test_plans_follow_from_the_seed() -> None:
    assert plan_split("train", 50, seed=3) == plan_split("train", 50, seed=3)
    assert plan_split("train", 50, seed=3) != plan_split("train", 50, seed=4)
    assert [i.attributes for i in plan_split("train", 50)] != [i.attributes for i in plan_split("test", 50)]
