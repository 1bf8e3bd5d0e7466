"""The command line: its errors and its help."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.main_case import REPO, Said

DEMO, STAGE1, STAGE2 = "configs/demo.py", "configs/medm_stage1.py", "configs/medm_stage2.py"


# Runs the command line once for each list of arguments, in forks of one process: loading jax and TFDS takes seconds.
SERVER = """
import gc, json, os, runpy, sys
import radvqa_jax.runners

gc.freeze()  # or each fork, when it ends, would copy all it shares
gc.disable()
for number, argv in enumerate(json.load(sys.stdin)):
    if os.fork():
        print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
        continue
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{sys.argv[1]}/{number}.{name}", os.O_CREAT | os.O_WRONLY), stream)
    sys.argv = ["radvqa_jax.main", *argv]
    runpy.run_module("radvqa_jax.main", run_name="__main__", alter_sys=True)
    sys.exit(0)
"""


class Case(NamedTuple):
    """Arguments after --workdir, and what the error must say."""

    argv: list[str]
    pattern: str
    config: str = DEMO
    workdir: str = "{tmp}/run"


# `{tmp}` is a folder with the files below; MICRO stands for the configuration of the small job.
MICRO = "MICRO"
FILES = {
    "a_file": "",
    "text.npz": "not a checkpoint",
    "text.jsonl": "not json\n",
    "in_file.py": (
        "from radvqa_jax.config import default_config, stage\n\n\ndef get_config():\n    config = default_config()\n"
        "    config.stages.stage1 = stage()\n    config.stages.stage1.optim.warmup_step = 3\n    return config\n"
    ),
    "no_comma.py": (
        "from radvqa_jax.config import default_config, source, stage\n\n\ndef get_config():\n"
        "    config = default_config()\n"
        "    config.stages.stage1 = stage()\n    config.stages.stage1.sources = (source(dataset='phantom_rad'))\n"
        "    return config\n"
    ),
    "wrong_type.py": (
        "from radvqa_jax.config import default_config\n\n\ndef get_config():\n    config = default_config()\n"
        "    config.seed = 'one'\n    return config\n"
    ),
    "no_config.py": "def get_config():\n    return 3\n",
    "nothing.py": "def get_config():\n    pass\n",
    "ends.py": "import sys\n\n\ndef get_config():\n    sys.exit(0)\n",
    "config.json": '{"mode": "predict"}\n',
    "nested.json": '{"data": {"shuffle": true}}\n',
    "config.yaml": "data: {seq_len: 3\n",
    "no_function.py": "mode = 'predict'\n",
    "own_mistake.txt": "import math\n\n\ndef get_config():\n    return math.get_config()\n",
    "escape.jsonl": '{"a": "\\u001b]0;owned\\u0007"}\n',
}


BAD = {
    "no config": Case([], r"--config is missing: --config configs/demo.py", config=""),
    "no such config": Case([], r"--config must be a file, such as(?s:.*)nowhere.py", config="nowhere.py"),
    "no such config, with a field": Case(["--config.seed=1"], r"--config must be a file(?s:.*)x.py", config="x.py"),
    "a config of another kind": Case([], r"get_config|must be a group of fields; got 3", config="{tmp}/no_config.py"),
    **{
        f"a config that is {kind}": Case(
            [], rf"error: --config=\S*{name} has no get_config\(\)\. A config is", f"{{tmp}}/{name}"
        )
        for kind, name in {
            "JSON": "config.json",
            "JSON with true": "nested.json",
            "YAML": "config.yaml",
            "without function": "no_function.py",
        }.items()
    },
    "a config with a mistake": Case(
        [], r"config cannot be run: AttributeError: module 'math'", "{tmp}/own_mistake.txt"
    ),
    "a config that returns nothing": Case([], r"--config gives no configuration\. Its get_config", "{tmp}/nothing.py"),
    "a config that ends the program": Case([], r"config ended the program \(sys\.exit\) instead", "{tmp}/ends.py"),
    "one source without a comma": Case(
        [],
        r"no_comma\.py, line 7, `config.*`: the value has the type ConfigDict, and the field tuple\. Write \(…,\)",
        "{tmp}/no_comma.py",
    ),
    "one source without a comma, in an experiment": Case(
        ["--config.experiment={tmp}/no_comma.py"],
        r"no_comma\.py: line 7, `config.*`: .* and the field tuple\. Write",
        "configs/fit.py",
    ),
    "a value of another type in a file": Case(
        [],
        r"wrong_type\.py, line 6, `config.seed = 'one'`: the value has the type str, and the field int\.",
        "{tmp}/wrong_type.py",
    ),
    "an argument that no experiment takes": Case(
        ["--config.seed=1"], r"error: \S*demo\.py:x: this experiment takes no argument after a colon", f"{DEMO}:x"
    ),
    "an argument that an experiment refuses": Case(
        [], r"error: configs/ablations\.py:nope", "configs/ablations.py:nope"
    ),
    "a flag file": Case(["--flagfile={tmp}/a_file"], r"error: --flagfile is not known"),
    "a source that is read once, with a share": Case(
        ["--config.eval.source.count=3"], r"eval\.source has count, but its rows are read once, in order"
    ),
    "a weight beyond all": Case(
        ["--config.stages.stage1.sources[0].weight=1e308"], r"sources\[0\]\.weight=1e\+308 must be in \(0, 10+\.0\]"
    ),
    "a flag given twice": Case(["--config=configs/demo.py"], r"error: --config is given 2 times\. Give it once"),
    "a field given twice": Case(["--config.seed=1", "--config.seed=2"], r"error: --config.seed is given 2 times"),
    "a name with an escape sequence": Case(
        ["--config.mode=score", "--config.eval.predictions={tmp}/\x1b[2J"], r"u001b"
    ),
    "no workdir": Case([], r"error: --workdir is empty\. Give the folder", workdir=""),
    "a file as workdir": Case([], r"error: --workdir=\S+a_file is a file or is below one", workdir="{tmp}/a_file"),
    "a workdir below a file": Case([], r"is a file or is below one\. Give a folder", workdir="{tmp}/a_file/run"),
    "unknown field": Case(
        ["--config.stages.stage1.optim.learnin_rate=1"],
        r"error: Unknown config field `stages.stage1.optim.learnin_rate`\. Did you mean `learning_rate`\?",
    ),
    "unknown group": Case(["--config.stags.stage1.total_steps=1"], r"field `stags`\. Did you mean `stages`\?"),
    "unknown stage": Case(
        ["--config.stages.stag1.total_steps=1"],
        r"error: the experiment has no stage 'stag1'\. Did you mean \"stage1\".*Add a stage in the config file",
    ),
    "a stage of former versions": Case(
        ["--config.stage2.total_steps=1"], r"field `stage2`\. The fields of this stage are in `stages\.stage2`"
    ),
    "an order of former versions": Case(["--config.stages=('stage2',)"], r"group of fields for each stage.*run_stages"),
    "unknown field of a source": Case(
        ["--config.stages.stage1.sources[0].datset=x"],
        r"`stages.stage1.sources\[0\].datset`\. Did you mean `dataset`\?",
    ),
    "a field of a value": Case(["--config.seed.x=1"], r"Config field `seed` is a value and has no fields"),
    "no such source": Case(["--config.stages.stage1.sources[3].split=x"], r"out of range.*stage1.sources\[3\].split=x"),
    "unknown field in the file": Case(
        [],
        r"error: Unknown config field `stages.stage1.optim.warmup_step`\. Did you mean `warmup_steps`\?",
        "{tmp}/in_file.py",
    ),
    "unknown flag": Case(["--wrkdir=x"], r"Unknown command line flag 'wrkdir'\. Did you mean: workdir"),
    "an argument without dashes": Case(["seed=3"], r"Unknown arguments \['seed=3'\]\. Give fields as --config\."),
    "a word for a number": Case(
        ["--config.stages.stage1.optim.learning_rate=fast"],
        r"learning_rate=fast: could not convert(?s:.*)learning_rate: float = 1e-05; must be above 0\.",
    ),
    "unknown mode": Case(
        ["--config.mode=trian"], r"`mode` must be one of .*'job'.*; got 'trian'\. Did you mean `train`"
    ),
    "contradiction": Case(
        ["--config.stages.stage1.epochs=2"], r"stage1: give either total_steps or epochs; got total_steps=\d+, epochs=2"
    ),
    "no data set to answer": Case(
        ["--config.mode=predict", "--config.eval.source.dataset="],
        r"mode=predict needs a data set to answer: --config.eval.source.dataset=phantom_rad",
    ),
    "no data set to build": Case([], r"mode=build_data needs a data set: --config.dataset=", "configs/build_data.py"),
    "no answers to score": Case(
        ["--config.mode=score"], r"mode=score needs answers to score: --config.eval.predictions"
    ),
    "no such answers": Case(
        ["--config.mode=score", "--config.eval.predictions=nowhere.jsonl"],
        r"error: eval\.predictions names nowhere\.jsonl, and there is no such file\. Give files",
    ),
    "a folder of answers": Case(
        ["--config.mode=score", "--config.eval.predictions={tmp}"],
        r"error: eval\.predictions names \S+, which is a folder\. Give files",
    ),
    "answers that are none": Case(
        ["--config.mode=score", "--config.eval.predictions={tmp}/text.jsonl"],
        r"text\.jsonl: 1 of 1 lines cannot be scored(?s:.*)line 1: not valid JSON",
    ),
    "no such checkpoint": Case(["--config.model.checkpoint=nowhere.npz"], r"nowhere.npz.*model.checkpoint", MICRO),
    "no checkpoint": Case(["--config.model.checkpoint="], r"checkpoint .* is empty\. Set model.checkpoint", MICRO),
    "a checkpoint that is none": Case(
        ["--config.model.checkpoint={tmp}/text.npz"], r"text.npz .*native big_vision .npz checkpoint", MICRO
    ),
    "another model's checkpoint": Case(
        ["--config.mode=train", "--config.model.checkpoint=tests/golden/paligemma_params.npz"],
        r"these do not fit:(?s:.*)misshaped(?s:.*)img/head/kernel(?s:.*)Set model.variant and model.checkpoint",
        MICRO,
    ),
    "no such tokenizer": Case(["--config.model.tokenizer=nowhere.model"], r"no tokenizer at model.tokenizer=", MICRO),
    "data that are not prepared": Case(
        ["--config.mode=train", "--config.data.data_dir={tmp}"],
        r"not prepared.*Run: python -m radvqa_jax.main --config configs/build_data.py --config.dataset=phantom_rad",
        MICRO,
    ),
    "stage 1 of MedM": Case(
        ["--config.data.data_dir={tmp}"], r"error: slake is not prepared.*configs/build_data.py.*dataset=slake", STAGE1
    ),
    "stage 2 of MedM": Case(
        ["--config.data.data_dir={tmp}"],
        r"error: written/rocov2_questions is not prepared.*configs/write_questions.py:rocov2",
        STAGE2,
    ),
    "stage 2 of MedM on a set that there is not": Case(
        ["--config.stages.stage2.sources[0].dataset=pmc_vqq"],
        r"no data set 'pmc_vqq'\. Did you mean `pmc_vqa`\?",
        STAGE2,
    ),
    "official files that are missing": Case(
        ["--config.dataset=vqa_rad", "--config.data.data_dir={tmp}"],
        r"error: data\.manual_dir is not given, and vqa_rad needs its files(?s:.*)osf.io/89kps",
        "configs/build_data.py",
    ),
}


GOOD = {"--help": ["--help"], "-h": ["-h"]}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory, micro_file: Path) -> dict[str, Said]:
    """The result of each command of GOOD and BAD."""
    folder = tmp_path_factory.mktemp("cli")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    commands = dict(GOOD)
    for name, case in BAD.items():
        config = str(micro_file) if case.config == MICRO else case.config
        flags = [f"--config={config}"] * bool(config) + [f"--workdir={case.workdir}"]
        commands[name] = [text.replace("{tmp}", str(folder)) for text in [*flags, *case.argv]]
    done = subprocess.run(
        [sys.executable, "-c", SERVER, str(folder)],
        input=json.dumps(list(commands.values())),
        cwd=REPO,
        env=os.environ | {"PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        check=True,
    )
    codes = map(int, done.stdout.split())
    texts = ([(folder / f"{number}.{name}").read_text() for name in ("out", "err")] for number in range(len(commands)))
    return {name: Said(code, *text) for name, code, text in zip(commands, codes, texts, strict=True)}


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_ends_with_a_message_that_says_what_to_do(name: str, said: dict[str, Said]) -> None:
    code, _, err = said[name]
    assert code not in (0, None), err
    assert re.search(BAD[name].pattern, err), err
    assert "Traceback" not in err and "\x1b" not in err


@pytest.mark.parametrize("name", GOOD)
def test_help_says_how_to_run(name: str, said: dict[str, Said]) -> None:
    code, out, err = said[name]
    assert (code, err) == (0, "")
    for text in (
        "python -m radvqa_jax.main --config configs/demo.py",
        "--workdir",
        "--config.field=value",
        "--config:",
    ):
        assert text in out
    for mode in ("build_data", "train", "predict", "score", "saliency", "job"):
        assert mode in out
