"""Preparing a data set: recorded, compared, and rebuilt whole."""

import dataclasses
import hashlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2, tf_feature_pb2

from radvqa_jax.config import DataConfig, SourceConfig
from radvqa_jax.data import preparing
from radvqa_jax.data.prepared_files import describe_content
from radvqa_jax.data.preparing import prepare, remove_leftovers
from radvqa_jax.data.sources import load_rows
from tests.data.preparing_case import TABLE, answers, damage
from tfds_builders.origin import FILE_NAME


def change_answer(files: Path, answer: str) -> None:
    """Changes one answer in the official table."""
    rows = json.loads((files / TABLE).read_text())
    rows[0]["answer"] = answer
    (files / TABLE).write_text(json.dumps(rows))


def origin(built: dict[str, Any]) -> dict[str, Any]:
    return json.loads((Path(built["path"]) / FILE_NAME).read_text())


def test_the_origin_of_a_build_is_recorded_and_reported(config: Callable[..., DataConfig], files: Path) -> None:
    built = prepare("vqa_rad", data=config())
    made = origin(built)
    assert built["origin"].startswith("prepared from 6 files (") and built["origin"].endswith(" UTC")
    assert (made["builder"], made["config"], made["version"]) == ("vqa_rad", "official", built["version"])
    assert len(made["files"]) == 6 and made["bytes"] == sum(f.stat().st_size for f in files.rglob("*.*"))
    assert "synpic" not in json.dumps(made) and str(files) not in json.dumps(made)
    again = prepare("vqa_rad", data=config())
    assert again["origin"] == built["origin"].replace("prepared from", "already prepared from")
    assert prepare("vqa_rad", data=config(manual_dir=""))["origin"] == again["origin"]


def test_a_copy_elsewhere_is_the_same_source(config: Callable[..., DataConfig], files: Path, tmp_path: Path) -> None:
    built = prepare("vqa_rad", data=config())
    made = origin(built)
    shutil.copytree(files, tmp_path / "moved" / "vqa_rad")
    (tmp_path / "moved" / "vqa_rad" / "notes.txt").write_text("of another kind than what is read")
    for path in (tmp_path / "moved").rglob("*.jpg"):
        os.utime(path, (1, 1))
    again = prepare("vqa_rad", data=config(manual_dir=str(tmp_path / "moved")))
    assert again["origin"] == built["origin"].replace("prepared from", "already prepared from")
    assert origin(again) == made  # nothing was built


@pytest.mark.parametrize("change", ["other bytes", "one more", "one less", "a bit depth"])
def test_other_sources_are_an_error_and_the_prepared_set_stays(
    change: str, config: Callable[..., DataConfig], files: Path
) -> None:
    prepare("vqa_rad", data=config())
    before, fields = answers(config()), {}
    if change == "other bytes":
        change_answer(files, "Nay")
        message = rf"already prepared from 6 files .* and .* holds other files: other bytes in {TABLE}"
    elif change == "one more":
        shutil.copy(files / "VQA_RAD Image Folder/synpic1.jpg", files / "synpic77.jpg")
        message = r"holds other files: also synpic77\.jpg"
    elif change == "one less":
        (files / "VQA_RAD Image Folder/synpic99.jpg").unlink()
        message = r"1 of its files absent"
    else:
        fields, message = {"bit_depth": 12}, r"with data\.bit_depth=0 and not data\.bit_depth=12"
    with pytest.raises(ValueError, match=rf"{message}.*--config\.data\.rebuild=true; the existing one is kept"):
        prepare("vqa_rad", data=config(**fields))
    assert answers(config()) == before


