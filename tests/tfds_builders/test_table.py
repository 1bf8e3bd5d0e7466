"""A folder with a table becomes a data set: columns, kinds of files, images, splits, ids."""

import csv
import io
import json
import resource
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow_datasets as tfds

from tfds_builders.dummy import encode, noise
from tfds_builders.official_files import OfficialFiles
from tfds_builders.table.columns import Columns, split_choices
from tfds_builders.table.parquet_files import BATCH, read_parquet
from tfds_builders.table.splits import divide, groups
from tfds_builders.table.table_dataset_builder import Builder, table_config
from tfds_builders.table.table_files import find_table, under

from ..hostile.limits import survives
from .conftest import Built, read_built

Rows = Sequence[Mapping[str, Any]]
ROW = {"image": "images/a.png", "question": "Is there a mass?", "answer": "no"}


def write_images(folder: Path, names: Sequence[str]) -> None:
    for seed, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(noise(seed, mode="L"), "PNG"))


def write_csv(path: Path, rows: Rows, *, delimiter: str = ",") -> None:
    file = io.StringIO()
    table = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)), delimiter=delimiter)
    table.writeheader()
    table.writerows(rows)
    path.write_text(file.getvalue(), encoding="utf-8-sig")


def build(folder: Path, data_dir: Path, *, name: str = "own", **options: Any) -> Built:
    builder = Builder(data_dir=data_dir, config=table_config(folder, name=name, **options), file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=str(folder)))
    return read_built(builder)


