"""viewer.html in a real Chromium: choices change the picture to the right values, and nothing leaves the page."""

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest

from radvqa_jax.saliency.compare import difference
from radvqa_jax.saliency.quality import coverage
from radvqa_jax.saliency.viewer import write_viewer
from radvqa_jax.saliency.viewer_types import ViewerCase, ViewerMap
from scripts.browser import Page, open_browser
from tests.saliency.viewer_case import GRID, HOSTILE, MODELS, OTHER, PROMPT, WORDS, make_case, make_maps

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "images"
WHOLE = (0, 1, 2)  # the words without the end


def wide_case() -> ViewerCase:
    """A case without a lesion, of one model, whose image has no whole number of pixels a patch."""
    image = np.random.default_rng(0).integers(0, 256, (40, 90, 3)).astype(np.uint8)
    maps = [item for item in make_maps(len(WORDS)) if item.model == "base"]
    return make_case(question_id="q2", image=image, mask=None, models=MODELS[:1], maps=maps)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("viewer") / "viewer.html"
    return write_viewer(path, [make_case(), wide_case()], title="phantom_rad: attention", synthetic=True)


@pytest.fixture
def page(browser: Page, file: Path) -> Iterator[Page]:
    """The open page; the test fails if it logged an error or requested anything else."""
    browser.open(file)
    yield browser
    assert browser.console() == []
    assert set(browser.requests()) <= {file.as_uri()}


def find(case: ViewerCase, **wanted: Any) -> ViewerMap:
    wanted = {"query": "answer", "layer": None, "head": None, "residual": None, "vision": False} | wanted
    (found,) = [item for item in case.maps if all(getattr(item, key) == value for key, value in wanted.items())]
    return found


def of_words(item: ViewerMap, words: Sequence[int] = WHOLE) -> np.ndarray:
    """The mean over the tokens of some words."""
    tokens = np.array([word.tokens for word in (WORDS if item.query == "answer" else PROMPT)])
    return np.average(item.values[list(words)], axis=0, weights=tokens[list(words)])


def blended(
    case: ViewerCase,
    values: np.ndarray,
    limit: float,
    *,
    alpha: float = 0.75,
    colours: str = "viridis",
    fade: bool = True,
    signed: bool = False,
) -> np.ndarray:
    """The expected pixels of the canvas, computed independently of the page."""
    height, width = case.image.shape[:2]
    rows, columns = (((np.arange(size) + 0.5) * GRID / size).astype(int) for size in (height, width))
    share = values.astype(float) / limit
    level = np.floor((share / 2 + 0.5 if signed else share) * 256)
    index = level.clip(0, 255).astype(int)[np.ix_(rows, columns)]
    table = matplotlib.colormaps[colours](np.arange(256))[:, :3] * 255
    strength = abs(2 * index / 255 - 1) if signed else index / 255
    weight = alpha * (strength[..., None] if fade else 1)
    return (1 - weight) * case.image + weight * table[index]


def robust(*maps: np.ndarray) -> float:
    """The end of the scale without the two hottest of each map's 64 patches."""
    return max(float(np.sort(np.abs(values).ravel())[-3]) for values in maps)


def assert_shows(page: Page, expected: np.ndarray, index: int = 0) -> None:
    """The scale has 256 colours and heads have 256 levels: a value may fall on the neighbouring colour, no further."""
    found = page.canvas(index=index)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 5
    assert np.abs(found - expected).mean() < 0.8


def single(page: Page, model: str = "stage2") -> None:
    page.click(f"[name=view][value={model}]")


