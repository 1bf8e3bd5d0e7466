"""Parquet tables: text, images and bytes, limits on columns and memory, damaged files."""

import json
import resource
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tfds_builders.dummy import encode, noise
from tfds_builders.official_files import OfficialFiles
from tfds_builders.table.parquet_files import BATCH, read_parquet
from tfds_builders.table.table_dataset_builder import table_config

from ..hostile.limits import survives
from .conftest import write_images
from .table_case import ROW, Rows, all_rows, build


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


def parquet(folder: Path, **columns: Any) -> Path:
    whole = {"image": ["images/a.png"] * 2, "question": ["What?"] * 2, "answer": ["x", "y"]} | columns
    pq.write_table(pa.table(whole), folder / "t.parquet", compression="zstd")
    return folder / "t.parquet"


def test_short_floats_are_as_written(folder: Path, tmp_path: Path) -> None:
    """A float32 as a Python float has the digits of its rounding: 1.2000000476837158."""
    short = pa.array([1.2, None], pa.float32())
    nested = pa.StructArray.from_arrays([short, pa.array([[0.1], None], pa.list_(pa.float16()))], ["a", "b"])
    parquet(folder, answer=pa.array([0.1, 3.0], pa.float32()), plane=short, note=nested, size=pa.array([0.1, 1e-7]))
    rows = all_rows(build(folder, tmp_path / "data"))
    assert {row["answer"]: (row["plane"], row["note"], row["size"]) for row in rows} == {
        "0.1": ("1.2", '{"a": 1.2, "b": [0.1]}', "0.1"),
        "3": ("", '{"a": null, "b": null}', "1e-07"),
    }


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


@pytest.mark.parametrize("statistics", [True, False])
def test_an_image_of_the_hub_without_bytes_is_the_file_at_its_path(
    statistics: bool, folder: Path, tmp_path: Path
) -> None:
    """Datasets are saved so when their files stay outside."""
    own = encode(noise(5), "PNG")
    images = [
        {"bytes": None, "path": "images/a.png"},
        {"bytes": own, "path": "images/a.png"},
        None,
        {"bytes": None, "path": "images/absent.png"},
    ]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    text = {name: [f"{name} {row}" for row in range(40)] for name in ("question", "answer")}
    table = pa.table({"image": pa.array(images * 10, kind)} | text)
    pq.write_table(table, folder / "t.parquet", row_group_size=24, write_statistics=statistics)
    built = build(folder, tmp_path / "data")
    found = {row["question"]: row["image"] for row in all_rows(built)}
    outside = (folder / "images/a.png").read_bytes()
    assert found == {f"question {row}": own if row % 2 else outside for row in range(40) if row % 4 < 2}
    reasons = Counter(row["reason"].partition(":")[0] for row in built.rejects)
    assert reasons == {"image is empty": 10, "image file is absent": 10}
