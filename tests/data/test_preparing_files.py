"""The files that a data set is prepared from: found, read in usual variants, and named if they are wrong."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from radvqa_jax.config import DataConfig, SourceConfig
from radvqa_jax.data.preparing import prepare
from radvqa_jax.data.sources import load_rows
from tests.data.preparing_case import STAND_IN, TABLE, answers
from tfds_builders import find_files
from tfds_builders.dummy import encode


@pytest.mark.parametrize(("made", "message"), [("", "is not there"), ("folder", "is empty"), ("file", "is no folder")])
def test_a_given_folder_is_checked_first_even_if_the_set_is_prepared(
    made: str, message: str, config: Callable[..., DataConfig], tmp_path: Path
) -> None:
    prepare("vqa_rad", data=config())
    if made == "folder":
        (tmp_path / "given").mkdir()
    elif made == "file":
        (tmp_path / "given").write_text("x")
    with pytest.raises(ValueError, match=rf"data\.manual_dir='.*given' {message}.*osf\.io"):
        prepare("vqa_rad", data=config(manual_dir=str(tmp_path / "given")))


def test_nothing_is_downloaded_for_a_folder_that_lacks_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("it is downloaded")

    monkeypatch.setattr(find_files, "reach", refuse)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "tain.csv").write_text("a,b\n")
    data = DataConfig(data_dir=str(tmp_path / "data"), manual_dir=str(tmp_path / "files"))
    message = r"lacks train\.csv \(there is tain\.csv\), test\.csv, images\.zip\. Nothing was downloaded"
    with pytest.raises(ValueError, match=message):
        prepare("pmc_vqa", data=data)


def test_left_out_rows_are_reported_with_examples_and_kept_when_a_build_fails(
    config: Callable[..., DataConfig], files: Path, tmp_path: Path
) -> None:
    for path in files.rglob("*.jpg"):
        path.rename(path.with_name(f"synpic9{path.name.removeprefix('synpic')}"))
    with pytest.raises(ValueError, match=r"image file is absent \(synpic1\.jpg; .*\)") as raised:
        prepare("vqa_rad", data=config())
    rejects = tmp_path / "data/vqa_rad/official/rejects.jsonl"
    assert f"Every row that was left out is in {rejects}." in str(raised.value)
    lines = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert {"image file is absent: synpic1.jpg"} <= {line["reason"] for line in lines}
    shutil.rmtree(files)
    shutil.copytree(STAND_IN, files)
    prepare("vqa_rad", data=config())
    assert not rejects.exists()


def test_usual_variants_of_names_and_forms_are_read(config: Callable[..., DataConfig], files: Path) -> None:
    """Underscores from browsers, one object per line, and paths of Windows."""
    expected = answers_of(config())
    rows = json.loads((files / TABLE).read_text())
    for row in rows:
        row["image_name"] = f".\\VQA_RAD Image Folder\\{row['image_name']}"
    (files / TABLE).unlink()
    (files / TABLE.replace(" ", "_")).write_text("\n".join(json.dumps(row) for row in rows))
    data = config(rebuild=True)
    assert prepare("vqa_rad", data=data)["repaired"]["backslashes in a path"] == len(rows)
    assert answers(data) == expected
    assert load_rows(SourceConfig(dataset="vqa_rad"), data).column("image_id")[0] == "synpic1"


def answers_of(config: DataConfig) -> list[str]:
    prepare("vqa_rad", data=config)
    return answers(config)


def test_a_pointer_of_git_lfs_stops_the_build(config: Callable[..., DataConfig], files: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n"
    (files / "VQA_RAD Image Folder/synpic1.jpg").write_text(pointer)
    with pytest.raises(ValueError, match=r"synpic1\.jpg is a Git LFS pointer, not the file.*git lfs pull"):
        prepare("vqa_rad", data=config())


def test_a_named_pipe_among_the_files_is_not_waited_for(config: Callable[..., DataConfig], files: Path) -> None:
    os.mkfifo(files / "VQA_RAD Image Folder/spare.jpg")
    assert "6 files" in prepare("vqa_rad", data=config())["origin"]
    assert prepare("vqa_rad", data=config())["origin"].startswith("already prepared")


def test_twelve_bits_give_a_warning_which_a_bit_depth_removes(config: Callable[..., DataConfig], files: Path) -> None:
    levels = np.arange(64, dtype=np.uint16).reshape(8, 8) * 65
    (files / "VQA_RAD Image Folder/synpic1.jpg").write_bytes(encode(Image.fromarray(levels), "PNG"))
    (text,) = prepare("vqa_rad", data=config())["warnings"]
    assert text.startswith("1 images of 16 bits: the brightest is nearly black") and "data.bit_depth=12" in text
    assert prepare("vqa_rad", data=config(bit_depth=12, rebuild=True))["warnings"] == []