def test_the_last_model_is_shown_first_and_both_side_by_side_on_one_scale(page: Page) -> None:
    case = make_case()
    assert [f.get_attribute("data-model") for f in page.driver.find_elements("css selector", "#panels figure")] == [
        "stage2"
    ]
    assert page.texts("#headline p") == ["0.83probability"]
    single(page, "both")
    maps = [of_words(find(case, model=model, method="raw")) for model in ("base", "stage2")]
    limit = robust(*maps)
    for index, values in enumerate(maps):
        assert_shows(page, blended(case, values, limit), index)
    assert float(page.run("return document.getElementById('high').dataset.limit")) == pytest.approx(limit, rel=1e-4)
    captions = page.texts("#panels figcaption")
    assert captions == [
        f"{m.label}: {v.sum():.0%} on the image".replace("%", " %") for m, v in zip(MODELS, maps, strict=True)
    ]
    assert page.texts("dd .outcome") == ["✓ correct", "✗ incorrect"]  # the last model first


@pytest.mark.parametrize(
    "wanted",
    [
        {"method": "raw", "layer": 2},
        {"method": "raw", "layer": 1, "head": 3},
        {"method": "rollout", "residual": 0.1},
        {"method": "rollout", "residual": 0.5, "vision": True},
    ],
    ids=str,
)
def test_method_layer_head_residual_and_vision_tower(page: Page, wanted: dict[str, Any]) -> None:
    single(page)
    for name, value in wanted.items():
        if name == "vision":
            page.run("document.getElementById('more').open = true")
            page.click("#vision")
        else:
            page.select(name, value)
    case = make_case()
    values = of_words(find(case, model="stage2", **wanted))
    assert_shows(page, blended(case, values, robust(values)))
    statement = page.text("#statement")
    assert f"{wanted['method'].capitalize()} attention" in statement or "Attention rollout" in statement
    for name in ("layer", "head", "residual"):
        assert name not in wanted or f"{name} {wanted[name]}" in statement
    assert ("through the vision tower" in statement) == wanted.get("vision", False)


def test_a_head_that_all_layers_do_not_have_moves_the_layer(page: Page) -> None:
    single(page)
    page.select("head", 2)
    case = make_case()
    values = of_words(find(case, model="stage2", method="raw", layer=0, head=2))
    assert_shows(page, blended(case, values, robust(values)))
    page.select("layer", None)
    assert page.run("return document.getElementById('head').value") == "null"


def test_words_are_chosen_by_click_shift_and_ctrl(page: Page) -> None:
    from selenium.webdriver import ActionChains, Keys

    single(page)
    case = make_case()
    item = find(case, model="stage2", method="raw")

    def shows(*words: int) -> None:
        values = of_words(item, words)
        assert_shows(page, blended(case, values, robust(values)))
        selected = page.run("return [...document.querySelectorAll('#words [aria-selected=true]')].map((e) => e.id)")
        assert selected == [f"words-{word}" for word in words]

    page.click("#show-prompt")

    def press(key: str, css: str) -> None:
        target = page.driver.find_element("css selector", css)
        ActionChains(page.driver).key_down(key).click(target).key_up(key).perform()

    page.click("#words-1")
    shows(1)
    press(Keys.SHIFT, "#words-3")
    shows(1, 2, 3)
    press(Keys.CONTROL, "#words-2")
    shows(1, 3)
    page.click("#all-words")
    shows(*WHOLE)


def test_scale_opacity_colours_and_fade(page: Page) -> None:
    single(page)
    case = make_case()
    page.select("limits", "absolute")
    page.select("colours", "magma")
    top = max(item.values.max() for item in case.maps if item.method == "raw")
    values = of_words(find(case, model="stage2", method="raw"))
    assert_shows(page, blended(case, values, top, colours="magma"))
    assert page.text("#scale-note").startswith("Absolute: one scale") and page.text("#high") == f"{top:.3g}"
    page.run("const e = document.getElementById('opacity'); e.value = 80; e.dispatchEvent(new Event('input'))")
    page.run("document.getElementById('more').open = true")
    page.click("#fade")
    assert_shows(page, blended(case, values, top, alpha=0.8, colours="magma", fade=False))
    page.click("#show")
    assert np.array_equal(page.canvas(), case.image)


def signed_picture(case: ViewerCase, values: np.ndarray, limit: float) -> np.ndarray:
    return blended(case, values, limit, colours="berlin", signed=True)


