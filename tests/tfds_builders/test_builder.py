"""The common behaviour of all builders of official files."""

import filecmp
import importlib
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
import tensorflow_datasets as tfds

from tfds_builders import find_files
from tfds_builders.features import TEXT_FEATURES, common_row, is_yes_no
from tfds_builders.rejects import Rejects

from .conftest import ROOT, Built, build, make

CONFIGS = [
    *[("vqa_rad", "official"), ("slake", "en"), ("medpix_2", "official"), ("rocov2", "official")],
    *[("pmc_vqa", "v1"), ("path_vqa", "official"), ("med_halt", "fake")],
]
NAMES = [name for name, _ in CONFIGS]


@pytest.mark.parametrize("name", NAMES)
def test_the_stand_in_is_what_the_script_writes(name: str, tmp_path: Path) -> None:
    """Images are not compared byte by byte: another version of the JPEG library writes other bytes."""
    importlib.import_module(f"tfds_builders.{name}.make_dummy_data").main(tmp_path)
    here = ROOT / name / "dummy_data"
    files = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(files) == sorted(path.relative_to(here) for path in here.rglob("*") if path.is_file())
    texts = [str(file) for file in files if file.suffix in (".json", ".jsonl", ".csv", ".pkl", ".txt")]
    assert filecmp.cmpfiles(tmp_path, here, texts, shallow=False)[1:] == ([], [])
    assert texts


@pytest.mark.parametrize(("name", "config"), CONFIGS)
def test_every_data_set_has_the_common_features(name: str, config: str, stand_in: Callable[..., Built]) -> None:
    built = stand_in(name, config)
    for split, rows in built.rows.items():
        for row in rows.values():
            assert {*TEXT_FEATURES, "image", "yes_no", "choices", "answer_index"} <= set(row)
            assert row["split"] == split and row["source"] and row["language"] and row["question_id"]
            assert bool(row["answer"]) == bool(row["question"])
            assert (row["answer_index"] >= 0) == bool(row["choices"])
            if row["choices"]:
                assert row["choices"][row["answer_index"]] == row["answer"]
            assert row["answer_type"] in (("closed", "open") if row["question"] else ("",))
            assert bool(row["image"]) == bool(row["image_id"])


@pytest.mark.parametrize(("name", "config"), CONFIGS)
def test_the_rows_read_are_those_kept_and_those_left_out(
    name: str, config: str, stand_in: Callable[..., Built]
) -> None:
    built = stand_in(name, config)
    for split, rows in built.rows.items():
        found = built.counts["found"][split]
        assert found["rows"] == len(rows) + found["left out"]
        dropped = [line for line in built.rejects if line["action"] == "dropped" and not line["field"]]
        assert found["left out"] == sum(line["split"] == split for line in dropped)
    assert {line["dataset"] for line in built.rejects} <= {name}
    for line in built.rejects:
        assert {"split", "id", "field", "reason", "action"} <= set(line)
        assert line["action"] in ("dropped", "repaired")


@pytest.mark.parametrize(("name", "config"), CONFIGS)
def test_a_partial_copy_is_refused_by_name_and_built_if_allowed(
    name: str, config: str, stand_in: Callable[..., Built], tmp_path: Path
) -> None:
    wrong = stand_in(name, config).counts["differences"]
    assert wrong
    with pytest.raises(ValueError, match=r"does not hold the official release.*allow_count_mismatch=true") as caught:
        build(name, config, ROOT / name / "dummy_data", tmp_path)
    assert wrong[0] in str(caught.value)
    assert not make(name, config, tmp_path).is_prepared()


@pytest.mark.parametrize("name", NAMES)
def test_every_config_has_a_manifest_and_every_folder_its_papers(name: str, tmp_path: Path) -> None:
    builder = make(name, "", tmp_path)
    manifest = json.loads((ROOT / name / "counts.json").read_text())
    assert set(manifest) == set(builder.builder_configs)
    assert all(
        figures["rows"] > 0 for splits in manifest.values() for key, figures in splits.items() if key != "release"
    )
    readme = (ROOT / name / "README.md").read_text()
    for part in ("## Getting it", "## Counts", "## Rules", "## Licence"):
        assert part in readme, part
    assert (ROOT / name / "CITATIONS.bib").read_text().startswith("@")
    assert builder.info.description and builder.info.citation


@pytest.fixture
def layouts(tmp_path: Path) -> Path:
    """A manual_dir with the stand-ins of several data sets, each in a folder of some name."""
    for name, folder in (("vqa_rad", "osfstorage"), ("slake", "Slake1.0"), ("medpix_2", "MedPix-2-0")):
        shutil.copytree(ROOT / name / "dummy_data", tmp_path / "manual" / folder)
    return tmp_path / "manual"


@pytest.mark.parametrize("name", ["vqa_rad", "slake", "medpix_2"])
def test_one_manual_dir_serves_several_data_sets(name: str, layouts: Path, tmp_path: Path) -> None:
    assert build(name, "", layouts, tmp_path / "data", allow=True).rows["test"]


