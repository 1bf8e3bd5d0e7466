"""Pages without a script on paper, in a real Chromium: folded tables are open, and no column is cut."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from radvqa_jax.config import PaperTable, ScoreConfig, paper_row
from radvqa_jax.data import audit
from radvqa_jax.data.audit_report import write_audit
from radvqa_jax.evaluation.ablation_page import write_grid
from radvqa_jax.evaluation.ablations import CellAnswers, build_grid
from radvqa_jax.evaluation.book import Found, build_book, build_row
from radvqa_jax.evaluation.book_page import write_book
from radvqa_jax.evaluation.measures import Answered, Settings
from radvqa_jax.schema import Record
from scripts.browser import Page, open_browser

from .data.conftest import fake_rows

pytestmark = [pytest.mark.browser, pytest.mark.slow]

A4 = 718  # CSS pixels of the width of A4 between margins of 1 cm
LONG = "configs/medm_stage2.py:roco,with-a-long-name-and-no-space-in-it-at-all-" * 2
ABOUT = {"checkpoint": "a" * 64, LONG: LONG}
CUT = """
return [...document.querySelectorAll('th, td, caption, p, code, img')]
  .filter((e) => e.checkVisibility() && e.getBoundingClientRect().right > window.innerWidth + 1)
  .map((e) => e.textContent.trim().slice(0, 60) || e.tagName)
"""
SHOWN = """
return [...document.querySelectorAll('details.on-paper > :not(summary)')].map((e) => e.checkVisibility())
"""


def answers(right: int) -> list[Record]:
    """Answers to 12 questions on 6 images; the first `right` of them are right."""
    said = ["left" if i < right else "right" for i in range(12)]
    return [Record(f"q{i}", f"i{i // 2}", "Where?", "left", [said[i]], [], source="s") for i in range(12)]


def make_grid(folder: Path) -> Path:
    guesses = {"question_only": answers(6)}
    cells = [
        CellAnswers("reference", records=answers(9), guesses=guesses, about=ABOUT),
        CellAnswers(LONG, ["adapters off", LONG], "reference", answers(5), guesses, about=ABOUT),
        CellAnswers("absent", ["no data"], "reference", empty=LONG),
    ]
    write_grid(folder, build_grid(cells, title="A grid", resamples=20), provenance=ABOUT)
    return folder / "ablations.html"


def make_book(folder: Path) -> Path:
    rows = (paper_row("a model", "SLAKE", "demo.py", beside=(("overall", "accuracy"), ("overall", "recall"))),)
    table = PaperTable("MedM", "table 9", "A table", rows, unlike=("another model",))
    settings = Settings(ScoreConfig(), 20, 0)
    found = Found(Answered(answers(9), {"question_only": answers(6)}), command=LONG, unlike=(LONG,), about=ABOUT)
    book = build_book({"t": table}, {"t": [(build_row(table, rows[0], found, settings), found.about)]}, settings)
    planned = [["recipe", "stage", *(f"device number {i}" for i in range(5))], [LONG, *["12.3 GiB"] * 6]]
    write_book(folder, book, provenance=ABOUT, planned=planned)
    return folder / "book.html"


def make_audit(folder: Path) -> Path:
    report = audit.audit(
        {"train": fake_rows(3, first=0), "test": fake_rows(4, first=2)},
        trained=["train"],
        evaluated=["test"],
        near_bits=20,
    )
    near = [{"bits": 3, "first": LONG, "second": LONG}]
    report["shared"][0] |= {"near_pairs": near, "suspects": near}
    return write_audit(folder, report | {"accepted": [], "near_bits": 20})


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.mark.parametrize("make", [make_grid, make_book, make_audit])
def test_paper_has_every_column_and_what_the_screen_folds(
    make: Callable[[Path], Path], browser: Page, tmp_path: Path
) -> None:
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "screen"})
    browser.driver.get(make(tmp_path).as_uri())
    assert set(browser.run(SHOWN)) == {False}
    size = {"width": A4, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert browser.run(CUT) == []
    assert browser.run("return document.documentElement.scrollWidth") <= A4
    assert set(browser.run(SHOWN)) == {True}