@pytest.mark.parametrize("method", ["raw", "relevancy"])
def test_the_difference_of_two_models_has_a_sign(page: Page, method: str) -> None:
    """Shares are subtracted as they are; maps without a unit are first scaled to sum one."""
    case = make_case()
    page.select("method", method)
    single(page, "difference")
    maps = [of_words(find(case, model=model, method=method)) for model in ("stage2", "base")]
    values = difference(*maps, normalise=method == "relevancy")
    assert values.min() < 0 < values.max()
    assert_shows(page, signed_picture(case, values, robust(values)))
    assert page.text("#low").endswith(", more in before") and page.text("#high").endswith(", more in after stage 2")
    assert page.text("#low").startswith("-") and "after stage 2 less before" in page.text("#statement")
    page.select("first", "base")
    page.select("second", "stage2")
    assert_shows(page, signed_picture(case, -values, robust(values)))
    page.select("limits", "absolute")
    pairs = [
        [item.values for item in case.maps if item.method == method and item.query == "answer" and item.model == model]
        for model in ("base", "stage2")
    ]
    top = max(abs(difference(a, b, normalise=method == "relevancy")).max() for a, b in zip(*pairs, strict=True))
    assert float(page.run("return document.getElementById('high').dataset.limit")) == pytest.approx(top, rel=0.02)
    single(page, "stage2")
    page.select("limits", "relative")
    assert_shows(page, blended(case, maps[0], maps[0].max()))


def test_one_answer_against_another(page: Page) -> None:
    single(page)
    case = make_case()
    page.select("method", "contrast")
    values = of_words(find(case, model="stage2", method="contrast"))
    assert_shows(page, signed_picture(case, values, robust(values)))
    assert page.text("#low").endswith(f"for “{OTHER}”") and page.text("#high").endswith("for this answer")
    assert f"This answer against “{OTHER}”" in page.texts("#method option")
    page.click("#words-2")
    values = find(case, model="stage2", method="contrast").values[2]
    assert_shows(page, signed_picture(case, values, robust(values)))


def test_words_of_the_question_are_queries_too(page: Page) -> None:
    single(page)
    case = make_case()
    assert not page.run("return document.getElementById('prompt-0').checkVisibility()")
    page.click("#show-prompt")
    page.click("#prompt-2")
    item = find(case, model="stage2", method="raw", query="question")
    assert_shows(page, blended(case, item.values[2], robust(item.values[2])))
    assert page.run("return document.querySelectorAll('#words [aria-selected=true]').length") == 0
    assert "chosen words of the question: “nodule?”" in page.text("#statement")
    page.click("#all-prompt")
    values = of_words(item, (1, 2))  # without the tokens that begin and end the prompt
    assert_shows(page, blended(case, values, robust(values)))
    assert page.texts("#method option") == ["Raw attention", "Attention rollout"]
    page.select("layer", 3)
    page.select("head", 1)
    values = of_words(find(case, model="stage2", method="raw", query="question", layer=3, head=1), (1, 2))
    assert_shows(page, blended(case, values, robust(values)))
    single(page, "difference")
    other = of_words(find(case, model="base", method="raw", query="question", layer=3, head=1), (1, 2))
    assert_shows(page, signed_picture(case, values - other, robust(values - other)))
    page.click("#words-0")
    assert "This answer against" in " ".join(page.texts("#method option"))


