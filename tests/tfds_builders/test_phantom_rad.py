"""phantom_rad: plans are balanced, images show their plan, and both follow from the seed."""

import hashlib
import importlib.util
import io
import itertools
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from scipy import ndimage

from tfds_builders.phantom_rad import plan
from tfds_builders.phantom_rad.anatomy import Body
from tfds_builders.phantom_rad.attributes import FINDINGS, SIDES, SIZES, VIEWS, Attributes, View
from tfds_builders.phantom_rad.lesions import EXTENT
from tfds_builders.phantom_rad.phantom_rad_dataset_builder import Builder
from tfds_builders.phantom_rad.plan import SPLITS, PlannedImage, draw_image, plan_split
from tfds_builders.phantom_rad.questions import Question
from tfds_builders.phantom_rad.render import Phantom, encode_png, render_case

REPO = Path(__file__).resolve().parents[2]
FOLDER = REPO / "tfds_builders" / "phantom_rad"

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


def every_case(view: View) -> list[Attributes]:
    sides = SIDES if view.has_side else ("",)
    return [Attributes(view, *rest) for rest in itertools.product(view.findings, sides, SIZES)]


def render(attributes: Attributes, *seed: int) -> Phantom:
    return render_case(np.random.default_rng([7, *seed]), attributes)


def digest(rows: Iterable[tuple[str, dict]]) -> str:
    """A hash of keys, texts, image and mask bytes."""
    total = hashlib.sha256()
    for key, row in rows:
        values = [v.getvalue() if isinstance(v, io.BytesIO) else str(v).encode() for _, v in sorted(row.items())]
        total.update(key.encode() + b"|".join(values))
    return total.hexdigest()


# --- the plan ---


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


# --- the images ---


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: f"{view.modality}-{view.organ}-{view.plane}")
def test_lesions_have_the_requested_side_size_and_brightness(view: View) -> None:
    areas = defaultdict(list)
    for number, attributes in enumerate(every_case(view)):
        image, mask, _ = render(attributes, number)
        assert image.shape == mask.shape == (view.height, view.width)
        assert image.dtype == np.uint8 and mask.dtype == bool
        rows, columns = np.nonzero(mask)
        assert len(rows) >= 20, attributes
        areas[attributes.finding, attributes.size].append(mask.sum())
        if attributes.side:  # radiological convention: the patient's left is on the image's right
            share = np.mean(columns > view.width / 2)
            assert share > 0.95 if attributes.side == "left" else share < 0.05, (attributes, share)
        check_contrast(image, mask, attributes)
    for finding in view.findings:
        assert max(areas[finding, "small"]) < 0.75 * min(areas[finding, "large"]), (finding, areas)


def check_contrast(image: np.ndarray, mask: np.ndarray, attributes: Attributes) -> None:
    """A nodule, dots and fluid are brighter than what is around them; the inside of a cyst and a gap are darker."""
    inside = ndimage.binary_erosion(mask, iterations=3) if attributes.finding == "cyst" else mask
    ring = ndimage.binary_dilation(mask, iterations=6) & ~ndimage.binary_dilation(mask, iterations=2)
    difference = image[inside].mean() - image[ring].mean()
    sign = -1 if attributes.finding in ("cyst", "fracture") else 1
    # Three times the noise. Not more: a lung is nearly as dark as a cyst, and a skull next to fluid as bright as it.
    assert sign * difference > 15, (attributes, difference)
    if attributes.finding == "cyst":
        rim = mask & ~ndimage.binary_erosion(mask, iterations=2)
        assert image[rim].mean() - image[inside].mean() > 60, attributes


def test_small_and_large_are_far_apart_and_small_is_visible() -> None:
    assert set(EXTENT) == set(FINDINGS)
    for finding, sizes in EXTENT.items():
        assert sizes["small"][0] >= 0.05, finding
        assert sizes["small"][1] * 1.7 < sizes["large"][0], finding


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: f"{view.modality}-{view.organ}-{view.plane}")
def test_healthy_images_have_an_empty_mask_texture_and_differ(view: View) -> None:
    phantoms = [render(Attributes(view), seed) for seed in range(3)]
    for phantom in phantoms:
        assert not phantom.mask.any()
        assert np.percentile(phantom.image, 5) < 110 < np.percentile(phantom.image, 99.5)
        assert len(np.unique(phantom.image)) > 30  # not a few flat tissues: noise, texture, shading
        assert len(encode_png(phantom.image)) <= 12 * 1024
    first, second, third = (phantom.image.astype(float) for phantom in phantoms)
    assert abs(first - second).mean() > 4 and abs(second - third).mean() > 4


