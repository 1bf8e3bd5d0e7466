"""Forms of tables: heads, encodings, JSON, and tables as other programs and the hub's mirrors write them."""

import json
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow_datasets as tfds

from tfds_builders.dummy import encode, noise
from tfds_builders.table.columns import Columns
from tfds_builders.table.table_dataset_builder import Builder, table_config
from tfds_builders.table.table_files import find_table, under

from .conftest import read_built, write_images
from .table_case import ROW, all_rows, build, write_csv

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


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            "image,question,answer\na.png,Où?,côté\n".encode("latin-1"),
            r"t\.csv, line 2, is not UTF-8.*`CSV UTF-8`.*-f ENCODING -t .* WINDOWS-1252 or GB18030",
        ),
        ("image,question,answer\na,b,c\n".encode("utf-16-le"), r"t\.csv is UTF-16LE without .*iconv -f UTF-16LE"),
        ("image,question,answer\na,b,c\n".encode("utf-16-be"), r"t\.csv is UTF-16BE without .*iconv -f UTF-16BE"),
        (b'image,"ques\ntion",answer\na,b,c\n', r"t\.csv: its first line cannot be read: a quote is not.*line break"),
        (b"", r"the first line is empty. It names the columns"),
    ],
)
def test_a_table_that_cannot_be_read_says_how_to_save_it(data: bytes, message: str, folder: Path) -> None:
    (folder / "t.csv").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        table_config(folder, name="own")


@pytest.mark.parametrize("indent", [None, 1])
def test_one_object_is_no_table(indent: int | None, folder: Path) -> None:
    (folder / "t.json").write_text(json.dumps(ROW, indent=indent), encoding="utf-8")
    message = r"t\.json must hold a list of objects, or .*; it holds one object alone: put it in \[ \] if it is a row"
    with pytest.raises(ValueError, match=message):
        find_table(under(folder))


@pytest.mark.parametrize("name", ["t.jsonl", "t.json"])
def test_rows_of_json_with_invalid_values_are_left_out_with_their_reason(
    name: str, folder: Path, tmp_path: Path
) -> None:
    good = json.dumps(ROW | {"split": "train"})
    bad = [
        good.replace('"no"', '"yes", "answer": "no"'),
        good.replace('"no"', '"A", "choices": {"A": "CT", "B": "MRI", "B": "X-ray"}'),
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
    assert len(reasons) == 10 and reasons[:2] == ["an object has one key twice"] * 2
    assert sum(" is not text" in reason for reason in reasons) == 7


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
