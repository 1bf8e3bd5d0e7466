"""The script for a day with a GPU: its whole CPU form, and parts that fail, hang or die."""

import importlib
import importlib.util
import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from radvqa_jax.files import read_json

# A process with the protocol of the script's own: it needs no JAX, and fails according to the part's name.
STUB = """
    import json, os, pathlib, sys, time
    folder = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
    facts = {"device": {"device": os.environ.get("STUB_DEVICE", "stub"), "machine": "m", "driver": ""}}
    facts |= {"versions": {"jax": "1"}, "tells_peak": True}
    (folder / "here.part").write_text(json.dumps(facts))
    os.replace(folder / "here.part", folder / "here.json")  # whole or absent, as the script's own process writes it
    for line in sys.stdin:
        name = line.strip()
        with (folder / "started.txt").open("a") as file:
            print(name, os.getpid(), file=file)
        if name == "dies":
            print("a fatal error", flush=True)
            os._exit(3)
        if name == "hangs":
            time.sleep(60)
        status = {"status": "failed", "reason": "told | so"} if name == "fails" else {"status": "done"}
        record = {"part": name, "form": "cpu", "seconds": 1.0, "result": {"figures": {"MFU": "0.5"}}}
        part = folder / f"{name}.part"
        part.write_text(json.dumps(facts | record | status))
        part.rename(folder / f"{name}.json")
"""


@pytest.fixture
def script(repo: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(repo / "scripts"))
    yield importlib.import_module("device_day")


