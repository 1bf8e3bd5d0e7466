"""Agreement with the numbers that big_vision computed, by the script that anyone can run."""

import importlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from radvqa_jax.files import read_json, write_json
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.models.remat import Remat
from radvqa_jax.models.variants import infer_variant
from radvqa_jax.models.vision_language import variables

KINDS = {
    **{name: 9 for name in ("paligemma", "paligemma2")},
    "tokenizer": 3,
    "resize": 2,
}  # golden file -> how many comparisons it allows


@pytest.fixture(scope="module")
def script(repo: Path) -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(repo / "scripts")
        yield importlib.import_module("check_golden")


def only(golden: Path, name: str, folder: Path) -> Path:
    """Copies the golden files of one kind into a folder and returns it."""
    files = {"tokenizer": ["tokenizer.json", "tiny_tokenizer.model"], "resize": ["resize.npz"]}
    for file in files.get(name, [f"{name}_params.npz", f"{name}_io.npz"]):
        shutil.copy(golden / file, folder / file)
    return folder


@pytest.mark.parametrize("name", KINDS)
def test_every_golden_number_is_met(
    name: str, script: ModuleType, golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = script.check_folder(only(golden, name, tmp_path))
    assert {kind: len(checks) for kind, checks in results.items()} == {name: KINDS[name]}
    assert [check for check in results[name] if not check.holds] == []
    assert script.report(results) == 0
    assert capsys.readouterr().out.endswith(f"{KINDS[name]} passed, 0 failed\n")


@pytest.mark.parametrize("remat", [name for name in get_args(Remat) if name != "none"])
@pytest.mark.parametrize("name", ["paligemma", "paligemma2"])
def test_gradients_are_golden_whatever_a_layer_stores(
    name: str, remat: Remat, script: ModuleType, golden: Path
) -> None:
    arrays = script.read(golden / f"{name}_params.npz")
    params = {key.removeprefix("params/"): jnp.asarray(leaf) for key, leaf in arrays.items()}
    model = PaliGemma(infer_variant(params, gemma2=name == "paligemma2"), remat=remat, remat_img=remat)
    with jax.default_matmul_precision("highest"):
        checks = list(script.check_gradients(model, params, script.read(golden / f"{name}_io.npz")))
    assert len(checks) == 3 and [check for check in checks if not check.holds] == []


def damage(path: Path, key: str) -> None:
    """Moves one value of one array of an npz file."""
    with np.load(path) as file:
        arrays = {name: np.array(file[name]) for name in file.files}
    arrays[key].reshape(-1)[-1] += 1
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    ("file", "keys", "failing"),
    [
        pytest.param(
            "paligemma_params.npz",
            ["params/llm/final_norm/scale"],
            {"text logits", "prefill logits", "step logits"},
            marks=pytest.mark.slow,
        ),
        (
            "paligemma_io.npz",
            ["grad/img/pos_embedding", "decode_tokens"],
            {"gradients, leaves given whole (relative)", "step logits", "greedy tokens (wrong ones)"},
        ),
        ("resize.npz", ["out_0"], {"resize (grey levels)"}),
    ],
)
def test_a_damaged_copy_is_found(
    file: str, keys: list[str], failing: set[str], script: ModuleType, golden: Path, tmp_path: Path
) -> None:
    folder = only(golden, file.removesuffix(".npz").split("_")[0], tmp_path)
    for key in keys:
        damage(folder / file, key)
    results = script.check_folder(folder)
    failed = {check.name for checks in results.values() for check in checks if not check.holds}
    assert failing <= failed
    assert "image tokens" not in failed
    assert script.report(results) == 1


def test_a_damaged_tokenizer_case_is_found(script: ModuleType, golden: Path, tmp_path: Path) -> None:
    folder = only(golden, "tokenizer", tmp_path)
    cases = read_json(folder / "tokenizer.json")
    cases["packed"][0]["train"]["mask_loss"][-1] ^= 1
    write_json(folder / "tokenizer.json", cases)
    failed = [check.name for check in script.check_folder(folder)["tokenizer"] if not check.holds]
    assert failed == ["packed rows (wrong ones)"]


def test_a_nan_is_a_failure(script: ModuleType) -> None:
    assert not script.Check("x", float("nan"), 1.0).holds
    assert script.Check("x", 1.0, 1.0).holds


def test_a_folder_without_golden_files_says_so(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no \*_params\.npz, tokenizer\.json or resize\.npz"):
        script.check_folder(tmp_path)
    np.savez(tmp_path / "alone_params.npz", x=np.zeros(1))
    with pytest.raises(FileNotFoundError, match=r"alone_params\.npz has no alone_io\.npz in its folder"):
        script.check_folder(tmp_path)


def test_the_script_runs_from_a_shell(repo: Path, golden: Path, tmp_path: Path) -> None:
    command = [sys.executable, repo / "scripts" / "check_golden.py", "--dir", only(golden, "resize", tmp_path)]
    done = subprocess.run(command, cwd=repo, env={"PYTHONPATH": str(repo)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("2 passed, 0 failed\n")
    damage(tmp_path / "resize.npz", "out_1")
    done = subprocess.run(command, cwd=repo, env={"PYTHONPATH": str(repo)}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "FAIL resize (grey levels)" in done.stdout


def test_a_fused_model_gives_the_golden_logits(golden: Path) -> None:
    with np.load(golden / "paligemma_params.npz") as file:
        params = {name.removeprefix("params/"): jnp.asarray(file[name]) for name in file.files}
    with np.load(golden / "paligemma_io.npz") as file:
        io = {name: file[name] for name in file.files}
    attn = "llm/layers/attn"
    query, shared = params.pop(f"{attn}/q_einsum/w"), params.pop(f"{attn}/kv_einsum/w")
    # The one key/value head, repeated for each of the four heads, is the same model.
    key, value = (jnp.repeat(shared[:, index], query.shape[1], axis=1) for index in (0, 1))
    params[f"{attn}/qkv_einsum/w"] = jnp.stack([query, key, value], axis=1)
    variant = infer_variant(params, gemma2=False)
    assert variant.llm == replace(variant.llm, num_heads=4, num_kv_heads=4)
    model, collections = PaliGemma(variant), variables(params)
    names = ("image", "text", "mask_ar", "prompt", "prompt_mask_ar", "prompt_mask_input")
    image, text, mask_ar, *prompt = (jnp.asarray(io[name]) for name in names)
    with jax.default_matmul_precision("highest"):
        logits = jax.jit(model.apply)(collections, image, text[:, :-1], mask_ar[:, :-1])
        prefill = jax.jit(partial(model.apply, method="prefill", new_tokens=7))
        extend = jax.jit(partial(model.apply, method="extend"))
        first, state = prefill(collections, image, *prompt)
        steps = [first]
        for token in io["decode_tokens"].T:
            step, state = extend(collections, jnp.asarray(token), state)
            steps.append(step)
    np.testing.assert_allclose(logits, io["text_logits"], atol=2e-4)
    np.testing.assert_allclose(np.stack(steps, axis=1), io["decode_logits"], atol=2e-4)
