"""The configuration refuses invalid values and proposes valid ones."""

import dataclasses
from typing import Any

import pytest
from ml_collections import ConfigDict

from radvqa_jax.config import Config, SourceConfig, StageConfig, default_config, source, stage, to_config_dict
from radvqa_jax.config.check import from_config_dict
from tests.config_case import put, valid


def test_the_default_configuration_has_every_field_and_is_read_back() -> None:
    config = default_config()
    assert set(config) == {field.name for field in dataclasses.fields(Config)}
    assert config.stages.to_dict() == {} and stage().optim.learning_rate == 1e-5
    config.mode = "predict"
    config.eval.source.dataset = "phantom_rad"
    built = from_config_dict(config)
    assert built == dataclasses.replace(Config(mode="predict"), eval=built.eval)
    assert to_config_dict(built).to_dict() == config.to_dict()


def test_the_defaults_are_those_of_medm() -> None:
    one = StageConfig()
    optim = one.optim
    assert (optim.learning_rate, optim.schedule, optim.weight_decay, optim.warmup_steps) == (1e-5, "constant", 0.0, 0)
    assert (one.label_smoothing, one.batch_size, one.accumulate) == (0.0, 6, 16)
    assert one.train == ((r"img/head/.*", "train:head"), (".*", "freeze"))
    built = from_config_dict(valid())
    assert built.stage_names == ("stage1", "stage2")


def test_a_configuration_cannot_be_changed() -> None:
    built = from_config_dict(valid())
    with pytest.raises(dataclasses.FrozenInstanceError):
        built.seed = 3


def test_numbers_are_converted_to_the_type_of_the_field() -> None:
    config = valid()
    put(config, "stages.stage1.optim.learning_rate", 1)
    put(config, "run_stages", ["stage2"])
    put(config, "stages.stage2.optim.group_learning_rates", [("head", 1)])
    built = from_config_dict(config)
    assert isinstance(built.stages["stage1"].optim.learning_rate, float)
    assert built.stage_names == ("stage2",)
    assert built.stages["stage2"].optim.group_learning_rates == (("head", 1.0),)
    assert isinstance(built.stages["stage2"].sources[0], SourceConfig)
    hash((built.decode, built.stages["stage2"]))  # static arguments of jit are


