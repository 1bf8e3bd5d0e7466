"""Prepared data sets as rows."""

import dataclasses
import pickle
import shlex
from pathlib import Path
from typing import Any

import pytest

import tfds_builders.medpix_2
from radvqa_jax.config import DataConfig, SourceConfig
from radvqa_jax.data import text_index
from radvqa_jax.data.history import earlier_numbers
from radvqa_jax.data.image import decode_image
from radvqa_jax.data.preparing import prepare
from radvqa_jax.data.rows import RowSource
from radvqa_jax.data.sources import downloads, find_prepared, load_rows, make_builder
from tfds_builders import catalogue

from .conftest import fake_rows
from .preparing_case import STAND_IN

IMAGES = STAND_IN / "VQA_RAD Image Folder"


def dummy(dummy_dir: Path, *, seed: int = 0, **fields: object) -> RowSource:
    source = SourceConfig(**({"dataset": "vqa_rad", "builder_config": "official"} | fields))  # pyright: ignore
    return load_rows(source, DataConfig(data_dir=str(dummy_dir)), seed=seed)


def test_rows_are_plain_values_and_images_are_the_files_bytes(dummy_dir: Path) -> None:
    rows = dummy(dummy_dir)
    row = rows[0]
    assert row["image"] == (IMAGES / "synpic1.jpg").read_bytes()
    assert row["question_id"] == "0" and row["answer"] == "Yes" and row["phrase_type"] == "freeform"
    assert row["yes_no"] is True and row["choices"] == []
    assert type(row["answer_index"]) is int and row["answer_index"] == -1
    assert {type(value) for value in row.values()} == {bytes, str, bool, int, list}
    assert rows[-1]["question_id"] == rows[len(rows) - 1]["question_id"]


def test_rows_come_in_the_official_order(dummy_dir: Path) -> None:
    assert [row["question_id"] for row in dummy(dummy_dir)] == [*map(str, range(12)), "19"]
    assert [row["question_id"] for row in dummy(dummy_dir, split="test")] == ["12", "13", "14"]


def test_the_name_and_the_fingerprint_say_what_it_is(dummy_dir: Path) -> None:
    rows = dummy(dummy_dir, split="test", limit=2)
    assert rows.name == "vqa_rad/official:test"
    known = {name: rows.fingerprint[name] for name in ("dataset", "version", "split", "rows", "n")}
    assert known == {"dataset": "vqa_rad", "version": "1.1.0", "split": "test", "rows": 3, "n": 2}
    assert len(rows.fingerprint["files"]) == 64
    assert dummy(dummy_dir).fingerprint["files"] != rows.fingerprint["files"]


def test_a_pickled_source_gives_the_same_rows(dummy_dir: Path) -> None:
    rows = dummy(dummy_dir, limit=5)
    assert list(pickle.loads(pickle.dumps(rows))) == list(rows)


def test_a_limit_is_a_seeded_choice_and_a_part_of_a_larger_one(dummy_dir: Path) -> None:
    def ids(limit: int, seed: int) -> list[str]:
        return [row["question_id"] for row in dummy(dummy_dir, limit=limit, seed=seed)]

    assert ids(6, 0) == ids(6, 0)
    assert ids(6, 0) != ids(6, 1)
    assert set(ids(3, 0)) < set(ids(6, 0))
    assert len(ids(6, 0)) == 6
    assert ids(99, 0) == ids(0, 0)


def test_a_limit_leaves_no_question_without_the_earlier_ones_of_its_conversation(dummy_dir: Path) -> None:
    data = DataConfig(data_dir=str(dummy_dir), history="references", prompt="{history} {question}")

    def earlier(limit: int, data: DataConfig) -> dict[str, list[str]]:
        """question_id -> the earlier questions about its image."""
        source = SourceConfig(dataset="vqa_rad", builder_config="official", limit=limit)
        texts = list(load_rows(source, data).texts())
        numbers = earlier_numbers([row["image_id"] for row in texts])
        return {
            row["question_id"]: [texts[number]["question_id"] for number in before]
            for row, before in zip(texts, numbers, strict=True)
        }

    whole = earlier(0, data)
    last: set[str] = set()
    for limit in range(1, len(whole) + 1):
        found = earlier(limit, data)
        assert len(found) == limit and found.items() <= whole.items() and last < set(found)
        last = set(found)
    alone = dataclasses.replace(data, history="none", prompt="{question}")
    assert any(not earlier(limit, alone).items() <= whole.items() for limit in range(1, len(whole)))


def ids(rows: RowSource) -> list[str]:
    return [row["question_id"] for row in rows]


def test_rows_are_selected_by_number_in_the_order_asked_for() -> None:
    rows = fake_rows(6)
    chosen = rows.select([4, 0, 2])
    assert ids(chosen) == ["4", "0", "2"]
    assert ids(chosen.select([2, 1])) == ["2", "0"]
    assert ids(rows.select(range(4, 6))) == ["4", "5"]
    assert len(rows.select([])) == 0
    assert chosen.fingerprint["n"] == 3 and rows.fingerprint["n"] == 6
    with pytest.raises(IndexError):
        rows.select([6])


