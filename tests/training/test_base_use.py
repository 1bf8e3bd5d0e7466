"""An adapter's base is used as in training; a different use must be confirmed."""

from dataclasses import replace
from typing import Any

import pytest

from radvqa_jax.checkpoints.adapter_meta import BaseUse
from radvqa_jax.config import Config, DataConfig, ModelConfig
from radvqa_jax.training.base_use import FIELDS, check_use, differences, follow, make_use

TOKENIZER = "ab" * 32
CONFIG = Config(model=ModelConfig(variant="tiny"), data=DataConfig(prompt="{question}", seq_len=20))
USE = make_use(CONFIG, TOKENIZER)
OTHER: dict[str, Any] = {
    "variant": "dummy",
    "resolution": 128,
    "prompt": "answer en {question}",
    "seq_len": 64,
    "tokenizer_sha256": "cd" * 32,
    "quantize": "nf4",
    "compute_dtype": "float32",
    "param_dtype": "float32",
    "history": "references",
}
TOLD = ("compute_dtype", "param_dtype", "history")


def test_every_field_of_a_use_has_its_field_of_the_configuration() -> None:
    assert set(FIELDS) == set(BaseUse._fields) == set(OTHER)
    assert differences(USE, USE) == {}
    assert set(differences(USE, BaseUse(**OTHER))) == set(FIELDS)


def test_the_resolution_is_the_one_that_the_model_sees() -> None:
    size = USE.resolution
    assert size > 0 and CONFIG.model.resolution == 0
    assert make_use(replace(CONFIG, model=replace(CONFIG.model, resolution=size)), TOKENIZER) == USE


@pytest.mark.parametrize("field", FIELDS)
def test_another_value_is_refused_with_both_and_the_way_out(field: str) -> None:
    now, path = USE._replace(**{field: OTHER[field]}), FIELDS[field]
    if field in TOLD:
        (line,) = check_use(USE, now, adapter="runs/s2")
    else:
        with pytest.raises(ValueError, match=rf"say so twice: --config\.adapter_accept=\"\('{path}',\)\"") as caught:
            check_use(USE, now, adapter="runs/s2")
        (line,) = check_use(USE, now, adapter="runs/s2", accept=(path,))
        assert line.removesuffix(".") in str(caught.value)
    for value in (OTHER[field], getattr(USE, field)):
        assert (f"{value[:16]}…" if field == "tokenizer_sha256" else repr(value)) in line
    assert line.startswith("runs/s2: ") and path in line


@pytest.mark.parametrize("field", FIELDS)
def test_a_stage_may_change_all_but_tokenizer_and_rounding_of_the_base(field: str) -> None:
    now = USE._replace(**{field: OTHER[field]})
    if field in ("tokenizer_sha256", "quantize"):
        with pytest.raises(ValueError, match=FIELDS[field]):
            check_use(USE, now, adapter="runs/s1", training=True)
    else:
        assert len(check_use(USE, now, adapter="runs/s1", training=True)) == 1


def test_an_adapter_trained_in_conversations_says_if_it_is_asked_without() -> None:
    prompt = "{history} answer en {question}"
    talk = replace(CONFIG, data=replace(CONFIG.data, prompt=prompt, history="references"))
    then = make_use(talk, TOKENIZER)
    now = make_use(follow(CONFIG, then, given=(), adapter="runs/s2"), TOKENIZER)
    assert (now.prompt, now.history) == (prompt, "none")
    line = "runs/s2: data.history='none', and it was trained with 'references'."
    assert check_use(then, now, adapter="runs/s2") == [line]
    assert check_use(now, then, adapter="runs/s2") == [
        "runs/s2: data.history='references', and it was trained with 'none'."
    ]
    # Its own answers instead of the references are what one measures; earlier releases did not keep the field.
    assert check_use(then, then._replace(history="own"), adapter="runs/s2") == []
    assert check_use(then._replace(history=None), now, adapter="runs/s2") == []


def test_an_unknown_use_is_reported_once() -> None:
    assert check_use(USE, USE, adapter="runs/s2") == []
    (line,) = check_use(None, USE, adapter="runs/s2")
    assert "does not say how its base was used" in line


def test_fields_that_nobody_set_follow_the_adapter(capsys: pytest.CaptureFixture[str]) -> None:
    then = USE._replace(prompt="say {question}", seq_len=64, quantize="int8", compute_dtype="float32", resolution=28)
    got = follow(CONFIG, then, given={"data.seq_len", "model.compute_dtype"}, adapter="runs/s2")
    assert (got.data.prompt, got.model.quantize, got.model.resolution) == ("say {question}", "int8", 28)
    assert (got.data.seq_len, got.model.compute_dtype) == (20, "bfloat16")
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 3 and "data.prompt='say {question}', as runs/s2 was trained with" in said
    with pytest.raises(ValueError, match=r"data.seq_len=20, and it was trained with 64\. Give"):
        check_use(then, make_use(got, TOKENIZER), adapter="runs/s2")


def test_a_configuration_that_agrees_stays_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert follow(CONFIG, USE, given=(), adapter="runs/s2") is CONFIG
    assert follow(CONFIG, None, given=(), adapter="runs/s2") is CONFIG
    assert capsys.readouterr().out == ""