def test_choosing_patches_says_which_words_read_them(page: Page) -> None:
    from selenium.webdriver import ActionChains

    single(page)
    case = make_case()
    item = find(case, model="stage2", method="raw")
    page.click("#show-prompt")
    stage = page.driver.find_element("css selector", ".stage")
    width, height = stage.size["width"], stage.size["height"]

    def offset(row: int, column: int) -> tuple[int, int]:
        return int((column + 0.5) / GRID * width - width / 2), int((row + 0.5) / GRID * height - height / 2)

    def shares() -> np.ndarray:
        return np.array(
            [
                float(e)
                for e in page.run("return [...document.querySelectorAll('#words li')].map((e) => e.dataset.share)")
            ]
        )

    assert shares() == pytest.approx(item.values.sum(axis=(1, 2)), rel=1e-3)
    page.run("document.querySelector('.stage').scrollIntoView({block: 'center'})")
    ActionChains(page.driver).move_to_element_with_offset(stage, *offset(2, 5)).click().perform()
    assert shares() == pytest.approx(item.values[:, 2, 5], rel=1e-3)
    (start_x, start_y), (end_x, end_y) = offset(2, 4), offset(3, 6)
    chain = ActionChains(page.driver).move_to_element_with_offset(stage, start_x, start_y).click_and_hold()
    chain.move_by_offset(end_x - start_x, end_y - start_y).release().perform()
    assert shares() == pytest.approx(item.values[:, 2:4, 4:7].sum(axis=(1, 2)), rel=1e-3)
    assert "6 chosen patches" in page.text("#words-measure")
    page.click("#clear")
    assert shares() == pytest.approx(item.values.sum(axis=(1, 2)), rel=1e-3)


def test_everything_can_be_done_with_the_keyboard(page: Page) -> None:
    from selenium.webdriver import Keys

    case = make_case()
    page.click("#show-prompt")
    page.run("document.getElementById('more').open = true")
    page.run("document.activeElement.blur()")
    reached = []
    for _ in range(60):
        page.keys(Keys.TAB)
        reached.append(page.run("const e = document.activeElement; return e.id || e.className || e.value || e.tagName"))
        shadow = page.run("const s = getComputedStyle(document.activeElement); return s.outlineStyle + s.outlineWidth")
        assert reached[-1] == "BODY" or shadow not in ("none0px", "none3px"), f"{reached[-1]} shows no focus"
    wanted = {
        "case",
        "next",
        "words-0",
        "prompt-0",
        "all-prompt",
        "all-words",
        "stage patches",
        "method",
        "layer",
        "head",
        "limits",
        "colours",
        "opacity",
    }
    assert wanted | {"fade", "show", "outline"} <= set(reached)
    page.run("document.querySelector('[name=view]:checked').focus()")
    page.keys(Keys.ARROW_RIGHT, Keys.ARROW_LEFT)  # radio buttons: to side by side, and back to after stage 2
    page.run("document.getElementById('words-0').focus()")
    page.keys(Keys.ARROW_RIGHT, Keys.SPACE)
    page.keys(Keys.SHIFT, Keys.ARROW_RIGHT, Keys.NULL)
    item = find(case, model="stage2", method="raw")
    values = of_words(item, (1, 2))
    assert_shows(page, blended(case, values, robust(values)))
    page.run("document.querySelector('.stage').focus()")
    page.keys(Keys.ARROW_UP, Keys.ARROW_RIGHT, Keys.SPACE)
    row, column = GRID // 2 - 1, GRID // 2 + 1
    assert float(page.run("return document.getElementById('words-1').dataset.share")) == pytest.approx(
        float(item.values[1, row, column]), rel=1e-3
    )
    assert f"Patch row {row + 1}, column {column + 1} of {GRID} x {GRID}" in page.text("#readout")
    page.keys(Keys.ESCAPE)
    assert page.run("return document.getElementById('clear').disabled")
    page.run("document.getElementById('prompt-0').focus()")
    page.keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.SPACE)
    asked = find(case, model="stage2", method="raw", query="question").values[2]
    assert_shows(page, blended(case, asked, robust(asked)))
    page.run("document.querySelector('#words [tabindex=\"0\"]').focus()")
    page.keys(Keys.HOME, Keys.ARROW_RIGHT, Keys.SPACE)
    page.keys(Keys.SHIFT, Keys.ARROW_RIGHT, Keys.NULL)
    page.run("document.getElementById('layer').focus()")
    page.keys(Keys.ARROW_DOWN)
    values = of_words(find(case, model="stage2", method="raw", layer=0), (1, 2))
    assert_shows(page, blended(case, values, robust(values)))