@pytest.fixture
def day(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that runs stub parts as `main` does: `day(("good", 5), minutes=1)`."""
    (tmp_path / "stub.py").write_text(textwrap.dedent(STUB))
    monkeypatch.setattr(script, "__file__", str(tmp_path / "stub.py"))
    monkeypatch.setattr(script, "STARTING", 1.0)
    out = tmp_path / "out"

    def run(*parts: tuple[str, float], minutes: float = 1.0, **options: Any) -> dict[str, Any]:
        made = tuple(script.Part(name, name, "none:none", seconds, **options) for name, seconds in parts)
        monkeypatch.setattr(script, "PARTS", made)
        monkeypatch.setattr(script, "NAMES", [part.name for part in made])
        monkeypatch.setattr(sys, "argv", ["x", "--cpu", "--minutes", str(minutes), "--out", str(out)])
        script.main()
        return script.read_records(out, script.NAMES)

    return run


def started(folder: Path) -> list[str]:
    return [line.split()[0] for line in (folder / "out" / "started.txt").read_text().splitlines()]


def test_a_part_that_fails_dies_or_hangs_is_recorded_and_the_others_run(
    day: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = day(("fails", 0.1), ("dies", 0.1), ("hangs", 0.1), ("good", 0.1))
    assert {name: record["status"] for name, record in found.items()} == {
        "fails": "failed",
        "dies": "failed",
        "hangs": "failed",
        "good": "done",
    }
    assert "ended with 3: " in found["dies"]["reason"] and "a fatal error" in found["dies"]["reason"]
    assert found["hangs"]["reason"].startswith("no result after 1 s")
    assert found["dies"]["device"]["device"] == "stub"  # also for a part whose process wrote nothing
    table = (tmp_path / "out" / "table.md").read_text()
    assert "| good | done | MFU 0.5 | 1 |" in table and r"| fails | failed | told \| so |" in table
    assert table.strip() in capsys.readouterr().out


def test_finished_parts_are_not_repeated_and_failed_ones_come_last(day: Any, tmp_path: Path) -> None:
    day(("good", 0.1), ("fails", 0.1))
    (tmp_path / "out" / "started.txt").unlink()
    day(("good", 0.1), ("fails", 0.1), ("new", 0.1), ("newer", 0.1))
    assert started(tmp_path) == ["new", "newer", "fails"]


def test_a_part_is_started_only_if_the_time_left_is_enough(day: Any, tmp_path: Path) -> None:
    found = day(("good", 1.0), ("long", 50_000.0), ("short", 1.0), minutes=1.0)
    assert list(found) == ["good", "short"]
    # By now parts have taken less than their estimates.
    assert "| long | not started | takes about" in (tmp_path / "out" / "table.md").read_text()
    assert "s were left" in (tmp_path / "out" / "table.md").read_text()


def test_a_part_that_the_end_of_the_time_interrupts_is_run_again(day: Any, tmp_path: Path) -> None:
    found = day(("hangs", 0.5), minutes=4.5 / 60)
    assert found["hangs"]["status"] == "stopped"
    day(("hangs", 0.5), ("good", 0.1), minutes=0.07)
    assert started(tmp_path)[:2] == ["hangs", "hangs"]


def test_a_memory_peak_is_read_in_a_separate_process(day: Any, tmp_path: Path) -> None:
    day(("good", 0.1), ("better", 0.1), own_process=True)
    lines = (tmp_path / "out" / "started.txt").read_text().split()
    assert lines[1] != lines[3]
    (tmp_path / "out" / "started.txt").unlink()
    day(("one", 0.1), ("two", 0.1))
    lines = (tmp_path / "out" / "started.txt").read_text().split()
    assert lines[1] == lines[3]


def test_results_of_another_device_are_not_mixed(day: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    day(("good", 0.1))
    monkeypatch.setenv("STUB_DEVICE", "another")
    with pytest.raises(ValueError, match=r"give another --out"):
        day(("good", 0.1), ("new", 0.1))


@pytest.mark.parametrize(
    "changed",
    [
        [],
        None,
        {"status": "banana"},
        {"seconds": "many"},
        {"result": None},
        {"result": {"figures": []}},
        {"device": "x"},
        {"device": {}},
        {"versions": []},
        {"card": None},
        {"reason": 5},
    ],
)
def test_a_record_that_cannot_be_read_is_set_aside_and_its_part_done_again(
    changed: Any, day: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out" / "good.json"
    found = day(("good", 0.1))["good"]
    path.write_text(json.dumps(found | changed if isinstance(changed, dict) else changed))
    assert day(("good", 0.1))["good"]["status"] == "done"
    assert "good.json" in capsys.readouterr().out and path.with_suffix(".damaged").is_file()


def test_the_process_that_measures_ends_with_the_one_that_started_it(script: ModuleType) -> None:
    code = f"import sys; sys.path.insert(0, {str(Path(script.__file__).parent)!r})\nimport device_day, os, time\n"
    code += "if os.fork():\n    time.sleep(0.2)\n    os._exit(0)\ndevice_day._end_with(os.getppid())\n"
    start = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=False, stdout=subprocess.PIPE, timeout=120)
    assert time.monotonic() - start < 110  # the child held the pipe until it ended


def test_an_error_in_a_part_is_recorded(script: ModuleType, tmp_path: Path) -> None:
    parts = importlib.import_module("day_parts")
    record = parts.run_part(
        parts.Part("x", "x", "json:dumps", 1.0, options={"absent": 1}), parts.FORMS["cpu"], tmp_path, {}
    )
    assert (record["status"], record["reason"].split(":")[0]) == ("failed", "TypeError")
    assert "Traceback" in record["traceback"] and record["clocks"]["samples"]


def test_shares_of_the_roofline_are_reported(script: ModuleType) -> None:
    full = importlib.import_module("day_full_size")

    def one(seconds: float, best: float | None) -> dict[str, Any]:
        return {"seconds": seconds, "fit": {"roofline_seconds": best}}

    found = {"prefill": one(0.010, 0.006), "greedy": one(0.050, 0.036), "sampled": one(0.110, 0.086)}
    told = full.answer_figures(found, 32)
    assert told["prefill"] == "10.0 ms, 0.60 of the roofline"
    assert told["greedy"] == "50.0 ms, 640 tokens/s, 0.72 of the roofline (0.75 without prefill)"
    assert told["sampled"] == "110.0 ms, 1,455 tokens/s, 0.78 of the roofline (0.80 without prefill)"
    assert full.answer_figures({"prefill": one(0.010, None)}, 32) == {"prefill": "10.0 ms"}


@pytest.mark.parametrize("form", ["full", "cpu"])
def test_every_part_has_its_experiment(form: str, script: ModuleType) -> None:
    full = importlib.import_module("day_full_size")
    sizes = script.FORMS[form]
    for part in script.PARTS:
        module, _, name = part.function.partition(":")
        if module != "day_peers":  # it needs torch
            assert callable(getattr(importlib.import_module(module), name))
        if module == "day_full_size":
            options = {"stage": "stage2", "kernel": 0, "quantize": "none"} | part.options
            options.pop("which", None)
            config = full.experiment(sizes, options.pop("stage"), **options)
            assert (config.model.variant, config.data.seq_len) == (sizes.variant, sizes.seq_len)
            assert config.model.attention in sizes.attention


def test_wrong_results_are_kept_in_the_record(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, correctness = importlib.import_module("day_parts"), importlib.import_module("day_correctness")

    def breaks(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no such kernel")

    monkeypatch.setitem(correctness.KERNELS, "blocks", breaks)
    part = next(part for part in parts.PARTS if part.name == "kernels")
    record = parts.run_part(part, parts.FORMS["cpu"], tmp_path, {})
    assert record["status"] == "failed" and "img blocks: no such kernel" in record["reason"]
    kernels = record["result"]["kernels"]
    assert float(kernels["llm xla"]["worst"]) < 0.03 and kernels["llm blocks"]["error"] == "no such kernel"


def test_a_step_reports_its_share_of_the_peak_and_whether_its_memory_is_known(script: ModuleType) -> None:
    full, found = importlib.import_module("day_full_size"), {"samples": [2.0, 1.0, 4.0], "way": "products"}
    found |= {"attention": {"llm": "cudnn"}, "examples_per_second": 48.0, "tokens_per_second": 55296.0, "mfu": 0.5}
    found |= {"fit_peak": 2**31, "peak": 2**32, "peak_before": 2**30, "same_bits": False}
    told = full.step_figures(found)
    assert (told["step"], told["MFU"], told["peak"]) == ("2.000 s [1.000, 4.000]", "0.500", "4.00 GiB")
    assert told["two runs"] == "differ in bits"
    assert full.step_figures(found | {"peak_before": 2**32})["peak"] == "at most 4.00 GiB"


@pytest.mark.slow
def test_the_whole_script_runs_on_the_cpu(script: ModuleType, repo: Path, tmp_path: Path) -> None:
    """Every part runs to its end on the embedded model; the peers only if torch is installed."""
    command = [sys.executable, str(repo / "scripts" / "device_day.py"), "--cpu", "--minutes", "30", "--out", "day"]
    env = os.environ | {"PYTHONPATH": str(repo)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    folder, torch = tmp_path / "day", importlib.util.find_spec("torch") is not None
    records = {part.name: read_json(folder / f"{part.name}.json") for part in script.PARTS}
    failed = {name: record["reason"] for name, record in records.items() if record["status"] != "done"}
    assert failed == {} if torch else list(failed) == ["peers"] and "torch" in failed["peers"], failed
    for record in records.values():
        assert record["device"]["platform"] == "cpu" and record["versions"]["jax"] and record["clocks"]["samples"]
    step, other = records["stage2"]["result"], records["stage2_other"]["result"]
    assert step["same_bits"] and len(step["samples"]) == script.FORMS["cpu"].rounds
    assert (step["attention"]["llm"], other["attention"]["llm"]) == ("blocks", "xla")
    assert float(step["loss"]) == pytest.approx(float(other["loss"]), rel=1e-2)  # bfloat16
    # Not less than without: the leaves of a tiny base are smaller than what their rounding adds.
    assert min(records["stage2_nf4"]["result"]["fit_peak"], step["fit_peak"]) > 0
    assert records["largest2"]["result"]["rows"] == script.FORMS["cpu"].most_rows
    assert json.loads((folder / "goldens.json").read_text())["result"]["checks"]
    assert "| stage 2 | done | step " in (folder / "table.md").read_text()
