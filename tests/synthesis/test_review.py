"""The review sheet: safe cells, weights that undo the draw, kappa, and the effect of verdicts."""

import csv
import dataclasses
from collections import Counter
from pathlib import Path

import pytest

from radvqa_jax.synthesis.checks import Checked, Item, Result
from radvqa_jax.synthesis.planted import make_candidate, phantom_evidence
from radvqa_jax.synthesis.review import (
    Reading,
    apply_review,
    draw,
    read_review,
    read_reviews,
    score_review,
    write_review,
)
from tfds_builders.phantom_rad.plan import plan_split

IMAGES = plan_split("train", 300)


def pair(number: int, *, failed: bool, question: str = "What is seen?") -> Checked:
    candidate = make_candidate(IMAGES[number], (question, f"answer {number}"))
    results = {"words": Result("failed", "not said") if failed else Result("passed"), "leak": Result("passed")}
    return Checked(Item(candidate, phantom_evidence(IMAGES[number])), results)


PAIRS = [pair(n, failed=n < 30) for n in range(300)]


def fill(path: Path, verdicts: dict[str, str], *, reader: str) -> Path:
    """Fills a sheet as a spreadsheet saves it, and returns the filled file."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    filled = path.with_name(f"{reader}.csv")
    with filled.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        for row in rows:
            writer.writerow(row | {"reader": reader, "verdict": verdicts.get(row["candidate_id"].lstrip("'"), "")})
    return filled


def test_rows_are_drawn_evenly_from_what_checks_say_and_weights_undo_it(tmp_path: Path) -> None:
    chosen, weights = draw(PAIRS, rows=40, seed=0)
    assert Counter(bool(one.failed) for one in chosen) == {True: 20, False: 20}
    assert sum(weights.values()) == pytest.approx(300)
    assert [one.item.candidate.candidate_id for one in chosen] == [
        one.item.candidate.candidate_id for one in draw(PAIRS, rows=40, seed=0)[0]
    ]


def test_precision_and_recall_by_a_reader_are_those_of_all_pairs(tmp_path: Path) -> None:
    write_review(tmp_path, PAIRS, rows=60, seed=0)
    by_id = {one.item.candidate.candidate_id: one for one in PAIRS}
    # The reader discards 20 of 30 rejected pairs and 3 of 30 accepted ones, which stand for 27.
    verdicts, seen = {}, Counter()
    with (tmp_path / "review_pairs.csv").open(encoding="utf-8-sig", newline="") as file:
        ids = [row["candidate_id"] for row in csv.DictReader(file)]
    for pair_id in ids:
        failed = bool(by_id[pair_id].failed)
        seen[failed] += 1
        verdicts[pair_id] = "discard" if seen[failed] <= (20 if failed else 3) else "Pass"
    readings = read_review(fill(tmp_path / "review_pairs.csv", verdicts, reader="Ada"))
    assert len(readings) == 60
    found = score_review(readings, PAIRS, tmp_path)
    words = found["readers"]["Ada"]["checks"]["words"]
    assert words["precision"]["value"] == pytest.approx(20 / 30)
    assert words["recall"]["value"] == pytest.approx(20 / (20 + 27))  # unweighted it would be 20 / 23
    low, high = words["recall"]["interval"]
    assert low < words["recall"]["value"] < high
    assert found["readers"]["Ada"]["passed"] == 37


def test_two_readers_get_a_kappa(tmp_path: Path) -> None:
    ids = [one.item.candidate.candidate_id for one in PAIRS[:40]]
    ada = [Reading("Ada", pair_id, n % 2 == 0, "") for n, pair_id in enumerate(ids)]
    bob = [Reading("Bob", pair_id, n % 2 == 0 if n < 30 else n % 2 == 1, "") for n, pair_id in enumerate(ids)]
    (row,) = score_review([*ada, *bob, Reading("Bob", "gone", True, "")], PAIRS, tmp_path)["kappa"]
    assert (row["a"], row["b"], row["n"]) == ("Ada", "Bob", 40)
    assert row["kappa"] == pytest.approx(0.5)


def test_a_formula_is_written_as_text(tmp_path: Path) -> None:
    write_review(tmp_path, [pair(0, failed=False, question='=HYPERLINK("http://x")')], rows=5, seed=0)
    with (tmp_path / "review_pairs.csv").open(encoding="utf-8-sig", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["question"] == '\'=HYPERLINK("http://x")'


@pytest.mark.parametrize(
    ("use", "accepted"),
    [("report", (False, True, True)), ("drop", (False, False, True)), ("keep", (True, False, True))],
)
def test_verdicts_change_acceptance_as_configured(use: str, accepted: tuple[bool, ...]) -> None:
    rejected, bad, unread = PAIRS[0], PAIRS[100], PAIRS[101]
    readings = [
        Reading("Ada", rejected.item.candidate.candidate_id, True, ""),
        Reading("Ada", bad.item.candidate.candidate_id, True, ""),
        Reading("Bob", bad.item.candidate.candidate_id, False, "wrong lobe"),
    ]
    found = apply_review([rejected, bad, unread], readings, use=use)  # pyright: ignore[reportArgumentType]
    assert tuple(one.accepted for one in found) == accepted
    assert found[0].results["words"].outcome == "failed"  # the result of the check stays
    assert found[2].results["review"].outcome == "not_run"
    if use != "report":
        assert found[1].results["review"].reason == "discarded by Bob: wrong lobe"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("candidate_id,reader\nx,Ada\n", "lacks the columns"),
        ("candidate_id,reader,verdict\nx,Ada,maybe\n", "line 2.*pass, discard or empty"),
        ("candidate_id,reader,verdict\nx,Ada,pass\nx,Ada,pass\n", "line 3.*twice"),
    ],
)
def test_a_sheet_that_is_wrong_names_the_line(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "sheet.csv").write_text(text)
    with pytest.raises(ValueError, match=match):
        read_review(tmp_path / "sheet.csv")


def test_one_reader_in_two_sheets_is_refused(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("candidate_id,reader,verdict\nx,Ada,pass\n")
    with pytest.raises(ValueError, match=r"b\.csv: reader 'Ada' judged the pair x in two sheets, here and in .*a\.csv"):
        read_reviews([str(tmp_path / "a.csv"), str(tmp_path / "b.csv")])


def test_a_pair_is_not_changed_by_being_read() -> None:
    (found,) = apply_review([PAIRS[5]], [], use="drop")
    assert found.item == PAIRS[5].item and dataclasses.asdict(found.item.candidate)


def test_a_sheet_that_a_person_filled_in_is_never_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert write_review(tmp_path, PAIRS, rows=8, seed=0, image=lambda pair: b"old") == 8
    assert write_review(tmp_path, PAIRS, rows=4, seed=1, image=lambda pair: b"new") == 4  # nobody has filled it in
    images = sorted((tmp_path / "review_images").iterdir())
    assert [path.read_bytes() for path in images] == [b"new"] * 4
    assert {path.stat().st_mode & 0o777 for path in images} == {0o600}
    text = (tmp_path / "review_pairs.csv").read_text(encoding="utf-8-sig")
    (tmp_path / "review_pairs.csv").write_text(text.replace('""\n', '"why?"\n', 1), encoding="utf-8-sig")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert write_review(tmp_path, PAIRS, rows=8, seed=0, image=lambda pair: b"x") == 0
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert "review_pairs.csv is filled in, and is kept as it is" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("{}", "`seed` is missing"),
        ("[]", "must be"),
        ('{"seed": 0, "pairs": 1, "weights": [1]}', "weights"),
        ('{"seed": 0, "pairs": 1, "weights": {"a": "b"}}', "weights"),
        ('{"seed": 0, "pairs": 1, "weights": {"a": NaN}}', "weights"),
        ('{"seed": 0, "pairs": 1, "weights": {"a": -1.0}}', "weights"),
    ],
)
def test_an_edited_draw_names_file_and_field(text: str, field: str, tmp_path: Path) -> None:
    (tmp_path / "review_draw.json").write_text(text)
    with pytest.raises(ValueError, match=rf"review_draw\.json.*{field}"):
        score_review([], PAIRS, tmp_path)