def shown(rows: RowSource) -> list[tuple[str, str, str, int]]:
    """(question, image_id, image_used, grey level of the image) of each row."""
    found = ((row, decode_image(row["image"])[0, 0, 0]) for row in rows)
    return [(row["question_id"], row["image_id"], row.get("_image_used", ""), int(grey)) for row, grey in found]


def test_a_row_can_show_the_image_of_another() -> None:
    rows = fake_rows(3)
    swapped = rows.with_images_of([1, 2, 0])
    assert shown(swapped) == [
        ("0", "image-0", "image-1", 1),
        ("1", "image-1", "image-2", 2),
        ("2", "image-2", "image-0", 0),
    ]
    everything_else = {key for key in rows[0] if key != "image"}
    assert all(swapped[i][key] == rows[i][key] for i in range(3) for key in everything_else)
    assert shown(rows) == [(str(i), f"image-{i}", "", i) for i in range(3)]  # the source itself is unchanged


def test_other_images_stay_with_their_rows() -> None:
    """`others` are indices into the given rows, not into the file."""
    some = fake_rows(6).select([5, 3, 1])
    swapped = some.with_images_of([2, 0, 0])
    assert [line[2] for line in shown(swapped)] == ["image-1", "image-5", "image-5"]
    assert shown(swapped.select([2, 0])) == [("1", "image-1", "image-5", 5), ("5", "image-5", "image-1", 1)]
    assert shown(pickle.loads(pickle.dumps(swapped))) == shown(swapped)
    assert [line[2] for line in shown(swapped.with_images_of([1, 1, 1]))] == ["image-3"] * 3


def test_the_fingerprint_tells_which_images_are_shown() -> None:
    rows = fake_rows(3)
    swaps = [rows.with_images_of(others).fingerprint for others in ([1, 2, 0], [1, 2, 0], [2, 0, 1])]
    assert swaps[0] == swaps[1] and swaps[0] != swaps[2]
    assert "images_of" not in rows.fingerprint


def test_every_row_needs_an_image() -> None:
    with pytest.raises(ValueError, match="one number a row: 3 rows, 2 numbers"):
        fake_rows(3).with_images_of([1, 2])


def test_every_row_can_show_one_image() -> None:
    other = fake_rows(9)[7]["image"]
    rows = fake_rows(3).with_image(other, image_id="blank")
    assert shown(rows.select([2, 0])) == [("2", "image-2", "blank", 7), ("0", "image-0", "blank", 7)]
    assert rows.fingerprint["image"] != fake_rows(3).with_image(b"x", image_id="blank").fingerprint["image"]
    assert "image" not in fake_rows(3).fingerprint


def test_captions_come_once_an_image() -> None:
    rows = fake_rows(5, image_id=list("aabbc"), caption=["one", "one", "", " two", " "]).captioned()
    assert [row["question_id"] for row in rows] == ["0", "3"]
    assert rows.fingerprint["n"] == 2


def test_a_source_without_captions_says_so(dummy_dir: Path) -> None:
    with pytest.raises(ValueError, match="vqa_rad/official:train has no rows for task='caption'"):
        dummy(dummy_dir, task="caption")


def test_text_follows_the_task() -> None:
    vqa, caption = fake_rows(1), fake_rows(1, task="caption", caption=["A chest."])
    assert vqa.text(vqa[0], template="answer en {question}") == ("answer en 0", "0")
    assert caption.text(caption[0], template="answer en {question}") == ("caption en", "A chest.")


def test_an_unprepared_data_set_gives_the_command(tmp_path: Path) -> None:
    command = (
        r"python -m radvqa_jax.main --config configs/build_data.py --config.dataset=vqa_rad "
        rf"--config.data.data_dir={tmp_path} --config.data.manual_dir=FOLDER --workdir DIR"
    )
    for find in (load_rows, find_prepared):
        with pytest.raises(ValueError, match=command):
            find(SourceConfig(dataset="vqa_rad"), DataConfig(data_dir=str(tmp_path)))


@pytest.mark.parametrize("dataset", ["vqa_rad", "written"])
def test_the_command_for_an_unprepared_data_set_is_quoted_for_the_shell(dataset: str, tmp_path: Path) -> None:
    folder = f'{tmp_path}/one "folder" & $HOME'
    with pytest.raises(ValueError, match=" Run: python -m ") as raised:
        load_rows(
            SourceConfig(dataset=dataset, builder_config="a" * (dataset == "written")), DataConfig(data_dir=folder)
        )
    assert f"--config.data.data_dir={folder}" in shlex.split(str(raised.value).partition(" Run: ")[2])