def test_a_rebuild_takes_the_place_of_the_old_one_when_it_is_whole(
    config: Callable[..., DataConfig], files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = prepare("vqa_rad", data=config())
    before = answers(config())
    change_answer(files, "Nay")
    with monkeypatch.context() as patched, pytest.raises(ValueError, match=r"cannot be prepared in .*broke"):
        patched.setattr(preparing, "open_split", _fail)
        prepare("vqa_rad", data=config(rebuild=True))
    assert answers(config()) == before  # the old set was kept
    again = prepare("vqa_rad", data=config(rebuild=True))
    assert again["path"] == built["path"] and again["origin"].startswith("prepared anew from 6 files")
    assert answers(config()) == ["Nay", *before[1:]]
    assert prepare("vqa_rad", data=config())["origin"].startswith("already prepared from 6 files")
    left = {path.name for path in Path(built["path"]).parent.iterdir()}
    assert left <= {built["version"], ".lock"}


def _fail(*_: object) -> None:
    raise RuntimeError("it broke")


def test_a_set_that_a_killed_rebuild_moved_aside_is_put_back(tmp_path: Path) -> None:
    """A kill between the two renames of a rebuild leaves the old one next to its place."""
    place = tmp_path / "1.1.0"
    for name in (".replaced-1.1.0", ".rebuild-1.1.0", "incomplete.ABCDEF_1.1.0"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    remove_leftovers(place)
    assert (place / "file").read_text() == ".replaced-1.1.0"
    assert [path.name for path in tmp_path.iterdir()] == ["1.1.0"]
    (tmp_path / ".replaced-1.1.0").mkdir()
    remove_leftovers(place)
    assert [path.name for path in tmp_path.iterdir()] == ["1.1.0"]


def test_a_build_without_a_record_is_used_and_says_so(
    config: Callable[..., DataConfig], caplog: pytest.LogCaptureFixture
) -> None:
    built = prepare("vqa_rad", data=config())
    assert "unchecked" not in caplog.text
    (Path(built["path"]) / FILE_NAME).unlink()
    assert prepare("vqa_rad", data=config())["origin"] == "already prepared from files that were not recorded"
    assert len(answers(config())) == built["splits"]["train"]
    assert caplog.text.count(f"{built['path']} has no record of its files, which are used unchecked.") == 1


def test_a_pipe_in_the_place_of_the_record_is_refused(config: Callable[..., DataConfig]) -> None:
    path = Path(prepare("vqa_rad", data=config())["path"]) / FILE_NAME
    damage(path, "pipe")
    with pytest.raises(ValueError, match=FILE_NAME):
        answers(config())


def field(name: str, value: bytes) -> bytes:
    """One feature of a serialized tf.train.Example, in bytes."""
    feature = tf_feature_pb2.Features(feature={name: {"bytes_list": {"value": [value]}}})
    return tf_example_pb2.Example(features=feature).SerializeToString()


def test_the_order_of_fields_in_the_files_does_not_change_what_a_data_set_is() -> None:
    """TFDS writes the fields of a row in any order, another one in each process."""

    def content(*rows: bytes) -> dict[str, str]:
        info = SimpleNamespace(splits={"train": None})
        return describe_content(SimpleNamespace(info=info, as_data_source=lambda *_, **__: rows))

    one, two = field("answer", b"yes"), field("question", b"Is it?")
    assert content(one + two, one) == content(two + one, one)
    assert content(one + two, one) != content(one, one + two)  # another order of rows
    assert content(one + two) != content(field("answer", b"no") + two)
    assert content(one, two) != content(one + two)
    # By name, in every process: all fields are below 128 bytes, so that a length is one byte.
    entries = [field(name, b"x") for name in "dbeac"]
    sorted_by_name = b"".join(entry[2:] for entry in sorted(entries))
    row = b"\n" + bytes([len(sorted_by_name)]) + sorted_by_name
    assert content(b"".join(entries))["train"] == hashlib.sha256(len(row).to_bytes(8, "little") + row).hexdigest()


def test_a_rebuild_is_the_same_data_set_and_other_rows_are_another_one(
    config: Callable[..., DataConfig], files: Path
) -> None:
    def fingerprint() -> str:
        return load_rows(SourceConfig(dataset="vqa_rad"), config()).fingerprint["files"]

    recorded = origin(prepare("vqa_rad", data=config()))["content"]
    before = fingerprint()
    assert before == recorded["train"] != recorded["test"]
    prepare("vqa_rad", data=config(rebuild=True))
    assert fingerprint() == before
    change_answer(files, "zzz")
    prepare("vqa_rad", data=config(rebuild=True))
    assert fingerprint() != before


@pytest.mark.parametrize(("name", "field"), [(FILE_NAME, "bytes"), ("counts.json", "differences")])
def test_records_are_checked_by_field(name: str, field: str, config: Callable[..., DataConfig]) -> None:
    path = Path(prepare("vqa_rad", data=config())["path"]) / name
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: "many"}))
    with pytest.raises(ValueError, match=rf"{name}: field `{field}` must be"):
        prepare("vqa_rad", data=config())


