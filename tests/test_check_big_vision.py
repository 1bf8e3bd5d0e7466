"""The comparison with a big_vision checkout: what it says without one, and, where there is one, that it holds."""

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from radvqa_jax.models.variants import VARIANTS


@pytest.fixture
def script(repo: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(repo / "scripts")
    monkeypatch.setattr(sys, "path", list(sys.path))  # the script adds the checkout to it
    yield importlib.import_module("check_big_vision")
    for name in [name for name in sys.modules if name.split(".")[0] == "big_vision"]:
        del sys.modules[name]


def fake_checkout(folder: Path, **modules: str) -> Path:
    """Makes a checkout whose modules hold this code and nothing else."""
    places = {"paligemma": "proj/paligemma", "gemma_bv": "proj/paligemma", "gemma": "ppp"}
    for name, place in places.items():
        path = folder / "big_vision" / "models" / place / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(modules.get(name, ""))
    return folder


def run(repo: Path, checkout: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, repo / "scripts" / "check_big_vision.py", "--checkout", checkout]
    env = os.environ | {"PYTHONPATH": str(repo)}
    return subprocess.run(command, cwd=repo, env=env, capture_output=True, text=True, check=False)


def test_a_folder_that_is_no_checkout_is_named_from_the_shell(repo: Path, tmp_path: Path) -> None:
    done = run(repo, tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"error: --checkout={tmp_path} is no checkout of google-research/big_vision: it has no "
        "big_vision/models/proj/paligemma/paligemma.py. Give the folder in which the folder big_vision lies."
    )


def test_the_inner_folder_is_no_checkout_either(script: ModuleType, tmp_path: Path) -> None:
    inner = fake_checkout(tmp_path) / "big_vision"
    with pytest.raises(ValueError, match="Give the folder in which the folder big_vision lies"):
        script.load_modules(inner)


@pytest.mark.parametrize(
    ("module", "way_out"), [("tensorflow_absent", r"pip install -e '\.\[tf\]'"), ("absent", "Install it first")]
)
def test_what_big_vision_lacks_is_named(module: str, way_out: str, script: ModuleType, tmp_path: Path) -> None:
    checkout = fake_checkout(tmp_path, paligemma=f"import {module}.io")
    with pytest.raises(ValueError, match=rf"big_vision imports {module}, which is not installed\. {way_out}"):
        script.load_modules(checkout)


def test_a_checkout_from_before_gemma_2_is_named(script: ModuleType, tmp_path: Path) -> None:
    gemma = "def get_config(variant):\n    if 'gemma2' in variant:\n        raise ValueError(f'Unknown: {variant}')\n"
    with pytest.raises(ValueError, match=r"is older than PaliGemma 2 \(Unknown: gemma2_2b\)\. Update it"):
        script.load_modules(fake_checkout(tmp_path, gemma=gemma))


def test_inputs_have_prompts_of_different_length(script: ModuleType) -> None:
    inputs = script.Inputs.draw(VARIANTS["dummy"], seed=0)
    lengths = np.asarray(inputs.mask_input).sum(axis=1)
    assert len(set(lengths.tolist())) == 3
    assert (np.diff(np.asarray(inputs.mask_input).astype(int), axis=1) <= 0).all()  # padding on the right
    assert inputs.image.shape == (3, 8, 8, 3)
    assert inputs.mask_ar.any(axis=1).all()
    assert not inputs.mask_ar[:, 0].any()


@pytest.mark.slow
@pytest.mark.skipif("RADVQA_BIG_VISION" not in os.environ, reason="needs big_vision: set RADVQA_BIG_VISION=CHECKOUT")
def test_both_implementations_agree(repo: Path) -> None:
    done = run(repo, Path(os.environ["RADVQA_BIG_VISION"]))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("20 passed, 0 failed\n")
