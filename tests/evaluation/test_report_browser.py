"""report.html in a real Chromium: the filters find the right cases, and nothing leaves the page."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from radvqa_jax.config import ReportConfig
from radvqa_jax.evaluation.report import Experiment, build_scores
from radvqa_jax.evaluation.report_page import write_report
from radvqa_jax.evaluation.scoring import verdict
from radvqa_jax.schema import Record
from scripts.browser import Page, open_browser

pytestmark = [pytest.mark.browser, pytest.mark.slow]

EVIL = '<img src=x onerror="document.title=1">'
SHOWN = "return [...document.querySelectorAll('details.case')].filter((e) => e.checkVisibility())"
SET = """
const field = document.querySelector(arguments[0]);
field.value = arguments[1];
field.dispatchEvent(new Event('input', {bubbles: true}));
"""


def make_records() -> list[Record]:
    """24 answers: right, wrong and unparsed ones, of two organs, one of them hostile."""
    said = ("left lung", "right lung", "")
    organs = ("left  brain", "lung")  # a browser shortens blanks in text, but not in values
    fields = [{"organ": organs[i % 2], "answer_type": "closed" if i < 6 else "open"} for i in range(24)]
    records = [
        Record(f"q{i}", f"i{i // 2}", f"Question {i}?", "left lung", [said[i % 3]], [], run="mine", **fields[i])
        for i in range(24)
    ]
    records[5] = records[5]._replace(question=f"Mass {EVIL}?")
    return records


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Experiment("A report", {"mine": make_records()})
    scores = build_scores(made, resamples=50)
    return write_report(tmp_path_factory.mktemp("report"), made, scores=scores, config=ReportConfig(cases=100))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(browser: Page, file: Path) -> Iterator[Page]:
    """The open page; the test fails if it logged an error or requested anything else."""
    browser.console()
    browser.requests()
    browser.driver.set_window_size(1280, 1000)
    browser.driver.get(file.as_uri())
    browser.wait("return !document.getElementById('filters').hidden")
    yield browser
    assert browser.console() == []
    assert set(browser.requests()) <= {file.as_uri()}


def questions(page: Page) -> list[str]:
    return page.run(f"{SHOWN}.map((e) => e.querySelector('summary .question').textContent)")


def choose(page: Page, field: str, value: str) -> None:
    page.run(SET, field, value)


def test_every_filter_leaves_the_cases_that_fit(page: Page) -> None:
    records = make_records()
    assert page.text("#shown") == "24 of 24 shown" and len(questions(page)) == 24
    choose(page, "select[name=rule]", "incorrect")
    wrong = [r for r in records if verdict(r, r.predictions[0]).outcome == "incorrect"]
    assert questions(page) == [r.question for r in wrong] and len(wrong) == 8
    choose(page, "select[name=organ]", "lung")
    assert questions(page) == [r.question for r in wrong if r.organ == "lung"]
    assert page.text("#shown") == "4 of 24 shown"
    choose(page, "select[name=type]", "closed")
    assert questions(page) == [r.question for r in wrong if r.organ == "lung" and r.answer_type == "closed"]
    page.click("#reset")
    assert len(questions(page)) == 24


def test_text_is_searched_whatever_its_case(page: Page) -> None:
    choose(page, "#filters input", "QUESTION 1")
    assert questions(page) == [f"Question {i}?" for i in (1, *range(10, 20))]
    choose(page, "#filters input", "right lung")  # an answer
    assert len(questions(page)) == 8
    choose(page, "#filters input", "no such words")
    assert questions(page) == [] and page.text("#shown") == "0 of 24 shown"


def test_cases_open_together_and_hostile_text_is_shown_as_text(page: Page) -> None:
    choose(page, "#filters input", "onerror")
    page.click("#open")
    assert page.run("return document.querySelectorAll('details.case[open]').length") == 1
    assert questions(page) == [f"Mass {EVIL}?"]
    assert page.run("return document.title") == "A report"
    page.click("#close")
    assert page.run("return document.querySelectorAll('details.case[open]').length") == 0


def test_a_narrow_window_scrolls_tables_and_not_the_page(page: Page) -> None:
    page.driver.set_window_size(500, 900)
    assert page.run("return document.documentElement.scrollWidth <= window.innerWidth")


OPEN = "return [...document.querySelectorAll(arguments[0])].filter((e) => e.open).length"


def test_print_opens_the_table_and_few_cases_and_folds_them_again(page: Page) -> None:
    page.run("document.querySelector('details.whole').open = false")
    opened = "document.querySelectorAll('details.case')[3].open = true"
    page.run(f"{opened}; window.dispatchEvent(new Event('beforeprint'))")
    assert page.run(OPEN, "details.whole") == 1 and page.run(OPEN, "details.case") == 1  # 24 are too many
    page.run("window.dispatchEvent(new Event('afterprint'))")
    assert page.run(OPEN, "details.whole") == 0 and page.run(OPEN, "details.case") == 1
    choose(page, "select[name=organ]", "left  brain")
    page.run("window.dispatchEvent(new Event('beforeprint'))")
    assert page.run(OPEN, "details.case:not([hidden])") == 12 and page.run(OPEN, "details.case[hidden]") == 1
    page.run("window.dispatchEvent(new Event('afterprint'))")
    assert page.run(OPEN, "details.case") == 1
    choose(page, "select[name=organ]", "")
    page.run("document.querySelectorAll('details.case')[3].open = false")


def test_a_real_print_has_the_whole_table(page: Page) -> None:
    page.run("document.querySelector('details.whole').open = false; window.seen = []")
    page.run(
        "window.addEventListener('beforeprint', () => window.seen.push(document.querySelector('details.whole').open))"
    )
    page.driver.execute_cdp_cmd("Page.printToPDF", {})
    assert page.run("return window.seen") == [True]
    assert not page.run("return document.querySelector('details.whole').open")
