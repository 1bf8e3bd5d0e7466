"""The mode that fits scaling laws: from a table to its files, and the errors that end it."""

import json
from pathlib import Path

import pytest

from radvqa_jax.config import default_config
from radvqa_jax.config.check import from_config_dict
from radvqa_jax.runners import RUNNERS


def fit(workdir: Path, **fields: object) -> None:
    config = default_config()
    config.mode, config.scaling.resamples, config.scaling.laws = "fit_scaling", 0, ("multiplicative",)
    for name, value in fields.items():
        setattr(config.scaling, name, value)
    RUNNERS["fit_scaling"](from_config_dict(config), workdir)


def write_table(path: Path, sizes: tuple[float, ...]) -> str:
    lines = ["size,tokens,loss,kind"]
    for kind, floor in (("", 0.6), ("closed", 0.3)):
        for x in sizes:
            lines += [f"{x},{d},{floor + 40 / (x**0.12 * d**0.2)},{kind}" for d in (1e4, 1e5, 1e6, 1e7)]
    path.write_text("\n".join(lines))
    return str(path)


COLUMNS = (("parameters", "size"),)


def test_a_table_gives_a_fit_for_each_kind_of_question(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(tmp_path, table=write_table(tmp_path / "runs.csv", (1e4, 1e5, 1e6)), columns=COLUMNS)
    fits = json.loads((tmp_path / "scaling.json").read_text())["fits"]
    assert [item["name"] for item in fits] == ["multiplicative, all questions", "multiplicative, closed"]
    assert [item["fit"]["parameters"]["E"] for item in fits] == pytest.approx([0.6, 0.3], rel=1e-3)
    assert (tmp_path / "scaling.html").is_file() and "alpha 0.12" in capsys.readouterr().out


def test_a_table_that_determines_no_law_is_an_error_and_the_page_says_why(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"No law could be fitted: .*alpha .* needs at least 3 sizes"):
        fit(tmp_path, table=write_table(tmp_path / "runs.csv", (1e4, 1e5)), columns=COLUMNS)
    assert "needs at least 3 sizes" in (tmp_path / "scaling.txt").read_text()


def test_absent_runs_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"scaling\.runs: .*none/\* matches no folder"):
        fit(tmp_path, runs=(str(tmp_path / "none" / "*"),))
    with pytest.raises(ValueError, match=r"mode=fit_scaling needs losses"):
        fit(tmp_path)


@pytest.mark.parametrize("loss", [1e300, 1e-300, 0.0, -1.0])
def test_a_loss_of_a_run_that_no_training_writes_is_named(tmp_path: Path, loss: float) -> None:
    counts = dict.fromkeys(
        ("trained_parameters", "rows_per_step", "image_tokens", "rows_per_epoch", "text_tokens_per_epoch"), 8
    )
    (tmp_path / "budget.json").write_text(json.dumps(counts | {"text_tokens": {"1": 9}, "validation": "set"}))
    (tmp_path / "losses.jsonl").write_text(json.dumps({"step": 1, "eval/loss_per_token": loss}) + "\n")
    with pytest.raises(ValueError, match=r"step 1: `eval/loss_per_token` must be above 0 and a number that float32"):
        fit(tmp_path / "out", runs=(str(tmp_path),))
