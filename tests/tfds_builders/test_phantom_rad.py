"""phantom_rad: images show their plan, rows are what was planned, and all follows from the seed."""

import hashlib
import importlib.util
import io
import itertools
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
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
from tfds_builders.phantom_rad.plan import draw_image, plan_split
from tfds_builders.phantom_rad.render import Phantom, encode_png, render_case

REPO = Path(__file__).resolve().parents[2]
FOLDER = REPO / "tfds_builders" / "phantom_rad"


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


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    builder = Builder(data_dir=tmp_path_factory.mktemp("data"), config="tiny", file_format="array_record")
    builder.download_and_prepare()
    return builder


# --- the data set ---


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
