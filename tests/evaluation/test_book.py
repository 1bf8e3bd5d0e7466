"""The results book: every printed figure has its row, and absent figures are not measured."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from radvqa_jax.config import PaperTable, ScoreConfig, configs_folder, load_tables, paper_row
from radvqa_jax.evaluation import paper_figures
from radvqa_jax.evaluation.book import Found, build_book, build_row
from radvqa_jax.evaluation.book_page import format_printed, write_book
from radvqa_jax.evaluation.measures import METRICS, Answered, Settings, choose, measure
from radvqa_jax.schema import Record

TABLES = load_tables(configs_folder() / "papers", ())
SETTINGS = Settings(ScoreConfig(), 50, 0)
RECORDS = [
    Record(str(i), f"image {i // 2}", "Is it?", reference, [said], answer_type=kind, organ="Chest", source="SLAKE 1.0")
    for i, (reference, said, kind) in enumerate(
        [("yes", "Yes.", "closed"), ("no", "yes", "closed"), ("T2", "T2", "closed"), ("liver", "the liver", "open")]
    )
]


def test_every_printed_figure_has_one_row() -> None:
    rows = [(t.paper, t.place, row.model, row.data) for t in TABLES.values() for row in t.rows]
    for figure in paper_figures.read_all():
        place = (figure["paper"], figure["place"], figure["model"], figure["data"])
        assert rows.count(place) == 1, place
        assert figure["metric"] in METRICS


@pytest.mark.parametrize("name", TABLES)
def test_a_row_has_an_experiment_or_says_why_not(name: str) -> None:
    table = TABLES[name]
    for row in table.rows:
        assert bool(row.recipe) != bool(row.why), row
        assert {metric for _, metric in row.beside} <= set(METRICS)
        if row.recipe:
            assert (configs_folder() / row.recipe.partition(":")[0]).is_file()


def test_an_unknown_table_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"book\.tables names \['nope'\]\. Known: .*medm_table1"):
        load_tables(configs_folder() / "papers", ("nope",))


def test_closed_is_what_the_paper_of_the_metric_calls_closed() -> None:
    assert [r.question_id for r in choose(RECORDS, "closed", metric="accuracy")] == ["0", "1", "2"]
    assert [r.question_id for r in choose(RECORDS, "closed", metric="accuracy, string match")] == ["0", "1"]
    assert [r.question_id for r in choose(RECORDS, "open", metric="accuracy, string match")] == ["2", "3"]
    assert choose(RECORDS, "chest", metric="accuracy") == RECORDS and not choose(RECORDS, "brain", metric="accuracy")


@pytest.mark.parametrize(
    ("metric", "value"),
    [("accuracy, string match", 0.5), ("containment of the reference", 0.75), ("recall", 0.75), ("accuracy", 0.75)],
)
def test_metrics_are_those_of_the_papers(metric: str, value: float) -> None:
    found: Any = measure(metric, "overall", Answered(RECORDS, {}), SETTINGS)
    assert found["value"] == pytest.approx(value)
    assert (found["n"], found["n_images"]) == (4, 2) and found["interval"] is not None


def test_figures_that_cannot_be_measured_say_why() -> None:
    answered = Answered(RECORDS, {})
    for metric, why in {
        "BERTScore": "bertscore_model",
        "judged accuracy": "mode=judge",
        "read by a physician": "review_rows",
        "refused": "every question has an answer",
    }.items():
        assert why in str(measure(metric, "overall", answered, SETTINGS))
    assert measure("accuracy", "Brain", answered, SETTINGS) == "no question is Brain"
    with pytest.raises(ValueError, match="no metric 'rouge'"):
        measure("rouge", "overall", answered, SETTINGS)


TABLE = PaperTable(
    "LLaMA32-Med",
    "Table 3",
    "Two rows",
    rows=(
        paper_row("fine-tuned", "SLAKE", "llama32_med.py:slake", beside=(("closed", "accuracy, string match"),)),
        paper_row("QLoRA", "SLAKE", "llama32_med.py:slake,qlora"),
        paper_row("Figure 1", "a drawing", why="a <drawing>"),
    ),
    unlike=("another model",),
)
GUESSES = {"question_only": [record._replace(predictions=["yes"]) for record in RECORDS]}


def book(stand_in: str = "") -> dict[str, Any]:
    found = (
        Found(Answered(RECORDS, GUESSES), command="run it", unlike=("a leak",), about={"trained": "x"}),
        Found(empty="slake is not prepared"),
        Found(empty="a <drawing>"),
    )
    rows = [(build_row(TABLE, row, own, SETTINGS), own.about) for row, own in zip(TABLE.rows, found, strict=True)]
    return build_book({"t": TABLE}, {"t": rows}, SETTINGS, stand_in=stand_in)


def test_a_cell_has_the_figures_of_the_paper_of_ours_and_of_blind_runs_and_the_differences() -> None:
    cells = book()["tables"][0]["cells"]
    first, beside, empty, drawing = cells
    assert first["printed"]["value"] == 0.846 and first["ours"]["value"] == 0.5 and first["ours"]["n"] == 4
    assert first["difference"]["value"] == pytest.approx(0.5 - 0.846)
    assert first["difference"]["interval"] == pytest.approx([bound - 0.846 for bound in first["ours"]["interval"]])
    assert first["blind"]["question_only"]["value"] == 0.25
    assert first["unlike"] == ["a leak"]
    assert beside["printed"] is None and beside["difference"] is None and beside["ours"]["n"] == 2
    assert (empty["ours"], empty["difference"], empty["blind"]) == (None, None, {})
    assert empty["empty"] == "slake is not prepared" and empty["printed"]["value"] == 0.818
    assert drawing["metric"] == ""
    assert (book()["filled"], book()["cells"]) == (2, 3)


def test_the_four_files_hold_the_same(tmp_path: Path) -> None:
    text = write_book(tmp_path, book(), provenance={"seed": 0})
    assert "2 of 3 cells are filled" in text and "1 empty: slake is not prepared" in text
    kept = json.loads((tmp_path / "book.json").read_text())
    assert kept["tables"] == book()["tables"] and kept["provenance"] == {"seed": 0}
    rows = list(csv.DictReader((tmp_path / "book.csv").read_text(encoding="utf-8-sig").splitlines()))
    assert [row["ours"] for row in rows] == ["0.5", "0.5", "", ""]
    assert rows[0]["unlike"] == "another model; a leak" and rows[2]["empty"] == "slake is not prepared"
    page = (tmp_path / "book.html").read_text()
    assert "empty: slake is not prepared" in page and "a &lt;drawing&gt;" in page and "run it" in page
    tex = (tmp_path / "book.tex").read_text()
    assert tex.count(r"\begin{table}") == 1 and "0.846" in tex and "Figure 1" not in tex


def test_a_shortened_book_takes_no_difference_from_a_paper(tmp_path: Path) -> None:
    short = book("phantom_rad/tiny")
    assert all(cell["difference"] is None for cell in short["tables"][0]["cells"])
    text = write_book(tmp_path, short, provenance={})
    files = [text, *((tmp_path / f"book.{kind}").read_text() for kind in ("html", "tex"))]
    assert not any("ours - paper" in file or "ours \N{MINUS SIGN} paper" in file for file in files)
    assert "a test of the recipes, no result" in text
    row = next(csv.DictReader((tmp_path / "book.csv").read_text(encoding="utf-8-sig").splitlines()))
    assert row["difference"] == "" and row["ours"] == "0.5"
    assert "ours - paper" in write_book(tmp_path, book(), provenance={})


def test_a_figure_that_is_not_printed_is_a_dash() -> None:
    assert format_printed({"printed": None}) == "-"
