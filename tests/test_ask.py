"""mode=ask on the embedded model: an image or DICOM file and a question give answers, agreement and a viewer."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from radvqa_jax.api_values import agreement
from radvqa_jax.config import default_config, use_embedded_model
from radvqa_jax.config.check import from_config_dict
from radvqa_jax.files import read_json, write_json
from radvqa_jax.runners import RUNNERS, ask
from radvqa_jax.runners.ask import identify_question, open_image, refuse_other_answer, sampled
from tests.saliency.viewer_case import phantom


def make(**changed: Any) -> Any:
    config = default_config()
    config.mode = "ask"
    use_embedded_model(config)
    config.data.seq_len = 40
    config.decode.max_new_tokens = 6
    config.ask.question = "Is there a nodule?"
    config.update_from_flattened_dict(changed)
    return from_config_dict(config)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "xray.png"
    Image.fromarray(phantom().image).save(path)
    return path


@pytest.mark.slow
def test_one_command_answers_and_shows(picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    RUNNERS["ask"](make(**{"ask.image": str(picture), "ask.other": "left lung"}), tmp_path)
    out, found = capsys.readouterr().out, read_json(tmp_path / "answer.json")
    assert f"answer: {found['answer']}" in out and found["answer"]
    with pytest.raises(ValueError, match=r"answer\.json answers 'Is there a nodule\?'.* Give another --workdir"):
        RUNNERS["ask"](make(**{"ask.image": str(picture), "ask.question": "Where?"}), tmp_path)
    assert read_json(tmp_path / "answer.json") == found
    assert len(found["samples"]) == 5 and found["agreement"] == agreement(found["answer"], found["samples"])
    assert f"agreement: {found['agreement']:.0%} of 5 samples" in out
    assert found["ended"] == (f"answer was cut after {len(found['token_ids'])}" not in out)
    page = (tmp_path / "viewer.html").read_text(encoding="utf-8")
    case = json.loads(page.split('class="case">')[1].split("</script>")[0])
    assert case["question"] == "Is there a nodule?" and case["models"][0]["prediction"] == found["answer"]
    assert " ".join(word["text"] for word in case["words"] if not word["end"]) == found["answer"]
    methods = {item["method"] for item in case["maps"]["index"]}
    plain = {"raw", "raw_centred", "rollout", "rollout_centred", "value_norm", "relevancy"}
    assert methods == plain | {"contrast", "contrast_first"} and case["other"] == "left lung"
    asking = {item["method"] for item in case["maps"]["index"] if item["query"] == "question"}
    assert asking == {"raw", "raw_centred", "rollout", "rollout_centred"}
    assert "nodule?" in [word["text"] for word in case["prompt"]]
    for name in ("asked", "asked_heads"):
        assert (tmp_path / "saliency" / f"{name}.png").is_file() and (tmp_path / "saliency" / f"{name}.pdf").is_file()
    assert {item["vision"] for item in case["maps"]["index"]} == {False, True}
    heads = {(item["layer"], item["head"]) for item in case["maps"]["index"] if item["method"] == "raw"}
    assert len(heads) == 1 + 4 + 4 * 4
    read = np.array(next(item["prompt"] for item in case["maps"]["index"] if item["method"] == "raw"))
    assert (read >= 0).all() and (read.sum(axis=1) < 1).all()


def test_a_dicom_file_is_opened_with_its_window_and_without_its_patient(tmp_path: Path) -> None:
    pytest.importorskip("pydicom", reason="pydicom is not installed: pip install -e '.[dicom]'")
    from tests.data.dicom_case import SECRET, ct

    path = tmp_path / "slice.dcm"
    path.write_bytes(ct(PatientAge="095Y"))
    opened = open_image(make(**{"ask.image": str(path), "ask.window": "lung"}))
    facts = dict(opened.facts)
    assert facts["window"] == "lung: centre -600, width 1500 HU" and facts["frame"] == "1 of 1"
    assert facts["PatientAge"] == "over 89 years" and opened.notes and "BurnedInAnnotation" in opened.notes[0]
    assert SECRET not in repr(opened)


def test_mistakes_are_named(picture: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"mode=ask needs an image or a DICOM file: --config\.ask\.image=FILE"):
        make()
    with pytest.raises(ValueError, match="does not exist"):
        open_image(make(**{"ask.image": str(tmp_path / "none.png")}))
    with pytest.raises(ValueError, match=r"ask\.window='lung': Only DICOM files have a window and a frame"):
        open_image(make(**{"ask.image": str(picture), "ask.window": "lung"}))
    with pytest.raises(ValueError, match=r"ask\.temperature=0\.0 must be above 0"):
        make(**{"ask.image": "x", "ask.temperature": 0.0})


def test_an_answer_is_replaced_by_the_same_command_alone(
    picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ask, "load_base", lambda *_: pytest.fail("the model was loaded"))
    image, adapter = tmp_path / "x.png", tmp_path / "stage"
    adapter.mkdir()
    (adapter / "adapter.npz").write_bytes(b"1")
    image.write_bytes(picture.read_bytes())
    same = {"ask.image": str(image), "adapter": str(adapter)}
    write_json(tmp_path / "answer.json", {"question": "Is there a nodule?", "asked": identify_question(make(**same))})
    refuse_other_answer(identify_question(make(**same)), tmp_path)
    refuse_other_answer("anything", adapter)  # has no answer
    for change in ({"ask.question": "Where?"}, {"seed": 1}, {"ask.temperature": 0.5}, {"adapter": ""}):
        with pytest.raises(ValueError, match=r"answer\.json answers 'Is there a nodule\?'.* would be replaced\. Give"):
            RUNNERS["ask"](make(**same | change), tmp_path)
    for changed in (image, adapter / "adapter.npz"):
        before = changed.read_bytes()
        changed.write_bytes(b"other")
        with pytest.raises(ValueError, match="would be replaced"):
            refuse_other_answer(identify_question(make(**same)), tmp_path)
        changed.write_bytes(before)
    write_json(tmp_path / "answer.json", {"question": "of an earlier version"})
    with pytest.raises(ValueError, match="would be replaced"):
        refuse_other_answer(identify_question(make(**same)), tmp_path)


def test_an_answer_of_other_weights_at_the_same_paths_is_not_replaced(
    picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make(**{"ask.image": str(picture)})
    kept = {"checkpoint_sha256": "a", "tokenizer_sha256": "b"}
    write_json(tmp_path / "answer.json", {"question": "Q", "asked": identify_question(config), "weights": kept})
    monkeypatch.setattr(ask, "shown_models", lambda _: pytest.fail("the other model was used"))
    for other in ({"checkpoint_sha256": "c"}, {"tokenizer_sha256": "c"}):
        now = kept | other
        loaded = SimpleNamespace(
            base=SimpleNamespace(sha256=now["checkpoint_sha256"]),
            tokenizer=SimpleNamespace(sha256=now["tokenizer_sha256"]),
        )
        monkeypatch.setattr(ask, "load_base", lambda *_, loaded=loaded: loaded)
        with pytest.raises(ValueError, match="would be replaced"):
            RUNNERS["ask"](config, tmp_path)


def test_equal_samples_are_counted() -> None:
    rows = sampled("yes", ["yes", "no", "yes", "Yes", "no"])
    assert rows == [
        ("agreement", "60% of 5 samples say what the answer says"),
        ("2 of 5 samples", "yes"),
        ("2 of 5 samples", "no"),
        ("1 of 5 samples", "Yes"),
    ]


@pytest.mark.parametrize("question", ["", "   ", "\n\t", "\u3000"])
def test_a_question_of_white_space_is_refused(question: str) -> None:
    with pytest.raises(ValueError, match=r"mode=ask needs a question: --config\.ask\.question"):
        make(**{"ask.image": "x.png", "ask.question": question})


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    """Opening a named pipe would wait without end."""
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "empty.png").touch()
    for name, why in (("pipe.png", "a named pipe"), ("folder.png", "a folder"), ("/dev/zero", "a device")):
        with pytest.raises(ValueError, match=f"is {why}. Only regular files are read"):
            open_image(make(**{"ask.image": str(tmp_path / name)}))
    with pytest.raises(ValueError, match=r"empty\.png is empty"):
        open_image(make(**{"ask.image": str(tmp_path / "empty.png")}))
    with pytest.raises(ValueError, match=r"gone\.png does not exist"):
        open_image(make(**{"ask.image": str(tmp_path / "gone.png")}))


def test_twelve_bits_in_sixteen_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "ct.png"
    Image.fromarray(np.array([[0, 2048, 4095]], np.uint16)).save(path)
    told = open_image(make(**{"ask.image": str(path)}))
    assert told.image.max() == 16 and "give data.bit_depth=12" in told.notes[0]
    mended = open_image(make(**{"ask.image": str(path), "data.bit_depth": 12}))
    assert mended.image[0, :, 0].tolist() == [0, 128, 255] and not mended.notes
    with pytest.raises(ValueError, match=r"data\.bit_depth=3 must be 0 \(all bits\) or 8 to 16"):
        make(**{"ask.image": str(path), "data.bit_depth": 3})
