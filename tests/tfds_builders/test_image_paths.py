"""A path in a table means one file, and never one of another patient, site or split."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tfds_builders.dummy import encode, noise
from tfds_builders.table.image_paths import ImagePaths

from .table_case import ROW, all_rows, build, write_csv


def meant(cells: Sequence[str], *, files: Sequence[str], tables: Sequence[str] = ("q.csv",)) -> list[str]:
    """The file of each cell of the first table, or the reason why there is none; `> ` before a shortened path."""
    paths = ImagePaths([*files, *tables], tables=tables)
    paths.learn(cells)
    found = []
    for cell in cells:
        try:
            file = paths.find(cell, tables[0])
            found.append("> " * file.shortened + file.name)
        except ValueError as error:
            found.append(str(error))
    return found


PATIENTS = ["patient0/scan.png", "patient1/scan.png"]


@pytest.mark.parametrize("prefix", ["", "/mnt/data/", "C:\\data\\"])
@pytest.mark.parametrize("more", [[], ["scan.png"]])
def test_an_absent_image_is_never_that_of_another_patient(prefix: str, more: list[str]) -> None:
    first, second = meant([prefix + path for path in PATIENTS], files=[PATIENTS[0], *more])
    assert first.removeprefix("> ") == PATIENTS[0] and first.startswith("> ") == bool(prefix)
    assert second.startswith("image file is absent: ") and "scan.png has that name in another folder" in second


def test_an_absent_folder_of_the_table_is_not_replaced_by_another() -> None:
    files = [f"siteB/{number}.png" for number in range(3)]
    for cells in (["siteA/0.png", "siteA/1.png"], ["siteA/0.png", "siteB/2.png"], ["siteA/0.png"]):
        assert meant(cells, files=files)[0].startswith("image file is absent: siteA/0.png; siteB/0.png has that name")


@pytest.mark.parametrize(
    ("cells", "files", "expected"),
    [
        (["a.png", "sub/b.png"], ["images/a.png", "images/sub/b.png"], ["images/a.png", "images/sub/b.png"]),
        (["/images/a.png"], ["images/a.png"], ["images/a.png"]),
        (["chest/images/a.png", "chest/images/b.png"], ["images/a.png"], ["> images/a.png", None]),
        (["/mnt/x/a.png", "/mnt/x/b.png"], ["i/a.png", "i/b.png"], ["> i/a.png", "> i/b.png"]),
        ([r"C:\x\p0\a.png", r"C:\x\p1\a.png"], ["i/p0/a.png", "i/p1/a.png"], ["> i/p0/a.png", "> i/p1/a.png"]),
        (["a.png"], ["a.png", "old/a.png"], ["a.png"]),  # the file in the folder itself, although another path ends so
        (["I/Ü.PNG"], ["i/u\u0308.png"], ["i/u\u0308.png"]),  # an umlaut as archives of a Mac have it
    ],
)
def test_a_path_from_elsewhere_is_found(cells: list[str], files: list[str], expected: list[str | None]) -> None:
    found = meant(cells, files=files)
    assert [one if wanted else None for one, wanted in zip(found, expected, strict=True)] == expected


def test_several_spellings_of_a_name_are_reported() -> None:
    (said,) = meant(["images/I0.png"], files=["images/i0.png", "images/I0.PNG"])
    assert said.startswith("image is the name of several files in another spelling: images/I0.png; images/i0.png")


@pytest.mark.parametrize(
    ("cell", "files", "offered"),
    [
        ("images/i%200.png", ["images/i 0.png"], "images/i 0.png"),
        ("i%200.png", ["images/i 0.png"], "images/i 0.png"),
        ("%C3%9C%2Fa.png", ["\u00dc/a.png"], "\u00dc/a.png"),
        ("p%201/scan.png", ["p 1/scan.png", "p 2/scan.png"], "p 1/scan.png"),
        ("a%20b.png", ["c.png"], ""),
        ("100%.png", ["100.png"], ""),
    ],
)
def test_a_file_without_the_escapes_of_an_address_is_offered(cell: str, files: list[str], offered: str) -> None:
    (said,) = meant([cell], files=files)
    hint = f"; {offered} is there, without escapes such as %20: write its path so"
    assert said.startswith(f"image file is absent: {cell}") and said.endswith(hint if offered else cell)
    assert meant(["a%20b.png"], files=["a%20b.png", "a b.png"]) == ["a%20b.png"]  # its own name comes first


@pytest.mark.parametrize(
    "tables", [("train/q.csv", "test/q.csv"), ("train.csv", "test.csv"), ("a/train.csv", "b/test.csv")]
)
def test_a_table_never_has_images_of_another_split(tables: tuple[str, str]) -> None:
    train, test = (table.split("/")[0].removesuffix(".csv") for table in tables)
    files = [f"{train}/images/0.png", f"{test}/images/0.png", f"{test}/images/1.png", "both/2.png"]
    first, second, both = meant(["images/0.png", "images/1.png", "2.png"], files=files, tables=tables)
    assert (first, both) == (files[0], "both/2.png") and second.startswith("image file is absent")
    named = meant(
        [f"{test}/images/1.png"], files=[f"own/{name}" for name in files], tables=[f"own/{t}" for t in tables]
    )
    assert named == [f"own/{test}/images/1.png"]  # the table says that folder itself


def test_rows_of_each_split_get_the_images_in_the_folder_of_their_table(tmp_path: Path) -> None:
    for seed, split in enumerate(("train", "test")):
        own = tmp_path / "own" / split
        (own / "images").mkdir(parents=True)
        (own / "images/0.png").write_bytes(encode(noise(seed), "PNG"))
        write_csv(own / "q.csv", [{"image": "images/0.png", "question": "Which?", "answer": split}])
    rows = all_rows(build(tmp_path / "own", tmp_path / "data"))
    assert {row["answer"]: row["image"] for row in rows} == {
        "train": encode(noise(0), "PNG"),
        "test": encode(noise(1), "PNG"),
    }


@pytest.mark.parametrize(
    ("rows", "others"),  # {what the table says, after its split: its file; empty if the row is left out}
    [
        # A folder for each patient: once a name is in two, a name that is in one may be that of an absent file.
        ({"1.png": "", "2.png": "", "3.png": ""}, ["1001/1.png", "1001/3.png", "1002/2.png", "1002/3.png"]),
        ({"1.png": "", "2.png": ""}, ["images/1.png", "masks/1.png", "masks/2.png"]),
        ({"x/1.png": "", "x/2.png": "", "0.png": "0.png"}, ["A/x/1.png", "B/x/1.png", "B/x/2.png"]),
        # The table has no such name, names that occur once, or those of equal files.
        ({"images/1.png": "images/1.png", "2.png": "images/2.png"}, ["masks/1.png"]),
        ({"1.png": "part1/1.png", "2.png": "part2/2.png", "3.png": ""}, []),
        ({"1.png": "images/1.png", "2.png": "images/2.png"}, ["copy/1.png"]),
        # A column gives the split.
        (
            {"train 1.png": "train/1.png", "train 2.png": "train/2.png", "test 1.png": "test/1.png", "test 2.png": ""},
            [],
        ),
    ],
    ids=["patients", "masks", "sites", "whole", "parts", "copies", "splits"],
)
def test_a_name_finds_a_file_in_a_deeper_folder_only_if_names_tell_files_apart(
    rows: dict[str, str], others: list[str], tmp_path: Path
) -> None:
    own = tmp_path / "own"
    for seed, name in enumerate(["good.png", *filter(None, rows.values()), *others]):
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).write_bytes(encode(noise(1 if name == "copy/1.png" else seed), "PNG"))
    cells = [f"train {cell}".split()[-2:] for cell in ["good.png", *rows]]
    lines = [{"image": name, "question": f"{split} {name}", "answer": "x", "split": split} for split, name in cells]
    write_csv(own / "q.csv", lines)
    built = build(own, tmp_path / "data")
    found = {row["question"]: row["image"] for row in all_rows(built)}
    wanted = {" ".join(f"train {cell}".split()[-2:]): name for cell, name in rows.items() if name}
    assert found == {
        cell: (own / name).read_bytes() for cell, name in ({"train good.png": "good.png"} | wanted).items()
    }
    assert len(built.of("dropped")) == list(rows.values()).count("")
    for (reason,) in built.of("dropped").values():
        assert reason.startswith(("image file is absent: ", "image is the name of several files that differ: "))


@pytest.mark.parametrize("hidden", [False, True])
def test_images_that_may_be_of_another_patient_give_a_warning(hidden: bool, tmp_path: Path) -> None:
    own = tmp_path / "own"
    (own / "Doe").mkdir(parents=True)
    for seed, name in enumerate(("Doe/1.png", "Doe/2.png")):
        (own / name).write_bytes(encode(noise(seed), "PNG"))
    cells = [("/mnt/Roe/1.png", "Roe"), ("/mnt/Roe/2.png", "Roe"), ("/mnt/Roe/1.png", "Poe")]
    write_csv(own / "q.csv", [ROW | {"image": image, "case_id": case, "split": "train"} for image, case in cells])
    built = build(own, tmp_path / "data", hash_ids=hidden)
    facts = json.loads((built.folder / "table.json").read_text())
    of_cases, other = facts["warnings"]
    assert of_cases.startswith("1 images have rows of several cases, the first of them rows 1 and 3.")
    assert other.startswith("the images of 3 rows are in another folder than the table says, the first of row 1")
    assert ("Doe/1.png" in other) != hidden and facts["images found in a deeper folder"] == 3


def test_a_shortened_path_is_noted_without_names_where_ids_are_hidden(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "Doe.png").write_bytes(encode(noise(0), "PNG"))
    write_csv(own / "q.csv", [{"image": "/mnt/Doe.png", "question": "Which?", "answer": "x"}])
    for hidden in (False, True):
        built = build(own, tmp_path / f"data{hidden}", hash_ids=hidden)
        assert "the end of the path decides" in built.of("repaired")["row 1"]
        assert ("Doe" in str(built.rejects)) != hidden


def test_a_file_is_read_by_its_whole_path(tmp_path: Path) -> None:
    own = tmp_path / "own"
    (own / "old").mkdir(parents=True)
    for seed, name in enumerate(("a.png", "old/a.png")):
        (own / name).write_bytes(encode(noise(seed), "PNG"))
    write_csv(own / "q.csv", [{"image": "a.png", "question": "Which?", "answer": "x"}])
    assert [row["image"] for row in all_rows(build(own, tmp_path / "data"))] == [encode(noise(0), "PNG")]


def test_a_link_in_the_folder_is_followed_and_a_path_out_of_it_is_not(tmp_path: Path) -> None:
    own, outside = tmp_path / "own", tmp_path / "outside"
    for folder in (own, outside):
        folder.mkdir()
    for seed, name in enumerate(("1.png", "2.png", "3.png")):
        (outside / name).write_bytes(encode(noise(seed), "PNG"))
    (own / "a.png").symlink_to(outside / "1.png")
    (own / "deep").symlink_to(outside)
    cells = ["a.png", "deep/2.png"]
    write_csv(own / "q.csv", [{"image": cell, "question": "Which?", "answer": cell} for cell in cells])
    rows = all_rows(build(own, tmp_path / "data"))
    assert {row["answer"]: row["image"] for row in rows} == {
        cell: encode(noise(seed), "PNG") for seed, cell in enumerate(cells)
    }
    assert meant(["../outside/3.png"], files=["a.png"]) == ["image leaves the folder with '..'"]
    assert meant([str(outside / "3.png")], files=["a.png"])[0].startswith("image file is absent: ")
