"""The grid's figures and its page: absent figures are not numbers, and every comparison is corrected."""

import re
from pathlib import Path
from typing import Any

import pytest

from radvqa_jax.evaluation.ablation_page import write_grid
from radvqa_jax.evaluation.ablations import CellAnswers, build_grid, format_grid
from radvqa_jax.evaluation.comparison import compare_overall, holm
from radvqa_jax.files import read_json
from radvqa_jax.schema import Record

EVIL = '<script>alert(1)</script><img src=x onerror=alert(1)>"{{ 7*7 }}'


def answers(right: int, *, n: int = 40, source: str = "s") -> list[Record]:
    """Answers to n questions on n / 2 images; the first `right` of them are right."""
    return [
        Record(f"q{i}", f"i{i // 2}", "Where?", "left", ["left" if i < right else "right"], [], source=source)
        for i in range(n)
    ]


def cells() -> list[CellAnswers]:
    guesses = {"question_only": answers(20)}
    return [
        CellAnswers("reference", records=answers(36), guesses=guesses),
        CellAnswers("a bit worse", ["with less"], "reference", answers(35), guesses),
        CellAnswers("much worse", ["with nothing"], "reference", answers(8), guesses),
        CellAnswers("elsewhere", ["other data"], "reference", answers(8, source="t")),
        CellAnswers("absent", ["no data"], "reference", empty="slake is not prepared"),
    ]


def grid(**changed: Any) -> dict[str, Any]:
    return build_grid(cells(), title="A grid", resamples=200, **changed)


def test_every_figure_of_a_cell_is_the_one_that_scoring_gives() -> None:
    rows = {row["name"]: row for row in grid()["cells"]}
    worse = rows["much worse"]
    assert (worse["overall"]["value"], worse["overall"]["n"], worse["overall"]["n_images"]) == (0.2, 40, 20)
    assert worse["baselines"]["question_only"]["value"] == 0.5
    assert worse["over"]["question_only"]["value"] == pytest.approx(-0.3)
    want = compare_overall(answers(8), answers(36), resamples=200, seed=0)
    assert {key: worse["compared"][key] for key in want} == want
    assert rows["elsewhere"]["baselines"] == {} == rows["elsewhere"]["over"]


def test_p_is_corrected_over_the_comparisons_that_were_made() -> None:
    rows = {row["name"]: row["compared"] for row in grid()["cells"]}
    made = [rows["a bit worse"], rows["much worse"]]
    assert [each["p_images_holm"] for each in made] == holm([each["p_images"] for each in made])
    assert [each["p_mcnemar_holm"] for each in made] == holm([each["p_mcnemar"] for each in made])
    assert made[1]["p_mcnemar_holm"] == 2 * made[1]["p_mcnemar"]
    assert rows["reference"] is None
    assert rows["elsewhere"] == {"with": "reference", "why_not": "asks other questions"}
    assert rows["absent"] == {"with": "reference", "why_not": "empty"}


def test_an_empty_cell_is_empty_everywhere(tmp_path: Path) -> None:
    found = grid()
    text = write_grid(tmp_path, found, provenance={"seed": 0})
    (line,) = re.findall(r"^absent +(.*)$", text, re.MULTILINE)
    assert line.split() == ["-"] * 6
    assert "absent: no data; EMPTY: slake is not prepared; not compared with reference: empty" in text
    page = (tmp_path / "ablations.html").read_text()
    row = page[page.index("<strong>absent</strong>") :]
    assert "empty: slake is not prepared" in row[: row.index("</tr>")] and "0.000" not in row[: row.index("</tr>")]
    assert read_json(tmp_path / "ablations.json") == found | {"provenance": {"seed": 0}}
    assert (tmp_path / "ablations.txt").read_text() == text + "\n" == format_grid(found) + "\n"


def test_a_grid_of_empty_cells_has_a_page(tmp_path: Path) -> None:
    found = build_grid([CellAnswers("absent", empty="why")], title="Nothing")
    assert "EMPTY: why" in write_grid(tmp_path, found, provenance={})
    assert "<img" not in (tmp_path / "ablations.html").read_text()


def test_the_page_loads_nothing_and_escapes_everything(tmp_path: Path) -> None:
    records = [r._replace(question=EVIL, predictions=[EVIL]) for r in answers(8)]
    evil = [CellAnswers(EVIL, [EVIL], "", records, about={EVIL: EVIL}), CellAnswers("x", [EVIL], EVIL, empty=EVIL)]
    write_grid(tmp_path, build_grid(evil, title=EVIL, resamples=20), provenance={EVIL: EVIL})
    page = (tmp_path / "ablations.html").read_text()
    assert "<script" not in page and "onerror=alert(1)&gt;" in page
    assert "default-src 'none'" in page and "script-src" not in page
    assert not re.search(r"https?:|//\w|@import|url\(", re.sub(r"base64,[A-Za-z0-9+/=]+", "", page))


def test_a_question_without_an_image_counts_as_one_of_its_own() -> None:
    records = [r._replace(image_id="") for r in answers(20)]
    (row,) = build_grid([CellAnswers("text", records=records)], title="t", resamples=200)["cells"]
    assert row["overall"]["n_images"] == 40 and row["overall"]["interval"] is not None


def test_empty_grids_and_unknown_references_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one cell"):
        build_grid([], title="t")
    with pytest.raises(ValueError, match="'a' is compared with 'b', which is not in the grid"):
        build_grid([CellAnswers("a", against="b", empty="x")], title="t")


def test_seeds_of_a_group_are_averaged_question_by_question_and_compared_in_pairs(tmp_path: Path) -> None:
    """Three seeds of each: 20, 24 and 28 right of 40 are 0.6; 26, 30 and 34 are 0.75."""
    made = [
        CellAnswers(f"{group}, seed {seed}", group=group, records=answers(least + 4 * seed))
        for group, least in (("unchecked", 20), ("checked", 26))
        for seed in range(3)
    ]
    made.append(CellAnswers("empty", group="captions", empty="not prepared"))
    found = build_grid(made, title="t", resamples=200)
    first, second = found["groups"]
    assert (first["group"], first["seeds"], first["difference"]) == ("unchecked", 3, None)
    assert first["values"] == [0.5, 0.6, 0.7] and second["values"] == [0.65, 0.75, 0.85]
    assert second["overall"]["value"] == pytest.approx(0.75)
    assert second["difference"]["value"] == pytest.approx(0.15)
    low, high = second["difference"]["interval"]
    assert 0 < low < 0.15 < high
    assert "mean over seeds" in format_grid(found)
    write_grid(tmp_path, found, provenance={})
    assert "Mean over seeds" in (tmp_path / "ablations.html").read_text()
    assert build_grid(cells(), title="t", resamples=20)["groups"] == []