def test_the_figures_next_to_the_map_are_those_of_the_map(page: Page) -> None:
    single(page)
    case = make_case()
    page.select("layer", 1)
    page.select("head", 0)
    values = of_words(find(case, model="stage2", method="raw", layer=1, head=0)).astype(float)
    assert case.mask is not None
    covered = coverage(case.mask, grid=GRID)
    mass = (values * covered).sum() / values.sum()
    shown = f"{mass:.0%}" if mass >= 0.0995 else f"{100 * mass:#.2g}%"
    assert page.texts("#live-quality td")[0] == shown.replace("%", " %")
    # Two models: raw, relevancy, and rollout with two residuals, with and without the tower; then what is blind.
    assert len(page.texts("#quality tbody tr")) == 2 * 6 + 2
    assert page.text("#quality tbody tr:last-child").startswith("edges of the image, blind to the question")
    page.select("method", "contrast")
    assert page.text("#no-quality") == "Values with a sign are not measured against the marked region."
    assert not page.run("return document.getElementById('live-quality').checkVisibility()")


def test_the_other_case_has_its_own_image_and_no_lesion(page: Page) -> None:
    page.click("#next")
    page.wait("return document.querySelector('canvas.map').width === 90")
    case = wide_case()
    values = of_words(find(case, model="base", method="raw"))
    assert_shows(page, blended(case, values, robust(values)))
    pixels = page.run(
        "return [document.querySelector('.stage').offsetWidth, document.querySelector('.stage').offsetHeight]"
    )
    assert pixels[0] / pixels[1] == pytest.approx(90 / 40, rel=0.01)
    hidden = ("view-field", "quality-field", "outline-field")
    assert all(page.run("return document.getElementById(arguments[0]).hidden", name) for name in hidden)


def test_the_scale_can_leave_out_the_hottest_patches_or_be_logarithmic(page: Page) -> None:
    """A sink of 0.4 with a lesion of 0.01: the lesion stands out of what has 0.001."""
    single(page)
    values = of_words(find(make_case(), model="stage2", method="raw")).astype(float)
    assert float(page.run("return document.getElementById('high').dataset.limit")) == pytest.approx(
        robust(values), rel=1e-3
    )
    assert page.text("#high").startswith("≥ ") and f"largest value is {values.max():.3g}" in page.text("#scale-note")
    sink = "const v = new Float64Array(64).fill(0.001); v[5] = 0.4; v[20] = 0.01;"
    robust_index = f"{sink} return [20, 0].map((p) => colourIndex(v[p], robustLimit([v]), false))"
    log_index = f"{sink} return [20, 0].map((p) => colourIndex(v[p], largest(v), false, true))"
    plain_index = f"{sink} return [20, 0].map((p) => colourIndex(v[p], largest(v), false))"
    lesion, other = page.run(plain_index)
    assert lesion - other < 8  # of 256 colours: not distinguishable
    lesion, other = page.run(log_index)
    assert lesion - other > 60
    assert page.run(robust_index)[0] == 255
    page.select("limits", "log")
    assert page.text("#high") == f"{values.max():.3g}" and page.text("#scale-note").startswith("Logarithmic, down to")


def test_the_image_is_zoomed_moved_windowed_and_magnified(page: Page) -> None:
    from selenium.webdriver import ActionChains

    single(page)
    case = make_case()
    page.keys("v")
    for _ in range(2):
        page.keys("+")
    stage = page.driver.find_element("css selector", ".stage")
    assert "zoom 225 %" in page.text("#looking")

    def sheet() -> list[float]:
        return page.run(
            "const [s, t] = ['.sheet', '.stage'].map((c) => document.querySelector(c).getBoundingClientRect());"
            "return [s.width / t.width, (s.left - t.left) / t.width, (s.top - t.top) / t.height]"
        )

    before = sheet()
    assert before == pytest.approx([2.25, -0.625, -0.625], rel=0.01)
    ActionChains(page.driver).move_to_element(stage).click_and_hold().move_by_offset(40, 30).release().perform()
    size = stage.size
    assert sheet() == pytest.approx([2.25, -0.625 + 40 / size["width"], -0.625 + 30 / size["height"]], rel=0.05)
    assert page.run("return document.getElementById('clear').disabled")  # moving chooses no patch
    page.keys("0")
    assert sheet() == pytest.approx([1, 0, 0], abs=0.01)
    page.click("#show")
    page.keys("w")
    ActionChains(page.driver).move_to_element(stage).click_and_hold().move_by_offset(-55, 0).release().perform()
    assert "window 200, level 128" in page.text("#looking")
    expected = np.clip((case.image.astype(float) - 27.5) * 255 / 200, 0, 255)
    assert np.abs(page.canvas() - expected).max() <= 1
    page.keys("0")
    assert np.array_equal(page.canvas(), case.image)
    page.keys("m")
    ActionChains(page.driver).move_to_element(stage).move_by_offset(5, 5).perform()
    assert page.canvas(".lens").std() > 0
    page.keys("s")
    assert page.run("return document.querySelectorAll('.lens').length") == 0