def test_a_folder_of_other_data_sets_is_not_another_source(config: Callable[..., DataConfig], tmp_path: Path) -> None:
    prepare("vqa_rad", data=config())
    (tmp_path / "others" / "slake").mkdir(parents=True)
    (tmp_path / "others" / "slake" / "train.json").write_text("[]")
    assert prepare("vqa_rad", data=config(manual_dir=str(tmp_path / "others")))["splits"]["test"] == 3


def test_a_table_in_one_archive_is_prepared_and_prepared_again(tmp_path: Path) -> None:
    picture = io.BytesIO()
    Image.new("L", (8, 6), 90).save(picture, "PNG")
    with zipfile.ZipFile(tmp_path / "own.zip", "w") as archive:
        archive.writestr("own/a.png", picture.getvalue())
        archive.writestr("own/table.csv", "image,question,answer,split\na.png,Is there a mass?,no,train\n")
    data = DataConfig(name="own", manual_dir=str(tmp_path / "own.zip"), data_dir=str(tmp_path / "data"))
    for said, again in (("prepared from", data), ("already prepared", data),
                        ("prepared anew", dataclasses.replace(data, rebuild=True))):  # fmt: skip
        found = prepare("table", data=again)
        assert found["splits"] == {"train": 1} and found["origin"].startswith(said)
    with zipfile.ZipFile(tmp_path / "own.zip", "a") as archive:
        archive.writestr("own/b.png", picture.getvalue() + b" ")
    with pytest.raises(ValueError, match=r"was already prepared .* holds other files"):
        prepare("table", data=data)


@pytest.mark.parametrize(
    ("head", "ids", "fields", "said"),
    [
        ("PatientID", ("p1", "p2"), {}, "'PatientID' seems to name a patient, and no column is case_id"),
        ("Study UID", ("p1", "p2"), {}, "'Study UID' seems to name a patient"),
        ("PatientID", ("p1", "p2"), {"columns": (("case_id", "PatientID"),)}, ""),
        ("case_id", ("P3", "p3"), {}, "1 ids in the column 'case_id' have several spellings"),
        ("case_id", ("003", "3"), {}, "1 ids in the column 'case_id' have several spellings"),
        ("case_id", ("101", "101.0"), {}, "1 ids in the column 'case_id' have several spellings"),
        ("case_id", ("2.02401E+12", "2.02402E+12"), {}, "2 ids in the column 'case_id' are numbers that a spreadsheet"),
        ("record_id", ("1", "2"), {}, "'record_id' seems to name a patient"),
        ("age", ("63", "64"), {}, ""),
    ],
)
def test_patients_whose_rows_may_be_in_several_splits_give_a_warning(
    head: str, ids: tuple[str, str], fields: dict[str, Any], said: str, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    for name, level in zip("ab", (90, 200), strict=True):
        Image.new("L", (8, 6), level).save(tmp_path / "own" / f"{name}.png")
    rows = [f"{name}.png,Is there a mass?,no,{case}\n" for name, case in zip("ab", ids, strict=True)]
    (tmp_path / "own" / "table.csv").write_text(f"image,question,answer,{head}\n" + "".join(rows))
    data = DataConfig(name="own", manual_dir=str(tmp_path / "own"), data_dir=str(tmp_path / "data"), **fields)
    warnings = prepare("table", data=data)["warnings"]
    assert len(warnings) == bool(said) and all(said in text for text in warnings)
