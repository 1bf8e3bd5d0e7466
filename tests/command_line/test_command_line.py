"""The command line before a flag is read: fast help, commands, names, lists and the doctor."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, get_args

import pytest
from tqdm import tqdm

from radvqa_jax.command_line import doctor
from radvqa_jax.command_line.arguments import find_config, to_flags
from radvqa_jax.command_line.help_text import full_help, groups, short_help
from radvqa_jax.command_line.interrupts import interrupts_reach_us
from radvqa_jax.command_line.listing import LISTS, listing
from radvqa_jax.command_line.modes import MODES, configs_folder, experiments
from radvqa_jax.command_line.streams import visible_streams
from radvqa_jax.config import Mode
from radvqa_jax.runners import RUNNERS

REPO = Path(__file__).resolve().parents[2]
ENV = os.environ | {"PYTHONPATH": str(REPO)}
HELP = """
import runpy, sys
sys.argv = ["radvqa", {argument!r}]
try:
    runpy.run_module("radvqa_jax.main", run_name="__main__")
finally:
    import resource
    used = resource.getrusage(resource.RUSAGE_SELF)
    heavy = {{"jax", "tensorflow_datasets", "matplotlib", "flax", "grain"}} & set(sys.modules)
    print("SECONDS", used.ru_utime + used.ru_stime, "HEAVY", *sorted(heavy), file=sys.stderr)