def test_keys_go_from_case_to_case_and_switch_the_map(page: Page) -> None:
    single(page)
    page.keys("n")
    page.wait("return document.querySelector('canvas.map').width === 90")
    page.keys("p")
    page.wait("return document.querySelector('canvas.map').width !== 90")
    page.keys("o")
    assert np.array_equal(page.canvas(), make_case().image)
    page.run("document.getElementById('method').focus()")
    page.keys("n")  # in a list of choices a letter selects by name
    assert page.run("return document.getElementById('case').value") == "0"


def test_shares_of_image_and_text_are_in_a_table(browser: Page, tmp_path: Path) -> None:
    case = make_case()
    read = np.array([[0.1, 0.2, 0.05, 0.01]] * 4, np.float32)
    earlier = np.tril(np.full((4, 4), 0.02, np.float32), -1)
    maps = [
        item._replace(prompt=read, earlier=earlier) if item.method == "raw" and item.query == "answer" else item
        for item in case.maps
    ]
    browser.open(write_viewer(tmp_path / "viewer.html", [case._replace(maps=maps)]))
    single(browser)
    browser.click("#words-2")
    item = find(case, model="stage2", method="raw")
    expected = [float(item.values[2].sum()), 0.25, 0.1, 0.01, 0.04, 0.02, 0.02]
    assert browser.run("return JSON.parse(document.getElementById('sources').dataset.values)") == pytest.approx(
        expected, rel=1e-3
    )
    rows = browser.texts("#sources tbody th")
    assert rows[0] == "the image" and rows[5:] == ["“left”", "“upper”"]
    share = expected[0] / sum(expected[:5])
    assert f"{share:.0%}".replace("%", " %") + " of it on the image" in browser.text("#sources caption")
    browser.console()
    browser.requests()


@pytest.mark.parametrize(("width", "zoom"), [(1280, 2.0), (390, 1.0)])
def test_nothing_overflows_sideways_at_double_zoom_or_on_a_phone(page: Page, width: int, zoom: float) -> None:
    # A browser at 200 % gives the page half the width in CSS pixels, with two device pixels each.
    page.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": int(width / zoom), "height": int(1000 / zoom), "deviceScaleFactor": zoom, "mobile": False},
    )
    try:
        assert page.run("return window.devicePixelRatio") == zoom
        assert page.run("return document.documentElement.scrollWidth <= window.innerWidth")
        beyond = page.run(
            "const apart = '.wide, svg, .visually-hidden, script, style';"
            "return [...document.querySelectorAll('body *')].filter((e) => !e.closest(apart)"
            " && e.getBoundingClientRect().right > window.innerWidth + 1).map((e) => e.outerHTML.slice(0, 80))"
        )
        assert beyond == []
        page.click("#words-1")
        assert page.run("return document.getElementById('words-1').getAttribute('aria-selected')") == "true"
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_every_control_has_a_name(page: Page) -> None:
    tree = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = {"button", "combobox", "checkbox", "radio", "slider", "option", "listbox", "application", "image"}
    controls = [node for node in tree if not node["ignored"] and node["role"]["value"] in roles]
    assert len(controls) > 15
    assert [node["role"]["value"] for node in controls if not node.get("name", {}).get("value", "").strip()] == []