def all_rows(built: Built) -> list[dict[str, Any]]:
    return [row for rows in built.rows.values() for row in rows.values()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    own = tmp_path / "own"
    write_images(own, ["images/a.png", "images/b.png", "images/sub/c.png"])
    return own


def test_a_csv_with_a_split_becomes_rows(folder: Path, tmp_path: Path) -> None:
    rows = [
        ROW | {"split": "train", "age": "63", "case_id": "p1", "answer_type": ""},
        {"image": "b.png", "question": "Which organ?", "answer": " liver ", "split": "dev", "age": "", "case_id": "p2"},
        {
            "image": r"C:\data\images\sub\c.png",
            "question": "Which?",
            "answer": "open",
            "split": "test",
            "case_id": "p3",
        },
        {"image": "images/none.png", "question": "Which?", "answer": "x", "split": "test", "case_id": "p3"},
        ROW | {"split": "fold 3"},
        ROW | {"split": "train", "answer": "", "case_id": "p1"},
    ]
    write_csv(folder / "table.csv", rows)
    built = build(folder, tmp_path / "data")
    assert {split: len(found) for split, found in built.rows.items()} == {"train": 1, "validation": 1, "test": 1}
    first = built.row("row 1")
    assert (first["answer"], first["age"], first["case_id"]) == ("no", "63", "p1")
    assert (first["answer_type"], first["yes_no"], first["derived"]) == ("closed", True, "language answer_type")
    assert built.row("row 2")["answer"] == "liver" and built.row("row 2")["answer_type"] == "open"
    assert built.row("row 3")["image_id"] and built.row("row 3")["language"] == "en"
    assert built.of("dropped") == {
        "row 4": ["image file is absent: images/none.png"],
        "row 5": ["split is not train, validation or test: 'fold 3'"],
        "row 6": ["answer is empty"],
    }
    facts = json.loads((built.folder / "table.json").read_text())
    assert facts["split"] == "as the table says" and facts["other columns"] == {"age": "age"}


KINDS = {
    "table.csv": lambda path, rows: write_csv(path, rows),
    "semicolons.csv": lambda path, rows: write_csv(path, rows, delimiter=";"),
    "table.tsv": lambda path, rows: write_csv(path, rows, delimiter="\t"),
    "table.jsonl": lambda path, rows: path.write_text("".join(json.dumps(row) + "\n" for row in rows)),
    "table.json": lambda path, rows: path.write_text(json.dumps(list(rows))),
    "lines.json": lambda path, rows: path.write_text("".join(json.dumps(row) + "\n" for row in rows)),
    "table.parquet": lambda path, rows: pq.write_table(pa.Table.from_pylist(list(rows)), path),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_table_gives_the_same_rows(name: str, folder: Path, tmp_path: Path) -> None:
    rows = [ROW | {"split": "train"}, ROW | {"image": "images/b.png", "answer": "yes, left", "split": "test"}]
    KINDS[name](folder / name, rows)
    found = all_rows(build(folder, tmp_path / "data"))
    assert [(row["answer"], row["split"], bool(row["image"])) for row in found] == [
        ("no", "train", True),
        ("yes, left", "test", True),
    ]


def hub_shard(path: Path, rows: Rows, *, seeds: Sequence[int]) -> None:
    """Writes a shard as the Hugging Face hub has it: images inside, as {bytes, path}."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": encode(noise(seed), "PNG"), "path": None} for seed in seeds]
    table = [{"image": image} | dict(row) for image, row in zip(images, rows, strict=True)]
    pq.write_table(pa.Table.from_pylist(table), path, row_group_size=2)


def test_shards_of_the_hub_hold_their_images_and_name_their_split(tmp_path: Path) -> None:
    text = {"question": "Is there a mass?", "answer": "no"}
    for shard in range(2):
        hub_shard(tmp_path / f"hub/data/train-0000{shard}-of-00002-ab.parquet", [text] * 3, seeds=[0, 1, 2 + shard])
    hub_shard(tmp_path / "hub/data/test-00000-of-00001-cd.parquet", [text], seeds=[9])
    built = build(tmp_path / "hub", tmp_path / "data")
    assert {split: len(rows) for split, rows in built.rows.items()} == {"train": 6, "test": 1}
    assert built.counts["found"]["train"]["images"] == 4  # two of six files are equal
    assert built.counts["found"]["train"]["repeated rows"] == 2
    assert built.row("row 2")["image"] == encode(noise(0), "PNG")  # test comes first in the order of names


def test_an_archive_is_read_like_a_folder(folder: Path, tmp_path: Path) -> None:
    write_csv(folder / "table.csv", [ROW | {"split": "train"}])
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in folder.rglob("*.*"):
            archive.write(path, path.relative_to(folder.parent).as_posix())
    (tmp_path / "zipped").mkdir()
    (tmp_path / "all.zip").rename(tmp_path / "zipped/all.zip")
    assert len(all_rows(build(tmp_path / "zipped", tmp_path / "data"))) == 1


def test_rows_that_share_a_case_or_an_image_are_never_in_two_splits(tmp_path: Path) -> None:
    own = tmp_path / "own"
    names = [f"i/{number}.png" for number in range(60)]
    write_images(own, names)
    (own / "i/copy.png").write_bytes((own / "i/0.png").read_bytes())
    (own / "i/0.bmp").write_bytes(encode(noise(0, mode="L"), "BMP"))  # the same pixels, another file
    rows = [ROW | {"image": name, "case_id": f"case {number // 2}"} for number, name in enumerate(names)]
    rows += [ROW | {"image": "i/copy.png", "case_id": "x"}, ROW | {"image": "i/0.bmp", "case_id": "y"}]
    write_csv(own / "table.csv", rows)
    built = build(own, tmp_path / "data")
    assert {split: len(found) for split, found in built.rows.items()} == {"train": 50, "validation": 6, "test": 6}
    splits = {row["question_id"]: row["split"] for row in all_rows(built)}
    assert splits["row 1"] == splits["row 2"] == splits["row 61"] == splits["row 62"]
    facts = json.loads((built.folder / "table.json").read_text())
    assert facts["split"].startswith("drawn by case, 80/10/10 of the rows, seed 0")
    assert facts["shared between splits"] == {"case_id": 0, "image_id": 0}
    again = build(own, tmp_path / "other", seed=1)
    assert {row["question_id"]: row["split"] for row in all_rows(again)} != splits


def test_the_split_does_not_depend_on_the_order_of_rows() -> None:
    names = [f"image {number}" for number in range(40)]
    there = dict(zip(names, divide(list(range(40)), names, seed=3), strict=True))
    back = list(reversed(names))
    assert dict(zip(back, divide(list(range(40)), back, seed=3), strict=True)) == there
    assert sorted(there.values()) == ["test"] * 4 + ["train"] * 32 + ["validation"] * 4


def test_a_chain_of_shared_keys_is_one_group() -> None:
    assert groups([["case a", "image 1"], ["image 2"], ["case a", "image 2"], ["image 3"]]) == [0, 0, 0, 3]


def test_a_given_split_that_shares_images_is_reported(folder: Path, tmp_path: Path) -> None:
    write_csv(folder / "table.csv", [ROW | {"split": "train"}, ROW | {"split": "test"}])
    facts = json.loads((build(folder, tmp_path / "data").folder / "table.json").read_text())
    assert facts["shared between splits"] == {"case_id": 0, "image_id": 1}


def test_columns_of_another_name_are_mapped_and_choices_settled(folder: Path, tmp_path: Path) -> None:
    rows = [
        {
            "Figure_path": "a.png",
            "Question": "What?",
            "Choice A": "CT",
            "Choice B": "MRI",
            "Answer": "B",
            "split": "test",
        },
        {
            "Figure_path": "a.png",
            "Question": "What?",
            "Choice A": "CT",
            "Choice B": "MRI",
            "Answer": "ct",
            "split": "test",
        },
        {
            "Figure_path": "a.png",
            "Question": "What?",
            "Choice A": "CT",
            "Choice B": "MRI",
            "Answer": "D",
            "split": "test",
        },
    ]
    write_csv(folder / "table.csv", rows)
    mapped = (("image", "Figure_path"), ("choices", "Choice A"), ("choices", "Choice B"))
    built = build(folder, tmp_path / "data", columns=mapped)
    assert [(row["answer"], row["answer_index"], row["choices"], row["answer_type"]) for row in all_rows(built)] == [
        ("MRI", 1, ["CT", "MRI"], "closed"),
        ("CT", 0, ["CT", "MRI"], "closed"),
    ]
    assert built.of("dropped") == {"row 3": ["the right choice is none of them"]}


def test_ids_are_hidden_with_a_key_that_stays(folder: Path, tmp_path: Path) -> None:
    write_csv(folder / "t.csv", [ROW | {"case_id": "Doe, Jane", "question_id": "MRN-7", "split": "train"}])
    built = build(folder, tmp_path / "data", hash_ids=True)
    (row,) = all_rows(built)
    assert len(row["case_id"]) == len(row["question_id"]) == 16
    for path in built.folder.rglob("*"):
        assert not path.is_file() or not {b"Doe", b"MRN-7", b"a.png"} & set(path.read_bytes().split(b'"'))
    assert (tmp_path / "data/.radvqa_id_key").stat().st_mode & 0o777 == 0o600
    assert all_rows(build(folder, tmp_path / "data", name="again", hash_ids=True))[0]["case_id"] == row["case_id"]
    assert all_rows(build(folder, tmp_path / "elsewhere", hash_ids=True))[0]["case_id"] != row["case_id"]


def parquet(folder: Path, **columns: Any) -> Path:
    whole = {"image": ["images/a.png"] * 2, "question": ["What?"] * 2, "answer": ["x", "y"]} | columns
    pq.write_table(pa.table(whole), folder / "t.parquet", compression="zstd")
    return folder / "t.parquet"


def repeated(values: pa.Array, rows: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), values)


@pytest.mark.parametrize("form", ["text", "list", "struct", "list of structs", "several groups"])
def test_a_text_that_many_rows_of_a_parquet_file_repeat_cannot_fill_the_memory(
    form: str, folder: Path, tmp_path: Path
) -> None:
    rows = 400
    text = repeated(pa.array(["x" * (1 << 20)]), rows).cast(pa.string())
    note: Any = {
        "list": [[value] for value in text.to_pylist()],
        "struct": pa.StructArray.from_arrays([text], ["a"]),
        "list of structs": [[{"a": value}] for value in text.to_pylist()],
    }.get(form, text)
    same = {name: [value] * rows for name, value in ROW.items()}
    table = pa.table(same | {"note": note})
    pq.write_table(
        table, folder / "t.parquet", compression="zstd", row_group_size=50 if form == "several groups" else rows
    )
    assert (folder / "t.parquet").stat().st_size < 20_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"t\.parquet would have more than 67,108,864 bytes of values in memory"):
        list(read_parquet(OfficialFiles.below(folder), "t.parquet"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 << 10  # kB


def test_a_parquet_file_of_many_rows_is_read_in_parts_and_in_order(folder: Path) -> None:
    rows = 3 * BATCH + 5
    same = {name: [value] * rows for name, value in ROW.items()} | {"note": [f"n{number}" for number in range(rows)]}
    pq.write_table(pa.table(same | {"image": [b"x"] * rows}), folder / "t.parquet", row_group_size=2 * BATCH + 1)
    found = [cells for cells, _ in read_parquet(OfficialFiles.below(folder), "t.parquet", images=("image",))]
    assert [cells["note"] for cells in found] == same["note"]
    assert [(cells["image"].group, cells["image"].row) for cells in found[-5:]] == [
        (1, BATCH - 1 + n) for n in range(5)
    ]


def test_values_that_parquet_cannot_give_are_a_message(folder: Path, tmp_path: Path) -> None:
    parquet(folder, when=pa.array([10**15, 0], pa.timestamp("ms")))
    with pytest.raises(ValueError, match=r"t\.parquet is not a Parquet file that can be read.*Get it again"):
        build(folder, tmp_path / "data")
    path = parquet(folder, note=["some text", "another one"])
    data = bytearray(path.read_bytes())
    data[4:40] = bytes(36)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"t\.parquet is not a Parquet file that can be read"):
        build(folder, tmp_path / "again")


def test_bytes_of_a_parquet_file_are_text_in_every_column_but_the_image(folder: Path, tmp_path: Path) -> None:
    row = ROW | {"choices": ["no", "yes"], "split": "test", "case_id": "p1", "image_id": "i1", "question_id": "q1"}
    row |= {"question_type": "sight", "modality": "CT", "organ": "lung", "note": "späte"}
    for name in ("image", "text", "bytes"):
        write_images(folder.with_name(name), ["images/a.png"])
    pq.write_table(pa.Table.from_pylist([row]), folder.with_name("text") / "t.parquet")

    def as_bytes(name: str, text: str | list[str]) -> pa.Array:
        if isinstance(text, list):
            return pa.array([[one.encode() for one in text]], pa.list_(pa.binary()))
        kinds = {"question": pa.large_binary(), "case_id": pa.binary(len(text)), "split": pa.binary_view()}
        found = pa.array([text.encode()], kinds.get(name, pa.binary()))
        return found.dictionary_encode() if name == "organ" else found

    coded = pa.table({name: as_bytes(name, text) for name, text in row.items() if name != "image"})
    pq.write_table(coded.append_column("image", pa.array([row["image"]])), folder.with_name("bytes") / "t.parquet")
    same = [build(folder.with_name(name), tmp_path / f"data_{name}").rows["test"]["q1"] for name in ("text", "bytes")]
    assert same[0] == same[1]
    assert (same[1]["answer"], same[1]["choices"], same[1]["note"]) == ("no", ["no", "yes"], "späte")


def test_a_caption_of_a_parquet_file_may_be_bytes(folder: Path, tmp_path: Path) -> None:
    path = folder / "t.parquet"
    pq.write_table(pa.table({"image": ["images/a.png"], "caption": [b"A chest film."]}), path)
    assert all_rows(build(folder, tmp_path / "data"))[0]["caption"] == "A chest film."


@pytest.mark.parametrize("column", ["question", "answer", "question_id", "split", "note"])
@pytest.mark.parametrize("kind", [pa.binary(), pa.string(), pa.list_(pa.binary())])
def test_bytes_of_a_parquet_file_that_are_not_text_name_their_column(
    folder: Path, tmp_path: Path, column: str, kind: pa.DataType
) -> None:
    inner = pa.list_(pa.binary()) if pa.types.is_list(kind) else pa.binary()
    values = pa.array([[b"\xff\xfe"], [b"y"]] if pa.types.is_list(kind) else [b"\xff\xfe", b"y"], inner)
    parquet(folder, **{column: values.view(kind) if pa.types.is_string(kind) else values})
    with pytest.raises(
        ValueError, match=rf"t\.parquet: the column '{column}' holds bytes that are not UTF-8.*leave it"
    ):
        build(folder, tmp_path / "data")


def test_one_column_of_a_parquet_file_holds_files(folder: Path, tmp_path: Path) -> None:
    png = (folder / "images/a.png").read_bytes()
    files = pa.array([{"bytes": png, "path": "a.png"}] * 2)
    parquet(folder, **{"image": files, "scan #2": files})
    with pytest.raises(ValueError, match=r"t\.parquet: the column 'scan #2' holds files .* Leave it out"):
        build(folder, tmp_path / "data")
    same = {"question": ["What?"] * 2, "answer": ["x", "y"], "scan #2": [png, png]}
    pq.write_table(pa.table(same), folder / "t.parquet")
    built = build(folder, tmp_path / "mapped", columns=(("image", "scan #2"),))
    assert len({row["image_id"] for row in all_rows(built)}) == 1


def test_names_of_columns_in_a_parquet_file_must_be_utf_8(folder: Path) -> None:
    path = parquet(folder, abcdefgh=["x", "y"])
    pq.write_table(pq.read_table(path), path, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"abcdefgh", b"abcdefg\xff"))
    with pytest.raises(ValueError, match=r"t\.parquet: the name of a column is not UTF-8 .*Rename it"):
        table_config(folder, name="own")


@pytest.mark.parametrize("kind", ["csv", "csv of one name", "tsv", "jsonl", "parquet", "parquet of nested fields"])
def test_too_many_columns_are_refused_at_once(folder: Path, kind: str) -> None:
    path, names = folder / f"t.{kind.split(' ')[0]}", [f"c{number}" for number in range(20_000)]
    match kind:
        case "csv":
            path.write_text(",".join(names) + "\n")
        case "csv of one name":
            path.write_text("image,question,answer" + "," * 100_000)
        case "tsv":
            path.write_text("\t".join("x" * 60_000))
        case "jsonl":
            path.write_text(json.dumps(dict.fromkeys(names, "x")) + "\n")
        case "parquet":
            pq.write_table(pa.table({name: [1] for name in names}), path)
        case _:
            pq.write_table(pa.table({"image": [dict.fromkeys(names[:2000], 1)]}), path)
    survives(lambda: table_config(folder, name="own"))
    with pytest.raises(ValueError, match=r"t\.\w+: the table has [\d,]+ columns, more than 1,000\. Remove"):
        table_config(folder, name="own")


def test_a_parquet_file_that_is_all_footer_is_not_read(folder: Path) -> None:
    (folder / "t.parquet").write_bytes(b"PAR1" + bytes(40 << 20) + (40 << 20).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(ValueError, match=r"t\.parquet has a footer of 41,943,040 bytes, more than 33,554,432"):
        table_config(folder, name="own")


def test_a_repeated_column_of_a_parquet_file_is_refused(folder: Path) -> None:
    column = pa.array(["x"])
    table = pa.Table.from_arrays([column] * 4, names=["image", "question", "answer", "answer"])
    pq.write_table(table, folder / "t.parquet")
    with pytest.raises(ValueError, match=r"t\.parquet: the columns \['answer'\] occur twice"):
        table_config(folder, name="own")


@pytest.mark.parametrize("text", ["", "00", "z" * 64, "a" * 63, "\n", "ab" * 33])
def test_a_key_that_is_cut_or_guessed_hides_nothing_and_is_refused(folder: Path, tmp_path: Path, text: str) -> None:
    write_csv(folder / "t.csv", [ROW | {"case_id": "Doe, Jane", "split": "train"}])
    (tmp_path / "data").mkdir()
    (tmp_path / "data/.radvqa_id_key").write_text(text)
    with pytest.raises(ValueError, match=r"\.radvqa_id_key must hold the key of hashed ids, 64 hexadecimal digits"):
        build(folder, tmp_path / "data", hash_ids=True)


def test_a_key_is_written_whole_or_not_at_all(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_csv(folder / "t.csv", [ROW | {"case_id": "Doe, Jane", "split": "train"}])
    with monkeypatch.context() as patched, pytest.raises(OSError, match="disk is full"):
        patched.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk is full")))
        build(folder, tmp_path / "data", hash_ids=True)
    assert not list((tmp_path / "data").glob(".radvqa_id_key*"))
    assert len(all_rows(build(folder, tmp_path / "data", hash_ids=True))) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,question,answer\rimages/a.png,What?,x\r", "line ends of old Macs"),
        ('image,"question,answer\nimages/a.png,What?,x\n', "no column 'question'|cannot be read"),
        ("image,question,answer," + "x" * 300_000 + "\n", "its first line has 300,022 characters, more than 200,000"),
        (",".join(f"c{n}" for n in range(1001)) + "\n", "has 1,001 columns, more than 1,000"),
    ],
    ids=["Mac", "quote", "long", "wide"],
)
def test_a_head_that_cannot_be_read_is_an_error(folder: Path, text: str, message: str) -> None:
    (folder / "t.csv").write_bytes(text.encode())
    with pytest.raises(ValueError, match=message):
        table_config(folder, name="own")


@pytest.mark.parametrize(
    ("head", "mapped", "message"),
    [
        ("picture,question,answer", (), r"no column 'image'.*data.columns"),
        ("image,questions,answer", (), r"no column 'question'.*Did you mean 'questions'"),
        ("image,question", (), "no column 'answer'"),
        ("image,question,answer", (("imag", "image"),), r"names the feature 'imag'.*Did you mean 'image'"),
        ("image,question,answer", (("caption", "captoin"),), "has no column 'captoin'"),
        ("image,question,answer,a b,a-b", (), "would both become 'a_b'"),
        (
            "image,question,answer,yes_no",
            (),
            "column 'yes_no' would become 'yes_no', a feature that every data set has",
        ),
        ("image,question,answer,Source", (), "column 'Source' would become 'source'.*Rename the column"),
        ("image,question,answer,answer", (), "occur twice"),
    ],
)
def test_a_head_that_does_not_fit_is_refused(head: str, mapped: tuple, message: str, folder: Path) -> None:
    (folder / "table.csv").write_text(f"{head}\n")
    with pytest.raises(ValueError, match=message):
        table_config(folder, name="own", columns=mapped)


def test_one_of_several_tables_must_be_named(folder: Path, tmp_path: Path) -> None:
    write_csv(folder / "one.csv", [ROW | {"split": "train"}])
    write_csv(folder / "two.csv", [ROW | {"split": "test", "answer": "yes"}])
    with pytest.raises(ValueError, match=r"several tables.*one.csv, two.csv.*data.table=FILE"):
        find_table(under(folder))
    assert [row["answer"] for row in all_rows(build(folder, tmp_path / "data", table="two.csv"))] == ["yes"]
    with pytest.raises(ValueError, match=r"data.table='three.csv'"):
        find_table(under(folder), named="three.csv")


def test_a_bad_row_does_not_affect_the_others(folder: Path, tmp_path: Path) -> None:
    (folder / "t.jsonl").write_text(
        json.dumps(ROW | {"split": "train"})
        + "\n{broken\n[1]\n"
        + json.dumps(ROW | {"split": "train", "image": "http://x/a.png"})
    )
    built = build(folder, tmp_path / "data")
    assert len(all_rows(built)) == 1
    reasons = [reason for reasons in built.of("dropped").values() for reason in reasons]
    assert [reason.split(":")[0] for reason in reasons] == [
        "not JSON",
        "not a JSON object",
        "image is an address; get the file first",
    ]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("image\tquestion\tanswer\na.png\tOù?\tcôté\n", "utf-16"),  # "Unicode text" of a spreadsheet
        ("sep=;\r\nimage;question;answer\r\na.png;Où?;côté\r\n", "utf-8-sig"),
        ("image,question,answer,\na.png,Où?,côté,\n", "utf-8"),  # a comma after every row
        (",image,question,answer\n0,a.png,Où?,côté\n", "utf-8"),  # row numbers under no name
        ("年龄,image,question,answer\n70,a.png,Où?,côté\n", "utf-8"),
        ("image,question,answer\nIMAGES\\A.PNG,Où?,côté\n", "utf-8"),  # from a system that ignores capitals
    ],
)
def test_usual_forms_of_tables_are_read(text: str, encoding: str, folder: Path, tmp_path: Path) -> None:
    (folder / "t.csv").write_bytes(text.encode(encoding))
    (row,) = all_rows(build(folder, tmp_path / "data"))
    assert (row["question"], row["answer"], row["image"]) == ("Où?", "côté", (folder / "images/a.png").read_bytes())
    facts = json.loads((tmp_path / "data/table/own/1.0.0/table.json").read_text())
    assert facts["other columns"] in ({}, {"column_1": ""}, {"column_4": ""}, {"column_1": "年龄"})


def test_a_name_in_other_capitals_is_taken_only_if_one_file_is_meant(folder: Path, tmp_path: Path) -> None:
    write_images(folder, ["x/A.png", "y/a.PNG"])
    write_csv(folder / "t.csv", [ROW | {"image": "images/a.png"}, ROW | {"image": "A.PNG"}])
    built = build(folder, tmp_path / "data")
    assert list(built.of("dropped").items()) == [
        ("row 2", ["image is the name of several files in another spelling: A.PNG; images/a.png, x/A.png, y/a.PNG"])
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("image,question,answer\na.png,Où?,côté\n".encode("latin-1"), r"t\.csv, line 2, is not UTF-8.*`CSV UTF-8`"),
        (b"", r"the first line is empty. It names the columns"),
    ],
)
def test_a_table_that_cannot_be_read_says_how_to_save_it(data: bytes, message: str, folder: Path) -> None:
    (folder / "t.csv").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        table_config(folder, name="own")


@pytest.mark.parametrize("name", ["t.jsonl", "t.json"])
def test_rows_of_json_with_invalid_values_are_left_out_with_their_reason(
    name: str, folder: Path, tmp_path: Path
) -> None:
    good = json.dumps(ROW | {"split": "train"})
    bad = [
        good.replace('"no"', '"yes", "answer": "no"'),
        *(good.replace('"no"', value) for value in ("true", '{"a": 1}', '["no"]', "NaN", "-Infinity")),
        *(good.replace('"Is there a mass?"', value) for value in ("false", "[]", "{}")),
    ]
    lines = [good, *bad]
    (folder / name).write_text(f"[{','.join(lines)}]" if name == "t.json" else "\n".join(lines))
    builder = Builder(data_dir=tmp_path / "data", config=table_config(folder, name="own"), file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=str(folder)))
    assert len(all_rows(read_built(builder))) == 1

    def no_json(text: str) -> None:
        raise AssertionError(f"{text} is not JSON")

    text = (Path(builder.data_dir) / "rejects.jsonl").read_text()
    rejects = [json.loads(line, parse_constant=no_json) for line in text.splitlines()]
    reasons = [line["reason"] for line in rejects if line["action"] == "dropped"]
    assert len(reasons) == 9 and reasons[0] == "an object has one key twice"
    assert sum(" is not text" in reason for reason in reasons) == 7


def test_a_repeated_question_id_affects_only_its_row(folder: Path, tmp_path: Path) -> None:
    rows = [ROW | {"question_id": "7"}, ROW | {"question_id": "7", "answer": "yes"}, ROW | {"question_id": "8"}]
    write_csv(folder / "t.csv", rows)
    built = build(folder, tmp_path / "data")
    assert sorted(row["question_id"] for row in all_rows(built)) == ["7", "8"]
    assert built.of("dropped") == {"row 2, repeats 7": ["an earlier row has the same question_id: row 1"]}


@pytest.mark.parametrize("form", ["files", "column"])
def test_splits_that_number_their_questions_from_0_keep_all_rows(form: str, folder: Path, tmp_path: Path) -> None:
    for split, images in {"train": "ab", "test": ["sub/c"]}.items():
        rows = [ROW | {"image": f"images/{i}.png", "question_id": n, "split": split} for n, i in enumerate(images)]
        write_csv(folder / f"{split}.csv", rows)
    if form == "column":
        lines = (folder / "test.csv").read_text("utf-8-sig").splitlines()[1:]
        (folder / "train.csv").write_text("\n".join([(folder / "train.csv").read_text("utf-8-sig").strip(), *lines]))
        (folder / "test.csv").unlink()
    built = build(folder, tmp_path / "data")
    assert sorted(row["question_id"] for row in all_rows(built)) == ["test 0", "train 0", "train 1"]
    assert json.loads((built.folder / "table.json").read_text())["question ids"].startswith("count within their split")


def test_the_same_question_in_two_splits_is_still_left_out(folder: Path, tmp_path: Path) -> None:
    write_csv(folder / "t.csv", [ROW | {"question_id": "7", "split": split} for split in ("train", "test")])
    assert len(all_rows(build(folder, tmp_path / "data"))) == 1


def test_a_split_without_a_row_is_a_warning(folder: Path, tmp_path: Path) -> None:
    write_csv(folder / "t.csv", [ROW | {"split": "train"}, ROW | {"split": "test", "answer": ""}])
    (said,) = json.loads((build(folder, tmp_path / "data").folder / "table.json").read_text())["warnings"]
    assert said.startswith("no row of test can be used") and "answer is empty" in said


def test_a_row_that_is_left_out_takes_no_part_in_the_split(tmp_path: Path) -> None:
    names = [f"i/{number}.png" for number in range(20)]
    write_images(tmp_path / "own", names)
    rows = [ROW | {"image": name, "answer": "" if number % 2 else "no"} for number, name in enumerate(names)]
    write_csv(tmp_path / "own/t.csv", rows)
    built = build(tmp_path / "own", tmp_path / "data")
    assert {split: len(found) for split, found in built.rows.items()} == {"train": 8, "validation": 1, "test": 1}


def test_hidden_ids_stay_hidden_in_rows_that_are_left_out(folder: Path, tmp_path: Path) -> None:
    write_images(folder, ["p/Doe.png", "q/Doe.png"])
    ids = {"case_id": "Doe, Jane", "question_id": "MRN-7", "image_id": "Doe-1", "split": "train"}
    rows = [ROW | ids, ROW | ids, ROW | ids | {"question_id": "MRN-8", "image": "Doe.png"}]
    rows += [
        ROW | ids | {"question_id": "MRN-9", "answer": ""},
        ROW | ids | {"question_id": "MRN-5", "split": "fold 3"},
    ]
    write_csv(folder / "t.csv", rows)
    built = build(folder, tmp_path / "data", hash_ids=True)
    assert len(all_rows(built)) == 1 and len(built.of("dropped")) == 4
    for path in built.folder.rglob("*"):
        if path.is_file() and path.suffix in (".json", ".jsonl"):
            text = path.read_text()
            assert not [word for word in ("Doe", "MRN", "images/a") if word in text], path.name


@pytest.mark.parametrize("name", ["../a.png", "images/../../secret.png", "/etc/passwd", ""])
def test_an_image_is_only_ever_a_file_of_the_folder(name: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(encode(noise(5), "PNG"))
    write_csv(folder / "t.csv", [ROW | {"split": "train"}, ROW | {"image": name, "split": "train"}])
    built = build(folder, tmp_path / "data")
    assert list(built.of("dropped")) == ["row 2"]


def test_a_language_is_known_in_capitals_too(folder: Path, tmp_path: Path) -> None:
    write_csv(folder / "t.csv", [ROW | {"language": "EN", "split": "train"}])
    assert [row["language"] for row in all_rows(build(folder, tmp_path / "data"))] == ["en"]


def test_captions_alone_are_a_data_set(folder: Path, tmp_path: Path) -> None:
    write_csv(folder / "t.csv", [{"image": "a.png", "caption": "Ein Befund.", "split": "train"}])
    (row,) = all_rows(build(folder, tmp_path / "data"))
    assert (row["caption"], row["question"], row["answer_type"], row["derived"]) == ("Ein Befund.", "", "", "language")


def test_choices_in_one_cell_are_read() -> None:
    assert split_choices({"A": "CT", "B": 2}) == ["CT", "2"]
    with pytest.raises(ValueError, match="not JSON"):
        split_choices("[CT")
    with pytest.raises(ValueError, match="one choice"):
        split_choices("CT")
    assert split_choices({"B": "MRI", "A": "CT"}) == ["CT", "MRI"]
    assert split_choices("CT|MRI|") == split_choices(["CT", "MRI", None]) == ["CT", "MRI"]  # rows of fewer options


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("left||right", "option 2 of 3 is empty"),
        ("|left|right", "option 1 of 3 is empty"),
        ('["left", "", "right"]', "option 2 of 3 is empty"),
        (["left", None, "right"], "option 2 of 3 is empty"),
        ({"A": "left", "C": "right"}, "lettered A, C instead of A, B"),
    ],
)
def test_options_whose_letters_may_mean_others_are_refused(cell: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_choices(cell)
    if isinstance(cell, str) and "|" in cell:
        with pytest.raises(ValueError, match=message):
            columns = Columns(["image", "question", "answer", "a", "b", "c"], mapped=[("choices", c) for c in "abc"])
            columns.choices(dict(zip("abc", cell.split("|"), strict=False)))


def test_columns_are_found_whatever_their_case() -> None:
    found = Columns(["Image", "QUESTION", "Answer Type", "answer", "Age (years)"])
    assert found.of == {
        "image": ["Image"],
        "question": ["QUESTION"],
        "answer_type": ["Answer Type"],
        "answer": ["answer"],
    }
    assert found.extra == {"age_years": "Age (years)"}


# mirror -> (its columns apart from the image, the column with the image, data.columns, files, one a split)
MIRRORS = {
    "vqa-rad": (
        ("question", "answer"),
        "image",
        (),
        ("data/train-00000-of-00001-ea.parquet", "data/test-00000-of-00001-e5.parquet"),
    ),
    "path-vqa": (
        ("question", "answer"),
        "image",
        (),
        ("data/validation-00000-of-00001-0a.parquet", "data/test-00000-of-00001-1b.parquet"),
    ),
    "slake-english": (
        ("question", "answer"),
        "image",
        (),
        ("data/train-00000-of-00001.parquet", "data/validation-00000-of-00001.parquet"),
    ),
    "rocov2": (
        ("image_id", "caption", "cui"),
        "image",
        (),
        ("data/train-00000-of-00001.parquet", "data/validation-0.parquet"),
    ),
    "shortqa": (
        ("case_id", "question", "answer", "ans_len", "mode", "split"),
        "image_id",
        (("image", "image_id"),),
        ("data/Train-00000-of-00001-8e.parquet", "data/Valid-00000-of-00001-51.parquet"),
    ),
    "roco-qa": (
        ("image_id", "question", "answer"),
        "image",
        (),
        ("data/Vaild-00000-of-00001.parquet", "data/Test-0.parquet"),
    ),
}


@pytest.mark.parametrize("name", MIRRORS)
def test_mirrors_of_the_hub_are_tables(name: str, tmp_path: Path) -> None:
    texts, image, mapped, files = MIRRORS[name]
    for number, file in enumerate(files):
        path = tmp_path / "hub" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        row = {text: f"{text} {number}" for text in texts} | {
            "cui": ["C1", "nan"],
            "ans_len": 2,
            "split": path.name.split("-")[0],
        }
        cells = {text: row[text] for text in texts} | {image: {"bytes": encode(noise(number), "JPEG"), "path": "a.jpg"}}
        pq.write_table(pa.Table.from_pylist([cells]), path)
    built = build(tmp_path / "hub", tmp_path / "data", columns=mapped)
    assert sum(len(rows) for rows in built.rows.values()) == 2 and len(built.rows) == 2
    assert built.of("dropped") == {}
    for row in all_rows(built):
        assert row["image"] and row["image_id"] and (row["answer_type"] == "open") == ("answer" in texts)


def test_slake_s_own_files_are_a_table(tmp_path: Path) -> None:
    """As BoKelvin/SLAKE has them, without its knowledge graph: a list of objects a split, and the images in a zip."""
    own = tmp_path / "own"
    write_images(own, ["imgs/xmlab1/source.jpg", "imgs/xmlab2/source.jpg"])
    with zipfile.ZipFile(own / "imgs.zip", "w") as archive:
        for name in ("imgs/xmlab1/source.jpg", "imgs/xmlab2/source.jpg"):
            archive.write(own / name, name)
            (own / name).unlink()
    row = {"location": "Lung", "modality": "CT", "answer_type": "OPEN", "base_type": "vqa", "content_type": "Organ"}
    row |= {"triple": ["vhead", "_", "_"]}
    train = row | {"qid": 0, "img_id": 1, "img_name": "xmlab1/source.jpg", "q_lang": "en"}
    test = row | {"qid": 1, "img_id": 2, "img_name": "xmlab2/source.jpg", "q_lang": "zh", "answer_type": "CLOSED"}
    (own / "train.json").write_text(json.dumps([train | {"question": "Which organ?", "answer": "Lung"}]))
    (own / "test.json").write_text(json.dumps([test | {"question": "这是CT吗?", "answer": "是"}]))
    mapped = (("image", "img_name"), ("question_id", "qid"), ("language", "q_lang"), ("question_type", "content_type"))
    built = build(own, tmp_path / "data", columns=mapped)
    (first,), (second,) = (list(built.rows[split].values()) for split in ("train", "test"))
    assert (first["question_id"], first["question_type"], first["location"]) == ("0", "Organ", "Lung")
    assert (first["answer_type"], second["answer_type"], second["language"], second["yes_no"]) == (
        "open", "closed", "zh", True,
    )  # fmt: skip
    assert first["triple"] == '["vhead", "_", "_"]' and first["derived"] == ""


def test_pmc_vqa_s_own_files_are_a_table(tmp_path: Path) -> None:
    """As xmcmic/PMC-VQA has them: CSV files of the splits with four choices, their letters in front."""
    own = tmp_path / "own"
    write_images(own, ["figures/PMC1_a.jpg", "figures/PMC2_b.jpg"])
    choices = {"Choice A": " A:CT ", "Choice B": " B:MRI ", "Choice C": " C:PET ", "Choice D": " D:X-ray "}
    for split, figure, letter in (("train", "PMC1_a.jpg", "B"), ("test", "PMC2_b.jpg", "D")):
        row = {"index": 7, "Figure_path": figure, "Caption": "A scan.", "Question": "Which modality?", **choices}
        write_csv(own / f"{split}.csv", [row | {"Answer": letter, "split": split}])
    mapped = (("image", "Figure_path"), *(("choices", name) for name in choices))
    built = build(own, tmp_path / "data", columns=mapped)
    assert built.of("dropped") == {}
    (train,), (test,) = (list(built.rows[split].values()) for split in ("train", "test"))
    assert (train["answer_index"], test["answer_index"], train["answer_type"]) == (1, 3, "closed")
    assert "MRI" in train["answer"] and train["caption"] == "A scan." and train["index"] == "7"


def test_the_same_pixels_in_two_files_are_never_in_two_splits(tmp_path: Path) -> None:
    own = tmp_path / "own"
    write_images(own, [f"i/{number}.png" for number in range(15)])
    for number in range(15):
        (own / f"i/{number}.bmp").write_bytes(encode(noise(number, mode="L"), "BMP"))
    write_csv(own / "t.csv", [ROW | {"image": f"i/{number}.{kind}"} for number in range(15) for kind in ("png", "bmp")])
    splits = {int(row["question_id"].split()[1]): row["split"] for row in all_rows(build(own, tmp_path / "data"))}
    assert all(splits[row] == splits[row + 1] for row in range(1, 31, 2)) and set(splits.values()) > {"train"}


def test_choices_with_the_letters_of_other_places_are_left_out(folder: Path, tmp_path: Path) -> None:
    good = ROW | {"choices": '["A. left", "B. right"]', "answer": "B"}
    write_csv(folder / "t.csv", [good, good | {"image": "images/b.png", "choices": '["B. left", "A. right"]'}])
    built = build(folder, tmp_path / "data")
    assert [row["answer"] for row in all_rows(built)] == ["B. right"]
    (reason,) = built.of("dropped").values()
    assert "another order than their letters" in str(reason)