"""


@pytest.mark.parametrize("argument", ["--help", "--helpfull"])
def test_help_takes_less_than_a_second_and_loads_no_jax(argument: str) -> None:
    code = HELP.format(argument=argument)
    done = subprocess.run([sys.executable, "-c", code], env=ENV, capture_output=True, text=True, check=True)
    match = re.search(r"SECONDS (\S+) HEAVY ?(.*)", done.stderr)
    assert match and match[2] == "" and float(match[1]) < 1.0, done.stderr
    assert "medm_stage1" in done.stdout


def test_every_mode_is_in_the_help_with_its_experiments() -> None:
    assert set(MODES) == set(RUNNERS) == set(get_args(Mode))
    text = short_help()
    for experiment in experiments().values():
        assert re.search(rf"^  {experiment.mode} .*\[.*\b{experiment.name}\b", text, re.MULTILINE), experiment.name
    assert {path.stem for path in (REPO / "configs").glob("*.py")} == set(experiments())
    assert max(map(len, text.splitlines())) < 160


def test_every_field_is_in_the_full_help_with_a_meaning() -> None:
    text, found = full_help(), groups()
    assert len(found) > 20 and sum(len(group.fields) for group in found) > 200
    for group in found:
        assert group.about, group.paths
        for field in group.fields:
            assert field.about, f"{group.paths[0]}.{field.name} has no comment in radvqa_jax/config/"
    for line in (
        "  learning_rate: float = 1e-05; must be above 0",
        "  quantize: 'none' | 'nf4' | 'int8' = 'none'",
        "stages.NAME.optim: Adam, with decoupled weight decay if asked.",
        "  layers: tuple of int = (); an item must be at least 0",
    ):
        assert line in text, line


@pytest.mark.parametrize(
    ("arguments", "flags"),
    [
        ("train --config medm_stage1 --workdir x", ["--config={configs}/medm_stage1.py", "--workdir", "x", "{mode}"]),
        ("train --config=ablations:medm", ["--config={configs}/ablations.py:medm", "{mode}"]),
        ("build-data --workdir=x", ["--config={configs}/build_data.py", "--workdir=x", "--config.mode=build_data"]),
        ("demo --config.seed=1", ["--config={configs}/demo.py", "--workdir=runs/demo", "--config.seed=1"]),
        ("run --config=demo", ["--config={configs}/demo.py"]),
        ("--config demo", ["--config={configs}/demo.py"]),
    ],
)
def test_commands_become_flags(arguments: str, flags: list[str]) -> None:
    want = [flag.format(configs=configs_folder(), mode="--config.mode=train") for flag in flags]
    assert to_flags(arguments.split()) == want


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("trian", r"Unknown command 'trian'\. Did you mean `train`"),
        ("job", r"job needs an experiment: --config FILE, or one of demo, first_run, medm_tiny"),
        ("--config dmo", r"'dmo', and there is no such file\. Did you mean `demo`"),
        ("--config", r"--config has no value"),
        ("train --config", r"--config has no value"),
        ("train --config --workdir=x", r"--config has no value"),
        ("train --config=demo --config.mode=score", r"The command train sets the mode. Leave --config.mode out"),
    ],
)
def test_an_invalid_command_is_refused_with_the_way_out(arguments: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_flags(arguments.split())


def test_for_a_missing_file_the_nearest_one_is_proposed(tmp_path: Path) -> None:
    (tmp_path / "lungs.py").touch()
    with pytest.raises(ValueError, match=r"Did you mean `\S+/lungs\.py`"):
        find_config(f"{tmp_path}/lung.py")
    with pytest.raises(ValueError, match="The package comes with an experiment `--config demo`"):
        find_config(f"{tmp_path}/configs/demo.py")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("configs", r"demo +job +The main job"),
        ("variants", r"paligemma-3b-448 +448 +1024"),
        ("datasets", r"slake +SLAKE 1\.0"),
        ("methods", r"value_norm .*\(Kobayashi et al\. 2020\)"),
        ("devices", r"h100 +1 x NVIDIA H100"),
    ],
)
def test_lists_have_a_line_for_each_entry(name: str, line: str) -> None:
    assert re.search(rf"^{line}", listing([name]), re.MULTILINE)
    assert name in LISTS


def test_an_unknown_list_is_refused() -> None:
    with pytest.raises(ValueError, match=r"list takes one of .*got 'devics'\. Did you mean `devices`"):
        listing(["devics"])


def test_the_doctor_shows_no_key_and_fails_on_a_wrong_device(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from radvqa_jax import device_check

    monkeypatch.setenv("HF_TOKEN", "secret-value")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(device_check, "programs", lambda: device_check_programs(0.0))
    assert doctor.doctor() == 0
    out, _ = capsys.readouterr()
    assert "HF_TOKEN is set" in out and "OPENAI_API_KEY is not set" in out and "secret-value" not in out
    for part in ("versions:", "extras:", "data sets:", "devices:", "1 programs agree with NumPy"):
        assert part in out
    with monkeypatch.context() as homeless:
        for name in ("HOME", "XDG_CACHE_HOME"):
            homeless.delenv(name, raising=False)
        homeless.setattr(os, "getuid", lambda: 2**31 - 3)  # a container's user, whom the system does not know
        assert doctor.doctor() == 0
        assert "~/tensorflow_datasets: unknown, because ~ is not a home folder" in capsys.readouterr().out
    monkeypatch.setattr(device_check, "programs", lambda: device_check_programs(1.0))
    assert doctor.doctor() == 1
    assert "computes wrong results" in capsys.readouterr().err


def device_check_programs(off: float) -> list[object]:
    import numpy as np

    from radvqa_jax.device_check import Program

    return [Program("a sum", lambda x: x * 2 + off, lambda x: x * 2, (np.ones(3),), "float32")]


@pytest.mark.parametrize("seconds", [0.4, 1.5])
def test_ctrl_c_while_loading_ends_with_one_line(seconds: float, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "radvqa_jax.main",
        "demo",
        f"--workdir={tmp_path}",
        f"--config.data.data_dir={tmp_path}",
    ]
    with subprocess.Popen(command, cwd=REPO, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        time.sleep(seconds)
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=120)
    assert run.returncode == 128 + signal.SIGINT, err
    assert re.fullmatch(r"error: stopped by Ctrl-C\..*", err.strip()), err


def test_a_name_cannot_control_the_terminal_and_bars_still_move() -> None:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), visible_streams():
        print("run \x1b]0;owned\x07\u202e and 肺 é\n\tnext")
        bar = tqdm(total=2, desc="upper", file=sys.stderr, ascii=True)
        bar.update(2)
        bar.refresh()
        bar.moveto(-1)
        print("\x1b[2J", file=sys.stderr)
    assert out.getvalue() == "run \\u001b]0;owned\\u0007\\u202e and 肺 é\n\tnext\n"
    assert "\rupper: 100%" in err.getvalue() and "\x1b[A" in err.getvalue() and "\x1b[2J" not in err.getvalue()


def test_a_lost_ctrl_c_is_raised_again() -> None:
    """The signal arrives in a finaliser, from which no exception can escape."""

    class Finalised:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), interrupts_reach_us():
        Finalised()
        time.sleep(5)


def test_a_hook_that_a_library_sets_in_the_run_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints set one: orbax's threads report a full disk after the end of the run, too."""
    dropped: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    with interrupts_reach_us():
        sys.unraisablehook = dropped.append
    assert sys.unraisablehook == dropped.append
