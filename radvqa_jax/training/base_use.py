"""The use of a base with an adapter: as in the adapter's training, unless another use is given and accepted.

An adapter answers as it was measured only if its base gets the same prompt, text length, image size and rounding as in
training. Fields of the configuration that are not set follow the adapter (`follow`). A field that is set to another
value is an error, unless `config.adapter_accept` also names it. A difference in rounding, or in whether prompts hold
the earlier questions about an image, is reported.
"""

from collections.abc import Collection
from dataclasses import replace
from operator import attrgetter
from typing import Any

from radvqa_jax.checkpoints.adapter_meta import BaseUse
from radvqa_jax.config import Config, StageConfig
from radvqa_jax.models.variants import get_variant
from radvqa_jax.trees import nearest

# Field of BaseUse -> field of the configuration.
FIELDS = {
    "variant": "model.variant",
    "resolution": "model.resolution",
    "prompt": "data.prompt",
    "seq_len": "data.seq_len",
    "tokenizer_sha256": "model.tokenizer",
    "quantize": "model.quantize",
    "compute_dtype": "model.compute_dtype",
    "param_dtype": "model.param_dtype",
    "history": "data.history",
}
# A machine may lack it, and the numbers differ only by rounding: reported, never refused.
ROUNDING = ("compute_dtype", "param_dtype")
# The adapter cannot bring the tokenizer, which is a file. It does not decide on the history: some modes ask each
# question on its own, and whose answers a history holds is part of what is measured. Such a difference is reported.
NOT_FOLLOWED = ("tokenizer_sha256", "history")
# A stage that continues from an adapter may use another prompt, length or size of images; that is an experiment.
REFUSED_IN_TRAINING = ("tokenizer_sha256", "quantize")


def make_use(config: Config, tokenizer_sha256: str) -> BaseUse:
    """The use of the base in a configuration."""
    model, data = config.model, config.data
    return BaseUse(
        variant=model.variant,
        resolution=get_variant(model.variant).at(model.resolution).resolution,
        prompt=data.prompt,
        seq_len=data.seq_len,
        tokenizer_sha256=tokenizer_sha256,
        quantize=model.quantize,
        compute_dtype=model.compute_dtype,
        param_dtype=model.param_dtype,
        history=data.history,
    )


def caption_prompt_of(stage: StageConfig, before: str | None) -> str | None:
    """The prompt of a stage's captions, of its first source of captions if there are several; without captions, that
    of the stages before."""
    return next((source.prompt for source in stage.sources if source.task == "caption"), before)


def check_accept(accept: Collection[str]) -> None:
    """Raises ValueError if `config.adapter_accept` names a field that no adapter keeps."""
    for path in accept:
        if path not in FIELDS.values():
            known = list(FIELDS.values())
            raise ValueError(
                f"adapter_accept names {path!r}.{nearest(path, known)} An adapter keeps {', '.join(known)}."
            )


def differences(then: BaseUse, now: BaseUse) -> dict[str, tuple[Any, Any]]:
    """{field: (value in training, value now)} of those that differ."""
    pairs = {field: (getattr(then, field), getattr(now, field)) for field in FIELDS}
    # `references` and `own` train alike, with the references; an unknown value shows no difference.
    if None in pairs["history"] or "none" not in pairs["history"]:
        del pairs["history"]
    return {field: pair for field, pair in pairs.items() if pair[0] != pair[1]}


def follow(config: Config, then: BaseUse | None, *, given: Collection[str], adapter: str) -> Config:
    """The configuration with the adapter's value in every field of FIELDS that was not given.

    Args:
        config: of a run that answers with the adapter.
        then: the use of the base in the adapter's training; None = not known, which changes nothing.
        given: the fields of the configuration that were set, such as `data.prompt`.
        adapter: its path, for the printed lines.
    """
    if then is None:
        return config
    taken = [field for field, path in FIELDS.items() if path not in given and field not in NOT_FOLLOWED]
    for field in taken:
        group, _, name = FIELDS[field].partition(".")
        value, before = getattr(then, field), attrgetter(FIELDS[field])(config)
        if field == "resolution" and before == 0 and get_variant(config.model.variant).resolution == value:
            continue
        if before != value:
            print(f"{FIELDS[field]}={value!r}, as {adapter} was trained with", flush=True)
            config = replace(config, **{group: replace(getattr(config, group), **{name: value})})
    return config


def check_use(
    then: BaseUse | None, now: BaseUse, *, adapter: str, accept: Collection[str] = (), training: bool = False
) -> list[str]:
    """Sentences on permitted differences from the adapter's training; refuses all others.

    Args:
        then: the use of the base in the adapter's training; None = not known.
        now: the use in this run.
        adapter: its path.
        accept: fields of the configuration that may differ.
        training: whether a stage starts from the adapter, rather than answers with it.

    Raises:
        ValueError: naming each field with both values, and the way out.
    """
    if then is None:
        return [
            f"{adapter} does not say how its base was used (prompt, text length, resolution, rounding, tokenizer), so "
            "whether this run uses it alike is not known. Train the stage again to have it kept."
        ]
    refused: dict[str, str] = {}
    told = []
    for field, (before, after) in differences(then, now).items():
        path = FIELDS[field]
        line = f"{_say(path, after)}, and it was trained with {_show(before)}"
        if path in accept or field in (*ROUNDING, "history") or (training and field not in REFUSED_IN_TRAINING):
            told.append(f"{adapter}: {line}.")
        else:
            refused[path] = line
    if refused:
        raise ValueError(
            f"{adapter}: {'; '.join(refused.values())}. Give what it was trained with, or leave the field out to "
            f'follow the adapter. To use it otherwise, say so twice: --config.adapter_accept="{tuple(refused)}".'
        )
    return told


def _show(value: Any) -> str:
    text = repr(value)
    return f"{value[:16]}…" if isinstance(value, str) and len(value) == 64 else text


def _say(path: str, value: Any) -> str:
    return f"{path} has sha256 {_show(value)}" if path == "model.tokenizer" else f"{path}={_show(value)}"
