"""A case on disk: every number comes back, files are named safely, nothing is left half-written."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from radvqa_jax.config import SaliencyConfig
from radvqa_jax.data.image import read_mask
from radvqa_jax.saliency import cases
from radvqa_jax.saliency.cases import SavedCase, safe_name, save_case
from radvqa_jax.saliency.maps import CaseMaps
from radvqa_jax.saliency.quality import quality

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 64, 3)).astype(np.uint8)
CONFIG = SaliencyConfig(residual=0.25, layers=(0, 2))


def fake_maps(words: int = 2) -> CaseMaps:
    """Maps of an answer whose words have two tokens each, and EOS."""
    rng, count = np.random.default_rng(1), 2 * words + 1
    groups = [(f"word{i}", [2 * i, 2 * i + 1]) for i in range(words)] + [("</s>", [2 * words])]
    maps = {method: rng.random((count, 4, 4)).astype(np.float32) / 20 for method in ("raw", "rollout")}
    tokens, logprobs = np.arange(5, 5 + count, dtype=np.int32), -rng.random(count).astype(np.float32)
    return CaseMaps("left £", tokens, logprobs, groups, True, maps)


def save(folder: Path, maps: CaseMaps, **changes: Any) -> SavedCase:
    arguments = {"image": IMAGE, "question_id": "q1", "question": "Où?", "config": CONFIG, "reference": "là"}
    return save_case(folder, maps, **(arguments | changes))


def test_every_number_comes_back_without_pickle(tmp_path: Path) -> None:
    maps = fake_maps()
    saved = save(tmp_path, maps)
    with np.load(saved.npz, allow_pickle=False) as file:
        found = {key: file[key] for key in file.files}
    for method in ("raw", "rollout"):
        assert np.array_equal(found[f"{method}_tokens"], maps.maps[method])
        assert np.array_equal(found[f"{method}_words"], maps.of_words(method))
        assert np.array_equal(found[f"{method}_answer"], maps.of_answer(method))
        assert f"{method}_quality" not in found
    assert np.array_equal(found["token_ids"], maps.tokens) and np.array_equal(found["logprobs"], maps.logprobs)
    assert found["words"].tolist() == ["word0", "word1", "</s>"]
    assert found["word_of_token"].tolist() == [0, 0, 1, 1, 2]
    assert (found["grid"], found["image_size"].tolist()) == (4, [40, 64])
    texts = {key: str(found[key]) for key in ("question_id", "question", "answer", "reference")}
    assert texts == {"question_id": "q1", "question": "Où?", "answer": "left £", "reference": "là"}
    settings = json.loads(str(found["settings"]))
    rollout = {"residual": 0.25, "head_fusion": "mean", "start_layer": 0, "discard": 0.0}
    assert settings == rollout | {"layers": [0, 2], "windows": 8, "knockout_layers": []}


def test_pictures_are_next_to_the_numbers(tmp_path: Path) -> None:
    saved = save(tmp_path / "deep" / "er", fake_maps(words=9))
    names = {path.name for path in saved.npz.parent.iterdir()}
    assert names == {"q1.npz", "q1.png", "q1.pdf", "q1_raw.png", "q1_rollout.png"}
    for path in (saved.figure, *saved.overlays.values()):
        with Image.open(path) as picture:
            assert min(picture.size) >= 320
    assert saved.quality == {}


def test_titles_of_panels_distinguish_repeated_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []

    def figure(image: Any, panels: Any, titles: list[str], **_: Any) -> Figure:
        called.append(titles)
        return Figure()

    monkeypatch.setattr(cases, "case_figure", figure)
    maps = fake_maps()
    save(tmp_path, maps._replace(words=[("left", [0, 1]), ("left", [2, 3]), ("</s>", [4])]))
    (titles,) = called  # one figure for PNG and PDF
    assert titles[2:5] == ["raw attention: left (1)", "raw attention: left (2)", "raw attention: (end)"]
    assert titles[6].startswith("rollout: answer (") and titles[6].endswith("% on the image)")


def test_a_lesion_is_measured_on_the_whole_answer(tmp_path: Path) -> None:
    maps, mask = fake_maps(), np.zeros((40, 64), bool)
    mask[3:21, 10:30] = True
    saved = save(tmp_path, maps, mask=mask)
    with np.load(saved.npz, allow_pickle=False) as file:
        for method in ("raw", "rollout"):
            expected = quality(maps.of_answer(method), mask)
            assert saved.quality[method] == expected
            assert tuple(file[f"{method}_quality"]) == expected
    assert save(tmp_path, maps, mask=np.zeros((40, 64), bool)).quality == {}


def test_a_mask_of_another_size_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'q1': the mask is 64 x 40 pixels, its image 40 x 64"):
        save(tmp_path, fake_maps(), mask=np.ones((64, 40), bool))
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = save(tmp_path, fake_maps())
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def broken(file: io.BytesIO, **_: Any) -> None:
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(cases.np, "savez_compressed", broken)
    with pytest.raises(OSError, match="disk full"):
        save(tmp_path, fake_maps(words=3))
    assert saved.npz.exists()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("question_id", ["../../etc/x", "a/b", "a\\b", "", ".", "CON:", "a b", "é", "x" * 300, "a\0b"])
def test_no_id_leaves_the_folder(tmp_path: Path, question_id: str) -> None:
    saved = save(tmp_path, fake_maps(words=1), question_id=question_id)
    assert saved.npz.parent == tmp_path and saved.npz.is_file()
    assert len(list(tmp_path.iterdir())) == 5


def test_names_stay_apart_and_plain_ones_stay_as_they_are() -> None:
    ids = ["a/b", "a_b", "a b", "a", "x" * 300, "x" * 301, ""]
    assert len({safe_name(i) for i in ids}) == len(ids)
    assert safe_name("xray_0001-q2") == "xray_0001-q2"


@pytest.mark.parametrize("end", ["", "raw", "rollout_vision", "heads", "shares", "contrast_first"])
def test_a_case_whose_id_ends_like_a_file_of_another_keeps_its_files(tmp_path: Path, end: str) -> None:
    for question_id in ("17", f"17_{end}" if end else "18"):
        save(tmp_path, fake_maps(words=1), question_id=question_id)
    assert len(list(tmp_path.iterdir())) == 10 and not (tmp_path / f"17_{end}.npz").exists()


def test_a_mask_is_read_from_its_png() -> None:
    mask = np.zeros((5, 7), bool)
    mask[1:3, 2:6] = True
    file = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(file, "PNG")
    assert np.array_equal(read_mask(file.getvalue()), mask)
