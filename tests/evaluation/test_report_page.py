"""The report's page: the required facts, every text escaped, and nothing that loads or runs."""

import base64
import hashlib
import html.parser
import re
from pathlib import Path
from typing import Any

import pytest

from radvqa_jax.config import ReportConfig
from radvqa_jax.evaluation.judge_file import content_hash
from radvqa_jax.evaluation.report import Experiment, ShownMap, build_scores, format_table
from radvqa_jax.evaluation.report_page import explain_code, write_report
from radvqa_jax.evaluation.report_summary import Sentence, sentences
from radvqa_jax.evaluation.review import Reading

from .report_case import experiment, png, records

EVIL = '<script>alert(1)</script><img src="http://evil.example/x" onerror=alert(1)>"\'{{ 7*7 }}'


class Page(html.parser.HTMLParser):
    """The tags, attributes and text of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def write(folder: Path, made: Experiment, **config: Any) -> tuple[Page, str]:
    settings = ReportConfig(**({"images": True, "cases": 40} | config))
    path = write_report(folder, made, scores=build_scores(made, resamples=200), config=settings)
    text = path.read_text(encoding="utf-8")
    return Page(text), text


def test_the_page_says_how_far_runs_rely_on_the_image(tmp_path: Path) -> None:
    page, text = write(tmp_path, experiment())
    assert 'id="reliance"' in text and "Reliance on the image" in page.text
    assert "after stage 2" in page.text.split("Reliance on the image")[1] and "0.500 [" in text
    page, text = write(tmp_path, experiment(unseen={}))
    assert 'id="reliance"' not in text


def test_a_column_without_questions_is_a_dash_not_zero(tmp_path: Path) -> None:
    closed = {"base": [r for r in records(0.5, run="base") if r.answer_type == "closed"]}
    made = experiment(runs=closed, question_only=(), majority=(), unseen={})
    scores = build_scores(made, resamples=200)
    assert "open" not in scores["runs"]["base"]["by"]["answer_type"]
    (line,) = [line for line in format_table(scores).splitlines() if line.startswith("before")]
    assert re.search(r"n=40 +- +\d+$", line)
    page, _ = write(tmp_path, made)
    assert "no questions" in page.text


def test_the_page_shows_the_required_facts(tmp_path: Path) -> None:
    page, text = write(tmp_path, experiment())
    for words in [
        "Phantom radiographs",
        "Synthetic data",
        "not for clinical use",
        "after stage 2",
        "question only (no image)",
        "with another case's image",
        "this is not an explanation",
        "position",
        "0f3a",
        "40 of 80 questions",
    ]:
        assert words in page.text, words
    assert text.count("n=80") >= 5
    real, _ = write(tmp_path / "real", experiment(provenance={}))
    assert "Synthetic" not in real.text


def said(made: Experiment) -> list[Sentence]:
    return sentences(build_scores(made, resamples=200), label="after stage 2")


def test_the_first_lines_say_what_was_found_and_what_was_not(tmp_path: Path) -> None:
    level, training, image, leak = said(experiment(leaks=[]))
    assert level.text.startswith("After stage 2: 90.0 % correct, over 80 questions on 20 images (95 % interval ")
    assert training.kind == "found" and "Training helped: accuracy rose by 60.0 points (95 % interval" in training.text
    assert image.kind == "found" and "with another case's image accuracy falls by 45.0 points" in image.text
    assert "is correct for 50.0 %; the model is 40.0 points (95 %" in image.text and image.text.endswith("above that.")
    assert leak.kind == "found"
    same = {name: records(0.5, run=name) for name in ("base", "stage1", "stage2")}
    _, training, image, leak = said(experiment(runs=same, unseen={"blank": {"stage2": same["base"]}}))
    assert (training.kind, image.kind, leak.kind) == ("not_shown",) * 3
    assert "not shown that the image is used: with a blank image" in image.text and "not checked" in leak.text
    worse = {"base": records(0.9, run="base"), "stage2": records(0.3, run="stage2")}
    assert said(experiment(runs=worse, unseen={}))[1].text.startswith("Training harmed: accuracy fell by 60.0 points (")
    apart = experiment(runs=worse, unseen={}, one_training=False)  # `base` may be any system
    assert not any("Training" in line.text for line in said(apart))
    assert "over" in build_scores(apart, resamples=50)["runs"]["stage2"]  # … the question alone
    assert "over before" not in format_table(build_scores(apart, resamples=50))
    made = experiment(leaks=["9 of 80 questions of test ask about an image that train shows, too."])
    assert said(made)[-1].kind == "alarm" and "LEAK: 9 of 80" in format_table(build_scores(made, resamples=50))
    _, text = write(tmp_path, made)
    assert 'class="leak">Leak between' in text and text.index("9 of 80 questions") < text.index("<main>")
    body = text[text.index("<header>") :]
    assert 0 < body.index(">after stage 2<") < body.index(">before<")  # the last model first


def test_codes_of_vqa_rad_are_explained_and_other_values_are_not() -> None:
    rad = [r._replace(source="VQA-RAD (osf.io/89kps)") for r in records(0.5, run="base")]
    assert explain_code("POS, PRES", rad) == "position, presence of an object or condition"
    assert explain_code("MODALITY", rad) == "" and explain_code("POS", records(0.5, run="base")) == ""


def test_page_loads_and_runs_nothing(tmp_path: Path) -> None:
    page, text = write(tmp_path, experiment())
    (policy,) = [a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None and policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert not re.search(r"https?:|//\w|@import|url\(|javascript:", re.sub(r"base64,[A-Za-z0-9+/=]+", "", text))
    assert not {tag for tag, _ in page.tags} & {"link", "iframe", "object", "embed", "form", "base"}
    # One script, which the policy names by its hash: no other one runs.
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and page.all("script") == [{}]
    assert not re.search(r"innerHTML|eval|fetch|XMLHttp|document.write", script)
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    images = page.all("img")
    assert len(images) == 4 and all((a["src"] or "").startswith("data:image/") and a["alt"] for a in images)
    svg = base64.b64decode((images[3]["src"] or "").split(",")[1])
    assert b"<svg" in svg and b"<script" not in svg and b"prefers-color-scheme: dark" in svg
    assert [base64.b64decode((image["src"] or "").split(",")[1]) for image in images[:2]] == [png()] * 2


@pytest.mark.parametrize(
    "where", ["prediction", "question", "reference", "organ", "title", "caption", "provenance", "run"]
)
def test_every_text_is_escaped(where: str, tmp_path: Path) -> None:
    fields: dict[str, Any] = {}
    runs = {"base": records(0.5, run="base")}
    if where in ("prediction", "question", "reference", "organ"):
        change = {"predictions": [EVIL]} if where == "prediction" else {where: EVIL}
        runs["base"] = [r._replace(**change) for r in runs["base"]]
    if where == "title":
        fields["title"] = EVIL
    if where == "caption":
        fields["maps"] = [ShownMap(EVIL, EVIL, EVIL, "correct", png(), png(), EVIL)]
    if where == "provenance":
        fields["provenance"] = {EVIL: {"deep": EVIL}}
    if where == "run":
        runs[EVIL] = runs["base"]
    fields |= {"question_only": (), "majority": (), "unseen": {}}
    images = 4  # one case with its map, accuracy by organ, the loss curves
    page, text = write(tmp_path, experiment(runs=runs, **fields))
    assert EVIL in page.text  # shown as it is, and not run
    assert text.count("<script") == 1 and len(page.all("img")) == images
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


def test_page_is_readable_without_seeing(tmp_path: Path) -> None:
    page, text = write(tmp_path, experiment())
    assert page.all("html")[0]["lang"] == "en"
    tables = text.split("<table")[1:]
    assert len(tables) > 4 and all("<caption>" in table for table in tables)
    assert all(cell.get("scope") in ("col", "row") for cell in page.all("th"))
    targets = {attributes.get("id") for _, attributes in page.tags}
    links = [link["href"] or "" for link in page.all("a")]
    assert all(link.removeprefix("#") in targets for link in links if link.startswith("#"))
    assert all((tmp_path / link).exists() for link in links if not link.startswith("#")) and "scores.json" in links


def test_the_same_experiment_gives_the_same_page(tmp_path: Path) -> None:
    _, one = write(tmp_path / "one", experiment())
    _, two = write(tmp_path / "two", experiment())
    assert one == two


def test_a_report_without_extras(tmp_path: Path) -> None:
    made = Experiment(title="Bare", runs={"mine": records(0.5, run="mine")})
    page, _ = write(tmp_path, made)
    assert "mine" in page.text and len(page.all("img")) == 1  # accuracy by organ
    assert {"runs", "baselines", "losses"} <= set(build_scores(made, resamples=50))


def test_images_are_shown_only_where_allowed(tmp_path: Path) -> None:
    made = experiment(image=lambda record: png())
    page, _ = write(tmp_path / "no", made, images=False, cases=5)
    assert "Images are not shown (report.images)" in page.text and "this page shows no image" in page.text
    assert not [image for image in page.all("img") if "png;base64" in (image["src"] or "")]
    assert not [image for image in page.all("img") if "jpeg;base64" in (image["src"] or "")]
    page, _ = write(tmp_path / "yes", made, images=True, cases=5)
    shown = [image for image in page.all("img") if "jpeg;base64" in (image["src"] or "")]
    assert len(shown) == 5 and "Images are not shown" not in page.text


def test_cases_carry_what_the_filters_ask_for(tmp_path: Path) -> None:
    page, _ = write(tmp_path, experiment(), cases=80)
    cases = [a for a in page.all("details") if a.get("class") == "case"]
    assert len(cases) == 80 and {case["data-rule"] for case in cases} == {"correct", "incorrect", "unparsed"}
    assert {case["data-organ"] for case in cases} == {"lung", "brain"}
    names = {select["name"] for select in page.all("select")}
    assert names == {"rule", "blind", "type", "organ"}  # judge and modality would not tell cases apart
    assert all("question" in (case["data-text"] or "") for case in cases)


def test_papers_figures_are_next_to_ours_and_marked(tmp_path: Path) -> None:
    runs = {"base": [r._replace(source="VQA-RAD (osf.io/89kps)") for r in records(0.5, run="base")]}
    made = experiment(runs=runs, question_only=(), majority=(), unseen={})
    scores = build_scores(made, resamples=50)
    assert {figure["paper"] for figure in scores["papers"]} == {"Med-Idefics", "LLaMA32-Med"}
    assert "Med-Idefics, two stages, containment of the reference, overall: 0.557" in format_table(scores)
    page, _ = write(tmp_path, made)
    assert "LLaMA32-Med, fine-tuned (their figure)" in page.text and "not a measurement of ours" in page.text


def test_readings_are_in_the_table_and_on_the_page(tmp_path: Path) -> None:
    runs = {"base": records(0.5, run="base")}
    readings = [
        Reading(reader, "base", r.source, r.question_id, content_hash(r, r.predictions[0]), (i + shift) % 2 == 0, "")
        for reader, shift in (("Ada", 0), ("Bo", 0), ("Cy", 1))
        for i, r in enumerate(runs["base"][:20])
    ]
    made = experiment(runs=runs, question_only=(), majority=(), unseen={}, readings=readings)
    table = format_table(build_scores(made, resamples=50))
    page, _ = write(tmp_path, made)
    for text in (table, page.text):
        assert "before, read by Ada: 0.500 [" in text
        assert "before, Ada and Bo: kappa 1.000 [" in text and "before, Ada and Cy: kappa -1.000 [" in text
