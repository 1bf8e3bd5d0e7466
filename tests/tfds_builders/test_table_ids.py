"""Ids of images and places of right choices in a table: what could mean two things is made clear or left out."""

import json
from pathlib import Path

import pytest
from PIL import Image

from .test_table import ROW, all_rows, build, write_csv, write_images


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    write_images(folder, [f"{number}.png" for number in range(10)])
    (folder / "copy.png").write_bytes((folder / "0.png").read_bytes())
    return folder


def test_an_image_id_that_several_images_have_gets_the_hash_of_its_file(own: Path, tmp_path: Path) -> None:
    """Otherwise ten images would be one: in one split, in intervals, and when images are swapped."""
    rows = [ROW | {"image": f"{number}.png", "image_id": "1"} for number in range(10)]
    write_csv(own / "table.csv", [*rows, ROW | {"image": "copy.png", "image_id": "1", "question": "Why?"}])
    built = build(own, tmp_path / "data")
    ids = {row["image_id"] for row in all_rows(built)}
    assert len(ids) == 10 and all(name.startswith("1 ") for name in ids)
    assert len(built.rows) == 3  # drawn by image
    facts = json.loads((built.folder / "table.json").read_text())
    assert facts["warnings"][0].startswith("1 values of image_id name more than one image")
    listed = [json.loads(line) for line in (built.folder / "images.jsonl").read_text().splitlines()]
    assert {line["image_id"] for line in listed} == ids


def test_an_image_id_of_one_image_stays(own: Path, tmp_path: Path) -> None:
    rows = [ROW | {"image": "0.png", "image_id": "a"}, ROW | {"image": "copy.png", "image_id": "a", "question": "Why?"}]
    write_csv(own / "table.csv", [*rows, ROW | {"image": "1.png", "image_id": "b"}])
    built = build(own, tmp_path / "data")
    assert {row["image_id"] for row in all_rows(built)} == {"a", "b"}
    listed = [json.loads(line) for line in (built.folder / "images.jsonl").read_text().splitlines()]
    assert listed == [{"image_id": "a", "file": "0.png"}, {"image_id": "b", "file": "1.png"}]
    assert not json.loads((built.folder / "table.json").read_text())["warnings"]


def test_a_number_as_answer_is_not_an_index(own: Path, tmp_path: Path) -> None:
    """Nothing says whether it counts from 0 or from 1."""
    choices = ["CT|MRI|US", "CT|MRI|US", "1|2|3", "CT|MRI|US"]
    answers = ["1", "B", "2", "us"]
    columns = zip(choices, answers, strict=True)
    write_csv(
        own / "table.csv", [ROW | {"image": "0.png", "choices": c, "answer": a, "split": "test"} for c, a in columns]
    )
    built = build(own, tmp_path / "data")
    assert built.of("dropped") == {"row 1": ["the right choice is not named"]}
    found = built.rows["test"]
    assert [found[f"row {row}"]["answer"] for row in (2, 3, 4)] == ["MRI", "2", "US"]
    assert [found[f"row {row}"]["answer_index"] for row in (2, 3, 4)] == [1, 1, 2]


def test_none_is_an_answer_where_it_is_one_of_the_options(own: Path, tmp_path: Path) -> None:
    choices = ["None|One|Two", "None|One|Two", "CT|MRI", ""]
    rows = [{"image": "0.png", "question": "Many?", "choices": one, "split": "test"} for one in choices]
    answers = ("None", "One", "None", "None")
    write_csv(own / "table.csv", [row | {"answer": answer} for row, answer in zip(rows, answers, strict=True)])
    built = build(own, tmp_path / "data")
    assert [row["answer"] for row in all_rows(built)] == ["None", "One"]
    assert built.of("dropped") == {
        "row 3": ["the right choice is not named"],
        "row 4": ["answer is empty: None is a missing value"],
    }


@pytest.mark.parametrize(
    "cell", ["NA", "<NA>", "#N/A", "#NV", "#REF!", "#VALUE!", "#DIV/0!", "#NAME?", "NAN", "Null", "N/a"]
)
def test_missing_values_of_other_programs_are_no_text_and_no_patient(cell: str, own: Path, tmp_path: Path) -> None:
    """R writes NA for each, so that all rows without a patient would be one patient in two splits."""
    given = ROW | {"case_id": cell, "image_id": cell}
    rows = [given | {"image": f"{place}.png", "split": ("train", "test")[place % 2]} for place in range(4)]
    rows[2] |= {"answer": cell}
    rows[3] |= {"question": cell}
    write_csv(own / "table.csv", rows)
    built = build(own, tmp_path / "data")
    assert [row["case_id"] for row in all_rows(built)] == ["", ""]
    assert len({row["image_id"] for row in all_rows(built)}) == 2
    assert built.of("dropped") == {
        "row 3": [f"answer is empty: {cell} is a missing value"],
        "row 4": [f"question is empty: {cell} is a missing value"],
    }
    facts = json.loads((built.folder / "table.json").read_text())
    assert facts["shared between splits"] == {"case_id": 0, "image_id": 0}
    assert facts["read as missing"] == {
        "case_id": {cell: 4}, "image_id": {cell: 4}, "answer": {cell: 1}, "question": {cell: 1},
    }  # fmt: skip


