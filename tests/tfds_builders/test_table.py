"""A folder with a table becomes a data set: columns, images, splits, ids, rows that are left out."""

import json
import zipfile
from pathlib import Path

import pytest

from tfds_builders.dummy import encode, noise
from tfds_builders.table.splits import divide, groups

from .conftest import write_images
from .table_case import ROW, all_rows, build, write_csv


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
    left, copy = tmp_path / "data/.radvqa_id_key.0123abcd", tmp_path / "data/.radvqa_id_key.saved"
    left.touch()  # of a build that was killed while it wrote the key
    copy.touch()
    assert all_rows(build(folder, tmp_path / "data", name="again", hash_ids=True))[0]["case_id"] == row["case_id"]
    assert copy.exists() and not left.exists()
    assert all_rows(build(folder, tmp_path / "elsewhere", hash_ids=True))[0]["case_id"] != row["case_id"]


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


def test_a_name_in_other_capitals_is_taken_only_if_one_file_is_meant(folder: Path, tmp_path: Path) -> None:
    write_images(folder, ["x/A.png", "y/a.PNG"])
    write_csv(folder / "t.csv", [ROW | {"image": "images/a.png"}, ROW | {"image": "A.PNG"}])
    built = build(folder, tmp_path / "data")
    assert list(built.of("dropped").items()) == [
        ("row 2", ["image is the name of several files in another spelling: A.PNG; images/a.png, x/A.png, y/a.PNG"])
    ]


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


def test_the_same_pixels_in_two_files_are_never_in_two_splits(tmp_path: Path) -> None:
    own = tmp_path / "own"
    write_images(own, [f"i/{number}.png" for number in range(15)])
    for number in range(15):
        (own / f"i/{number}.bmp").write_bytes(encode(noise(number, mode="L"), "BMP"))
    write_csv(own / "t.csv", [ROW | {"image": f"i/{number}.{kind}"} for number in range(15) for kind in ("png", "bmp")])
    splits = {int(row["question_id"].split()[1]): row["split"] for row in all_rows(build(own, tmp_path / "data"))}
    assert all(splits[row] == splits[row + 1] for row in range(1, 31, 2)) and set(splits.values()) > {"train"}


@pytest.mark.parametrize(
    ("names", "answers", "said"),
    [
        (
            ("test.csv", "test - Copy.csv"),
            "yny",
            "3 rows of test.csv ask what test - Copy.csv asks about the same images",
        ),
        (("test.csv", "test_old.csv"), "yyy", "3 rows of test_old.csv ask what test.csv asks"),  # with other answers
        (("test.csv", "train - Copy.csv"), "yny", ""),  # of other splits: the audit
        (("test-00000-of-00002.csv", "test-00001-of-00002.csv"), "yny", ""),  # a mirror with repeated rows
        (("test.csv", "test_2.csv"), "", ""),
    ],
)
def test_two_files_of_a_split_with_the_same_questions_give_a_warning(
    names: tuple[str, str], answers: str, said: str, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    write_images(own, [f"{number}.png" for number in range(6)])
    first = [ROW | {"image": f"{number}.png", "answer": answer} for number, answer in enumerate("yny")]
    second = [ROW | {"image": f"{number}.png", "answer": answer} for number, answer in enumerate(answers)]
    write_csv(own / names[0], first)
    write_csv(own / names[1], second or [ROW | {"image": f"{number}.png"} for number in (0, 3, 4, 5)])
    write_csv(own / "validation.csv", [ROW | {"image": "5.png"}])
    warnings = json.loads((build(own, tmp_path / "data").folder / "table.json").read_text())["warnings"]
    assert len(warnings) == bool(said) and all(
        text.startswith(said) and "both count as test" in text for text in warnings
    )
