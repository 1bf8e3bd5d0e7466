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
    describe_left_out,
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


def test_each_run_with_the_same_sheets_gives_the_same_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_review(tmp_path, PAIRS, rows=60, seed=0)
    with (tmp_path / "review_pairs.csv").open(encoding="utf-8-sig", newline="") as file:
        verdicts = {row["candidate_id"]: ("pass", "discard")[n % 2] for n, row in enumerate(csv.DictReader(file))}
    readings = read_review(fill(tmp_path / "review_pairs.csv", verdicts, reader="Ada"))
    first = score_review(readings, PAIRS, tmp_path)
    assert first["unweighted"] == 0 and first["weighted_to"] == [300, 300]
    # The original stays empty, and a run with other results must not replace the draw of the copy.
    reviewed = apply_review(PAIRS, readings, use="drop")
    assert write_review(tmp_path, reviewed, rows=60, seed=0) == 0
    assert "review_pairs.csv was drawn before and is kept" in capsys.readouterr().out
    assert score_review(readings, PAIRS, tmp_path) == first
    (tmp_path / "review_pairs.csv").unlink()  # the reader renamed it
    assert write_review(tmp_path, reviewed, rows=60, seed=0) == 0
    assert score_review(readings, PAIRS, tmp_path) == first


def test_a_verdict_on_a_pair_of_another_draw_has_no_weight_and_is_counted(tmp_path: Path) -> None:
    write_review(tmp_path, PAIRS[:200], rows=200, seed=0)
    ids = [one.item.candidate.candidate_id for one in PAIRS]
    of_draw = [Reading("Ada", pair_id, n % 3 == 0, "") for n, pair_id in enumerate(ids[:200])]
    others = [Reading("Ada", pair_id, False, "") for pair_id in ids[200:220]]
    alone, both = (score_review(given, PAIRS, tmp_path) for given in (of_draw, [*of_draw, *others]))
    assert both["readers"]["Ada"]["checks"] == alone["readers"]["Ada"]["checks"]
    assert (alone["unweighted"], both["unweighted"], both["readers"]["Ada"]["n"]) == (0, 20, 220)
    assert describe_left_out(alone, tmp_path) == []
    (line,) = describe_left_out(both, tmp_path)
    assert line.startswith("20 verdicts are about pairs that ")
    (line,) = describe_left_out(score_review([*of_draw, Reading("Ada", "x", False, "")], PAIRS, tmp_path), tmp_path)
    assert line.startswith("1 verdicts of the sheets (synthesis.review_sheets) have no effect: no written pair")
    (tmp_path / "review_draw.json").unlink()
    without = score_review(of_draw, PAIRS, tmp_path)
    assert without["unweighted"] == 200 and set(without["readers"]["Ada"]["checks"]) == {"all checks"}
    assert without["readers"]["Ada"]["checks"]["all checks"] == {"precision": None, "recall": None}


@pytest.mark.parametrize("rows", [1, 2, 5, 40, 200])
def test_the_rows_represent_all_pairs_even_if_there_are_fewer_than_kinds(rows: int) -> None:
    """Ten checks, two writers and three kinds of pairs, unevenly often."""
    many = []
    for number, one in enumerate(PAIRS):
        name, writer = f"check{number % 10}", ("case", "templates")[number // 10 % 2]
        kind = ("open", "closed", "multiple_choice")[number // 20 % 3]
        candidate = dataclasses.replace(one.item.candidate, writer=writer, kind=kind)
        failed = Result("failed" if number % 10 else "passed")
        many.append(Checked(one.item._replace(candidate=candidate), {name: failed}))
    chosen, weights = draw(many, rows=rows, seed=0)
    assert len(chosen) == rows and sum(weights.values()) == pytest.approx(300)
    if rows == 40:  # fewer than the kinds of pairs, but enough for each check
        assert len({tuple(one.failed) for one in chosen}) == 10


def test_two_readers_get_a_kappa(tmp_path: Path) -> None:
    ids = [one.item.candidate.candidate_id for one in PAIRS[:40]]
    ada = [Reading("Ada", pair_id, n % 2 == 0, "") for n, pair_id in enumerate(ids)]
    bob = [Reading("Bob", pair_id, n % 2 == 0 if n < 30 else n % 2 == 1, "") for n, pair_id in enumerate(ids)]
    (row,) = score_review([*ada, *bob, Reading("Bob", "gone", True, "")], PAIRS, tmp_path)["kappa"]
    assert (row["a"], row["b"], row["n"]) == ("Ada", "Bob", 40)
    assert row["kappa"] == pytest.approx(0.5)


def test_an_id_that_looks_like_a_number_is_written_as_text(tmp_path: Path) -> None:
    (given,) = [pair(0, failed=False)]
    for name in ("1234567890123456", "1234567e89012345"):
        candidate = dataclasses.replace(given.item.candidate, candidate_id=name)
        folder = tmp_path / name
        write_review(folder, [Checked(given.item._replace(candidate=candidate), given.results)], rows=5, seed=0)
        assert f'"\'{name}"' in (folder / "review_pairs.csv").read_text(encoding="utf-8-sig")
        (reading,) = read_review(fill(folder / "review_pairs.csv", {name: "pass"}, reader="Ada"))
        assert reading.candidate_id == name


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


def test_a_sheet_that_was_filled_in_after_a_kill_gets_its_draw(tmp_path: Path) -> None:
    """The kill came between sheet and draw. Without weights, no verdict of the sheet would count."""
    write_review(tmp_path, PAIRS, rows=8, seed=0)
    drawn = (tmp_path / "review_draw.json").read_bytes()
    with (tmp_path / "review_pairs.csv").open(encoding="utf-8-sig", newline="") as file:
        verdicts = {row["candidate_id"]: "pass" for row in csv.DictReader(file)}
    filled = fill(tmp_path / "review_pairs.csv", verdicts, reader="Ada").replace(tmp_path / "review_pairs.csv")
    (tmp_path / "review_draw.json").unlink()
    assert write_review(tmp_path, PAIRS, rows=8, seed=1) == 0 and not (tmp_path / "review_draw.json").exists()
    assert write_review(tmp_path, PAIRS, rows=8, seed=0) == 0
    assert (tmp_path / "review_draw.json").read_bytes() == drawn
    assert score_review(read_review(filled), PAIRS, tmp_path)["unweighted"] == 0


def test_a_sheet_that_was_drawn_or_filled_in_is_never_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def kept() -> bool:
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        capsys.readouterr()
        assert write_review(tmp_path, PAIRS, rows=6, seed=2, image=lambda pair: b"x") == 0
        assert "review_pairs.csv was drawn before and is kept" in capsys.readouterr().out
        return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before

    assert write_review(tmp_path, PAIRS, rows=8, seed=0, image=lambda pair: b"old") == 8
    assert kept()
    (tmp_path / "review_draw.json").unlink()  # as a kill before the end of the draw leaves it
    assert write_review(tmp_path, PAIRS, rows=4, seed=1, image=lambda pair: b"new") == 4
    images = sorted((tmp_path / "review_images").iterdir())
    assert [path.read_bytes() for path in images] == [b"new"] * 4
    assert {path.stat().st_mode & 0o777 for path in images} == {0o600}
    text = (tmp_path / "review_pairs.csv").read_text(encoding="utf-8-sig")
    (tmp_path / "review_pairs.csv").write_text(text.replace('""\n', '"why?"\n', 1), encoding="utf-8-sig")
    assert kept()
    (tmp_path / "review_draw.json").unlink()
    assert kept()


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
