"""Users' tables as prepared data sets: images, several tables, DICOM files."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image

from radvqa_jax import locks
from radvqa_jax.config import Config, DataConfig, EvalConfig, FilterConfig, SourceConfig
from radvqa_jax.data.dicom import read_dicom
from radvqa_jax.data.image import decode_image
from radvqa_jax.data.preparing import prepare
from radvqa_jax.data.rows import Turn
from radvqa_jax.data.sources import load_rows
from radvqa_jax.files import read_jsonl
from radvqa_jax.runners.data import prepare_all
from radvqa_jax.saliency.marked_regions import find_region
from tests.data.dicom_case import HU, ct, make


def own_folder(folder: Path, *, split: bool = False) -> Path:
    """Writes ten images and a table in a folder and returns it."""
    folder.mkdir()
    lines = ["image,question,answer,ward" + ",split" * split]
    for number in range(10):
        Image.fromarray(np.full((8, 8), 20 * number, np.uint8)).save(folder / f"{number}.png")
        lines.append(f"{number}.png,Is it dark?,{'yes' if number < 5 else 'no'},north" + ",train" * split)
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_a_users_table_is_prepared_read_and_filtered(tmp_path: Path) -> None:
    folder = own_folder(tmp_path / "own")
    data = DataConfig(data_dir=str(tmp_path / "data"), manual_dir=str(folder), name="mine")
    built = prepare("table", data=data)
    assert built["splits"] == {"test": 1, "validation": 1, "train": 8}
    assert built["table"]["split"].startswith("drawn by image")
    later = DataConfig(data_dir=data.data_dir)  # neither the files nor their columns are needed again
    rows = load_rows(SourceConfig(dataset="table", builder_config="mine"), later)
    assert rows.name == "table/mine:train" and rows.column("ward") == ["north"] * 8
    few = SourceConfig(dataset="table", where=(FilterConfig(field="answer", values=("no",)),))
    assert set(load_rows(few, data).column("answer")) == {"no"}


def test_options_that_a_prepared_table_was_not_made_with_are_refused_without_its_files_too(tmp_path: Path) -> None:
    folder = own_folder(tmp_path / "own")
    data = DataConfig(data_dir=str(tmp_path / "data"), manual_dir=str(folder), name="mine", split_seed=3)
    prepare("table", data=data)
    later = DataConfig(data_dir=data.data_dir, name="mine")
    source = SourceConfig(dataset="table", builder_config="mine")
    for same in (later, dataclasses.replace(later, split_seed=3)):
        assert prepare("table", builder_config="mine", data=same)["origin"].startswith("already prepared")
        assert len(load_rows(source, same)) == 8
    other: dict[str, Any] = {"hash_ids": True, "window": "lung", "bit_depth": 12, "columns": (("caption", "ward"),)}
    for field, value in other.items():
        asked, says = dataclasses.replace(later, **{field: value}), rf"already prepared .*and not data\.{field}=.*leave"
        with pytest.raises(ValueError, match=says):
            prepare("table", builder_config="mine", data=asked)
        with pytest.raises(ValueError, match=says):  # modes that only read it, such as train
            load_rows(source, asked)


def test_of_two_runs_at_once_the_second_refuses_what_the_first_prepared_from_other_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = DataConfig(data_dir=str(tmp_path / "data"), manual_dir=str(own_folder(tmp_path / "own")), name="mine")
    hold = locks.hold

    def hold_after_another_run(*args: Any, **options: Any) -> Any:
        monkeypatch.setattr(locks, "hold", hold)
        prepare("table", data=data)
        return hold(*args, **options)

    monkeypatch.setattr(locks, "hold", hold_after_another_run)
    with pytest.raises(
        ValueError, match=r"already prepared .*with .*data\.split_seed=0.* and not .*data\.split_seed=7"
    ):
        prepare("table", data=dataclasses.replace(data, split_seed=7))
    assert prepare("table", data=data)["origin"].startswith("already prepared")


def test_a_job_says_how_it_split_a_table_and_which_rows_it_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = own_folder(tmp_path / "own")
    with (folder / "table.csv").open("a") as table:
        table.write("absent.png,Is it dark?,yes,north\n0.png,Is it dark?,NA,north\n")
    data = DataConfig(data_dir=str(tmp_path / "data"), manual_dir=str(folder), name="mine")
    config = Config(data=data, eval=EvalConfig(source=SourceConfig(dataset="table", builder_config="mine")))
    prepare_all(config, tmp_path)
    said = capsys.readouterr().out
    for line in (
        "data: table: split drawn by image, 80/10/10 of the rows, seed 0: the table has no column `split`\n",
        "data: table: read as missing values: NA (1)\n",
        "data: table: left out: 1 x image file is absent; 1 x answer is empty. Each is in ",
    ):
        assert line in said
    (folder / "table.csv").write_text("image,question,answer\n0.png,Is it dark?,yes\n")
    prepare_all(dataclasses.replace(config, data=dataclasses.replace(data, rebuild=True)), tmp_path)
    assert "left out" not in capsys.readouterr().out


def test_an_image_that_comes_later_is_another_source_whatever_its_kind(tmp_path: Path) -> None:
    folder = own_folder(tmp_path / "own")
    (folder / "table.csv").write_text((folder / "table.csv").read_text() + "late.jpg,Is it dark?,yes,north\n")
    data = DataConfig(data_dir=str(tmp_path / "data"), manual_dir=str(folder), name="mine")
    assert prepare("table", data=data)["dropped"] == {"image file is absent": 1}
    assert prepare("table", data=data)["origin"].startswith("already prepared")
    Image.new("L", (8, 8)).save(folder / "late.jpg")
    with pytest.raises(ValueError, match=r"holds other files: also late\.jpg.*--config\.data\.rebuild=true"):
        prepare("table", data=data)


def test_images_that_cannot_be_read_are_counted_together(tmp_path: Path) -> None:
    folder = own_folder(tmp_path / "own")
    for name in ("3.png", "4.png"):
        (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    data = DataConfig(data_dir=str(tmp_path / "data"), manual_dir=str(folder), name="mine")
    assert prepare("table", data=data)["dropped"] == {"image file cannot be read": 2}


def test_columns_named_like_what_this_package_adds_stay_texts_of_the_user(tmp_path: Path) -> None:
    folder = own_folder(tmp_path / "own", split=True)
    table = (folder / "table.csv").read_text().replace("ward", "History,image used,mask,boxes")
    (folder / "table.csv").write_text(table.replace("north", "smoker,none,masks/a.png,10 20 30 40"))
    data = DataConfig(data_dir=str(tmp_path / "data"), manual_dir=str(folder), name="mine")
    prepare("table", data=data)
    rows = load_rows(SourceConfig(dataset="table", builder_config="mine"), data)
    assert rows[0]["history"] == "smoker" and rows[0]["image_used"] == "none"
    assert rows.text(rows[0], template="{question}") == ("Is it dark?", "yes")
    assert find_region(rows[0], height=8, width=8) == (None, "no mask and no boxes")
    turn = (Turn("before", "Is it small?", "no"),)
    told = rows.with_history([turn] * len(rows))
    for row in (told[0], next(told.texts())):
        assert row["history"] == "smoker"
        assert "Is it small?" in told.text(row, template="{history} {question}")[0]


def test_several_tables_are_prepared_under_their_names(tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    for name in ("one", "two"):
        own_folder(tmp_path / "all" / name, split=name == "two")
        data = DataConfig(data_dir=str(tmp_path / "data"), manual_dir=str(tmp_path / "all"), name=name)
        prepare("table", data=data)
    found = {name: len(load_rows(SourceConfig(dataset="table", builder_config=name), data)) for name in ("one", "two")}
    assert found == {"one": 8, "two": 10}
    with pytest.raises(ValueError, match=r"needs a name.*data\.name=NAME"):
        prepare("table", data=DataConfig(data_dir=str(tmp_path / "data")))
    with pytest.raises(ValueError, match="got 'a/b'"):
        prepare("table", data=DataConfig(data_dir=str(tmp_path / "data"), name="a/b"))
    with pytest.raises(ValueError, match=r"data.manual_dir is not given, and table needs its files. Give a folder"):
        prepare("table", data=DataConfig(data_dir=str(tmp_path / "data"), name="three"))


def test_dicom_files_in_a_folder_are_windowed_and_reported(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    samples = Path(pydicom.__path__[0]) / "data/test_files"
    for name in ("CT_small.dcm", "MR_small.dcm", "rtdose.dcm", "reportsi.dcm"):
        shutil.copy(samples / name, folder)
    lines = [f"{path.name},Is it dark?,yes,train" for path in sorted(folder.iterdir())]
    (folder / "table.csv").write_text("image,question,answer,split\n" + "\n".join(lines))
    data = DataConfig(data_dir=str(tmp_path / "data"), manual_dir=str(folder), name="dicom")
    built = prepare("table", data=data)
    assert built["splits"] == {"train": 3} and list(built["dropped"].values()) == [1]
    assert built["repaired"]["image converted"] >= 6
    rejects = Path(built["rejects"]).read_text()
    assert "DICOM window" in rejects and "frame 1 of 15" in rejects and "BurnedInAnnotation" in rejects
    row = load_rows(SourceConfig(dataset="table", builder_config="dicom"), data)[0]
    assert np.array_equal(decode_image(row["image"]), read_dicom((folder / "CT_small.dcm").read_bytes()).image)
    with pytest.raises(ValueError, match=r"data.window='lungs' is not a window. Did you mean `?'?lung"):
        prepare("table", data=dataclasses.replace(data, name="wrong", window="lungs"))


def test_a_named_window_is_for_ct_and_other_files_have_their_own(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    colour = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0, "NumberOfFrames": 1}
    files = {
        "ct": ct(WindowCenter=40, WindowWidth=80),
        "mr": make(HU.astype(np.int16), Modality="MR", WindowCenter=40, WindowWidth=80),
        "us": make(np.full((4, 5, 3), 90, np.uint8), **colour, Modality="US", Rows=4, Columns=5),
    }
    for name, content in files.items():
        (folder / f"{name}.dcm").write_bytes(content)
    lines = [f"{name}.dcm,{name},Is it dark?,yes,train" for name in files]
    (folder / "table.csv").write_text("image,image_id,question,answer,split\n" + "\n".join(lines))
    data = DataConfig(data_dir=str(tmp_path / "data"), manual_dir=str(folder), name="mixed", window="lung")
    built = prepare("table", data=data)
    assert built["splits"] == {"train": 3} and not built["dropped"]
    shown = {row["image_id"]: decode_image(row["image"]) for row in load_rows(SourceConfig(dataset="table"), data)}
    assert np.array_equal(shown["ct"], read_dicom(files["ct"], window="lung").image)
    assert all(np.array_equal(shown[name], read_dicom(files[name]).image) for name in ("mr", "us"))
    notes = [row["reason"] for row in read_jsonl(Path(built["rejects"])) if "not data.window=lung" in row["reason"]]
    assert len(notes) == 2
