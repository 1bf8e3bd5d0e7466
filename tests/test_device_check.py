"""The device is checked before it is trusted: a wrong result stops the run, and a device that passed is remembered."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from radvqa_jax import device_check, xla_flags
from radvqa_jax.device_check import Program, WrongResult, check_device

REPO = Path(__file__).resolve().parent.parent
FLAG = "--xla_cpu_experimental_ynn_fusion_type"


def doubled(run: Any, dtype: str = "float32", name: str = "doubling") -> Program:
    return Program(name, run, lambda x: 2 * x, (np.arange(1.0, 5.0),), dtype)


@pytest.mark.parametrize("dtype", device_check.DTYPES)
def test_a_wrong_result_is_found_and_named(dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = doubled(lambda x: x + x, dtype), doubled(lambda x: (x + x).at[3].mul(1.1), dtype, "once more")
    monkeypatch.setattr(device_check, "programs", lambda: [good])
    assert list(check_device(cache=tmp_path / "good")) == [f"doubling in {dtype}"]
    monkeypatch.setattr(device_check, "programs", lambda: [good, bad])
    with pytest.raises(WrongResult, match=rf": once more in {dtype} \(off by 0\.1.*jax-ml/jax#39103.*#40633"):
        check_device(cache=tmp_path / "bad")
    assert not list(tmp_path.glob("bad/*"))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_nan_result_is_wrong(wrong: float) -> None:
    assert device_check.errors_of([doubled(lambda x: x * wrong)]) == [float("inf")]


def test_a_device_that_passed_is_remembered_by_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_check, "programs", lambda: [doubled(lambda x: x + x)])
    assert check_device(cache=tmp_path)
    monkeypatch.setattr(device_check, "programs", lambda: [doubled(lambda x: x * 3)])
    assert check_device(cache=tmp_path) == {}
    with pytest.raises(WrongResult):
        check_device(cache=tmp_path, fresh=True)
    monkeypatch.setattr(device_check.importlib.metadata, "version", lambda name: "9.9")
    with pytest.raises(WrongResult, match=r"jaxlib 9\.9"):
        check_device(cache=tmp_path)


def test_the_programs_are_of_the_kinds_that_this_package_compiles() -> None:
    kinds = {(program.name, program.dtype) for program in device_check.programs()}
    for dtype in ("float32", "bfloat16"):
        assert {("a scan of products", dtype), ("a softmax", dtype), ("attention", dtype)} <= kinds
    for program in device_check.programs():
        inputs = [np.asarray(x, jnp.dtype(program.dtype)).astype(np.float64) for x in program.inputs]
        assert np.isfinite(program.expected(*inputs)).all(), program.name


SHIPPED = """
import sys
from radvqa_jax import device_check, xla_flags

if sys.argv[1] == "avoid":
    xla_flags.avoid_miscompilation()
print(len(device_check.check_device(fresh=True)))
"""


@pytest.mark.skipif(os.environ.get("RADVQA_GPU") == "1", reason="about the CPU")
def test_the_flag_avoids_the_known_miscompilation_and_the_check_finds_it_without(tmp_path: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(REPO), "XDG_CACHE_HOME": str(tmp_path), "XLA_FLAGS": ""}
    said = [
        subprocess.run([sys.executable, "-c", SHIPPED, how], env=env, capture_output=True, text=True, check=False)
        for how in ("avoid", "leave")
    ]
    assert said[0].returncode == 0 and int(said[0].stdout) > 8, said[0].stderr
    if device_check.importlib.metadata.version("jaxlib") == "0.10.2":
        assert "WrongResult" in said[1].stderr and "sums over the rows of a product in float32" in said[1].stderr


@pytest.mark.parametrize(
    ("version", "given", "then"),
    [
        ("0.10.2", "", f"{FLAG}="),
        ("0.10.2", "--xla_a=1", f"--xla_a=1 {FLAG}="),
        ("0.10.2", f"{FLAG}=dot", f"{FLAG}=dot"),  # the user's word
        ("0.11.2", "--xla_a=1", "--xla_a=1"),
    ],
)
def test_the_flag_is_set_where_it_is_needed(
    version: str, given: str, then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XLA_FLAGS", given)
    monkeypatch.setattr(xla_flags.importlib.metadata, "version", lambda name: version)
    xla_flags.avoid_miscompilation()
    assert os.environ["XLA_FLAGS"] == then
