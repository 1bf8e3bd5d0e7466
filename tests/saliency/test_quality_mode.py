"""mode=saliency_quality on a micro model and phantoms: rows, an honest verdict, a page that loads nothing, resuming."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radvqa_jax.data.sources import load_rows
from radvqa_jax.files import read_json, read_jsonl, write_jsonl
from radvqa_jax.runners import RUNNERS
from radvqa_jax.runners.saliency_quality import _start
from radvqa_jax.saliency import methods
from radvqa_jax.saliency.quality_cases import BLIND
from radvqa_jax.saliency.quality_choice import choose
from radvqa_jax.saliency.quality_report import write_quality_report
from radvqa_jax.saliency.quality_scores import halves, headline, quality_scores, verdicts

FIELDS = {
    "mode": "saliency_quality",
    "quality.cases": 5,
    "quality.batch_size": 3,
    "quality.curve_cases": 2,
    "quality.steps": 2,
    "quality.random_orders": 1,
    "quality.shuffled_image_steps": 1,
    "quality.question_types": ("abnormality", "finding", "side", "size"),
    "quality.bootstrap": 50,
    "eval.source.limit": 0,
}
METHODS = tuple(name for name, method in methods.METHODS.items() if not method.against)


@pytest.fixture(scope="module")
def measured(
    micro_config: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Callable[..., Any], Path]:
    workdir = tmp_path_factory.mktemp("quality")
    RUNNERS["saliency_quality"](micro_config(FIELDS), workdir)
    return micro_config, workdir


@pytest.mark.slow
def test_every_case_has_a_row_and_the_report_counts_them(measured: tuple[Any, Path]) -> None:
    rows = read_jsonl(measured[1] / "quality_cases.jsonl")
    assert len(rows) == 5 and len({row["question_id"] for row in rows}) == 5
    assert [bool(row["curves"]) for row in rows] == [True] * 3 + [False] * 2  # whole batches
    names = {*METHODS, *(f"{name}_vision" for name in METHODS), *BLIND}
    for row in rows:
        assert set(row["quality"]) == names
        assert np.array(row["heads"]["raw"]["roc_auc"]).shape == (2, 2)
        assert set(row["heads"]) == {"raw", "value_norm"}  # these maps have no sign
        for name in ("occlusion", "knockout"):  # too many passes to be repeated for each other model
            assert name in row["quality"] and all(name not in maps for maps in row["compared"].values())
        assert row["grid"] == 2 and set(row["sinks"]["hot"]) == set(METHODS)
        assert set(row["marked"]) == ({"occlusion", "knockout"} if row["curves"] else set())
        others = {
            "language model shuffled",
            "vision tower shuffled",
            "both towers shuffled",
            "trained on shuffled images",
        }
        assert set(row["compared"]) == others
        tower = row["compared"]["language model shuffled"]
        assert tower["raw"]["similarity"] < 0.999  # that tower was shuffled
    scores = read_json(measured[1] / "saliency_quality.json")
    assert (scores["n"], scores["decides"]) == (5, "roc_auc")
    mean = np.mean([row["quality"]["raw"]["roc_auc"] for row in rows])
    assert scores["localisation"]["raw"]["roc_auc"]["value"] == pytest.approx(mean)
    over = np.mean([row["quality"]["raw"]["mass"] - row["quality"]["raw"]["area"] for row in rows])
    assert scores["localisation"]["raw"]["over_chance"]["mass"]["value"] == pytest.approx(over)
    assert scores["faithfulness"]["raw"]["deletion"]["area"]["n"] == 3
    assert scores["marked"]["knockout"]["marked"]["n"] == 3
    lost = [row["marked"]["occlusion"]["chosen"] for row in rows if row["curves"]]
    assert scores["marked"]["occlusion"]["marked"]["value"] == pytest.approx(np.mean(lost))
    assert scores["provenance"]["synthetic"] is True


@pytest.mark.slow
def test_the_page_says_first_what_failed_and_loads_nothing(measured: tuple[Any, Path]) -> None:
    page = (measured[1] / "saliency_quality.html").read_text(encoding="utf-8")
    first = read_json(measured[1] / "saliency_quality.json")["headline"][0]
    body = page.split("<body>")[1]
    assert body.index(first.split(":")[0]) < body.index("<h2>")
    assert "default-src 'none'" in page and "<script" not in page
    assert set(re.findall(r'(?:src|href)="(.{5})', page)) == {"data:"}
    assert body.count("<img") == 4


@pytest.mark.slow
def test_an_interrupted_run_continues_and_gives_the_same(measured: tuple[Any, Path], tmp_path: Path) -> None:
    make, workdir = measured
    cases = workdir / "quality_cases.jsonl"
    whole, report = cases.read_bytes(), (workdir / "saliency_quality.json").read_bytes()
    lines = whole.splitlines(keepends=True)
    cases.write_bytes(b"".join(lines[:4]) + lines[4][:20])  # one batch is whole
    RUNNERS["saliency_quality"](make(FIELDS), workdir)
    assert cases.read_bytes() == whole
    assert (workdir / "saliency_quality.json").read_bytes() == report
    with pytest.raises(ValueError, match=r"made with other settings; these differ: quality/steps"):
        RUNNERS["saliency_quality"](make(FIELDS | {"quality.steps": 3}), workdir)


def test_lines_that_were_moved_removed_or_doubled_are_refused(tmp_path: Path) -> None:
    path, fingerprint = tmp_path / "quality_cases.jsonl", {"questions": ["a", "b", "c"]}
    assert _start(path, fingerprint, 2) == 0  # also writes the description
    for ids, line in (("ac", 2), ("ba", 1), ("aab", 2), ("abcc", 4)):
        write_jsonl(path, [{"question_id": name} for name in ids])
        with pytest.raises(ValueError, match=rf"quality_cases\.jsonl, line {line}: it is of question"):
            _start(path, fingerprint, 2)
    for ids, whole in (("a", 0), ("ab", 2), ("abc", 3)):
        write_jsonl(path, [{"question_id": name} for name in ids])
        assert _start(path, fingerprint, 2) == whole


def test_rows_are_taken_an_image_in_turn_and_the_rest_is_counted(micro_config: Callable[..., Any]) -> None:
    config = micro_config(FIELDS | {"quality.cases": 4})
    rows = load_rows(config.eval.source, config.data)
    kept, targets, skipped = choose(rows, config.quality, seed=config.seed, grid=2)
    assert len(kept) == len(targets) == 4
    marked = {
        row["image_id"] for row in rows if row["finding"] and row["question_type"] in config.quality.question_types
    }
    assert len({row["image_id"] for row in kept}) == min(4, len(marked))
    assert all(row["question_type"] in config.quality.question_types for row in kept)
    assert sum(skipped.values()) + 4 == len(rows)
    with pytest.raises(ValueError, match=r"has no row to measure maps with: .*It needs a `mask` or `boxes`"):
        choose(rows, replace(config.quality, question_types=("colour",)), seed=config.seed, grid=2)


def fake_rows(better: float, *, images: int = 40) -> list[dict[str, Any]]:
    """Rows in which the map `good` is above 0.5 by `better`, `blind` maps by 0.1, and head (1, 0) is best."""
    rng = np.random.default_rng(0)

    def figures(value: float) -> dict[str, float]:
        roc = float(np.clip(value + rng.normal(0, 0.02), 0, 1))
        return {"roc_auc": roc, "pr_auc": 0.2, "mass": 0.2, "area": 0.1, "hit": 1.0, "hit_chance": 0.1}

    rows = []
    for index in range(images):
        heads = (0.5 + rng.normal(0, 0.1, (2, 2))).clip(0, 1)
        heads[1, 0] = 0.8
        rows.append(
            {
                "question_id": str(index),
                "image_id": f"<b>{index}</b>",
                "quality": {"good": figures(0.5 + better)} | {name: figures(0.6) for name in BLIND},
                "entropy": {"good": 0.5},
                "top_patch": {"good": 0.5},
                "like_another_image": {},
                "stability": {},
                "curves": {},
                "compared": {},
                "marked": {"occlusion": {"patches": 2, "chosen": 0.5 + index / 100, "elsewhere": index / 100}},
                "grid": 3,
                "sinks": {"patches": [5] if index % 4 else [], "mass": 0.25, "hot": {"good": [5, 1]}},
                "on_image": [[0.5, 0.5], [0.5, 0.5]],
                "on_bos": [[0.1, 0.1], [0.1, 0.1]],
                "heads": {"raw": {figure: heads.tolist() for figure in ("roc_auc", "mass", "hit")}},
            }
        )
    return rows


@pytest.mark.parametrize(
    ("better", "where", "says"),
    [
        (0.0, "not_above_chance", "No better than chance"),
        (0.05, "above_chance_but_not_above_blind", "Better than chance, but not better than every map that is blind"),
        (0.3, "above_blind", "Better than chance and than every map that is blind"),
    ],
)
def test_the_verdict_is_what_the_intervals_say(better: float, where: str, says: str) -> None:
    scores = quality_scores(fake_rows(better), resamples=100, seed=0, provenance={})
    assert scores["verdict"][where] == ["good"] and scores["headline"][0].startswith(says)
    both = headline({"not_above_chance": ["a"], "above_chance_but_not_above_blind": [], "above_blind": ["b"]})
    assert both[0].startswith("No better than chance") and len(both) == 2
    assert verdicts({}) == {"not_above_chance": [], "above_chance_but_not_above_blind": [], "above_blind": []}


def test_heads_are_chosen_on_one_half_of_the_images_and_reported_on_the_other() -> None:
    rows = fake_rows(0.1)
    first, second = halves(rows, seed=0)
    assert not {row["image_id"] for row in first} & {row["image_id"] for row in second}
    assert len(first) == len(second) == 20
    for row in second:  # the other half must not decide
        row["heads"]["raw"]["roc_auc"][0][1] = 1.0
    best = quality_scores(rows, resamples=100, seed=0, provenance={})["heads"]["raw"]["best"][0]
    assert (best["layer"], best["head"]) == (1, 0)
    assert best["on_the_other_half"]["n"] == 20 and best["on_the_other_half"]["value"] == pytest.approx(0.8)


def test_sinks_are_listed_with_the_share_of_cases_and_marked_patches_with_their_difference(tmp_path: Path) -> None:
    scores = quality_scores(fake_rows(0.1), resamples=100, seed=0, provenance={})
    (sink,) = scores["sinks"]["patches"]
    assert (sink["row"], sink["column"], sink["cases"]["value"]) == (2, 3, 0.75)  # patch 5 of 3 x 3, counted from 1
    assert sink["hot_in"] == {"good": 1.0} and scores["sinks"]["cases_with"]["value"] == 0.75
    over = scores["marked"]["occlusion"]["over_elsewhere"]
    assert over["value"] == pytest.approx(0.5) and over["n"] == 40
    page = write_quality_report(tmp_path, scores).read_text(encoding="utf-8")
    assert "row 2, column 3" in page and "good 1.00" in page and "+0.500" in page


def test_texts_of_the_data_are_escaped(tmp_path: Path) -> None:
    provenance = {"left out": {"<script>alert(1)</script>": 1}}
    path = write_quality_report(tmp_path, quality_scores(fake_rows(0.1), resamples=50, seed=0, provenance=provenance))
    page = path.read_text(encoding="utf-8")
    assert "<script" not in page and "&lt;script&gt;alert(1)" in page


def test_a_report_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="No case was measured"):
        quality_scores([], resamples=10, seed=0, provenance={})