def test_unknown_names_are_refused(dummy_dir: Path) -> None:
    with pytest.raises(ValueError, match=r"no data set 'vqa_rat'\. Did you mean `vqa_rad`\?"):
        load_rows(SourceConfig(dataset="vqa_rat"), DataConfig())
    with pytest.raises(ValueError, match=r"no builder_config 'strikt'\. Did you mean `strict`\?"):
        dummy(dummy_dir, builder_config="strikt")
    with pytest.raises(ValueError, match=r"no split 'tests'. Did you mean `test`\? It has: .*train"):
        dummy(dummy_dir, split="tests")


def test_prepare_reports_a_set_that_is_already_prepared(dummy_dir: Path) -> None:
    # Prepared before, so that no manual_dir is needed.
    found = prepare("vqa_rad", data=DataConfig(data_dir=str(dummy_dir), allow_count_mismatch=True))
    assert found["splits"] == {"test": 3, "train": 13}
    assert Path(found["rejects"]).is_file()
    assert found["path"] == str(dummy_dir / "vqa_rad" / "official" / "1.1.0")
    assert found["dropped"]["answer is empty"] == 1 and found["repaired"]["white space"] == 5
    assert found["counts"]["train"]["rows"] == 17 and "test rows: 3 instead of 451" in found["differences"]


def test_a_set_built_from_a_part_of_the_release_stays_marked(dummy_dir: Path) -> None:
    with pytest.raises(ValueError, match=r"not the official release: train rows: 17 instead of.*data.rebuild=true"):
        prepare("vqa_rad", data=DataConfig(data_dir=str(dummy_dir)))
    assert "train rows: 17 instead of 1797" in dummy(dummy_dir).fingerprint["differences"]


def test_only_hand_made_copies_need_a_manual_dir() -> None:
    by_hand = [name for name in catalogue.folders() if not downloads(name)]
    assert by_hand == ["path_vqa", "table", "vqa_rad"]


@pytest.mark.parametrize("manual_dir", ["", "/nowhere/at/all"])
def test_a_missing_manual_dir_says_what_to_put_where(manual_dir: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"(?s)osf.io/89kps.*VQA_RAD Dataset Public.json.*VQA_RAD Image Folder"):
        prepare("vqa_rad", data=DataConfig(data_dir=str(tmp_path), manual_dir=manual_dir))


def test_every_builder_has_the_common_features(tmp_path: Path) -> None:
    for name in catalogue.folders():
        data = DataConfig(data_dir=str(tmp_path), name="own")
        config = "own" if name == "written" else ""  # written questions have no default
        features: Any = make_builder(name, builder_config=config, data=data).info.features
        assert {"image", "question", "answer", "question_id", "yes_no", "choices"} <= set(features)


def test_phantom_rad_loads_with_its_masks_and_captions(tmp_path: Path) -> None:
    found = prepare("phantom_rad", builder_config="tiny", data=DataConfig(data_dir=str(tmp_path)))
    data = DataConfig(data_dir=str(tmp_path))
    source = SourceConfig(dataset="phantom_rad", builder_config="tiny", split="test")
    rows = load_rows(source, data)
    assert len(rows) == found["splits"]["test"]
    row = rows[0]
    assert decode_image(row["image"]).shape == decode_image(row["mask"]).shape
    assert row["answer"] and row["caption"]
    captions = load_rows(dataclasses.replace(source, task="caption"), data)
    images = [row["image_id"] for row in captions]
    assert len(set(images)) == len(images) == len({row["image_id"] for row in rows}) == 8


def test_questions_are_not_asked_of_a_set_that_has_none(tmp_path: Path) -> None:
    files = Path(tfds_builders.medpix_2.__path__[0]) / "dummy_data"
    prepare("medpix_2", data=DataConfig(data_dir=str(tmp_path), manual_dir=str(files), allow_count_mismatch=True))
    data = DataConfig(data_dir=str(tmp_path))
    with pytest.raises(
        ValueError, match=r"medpix_2/official:train: task='vqa' needs questions, and none of \d rows has one.*'caption'"
    ):
        load_rows(SourceConfig(dataset="medpix_2"), data)
    assert len(load_rows(SourceConfig(dataset="medpix_2", task="caption"), data)) > 0


def test_texts_are_indexed_when_a_data_set_is_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare("vqa_rad", data=DataConfig(data_dir=str(tmp_path), manual_dir=str(STAND_IN), allow_count_mismatch=True))

    def refuse(*_: object) -> None:
        raise AssertionError("records are read for their texts")

    monkeypatch.setattr(text_index, "make_index", refuse)
    prepare("vqa_rad", data=DataConfig(data_dir=str(tmp_path), manual_dir=str(STAND_IN), allow_count_mismatch=True))
    assert len(load_rows(SourceConfig(dataset="vqa_rad"), DataConfig(data_dir=str(tmp_path))).column("question")) == 13