def test_what_may_be_an_answer_or_an_option_is_no_missing_value(own: Path, tmp_path: Path) -> None:
    texts = ["none", "NONE", "Na", "na", "#3", "# REF"]
    rows = [ROW | {"image": "0.png", "split": "test", "answer": text, "choices": "NA"} for text in texts]
    options = [("Na|NA", "NA"), ("none|one|#REF!", "None"), ("CT|NA", "CT")]
    rows += [ROW | {"image": "0.png", "split": "test", "choices": them, "answer": text} for them, text in options]
    write_csv(own / "table.csv", rows)
    built = build(own, tmp_path / "data")
    assert [row["answer"] for row in all_rows(built)] == [*texts, "none", "CT"]
    assert [row["choices"] for row in all_rows(built)][6:] == [["none", "one"], ["CT", "NA"]]
    facts = json.loads((built.folder / "table.json").read_text())
    assert facts["read as missing"] == {}
    (said,) = facts["warnings"]
    assert said.startswith("1 rows, the first of them row 9, have an option such as NA")


def test_a_row_that_is_left_out_takes_no_question_id(own: Path, tmp_path: Path) -> None:
    rows = [ROW | {"image": image, "question_id": "7"} for image in ("absent.png", "1.png", "2.png")]
    write_csv(own / "table.csv", [*rows, ROW | {"image": "3.png", "question_id": "8", "answer": ""}])
    built = build(own, tmp_path / "data")
    assert [row["question_id"] for row in all_rows(built)] == ["7"]
    assert built.of("dropped") == {
        "row 1, repeats 7": ["image file is absent: absent.png"],
        "row 3, repeats 7": ["an earlier row has the same question_id: row 2"],
        "8": ["answer is empty"],
    }


@pytest.mark.parametrize("choices", ["B) left|A) right", "b) left|a) right", "(b) left|(a) right", "B. left|C. right"])
def test_letters_that_contradict_the_order_are_left_out(choices: str, own: Path, tmp_path: Path) -> None:
    rows = [ROW | {"image": "0.png", "choices": "left|right", "answer": "left", "split": "test"}]
    write_csv(own / "table.csv", [*rows, rows[0] | {"choices": choices, "answer": "b"}])
    dropped = build(own, tmp_path / "data").of("dropped")
    assert dropped["row 2"] == ["choices are in another order than their letters: option 1 is lettered B"]


def test_hidden_ids_stay_hidden_where_an_image_is_converted_or_damaged(own: Path, tmp_path: Path) -> None:
    """rejects.jsonl calls an image by its id, which is a hash."""
    (own / "Doe").mkdir()
    Image.new("RGBA", (8, 8), (1, 2, 3, 255)).save(own / "Doe/a.png")
    (own / "Doe/b.png").write_bytes((own / "0.png").read_bytes()[:60])
    rows = [ROW | {"image": name, "split": "train"} for name in ("Doe/a.png", "Doe/b.png", "0.png")]
    write_csv(own / "table.csv", rows)
    for hidden in (False, True):
        built = build(own, tmp_path / f"data{hidden}", hash_ids=hidden)
        assert [line["reason"].split(": ")[0] for line in built.rejects] == [
            "image converted",
            "image cannot be decoded",
        ]
        assert ("Doe" in str(built.rejects)) != hidden
    assert built.rejects[0]["id"] == built.row("row 1")["image_id"]
    write_csv(own / "table.csv", rows[1:2])
    with pytest.raises(ValueError, match="no image of train can be used") as error:
        build(own, tmp_path / "none", hash_ids=True)
    assert "Doe" not in str(error.value)


def test_hidden_ids_stay_hidden_in_rows_that_cannot_be_read(own: Path, tmp_path: Path) -> None:
    """A cell of a short row is in another column; an id comes before the cell at fault, or holds half a letter."""
    ids = {"question_id": "MRN-7", "case_id": "Doe"}
    rows = [ids | ROW | {"image": "0.png", "question": True}, {"case_id": "\ud800Doe", **ROW, "image": "0.png"}]
    (own / "table.jsonl").write_text("".join(json.dumps(row | {"split": "train"}) + "\n" for row in rows))
    (own / "table.csv").write_text("question,answer,image,case_id,split\n0.png,Doe\nWhat?,CT,0.png,1,train\n")
    for table, dropped in (("table.jsonl", "question is not text"), ("table.csv", "2 cells instead of 5")):
        built = build(own, tmp_path / table, table=table, hash_ids=True)
        assert [reasons for reasons in built.of("dropped").values()] == [[dropped]]
        assert not [word for word in ("Doe", "MRN") if word in str(built.rejects)]
