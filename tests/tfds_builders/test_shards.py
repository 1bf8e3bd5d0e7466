"""A table with files that are missing, occur twice or are still being downloaded is refused; a complete one is not."""

from pathlib import Path

import pytest

from tfds_builders.table.table_files import find_table, under

PART = "data/train-{:05d}-of-{:05d}{}.parquet".format


def put(folder: Path, names: list[str]) -> Path:
    for name in names:
        path = folder / name.replace(".parquet", ".csv")  # the rule is about names: CSV files are read faster
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("image,question,answer\n")
    return folder


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([PART(0, 2, "")], "train-00000-of-00002.csv is one of 2 files, and 1 of them are missing: number 00001"),
        ([PART(1, 9, "-ab"), "test.csv"], r"8 of them are missing: number 00002, 00003, 00004, …"),
        ([PART(0, 2, ""), PART(1, 2, "") + ".crdownload"], "00001-of-00002.csv.crdownload is a download that has not"),
        (["train.csv", "test.csv", "test.csv.part"], "test.csv.part is a download that has not ended. Finish it"),
        ([PART(0, 1, ""), PART(0, 1, " (1)")], r"train-00000-of-00001 \(1\).csv looks like a second download of data/"),
        (["train/0000.csv", "train/0000 (2).csv"], r"train/0000 \(2\).csv looks like a second download"),
        ([PART(0, 1, "-ab"), PART(0, 1, "-cd")], "00001-ab.csv and data/train-00000-of-00001-cd.csv are the same part"),
        ([PART(0, 1, ""), PART(0, 2, ""), PART(1, 2, "")], "name different numbers of files"),
        ([PART(0, 1, ""), PART(7, 1, "")], "train-00007-of-00001.csv has a number that its count"),
        ([PART(0, 999_999_999, "")], "999999998 of them are missing"),
    ],
)
def test_an_incomplete_table_is_refused(names: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message) as error:
        find_table(under(put(tmp_path, names)))
    assert "--config.data.table=FILE" in str(error.value)


@pytest.mark.parametrize(
    "names",
    [
        [PART(0, 2, "-ab"), PART(1, 2, "-cd"), "data/test-00000-of-00001.parquet"],
        [PART(1, 2, ""), PART(2, 2, "")],  # counted from 1
        [PART(0, 1, " (1)")],  # a second download; the first file was removed
        ["train/0000.parquet", "train/0001.parquet", "test/0000.parquet"],
        ["train.csv", "test.csv", "images/a.png.part"],  # an image's download: its rows are left out and counted
    ],
)
def test_a_complete_table_is_read(names: list[str], tmp_path: Path) -> None:
    tables = find_table(under(put(tmp_path, names))).names
    assert len(tables) == sum(".part" not in name for name in names)


def test_one_file_that_is_named_is_read_alone(tmp_path: Path) -> None:
    put(tmp_path, [PART(0, 2, "")])
    assert find_table(under(tmp_path), named="train-00000-of-00002.csv").names == ["data/train-00000-of-00002.csv"]


def test_an_unfinished_download_of_the_hubs_program_is_found_next_to_parquet_files(tmp_path: Path) -> None:
    """`huggingface-cli` keeps unfinished files under another name in a folder of its own."""
    put(tmp_path, [".cache/huggingface/download/data/Kx0=.ab12.incomplete"])
    (tmp_path / "train.parquet").write_bytes(b"never opened")
    with pytest.raises(ValueError, match=r"Kx0=.ab12.incomplete is a download that has not ended"):
        find_table(under(tmp_path))