def test_an_unknown_field_gives_the_nearest_one() -> None:
    for path, nearest in (
        ("stages.stage1.optim.warmup_step", "warmup_steps"),
        ("sed", "seed"),
        ("model.checkpoints", "checkpoint"),
        ("eval.source.datset", "dataset"),
    ):
        config = valid()
        put(config, path, 1)
        with pytest.raises(
            ValueError, match=rf"Unknown config field `{path}`\. Did you mean `{nearest}`\? Known here: "
        ):
            from_config_dict(config)
    config = valid()
    config.stages["stage1"].sources = (ConfigDict({"dataset": "a", "wieght": 2.0}),)
    with pytest.raises(
        ValueError, match=r"Unknown config field `stages\.stage1\.sources\[0\]\.wieght`\. Did you mean `weight`"
    ):
        from_config_dict(config)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("seed", "7", r"`seed` must be int; got '7' \(str\)"),
        ("seed", True, r"`seed` must be int; got True \(bool\)"),
        ("seed", 1.0, r"`seed` must be int; got 1\.0 \(float\)"),
        ("eval.swapped", 1, r"`eval\.swapped` must be bool; got 1 \(int\)"),
        (
            "stages.stage1.optim.learning_rate",
            "1e-5",
            r"`stages\.stage1\.optim\.learning_rate` must be float; got '1e-5' \(str\)",
        ),
        ("stages.stage1.optim.learning_rate", None, r"must be float; got None \(NoneType\)"),
        ("stages.stage2.optim.group_learning_rates", (("head", True),), r"must be float; got True \(bool\)"),
        ("mode", "trian", r"`mode` must be one of 'build_data', 'train', .*; got 'trian'\. Did you mean `train`"),
        (
            "model.remat",
            "some",
            r"`model\.remat` must be one of 'auto', 'none', 'products', .*, 'full', 'blocks'; got 'some'\.",
        ),
        (
            "model.checkpoint",
            "~nobodyhere/x.npz",
            r"`model\.checkpoint` is '~nobodyhere/x\.npz', but ~nobodyhere is not a home",
        ),
        ("run_stages", "stage1", r"`run_stages` must be a tuple; got 'stage1'"),
        ("stages", ("stage1",), r"`stages` must hold one group of fields for each stage.*give run_stages"),
        ("run_stages", (1,), r"`run_stages\[0\]` must be str; got 1"),
        ("stages.stage1.train", ((".*",),), r"`stages\.stage1\.train\[0\]` must have 2 items; got \('\.\*',\)"),
        ("stages.stage1.train", (("a", 1),), r"`stages\.stage1\.train\[0\]\[1\]` must be str; got 1"),
        ("stages.stage1.optim", 3, r"`stages\.stage1\.optim` must be a group of fields; got 3"),
    ],
)
def test_a_wrong_type_is_refused(path: str, value: Any, message: str) -> None:
    config = valid()
    put(config, path, value)
    with pytest.raises(ValueError, match=message):
        from_config_dict(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages.stage1.total_steps": 0}, r"stage1: give either total_steps or epochs; got total_steps=0, epochs=0"),
        ({"stages.stage2.epochs": 1.5}, r"stage2: give either total_steps or epochs; got total_steps=10, epochs=1\.5"),
        ({"stages.stage1.total_steps": -1}, r"stages\.stage1\.total_steps=-1 must be at least 0"),
        (
            {"stages.stage1.optim.warmup_steps": 10},
            r"stages\.stage1\.optim\.warmup_steps=10 must be below stages\.stage1\.total_steps=10",
        ),
        ({"stages.stage1.optim.warmup_steps": -1}, r"stages\.stage1\.optim\.warmup_steps=-1 must be at least 0"),
        ({"stages.stage1.sources": ()}, r"stages\.stage1\.sources is empty\. Name at least one data set"),
        ({"stages.stage1.sources": (source(weight=1.0),)}, r"stages\.stage1\.sources\[0\]\.dataset is empty"),
        (
            {"stages.stage1.sources": (source(dataset="a", weight=0.0),)},
            r"stages\.stage1\.sources\[0\]\.weight=0\.0 must be in \(0,",
        ),
        (
            {"stages.stage1.sources": (source(dataset="a", limit=-1),)},
            r"stages\.stage1\.sources\[0\]\.limit=-1 must be at least 0",
        ),
        ({"stages.stage1.optim.learning_rate": 0.0}, r"stages\.stage1\.optim\.learning_rate=0\.0 must be above 0"),
        (
            {"stages.stage1.optim.learning_rate": float("nan")},
            r"stages\.stage1\.optim\.learning_rate=nan must be a finite number",
        ),
        (
            {"stages.stage2.optim.group_learning_rates": (("head", 0.0),)},
            r"group_learning_rates\[0\]\[1\]=0\.0 must be above 0",
        ),
        (
            {"stages.stage1.optim.group_learning_rates": (("head", 1e-3), ("head", 1e-4))},
            r"stages\.stage1\.optim\.group_learning_rates names 'head' twice",
        ),
        ({"scaling.columns": (("loss", "a"), ("loss", "b"))}, r"scaling\.columns names 'loss' twice"),
        (
            {"synthesis.writing.writers": (("case", 1.0), ("case", 0.5))},
            r"synthesis\.writing\.writers names 'case' twice",
        ),
        ({"stages.stage2.optim.clip_norm": -1.0}, r"stages\.stage2\.optim\.clip_norm=-1\.0 must be at least 0"),
        ({"stages.stage2.optim.weight_decay": -0.1}, r"stages\.stage2\.optim\.weight_decay=-0\.1 must be at least 0"),
        ({"stages.stage1.batch_size": 0}, r"stages\.stage1\.batch_size=0 must be at least 1"),
        ({"stages.stage1.accumulate": 0}, r"stages\.stage1\.accumulate=0 must be at least 1"),
        ({"stages.stage1.log_every": 0}, r"stages\.stage1\.log_every=0 must be at least 1"),
        ({"stages.stage1.save_every": 0}, r"stages\.stage1\.save_every=0 must be at least 1"),
        ({"stages.stage1.label_smoothing": 1.0}, r"stages\.stage1\.label_smoothing=1\.0 must be in \[0, 1\)"),
        ({"stages.stage1.lora.rank": -2}, r"stages\.stage1\.lora\.rank=-2 must be in \[0, 4096\]"),
        ({"stages.stage1.lora.alpha": 0.0}, r"stages\.stage1\.lora\.alpha=0\.0 must be above 0"),
        ({"stages.stage1.lora.dropout": 1.0}, r"stages\.stage1\.lora\.dropout=1\.0 must be in \[0, 1\)"),
        (
            {"stages.stage2.train": ((".*/lora_[ab]", "train:lora"), (".*", "freeze"))},
            r"stages\.stage2\.train has a rule for adapters but stages\.stage2\.lora\.rank=0\. Set the rank",
        ),
        ({"run_stages": ()}, "There are several stages: stage1, stage2. Name those to run, in order"),
        ({"run_stages": ("stage3",)}, r"run_stages\[0\]='stage3' is not a stage\. Did you mean `stage"),
        ({"run_stages": ("stage1", "stage1")}, "names 'stage1' twice"),
        ({"seed": -1}, r"seed=-1 must be in \[0, 4294967296\)"),
        ({"model.resolution": -14}, r"model\.resolution=-14 must be at least 0"),
        ({"data.seq_len": 7}, r"data\.seq_len=7 must be in \[8, 8192\]"),
        ({"data.workers": -1}, r"data\.workers=-1 must be at least 0"),
        ({"data.prompt": "answer en"}, r"data\.prompt='answer en' must contain \{question\}"),
        ({"data.prompt": "{question} {choice}"}, r"nothing fills \{choice\}.*Did you mean .\{choices\}"),
        (
            {"data.prompt": "{question} { history }"},
            r"nothing fills \{ history \}, and the model would read it as text",
        ),
        ({"mode": "train", "adapter": "runs/a/stage1"}, r"adapter='runs/a/stage1': mode=train trains, .*init_from"),
        ({"decode.max_new_tokens": 0}, r"decode\.max_new_tokens=0 must be in"),
        ({"decode.batch_size": -1}, r"decode\.batch_size=-1 must be at least 0"),
        ({"decode.samples": 0}, r"decode\.samples=0 must be at least 1"),
        ({"decode.samples": 5}, r"decode\.samples=5 with decode\.temperature=0 would give the same answer 5 times"),
        (
            {"mode": "saliency_quality", "decode.temperature": 0.7, "decode.samples": 3},
            r"measures maps of greedy answers, and decode\.temperature=0\.7 samples them\. Set decode\.temperature=0",
        ),
        ({"decode.temperature": -0.5}, r"decode\.temperature=-0\.5 must be at least 0"),
        ({"decode.top_k": -1}, r"decode\.top_k=-1 must be at least 0"),
        ({"decode.top_p": 0.0}, r"decode\.top_p=0\.0 must be in \(0, 1\]"),
        ({"decode.top_p": 1.1}, r"decode\.top_p=1\.1 must be in \(0, 1\]"),
        ({"saliency.residual": 1.0}, r"saliency\.residual=1\.0 must be in \[0, 1\)"),
        ({"saliency.cases": -1}, r"saliency\.cases=-1 must be at least 0"),
        ({"stages.stage2.optim.b2": 1.5}, r"stages\.stage2\.optim\.b2=1\.5 must be in \[0, 1\)"),
        ({"stages.stage2.optim.eps": 0.0}, r"stages\.stage2\.optim\.eps=0\.0 must be above 0"),
        ({"judge.timeout": -1.0}, r"judge\.timeout=-1\.0 must be above 0"),
        ({"saliency.layers": (-1,)}, r"saliency\.layers\[0\]=-1 must be at least 0"),
        ({"saliency.discard": float("nan")}, r"saliency\.discard=nan must be a finite number"),
        (
            {"stages.stage1.epochs": float("inf"), "stages.stage1.total_steps": 0},
            r"stages\.stage1\.epochs=inf must be a finite number",
        ),
        ({"seed": 2**32}, r"seed=4294967296 must be in \[0, 4294967296\)"),
        (
            {"stages.stage1.sources": (source(dataset="a", anneal="linear", points=((1.5, 1.0),)),)},
            r"stages\.stage1\.sources\[0\]\.points\[0\]\[0\]=1\.5 must be in \[0, 1\]",
        ),
        (
            {"stages.stage2.train": ((".*(", "train:all"),)},
            r"stages\.stage2\.train\[0\]: '\.\*\(' is not a regular expression that can be used \(missing \)",
        ),
        ({"stages.stage2.train": (("(?!img).*", "train:all"),)}, r"stages\.stage2\.train\[0\]: .*has no look-around"),
        (
            {"stages.stage2.train": ((".*", "train"),)},
            r"stages\.stage2\.train\[0\]: the label 'train' must be 'freeze' or 'train:<gr",
        ),
        ({"stages.stage2.train": ((".*", "train:"),)}, r"the label 'train:' must be 'freeze' or 'train:<group>'"),
        (
            {"stages.stage1.lora.targets": ((".*", "lorra"),)},
            r"stages\.stage1\.lora\.targets\[0\]: the label 'lorra' must be 'lora'",
        ),
        ({"stages.stage1.lora.alpha": 2e6}, r"stages\.stage1\.lora\.alpha=2000000\.0 must be at most 1000000\.0"),
        (
            {"stages.stage1.lora.targets": (("x" * 1001, "lora"), (".*", "none"))},
            r"stages\.stage1\.lora\.targets\[0\] has 1001 characters; a pattern may have 1000\. Divide",
        ),
        (
            {"stages.stage1.lora.targets": ((".*", "lora"),) * 1001},
            r"stages\.stage1\.lora\.targets has 1001 patterns; it may have 1000",
        ),
        (
            {"stages.stage2.optim.group_learning_rates": (("hed", 1.0),)},
            r"stages\.stage2\.optim\.group_learning_rates names the group 'hed'; stages\.stage2\.train has \['head'\]",
        ),
        ({"model.allow_missing": ("[",)}, r"model\.allow_missing\[0\]: '\[' is not a regular expression"),
        ({"mode": "build_data"}, r"mode=build_data needs a data set: --config\.dataset=phantom_rad"),
        ({"mode": "predict"}, r"mode=predict needs a data set to answer: --config\.eval\.source\.dataset"),
        ({"mode": "saliency"}, r"mode=saliency needs a data set to answer"),
        ({"mode": "job"}, r"mode=job needs a data set to answer"),
        ({"mode": "score"}, r"mode=score needs answers to score: --config\.eval\.predictions"),
        ({"mode": "compare", "eval.predictions": "a"}, r"needs answers to compare with: --config\.eval\.compare_with"),
        ({"score.sample_size": 0}, r"score\.sample_size=0 must be at least 1"),
        ({"process.coordinator": "10.0.0.1"}, r"process\.coordinator='10\.0\.0\.1' must be host:port of process 0"),
        ({"process.coordinator": "host:0"}, r"must be host:port of process 0, such as 10\.0\.0\.1:12345, or auto"),
        ({"score.published": ("rouge",)}, r"`score.published\[0\]` must be one of 'medm', 'med_idefics'"),
    ],
)
def test_a_contradiction_is_refused(changes: dict[str, Any], message: str) -> None:
    config = valid()
    from_config_dict(config)
    for path, value in changes.items():
        put(config, path, value)
    with pytest.raises(ValueError, match=message):
        from_config_dict(config)


def test_a_stage_that_does_not_run_may_be_unfinished() -> None:
    config = valid()
    config.stages["stage2"].sources = ()
    config.run_stages = ("stage1",)
    assert from_config_dict(config).stages["stage2"].sources == ()


def test_a_prompt_for_captions_is_refused_for_questions() -> None:
    config = valid()
    config.eval.source = source(dataset="slake", split="test", prompt="Describe it.")
    with pytest.raises(ValueError, match=r"source has prompt='Describe it\.', which is for task=caption, and task=vqa"):
        from_config_dict(config)