def test_images_of_a_patient_share_the_body(monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = []
    monkeypatch.setattr(plan, "render_case", lambda rng, attributes, *, body: bodies.append(body))
    item = plan_split("test", 1)[0]
    for other in (item, item._replace(number=1), item._replace(patient=item.patient + 1)):
        draw_image(other)
    assert bodies[0] == bodies[1] != bodies[2]


def test_pixels_follow_from_seed_patient_and_number(monkeypatch: pytest.MonkeyPatch) -> None:
    body = Body(1.0, 1.0, 1.0, 1.0)  # one for all, so that pose, anatomy and noise must differ, not only the body
    monkeypatch.setattr(plan.Body, "draw", lambda rng: body)
    item = plan_split("test", 20)[11]
    again = draw_image(item)
    assert np.array_equal(draw_image(item).image, again.image)
    assert not np.array_equal(draw_image(item, seed=1).image, again.image)
    assert not np.array_equal(draw_image(item._replace(number=item.number + 1)).image, again.image)
    assert not np.array_equal(draw_image(item._replace(patient=item.patient + 1)).image, again.image)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (Attributes(VIEWS[0], "fracture", "left", "small"), r"finding='fracture' cannot be drawn in View.*'chest'"),
        (Attributes(VIEWS[0], "nodule", "left"), r"size='' must be one of \('small', 'large'\) with a finding"),
        (Attributes(VIEWS[0], "", "", "small"), r"size='small' must be .* empty without one"),
        (Attributes(VIEWS[3], "nodule", "left", "small"), r"side='left' must be one of \(''.*lateral"),
        (Attributes(VIEWS[0], "nodule", "", "small"), r"side='' must be one of \('left', 'right'\)"),
    ],
)
def test_contradicting_attributes_are_refused(attributes: Attributes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        render(attributes)


def test_unknown_splits_and_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"split='val' is unknown. Choose one of \('train', 'validation', 'test'\)"):
        plan_split("val", 3)
    with pytest.raises(ValueError, match=r"images=-1 must be between 0 and 100000"):
        plan_split("test", -1)


# --- the data set ---


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    builder = Builder(data_dir=tmp_path_factory.mktemp("data"), config="tiny", file_format="array_record")
    builder.download_and_prepare()
    return builder


def test_rows_are_what_was_planned(tiny: Builder) -> None:
    for split, images in (("train", 24), ("validation", 8), ("test", 8)):
        planned = {
            item.question_id(k): (item, question)
            for item in plan_split(split, images)
            for k, question in enumerate(item.questions)
        }
        rows = list(tiny.as_data_source(split))
        assert {row["question_id"].decode() for row in rows} == set(planned)
        for row in rows:
            text = {name: value.decode() for name, value in row.items() if isinstance(value, bytes)}
            item, question = planned[text["question_id"]]
            attributes = item.attributes
            assert (text["image_id"], text["case_id"]) == (item.image_id, item.case_id)
            assert (text["question"], text["answer"]) == (question.question, question.answer)
            assert row["yes_no"] == (text["answer"] in ("yes", "no")) == (text["answer_type"] == "closed")
            assert (text["modality"], text["organ"], text["plane"]) == attributes.view[:3]
            assert (text["finding"], text["side"], text["size"]) == attributes[1:]
            assert text["caption"].startswith(
                f"{text['plane'].capitalize()} {text['modality']} of the {text['organ']} with"
            )
            assert all(word in text["caption"] for word in (text["finding"] or "without", text["side"], text["size"]))
            assert text["source"] == "phantom_rad synthetic 1.0.0"
            assert (row["answer_index"], list(row["choices"])) == (-1, [])
            assert row["image"].shape == row["mask"].shape == (attributes.view.height, attributes.view.width, 1)
            assert set(np.unique(row["mask"])) == ({0, 255} if text["finding"] else {0})


def test_stored_images_are_the_rendered_bytes_and_say_that_they_are_synthetic(tiny: Builder) -> None:
    planned = {item.image_id: item for item in plan_split("test", 8)}
    raw = {name: tfds.decode.SkipDecoding() for name in ("image", "mask")}
    for row in tiny.as_data_source("test", decoders=raw):
        phantom = draw_image(planned[row["image_id"].decode()])
        assert row["image"] == encode_png(phantom.image)
        assert row["mask"] == encode_png(phantom.mask)
        with Image.open(io.BytesIO(row["image"])) as image:
            assert (image.format, image.mode) == ("PNG", "L")
            assert "synthetic" in image.info["Source"]
            assert np.array_equal(np.asarray(image), phantom.image)


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is not None, reason="TensorFlow is installed here")
def test_it_is_built_and_read_without_tensorflow(tiny: Builder) -> None:
    assert tiny.is_prepared()
    assert len(tiny.as_data_source("test")) == sum(len(item.questions) for item in plan_split("test", 8))
    assert "tensorflow" not in sys.modules


def test_another_process_makes_the_same_rows_and_does_not_need_the_model_code(tmp_path: Path) -> None:
    script = f"""
import sys
sys.path.insert(0, {str(REPO)!r})
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_phantom_rad import Builder, digest
builder = Builder(data_dir={str(tmp_path)!r}, config="tiny")
assert "radvqa_jax" not in sys.modules
print("digest", digest(builder._generate_examples("validation", 8)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    here = Builder(data_dir=tmp_path / "here", config="tiny")
    assert done.stdout.split()[-1] == digest(here._generate_examples("validation", 8))


def test_it_is_called_synthetic_wherever_it_is_described(tiny: Builder) -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert "SYNTHETIC" in readme.splitlines()[0]
    assert "No patient" in readme
    assert "SYNTHETIC" in tiny.info.description
    assert "synthetic" in tiny.info.citation
    assert "SYNTHETIC" in (Builder.__doc__ or "")
    assert all("SYNTHETIC" in config.description for config in Builder.BUILDER_CONFIGS)


def test_the_readme_states_the_extents_that_are_drawn() -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for finding, sizes in EXTENT.items():
        line = next(line for line in readme.splitlines() if line.startswith(f"| {finding} "))
        for low, high in sizes.values():
            assert f"{low * 100:g}-{high * 100:g} %" in line, line