def test_two_copies_are_not_chosen_between(layouts: Path, tmp_path: Path) -> None:
    shutil.copytree(layouts / "Slake1.0", layouts / "again")
    with pytest.raises(ValueError, match=r"slake is in several folders: .*Slake1.0, .*again"):
        build("slake", "", layouts, tmp_path / "data", allow=True)
    shutil.copytree(layouts / "Slake1.0", layouts / "slake")  # the folder with the data set's own name is chosen
    assert build("slake", "", layouts, tmp_path / "data", allow=True).rows["test"]


def test_a_hostile_archive_stops_the_build(layouts: Path, tmp_path: Path) -> None:
    shutil.move(layouts / "Slake1.0" / "imgs", tmp_path / "imgs")

    with zipfile.ZipFile(layouts / "Slake1.0" / "imgs.zip", "w") as archive:
        archive.writestr("../xmlab0/source.jpg", b"x")
    with pytest.raises(ValueError, match=r"imgs.zip: member '../xmlab0/source.jpg' leaves its folder"):
        build("slake", "", layouts, tmp_path / "data", allow=True)


@pytest.mark.parametrize("manual", [True, False])
def test_without_files_and_network_it_says_what_to_put_where(
    manual: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(url: str, **_: Any) -> None:
        asked.append(url)
        raise requests.ConnectionError("no route")

    asked: list[str] = []
    monkeypatch.setattr(requests, "get", refuse)
    folder = tmp_path / "manual"
    folder.mkdir()
    if manual:
        (folder / "train.json").write_text("[]")
        shutil.copytree(ROOT / "slake/dummy_data/imgs", folder / "imgs")
    if manual:
        why = r"manual_dir=.* lacks validate.json or validation.json, test.json\. Nothing was downloaded"
        way_out = "--config.data.download=true, to download train.json, validation.json, test.json, imgs.zip"
    else:
        why = "manual_dir is not given or is empty. slake cannot be downloaded from huggingface.co: no route"
        way_out = ""
    with pytest.raises(ValueError, match=rf"(?s)^{why}.*imgs/xmlab<N>.*{way_out}"):
        build("slake", "", folder, tmp_path / "data")
    assert len(asked) == (0 if manual else 1)  # once per host, before any retry
    builder = make("slake", "", tmp_path / "data", download=True)
    with pytest.raises(ValueError, match=r"cannot be downloaded from huggingface\.co"):
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=str(folder)))
    assert len(asked) == (1 if manual else 2)


def test_downloaded_files_are_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TFDS names downloads in its own way; the files are found by the names in the URLs."""
    source = ROOT / "pmc_vqa/dummy_data"

    def fetch(self: Any, urls: dict[str, str]) -> dict[str, Path]:
        assert urls["images_2.zip"] == "https://huggingface.co/datasets/xmcmic/PMC-VQA/resolve/main/images_2.zip"
        for name in urls:
            shutil.copy(source / name, tmp_path / f"sha256-{name.replace('.', '_')}")
        return {name: tmp_path / f"sha256-{name.replace('.', '_')}" for name in urls}

    monkeypatch.setattr(tfds.download.DownloadManager, "download", fetch)
    monkeypatch.setattr(find_files, "reach", lambda urls: None)
    (tmp_path / "empty").mkdir()
    assert len(build("pmc_vqa", "v2", tmp_path / "empty", tmp_path / "data", allow=True).rows["train"]) == 2


def test_a_data_set_without_a_usable_image_is_an_error(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "path_vqa/dummy_data", tmp_path / "manual")
    for path in (tmp_path / "manual/images").rglob("*.jpg"):
        path.write_bytes(b"not an image")
    with pytest.raises(ValueError, match=r"6 x image cannot be decoded \(train_0001.jpg: the 12 bytes.*0002.*0003"):
        build("path_vqa", "", tmp_path / "manual", tmp_path / "data", allow=True)
    assert not make("path_vqa", "", tmp_path / "data").is_prepared()


def test_rejects_are_written_whole(tmp_path: Path) -> None:
    rejects = Rejects("x")
    rejects.row("train", "1").dropped("why: because", row={"a": b"\xff"})
    rejects.row("test", "2").repaired("f", "white space", before=" ü", after="ü")
    rejects.write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["rejects.jsonl"]
    lines = [json.loads(line) for line in (tmp_path / "rejects.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines[1] == {
        **{"dataset": "x", "split": "test", "id": "2", "field": "f"},
        **{"reason": "white space", "action": "repaired", "before": " ü", "after": "ü"},
    }
    assert rejects.summary("dropped") == {"why": 1}


@pytest.mark.parametrize("value", [True, ["x"], {"a": 1}])
def test_a_value_that_is_not_text_is_an_error_that_names_its_place(value: Any) -> None:
    with pytest.raises(ValueError, match="x, train 1: answer must be text or a number"):
        Rejects("x").row("train", "1").text(value, "answer")


def test_common_rows_refuse_unknown_features() -> None:
    with pytest.raises(ValueError, match=r"Unknown common features \['anser'\]"):
        common_row(None, anser="yes")
    assert common_row(None)["image"] == b""
    assert is_yes_no(" NO ") and not is_yes_no("是") and is_yes_no("没有", language="zh")