def test_hostile_text_stays_text(browser: Page, tmp_path: Path) -> None:
    words = [WORDS[0]._replace(text=HOSTILE), *WORDS[1:]]
    models = [MODELS[0]._replace(label=HOSTILE, prediction=HOSTILE), MODELS[1]._replace(rule=HOSTILE)]
    texts: dict[str, Any] = {"question": HOSTILE, "reference": HOSTILE, "question_id": HOSTILE, "notes": [HOSTILE]}
    case = make_case(**texts, facts=[(HOSTILE, HOSTILE)], words=words, models=models)
    path = write_viewer(tmp_path / "viewer.html", [case], title=HOSTILE)
    browser.open(path)
    assert browser.text("#qa .question") == HOSTILE and browser.text("h1") == HOSTILE
    assert (
        HOSTILE in browser.text("#facts") and HOSTILE in browser.text("#notes") and HOSTILE in browser.text("#words-0")
    )
    assert browser.run("return document.querySelectorAll('img, b, iframe').length") == 0
    assert browser.driver.title.split() == HOSTILE.replace("\u2028", " ").split() and browser.console() == []
    assert browser.requests() == [path.as_uri()]


def test_the_policy_stops_what_does_not_belong_to_the_page(browser: Page, file: Path, tmp_path: Path) -> None:
    text = file.read_text(encoding="utf-8")
    spoilt = tmp_path / "spoilt.html"
    added = "<script>document.title = 'ran'</script><img src='http://127.0.0.1:9/x.png' alt=''>"
    spoilt.write_text(text.replace("</main>", f"{added}</main>"), encoding="utf-8")
    browser.open(spoilt)
    assert browser.driver.title == "phantom_rad: attention"
    refused = browser.console()
    assert len(refused) == 2 and all("Content Security Policy" in line for line in refused)


def test_a_case_at_448_pixels_is_small_and_loads_fast(browser: Page, tmp_path: Path) -> None:
    """PaliGemma 3B at 448: 32 x 32 patches, 18 layers of 8 heads, before and after, in the noise that packs worst."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (448, 448)).astype(np.uint8)
    maps = make_maps(len(WORDS), grid=32, layers=18, heads=8)
    noisy = [item._replace(values=(rng.random(item.values.shape) / 1024).astype(np.float32)) for item in maps]
    case = make_case(image=np.repeat(image[..., None], 3, axis=-1), mask=None, maps=noisy)
    path = write_viewer(tmp_path / "viewer.html", [case])
    assert 1_000_000 < path.stat().st_size < 8_000_000
    start = time.perf_counter()
    browser.open(path)
    assert time.perf_counter() - start < 5  # a guard; the time of the page itself is below
    paint = browser.run("return performance.getEntriesByName('first-contentful-paint')[0].startTime")
    assert paint < 1000
    assert len(browser.run("return [...document.getElementById('head').options]")) == 9


@pytest.mark.parametrize(("name", "dark"), [("viewer", False), ("viewer_difference", True)])
def test_the_pictures_of_the_readme(page: Page, tmp_path: Path, name: str, dark: bool) -> None:
    """Made of the viewer of a demo's run where RADVQA_DEMO names its folder; else this only tries that they can be."""
    demo = os.environ.get("RADVQA_DEMO")
    path = (PICTURES if demo else tmp_path) / f"{name}.png"
    if demo:
        page.open(Path(demo).resolve() / "saliency" / "viewer.html")
        page.wait("return document.querySelector('canvas.map') !== null")
    features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    page.driver.set_window_size(1280, 950)
    try:
        while page.run("return document.getElementById('quality-field').hidden"):  # to a case with a lesion
            shown = page.text("#facts dd")
            page.click("#next")
            page.wait(f"return document.querySelector('#facts dd').textContent !== {shown!r}")
        if dark:
            single(page, "difference")
        page.save(path)
    finally:
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert 10_000 < path.stat().st_size < 300_000
    if demo:
        page.requests()
