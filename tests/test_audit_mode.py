"""A leak stops a run before its first step, unless it is accepted by name; and mode=audit, which only reports."""

import ast
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from radvqa_jax.config import AuditConfig, Config, SourceConfig, default_config, source, stage
from radvqa_jax.config.check import from_config_dict
from radvqa_jax.data.rows import RowSource
from radvqa_jax.files import read_json
from radvqa_jax.runners import RUNNERS
from radvqa_jax.runners.audit import unaccepted

MakeConfig = Callable[..., Config]
LEAKING = {"eval.source.split": "train"}  # what the micro job trains on


class Reached(Exception):
    """Raised where the model would be loaded."""


@pytest.fixture(autouse=True)
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> NoReturn:
        raise Reached

    for mode in ("train", "job"):
        monkeypatch.setattr(sys.modules[f"radvqa_jax.runners.{mode}"], "load_base", stop)


@pytest.mark.parametrize("mode", ["train", "job"])
def test_a_leak_stops_a_run_before_the_model_is_loaded(mode: str, micro_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"phantom_rad/tiny:train is evaluated and shares \d+ images, .*with phantom_rad/tiny:train, which is "
        r"trained on\. Train or evaluate on other data, .*or accept it by name",
    ) as caught:
        RUNNERS[mode](micro_config({"mode": mode} | LEAKING), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audit.html", "audit.json"]
    assert read_json(tmp_path / "audit.json")["clean"] is False
    # The setting that the message names lets the run continue.
    given = re.search(r'--config\.audit\.accept="(.*?)"', str(caught.value))
    assert given is not None
    accept = ast.literal_eval(given.group(1))
    assert accept == ("phantom_rad/tiny:train~phantom_rad/tiny:train",)
    with pytest.raises(Reached):
        RUNNERS[mode](micro_config({"mode": mode, "audit.accept": accept} | LEAKING), tmp_path)


@pytest.mark.parametrize("mode", ["train", "job"])
def test_without_a_leak_a_run_goes_on(mode: str, micro_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(Reached):
        RUNNERS[mode](micro_config({"mode": mode}), tmp_path)
    assert read_json(tmp_path / "audit.json")["clean"] is True


def test_an_accepted_leak_must_be_the_one_that_exists(
    micro_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = "phantom_rad:train~phantom_rad:test"
    with pytest.raises(ValueError, match="is evaluated and shares"):
        RUNNERS["train"](micro_config({"mode": "train", "audit.accept": (other,)} | LEAKING), tmp_path)
    assert f"audit.accept names '{other}', but there is no such leak." in capsys.readouterr().out
    named = "phantom_rad/tiny:train~phantom_rad/tiny:train"  # with the builder config, as reports name it
    with pytest.raises(Reached):
        RUNNERS["train"](micro_config({"mode": "train", "audit.accept": (named,)} | LEAKING), tmp_path)


def test_a_further_evaluated_set_is_compared_too(micro_config: MakeConfig, tmp_path: Path) -> None:
    beside = source(dataset="phantom_rad", builder_config="tiny", split="train")
    with pytest.raises(ValueError, match=r"phantom_rad/tiny:train is evaluated and shares"):
        RUNNERS["train"](micro_config({"mode": "train", "audit.also_evaluate": (beside,)}), tmp_path)


def test_without_an_evaluated_set_it_says_that_nothing_is_compared(
    micro_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Reached):
        RUNNERS["train"](micro_config({"mode": "train", "eval.source.dataset": ""}), tmp_path)
    assert "No audit: eval.source.dataset is empty" in capsys.readouterr().out


def test_the_mode_writes_its_page_and_says_what_a_run_would(
    micro_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    RUNNERS["audit"](micro_config({"mode": "audit"}), tmp_path / "clean")
    assert "No leak found." in capsys.readouterr().out
    report = read_json(tmp_path / "clean" / "audit.json")
    assert report["clean"] and set(report["blind"]["phantom_rad/tiny:test"]) == {"question_only", "majority"}
    with pytest.raises(ValueError, match=r"Training would not start\. phantom_rad/tiny:train is evaluated"):
        RUNNERS["audit"](micro_config({"mode": "audit"} | LEAKING), tmp_path / "leak")
    page = (tmp_path / "leak" / "audit.html").read_text()
    assert "All 142 questions of phantom_rad/tiny:train are trained on." in page


@pytest.mark.parametrize(
    ("audit", "message"),
    [
        (AuditConfig(accept=("vqa_rad",)), r"audit\.accept has 'vqa_rad'\. Name a leak by its two sets: 'vqa_rad:"),
        (AuditConfig(accept=("a:b~c:d~e:f",)), r"audit\.accept has 'a:b~c:d~e:f'"),
        (AuditConfig(accept=("a~b:test",)), r"audit\.accept has 'a~b:test'"),
        (AuditConfig(near_bits=-1), r"audit\.near_bits=-1 must be at least 0"),
        (AuditConfig(near_bits=65), r"audit\.near_bits=65 must be at most 64"),
        (AuditConfig(also_evaluate=(SourceConfig("slake", weight=0),)), r"audit\.also_evaluate\[0\]\.weight=0"),
    ],
)
def test_wrong_fields_are_refused(audit: AuditConfig, message: str) -> None:
    config = default_config()
    config.mode, config.eval.source.dataset = "audit", "vqa_rad"
    config.stages.stage1 = stage(sources=(source(dataset="vqa_rad"),))
    from_config_dict(config)
    config.audit.accept, config.audit.near_bits = audit.accept, audit.near_bits
    config.audit.also_evaluate = tuple(source(**vars(one)) for one in audit.also_evaluate)
    with pytest.raises(ValueError, match=message):
        from_config_dict(config)


def _set(builder_config: str, split: str) -> RowSource:
    source_config = SourceConfig(dataset="slake", builder_config=builder_config, split=split)
    return RowSource([], indices=[], source=source_config, fingerprint={"builder_config": builder_config or "en"})


@pytest.mark.parametrize(
    ("accept", "train", "test", "goes_on"),
    [
        ("slake/zh:train~slake/en:test", "zh", "en", True),
        ("slake/en:test~slake/zh:train", "zh", "en", True),
        ("slake/zh:train~slake/en:test", "en", "en", False),
        ("slake/zh:train~slake/en:test", "", "", False),
        ("slake:train~slake:test", "zh", "en", False),
        ("slake:train~slake:test", "zh", "zh", False),
        ("slake:train~slake:test", "", "", True),  # the default builder config, by either name
        ("slake:train~slake:test", "en", "en", True),
        ("slake/en:train~slake/en:test", "", "en", True),
    ],
)
def test_a_leak_between_builder_configs_is_accepted_by_their_names(
    accept: str, train: str, test: str, goes_on: bool
) -> None:
    sets = {"first": _set(train, "train"), "second": _set(test, "test")}
    pair = {"first": "first", "second": "second", "leak": ["images"], "images": 70}
    config = Config(audit=AuditConfig(accept=(accept,)))
    assert (unaccepted(config, {"shared": [pair]}, sets) == []) is goes_on
