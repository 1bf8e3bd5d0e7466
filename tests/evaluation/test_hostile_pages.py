"""ablations.html and saliency_quality.html in a real Chromium, with text that would run if it were not escaped."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from radvqa_jax.evaluation.ablation_page import write_grid
from radvqa_jax.evaluation.ablations import CellAnswers, build_grid
from radvqa_jax.saliency.quality_report import write_quality_report
from radvqa_jax.saliency.quality_scores import quality_scores
from radvqa_jax.schema import Record
from scripts.browser import Page, open_browser
from tests.saliency.test_quality_mode import fake_rows

pytestmark = [pytest.mark.browser, pytest.mark.slow]

RUNS = "document.title='ran'"
HOSTILE = (
    f'</td></table></style></script><script>{RUNS}</script><img src=x onerror="{RUNS}"><svg onload="{RUNS}">'
    f'<a href="javascript:{RUNS}">x</a><base href="http://127.0.0.1:9/">{{{{ 7 * 7 }}}}\u2028<!-- $\\frac{{'
)


def write_ablations(folder: Path) -> Path:
    records = [
        Record(f"q{i}", f"i{i // 2}", HOSTILE, "left", [HOSTILE if i % 2 else "left"], [], source=HOSTILE)
        for i in range(8)
    ]
    cells = [
        CellAnswers(HOSTILE, [HOSTILE], "", records, about={HOSTILE: HOSTILE}),
        CellAnswers("other", [HOSTILE], HOSTILE, empty=HOSTILE),
    ]
    write_grid(folder, build_grid(cells, title=HOSTILE, resamples=20), provenance={HOSTILE: {HOSTILE: HOSTILE}})
    return folder / "ablations.html"


def write_quality(folder: Path) -> Path:
    rows = fake_rows(0.1)
    for row in rows:
        row |= {"question_id": HOSTILE, "question": HOSTILE, "question_type": HOSTILE}
    about = {"model": HOSTILE, "data": {HOSTILE: HOSTILE}, "left out": {HOSTILE: 1}}
    return write_quality_report(folder, quality_scores(rows, resamples=20, seed=0, provenance=about))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.mark.parametrize("write", [write_ablations, write_quality])
def test_hostile_text_stays_text(browser: Page, tmp_path: Path, write: object) -> None:
    assert callable(write)
    path = write(tmp_path)
    browser.console()
    browser.requests()
    browser.driver.get(path.as_uri())
    browser.wait("return document.readyState === 'complete'")
    assert browser.driver.title != "ran" and "{{ 7 * 7 }}" in browser.text("body")
    assert browser.run("return document.querySelectorAll('script, base, iframe, [onerror], [onload]').length") == 0
    assert browser.run("return [...document.links].filter((a) => a.protocol === 'javascript:').length") == 0
    assert browser.run("return [...document.images].filter((i) => !i.src.startsWith('data:')).length") == 0
    assert browser.console() == [] and browser.requests() == [path.as_uri()]
