"""An export may replace only an earlier export, and only once the new one is complete."""

from pathlib import Path

import pytest

from radvqa_jax import locks
from radvqa_jax.export.export import RECORD, check_inputs_stay, replacing

LOCK = ".out.lock"


def write(folder: Path, text: str) -> None:
    with replacing(folder, conversion=True) as part:
        (part / "model.txt").write_text(text)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("extra", ["mine.txt", "export.json", ".git"])
def test_a_folder_with_anything_else_is_left_alone(tmp_path: Path, extra: str) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / extra).write_text("keep")
    with pytest.raises(ValueError, match=f"out holds {extra}, which no earlier export put there"):
        write(folder, "new")
    assert names(folder) == {extra} and names(tmp_path) == {"out"}


def test_an_earlier_export_is_replaced_unless_something_was_added(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    write(folder, "first")
    write(folder, "second")
    assert (folder / "model.txt").read_text() == "second" and names(tmp_path) == {"out", LOCK}
    (folder / "notes.md").write_text("keep")
    with pytest.raises(ValueError, match="out holds notes"):
        write(folder, "third")
    assert (folder / "model.txt").read_text() == "second" and (folder / "notes.md").read_text() == "keep"


def test_a_file_and_the_current_folder_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").write_text("keep")
    with pytest.raises(ValueError, match="out is a file, and an export is a folder"):
        write(tmp_path / "out", "new")
    assert (tmp_path / "out").read_text() == "keep"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="holds out, which no earlier export"):
        write(Path(), "new")
    with pytest.raises(ValueError, match="cannot be replaced by an export"):
        write(Path("/"), "new")


def test_remains_of_a_kill_between_two_renames_are_put_back_first(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    write(folder, "good")
    folder.rename(tmp_path / ".out.old")
    with pytest.raises(OSError, match="disk is full"), replacing(folder, conversion=True) as part:
        (part / "model.txt").write_text("half")
        raise OSError("disk is full")
    assert (folder / "model.txt").read_text() == "good" and names(tmp_path) == {"out", LOCK}
    folder.rename(tmp_path / ".out.old")
    write(folder, "better")
    assert (folder / "model.txt").read_text() == "better" and names(tmp_path) == {"out", LOCK}


def test_of_two_exports_to_one_folder_the_second_is_refused_and_the_first_is_whole(tmp_path: Path) -> None:
    """The lock is of an open file: it excludes another call of this process as it does another process."""
    folder = tmp_path / "out"
    write(folder, "earlier")
    with replacing(folder, conversion=True) as part:
        (part / "a.txt").write_text("first")
        with pytest.raises(locks.InUse, match=r"Another process writes .*/out\. Wait until it is done, or"):
            write(folder, "second")
        with replacing(tmp_path / "other", conversion=True):
            (part / "b.txt").write_text("first")
    assert names(folder) == {"a.txt", "b.txt", ".radvqa_files.json"}
    write(folder, "later")
    assert (folder / "model.txt").read_text() == "later"


@pytest.mark.parametrize("suffix", ["part", "old"])
def test_what_killed_exports_of_other_formats_left_is_removed_unless_they_run(tmp_path: Path, suffix: str) -> None:
    huggingface, left = tmp_path / "huggingface", tmp_path / f".huggingface.{suffix}"
    write(huggingface, "earlier")
    (tmp_path / ".mine.part").mkdir()  # not of a format: somebody else's
    with locks.hold_file(huggingface, remedy=""):
        left.mkdir()
        (left / "model.safetensors").write_text("half")
        write(tmp_path / "peft", "first")
        assert (left / "model.safetensors").read_text() == "half"
    write(tmp_path / "peft", "second")
    assert not left.exists() and (tmp_path / ".mine.part").is_dir()
    kept = [(tmp_path / name / "model.txt").read_text() for name in ("huggingface", "peft")]
    assert kept == ["earlier", "second"]


def test_a_kill_between_two_renames_is_mended_by_an_export_of_another_format(tmp_path: Path) -> None:
    huggingface, old = tmp_path / "huggingface", tmp_path / ".huggingface.old"
    write(huggingface, "good")
    huggingface.rename(old)
    (tmp_path / ".huggingface.part").mkdir()
    write(tmp_path / "peft", "new")
    assert (huggingface / "model.txt").read_text() == "good"
    assert not old.exists() and not (tmp_path / ".huggingface.part").exists()
    huggingface.rename(old)
    huggingface.mkdir()
    (huggingface / "mine.txt").write_text("keep")  # put there by hand: the earlier export is the only one
    write(tmp_path / "peft", "newer")
    assert (old / "model.txt").read_text() == "good" and names(huggingface) == {"mine.txt"}


def test_an_export_does_not_take_the_place_of_a_converted_checkpoint_nor_the_other_way_round(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    write(folder, "converted")
    said = "out holds a converted checkpoint, and an export would take its place"
    with pytest.raises(ValueError, match=said), replacing(folder, conversion=False):
        pass
    folder.rename(tmp_path / ".out.old")  # a conversion that was killed between its two renames
    with pytest.raises(ValueError, match=said), replacing(folder, conversion=False):
        pass
    exported = tmp_path / "exported"
    for _ in range(2):
        with replacing(exported, conversion=False) as part:
            (part / RECORD).write_text("{}")
    with pytest.raises(ValueError, match="exported holds an export, and a converted checkpoint would take its place"):
        write(exported, "converted")
    assert (folder / "model.txt").read_text() == "converted" and (exported / RECORD).is_file()


def test_what_an_export_reads_is_not_in_the_folder_that_it_replaces(tmp_path: Path) -> None:
    folder = tmp_path / "huggingface"
    (tmp_path / "link").symlink_to(folder)
    check_inputs_stay(folder, {"adapter": "", "model.checkpoint": str(tmp_path / "huggingface_2")})
    for inside in (folder, folder / "model.npz", tmp_path / "link" / "model.npz"):
        with pytest.raises(ValueError, match=r"model\.checkpoint=.* is in .*huggingface, which is replaced"):
            check_inputs_stay(folder, {"model.checkpoint": str(inside)})
