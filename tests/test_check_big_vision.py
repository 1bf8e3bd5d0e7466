"""The comparison with a big_vision checkout: its errors without one and, if there is one, its results."""

import contextlib
import dataclasses
import importlib
import os
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Literal

import jax
import numpy as np
import pytest

from radvqa_jax.backbones import PALIGEMMA, abstract_params, fake_params
from radvqa_jax.checkpoints import big_vision
from radvqa_jax.config import ExportConfig, LoraConfig
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.export.card import Card
from radvqa_jax.export.export import Source, export_model
from radvqa_jax.export.merged import Merge
from radvqa_jax.models import lora as lora_lib
from radvqa_jax.models.variants import VARIANTS, variant_name
from radvqa_jax.trees import unflatten


@pytest.fixture
def script(repo: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(repo / "scripts")
    monkeypatch.setattr(sys, "path", list(sys.path))  # the script adds the checkout to it
    yield importlib.import_module("check_big_vision")
    for name in [name for name in sys.modules if name.split(".")[0] == "big_vision"]:
        del sys.modules[name]


def fake_checkout(folder: Path, **modules: str) -> Path:
    """Makes a checkout whose modules have this code and nothing else."""
    places = {"paligemma": "proj/paligemma", "gemma_bv": "proj/paligemma", "gemma": "ppp"}
    for name, place in places.items():
        path = folder / "big_vision" / "models" / place / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(modules.get(name, ""))
    return folder


def run(repo: Path, checkout: Path, *more: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, repo / "scripts" / "check_big_vision.py", "--checkout", checkout, *more]
    env = os.environ | {"PYTHONPATH": str(repo)}
    return subprocess.run(command, cwd=repo, env=env, capture_output=True, text=True, check=False)


def test_a_folder_that_is_not_a_checkout_is_named_from_the_shell(repo: Path, tmp_path: Path) -> None:
    done = run(repo, tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"error: --checkout={tmp_path} is not a checkout of google-research/big_vision: it has no "
        "big_vision/models/proj/paligemma/paligemma.py. Give the folder that contains the folder big_vision."
    )


def test_the_inner_folder_is_not_a_checkout_either(script: ModuleType, tmp_path: Path) -> None:
    inner = fake_checkout(tmp_path) / "big_vision"
    with pytest.raises(ValueError, match="Give the folder that contains the folder big_vision"):
        script.load_modules(inner)


@pytest.mark.parametrize(
    ("module", "way_out"), [("tensorflow_absent", r"pip install -e '\.\[tf\]'"), ("absent", "Install it first")]
)
def test_packages_that_big_vision_lacks_are_named(
    module: str, way_out: str, script: ModuleType, tmp_path: Path
) -> None:
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


@pytest.mark.parametrize("name", ["hf/model.safetensors", "absent.npz", "hf"])
def test_a_checkpoint_that_big_vision_cannot_read_is_named(name: str, repo: Path, tmp_path: Path) -> None:
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf/model.safetensors").touch()
    done = run(repo, tmp_path, "--checkpoint", tmp_path / name)
    assert done.returncode == 1
    assert f"--checkpoint={tmp_path / name} is not an .npz file" in done.stderr and "configs/export.py" in done.stderr


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_has_the_switches_of_its_gemma(name: str, script: ModuleType) -> None:
    llm = VARIANTS[name].llm
    same = script.KINDS[script.kind_of(llm)]
    assert (llm.post_norms, llm.num_kv_heads == llm.num_heads) == (same.post_norms, same.num_kv_heads == same.num_heads)
    assert bool(llm.query_scale) == bool(same.query_scale) and bool(llm.attn_softcap) == bool(same.attn_softcap)


def test_weights_that_big_vision_reads_differently_are_listed(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With stand-ins for its model and loader, the comparison itself is tested without TensorFlow."""
    variant = VARIANTS["dummy"]
    flat = fake_params(variant)
    big_vision.save(tmp_path / "x.npz", flat)
    read = {name: np.asarray(leaf) for name, leaf in flat.items()}
    read["img/head/bias"] = read["img/head/bias"] + 1
    model = types.SimpleNamespace(init=lambda *_: {"params": {}})
    monkeypatch.setattr(script, "build", lambda *_: (model, contextlib.nullcontext()))
    modules = {script.PALIGEMMA: types.SimpleNamespace(load=lambda wanted, path, settings: unflatten(read))}
    (check,) = script.check_file(modules, tmp_path / "x.npz", variant, 0)
    assert (check.error, check.holds) == (1.0, False)
    assert capsys.readouterr().out == "  other values: img/head/bias\n"


needs_big_vision = pytest.mark.skipif(
    "RADVQA_BIG_VISION" not in os.environ, reason="needs big_vision: set RADVQA_BIG_VISION=CHECKOUT"
)


@pytest.mark.slow
@needs_big_vision
def test_both_implementations_agree(repo: Path) -> None:
    done = run(repo, Path(os.environ["RADVQA_BIG_VISION"]))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("20 passed, 0 failed\n")


@pytest.mark.slow
@needs_big_vision
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("kind", ["gemma_2b", "gemma_7b", "gemma2_2b", "gemma2_27b"])
def test_big_vision_loads_an_export_with_its_own_loader(
    kind: str, dtype: Literal["bfloat16", "float32"], script: ModuleType, repo: Path, tmp_path: Path, golden: Path
) -> None:
    """An adapter on both towers is merged and exported; shapes do not tell the scale of 27B, so it is given."""
    llm = dataclasses.replace(script.KINDS[kind], vocab_size=1664)
    variant = dataclasses.replace(VARIANTS["dummy"], llm=llm)
    big_vision.save(tmp_path / "base.npz", fake_params(variant))
    lora = LoraConfig(rank=2, alpha=6.0, targets=((".*", "lora"),))
    resolved = lora_lib.resolve(lora, abstract_params(variant), PALIGEMMA.equations)
    assert resolved is not None
    shapes = jax.eval_shape(lambda: lora_lib.init(jax.random.key(0), resolved, abstract_params(variant)))
    rng = np.random.default_rng(1)
    factors = {name: (0.3 * rng.normal(size=leaf.shape)).astype(np.float32) for name, leaf in shapes.items()}
    merge = Merge(tmp_path / "base.npz", abstract_params(variant), factors, resolved)
    source = Source(merge, lora, variant, Tokenizer(golden / "tiny_tokenizer.model"), "answer en {question}", 4)
    card = Card("t", "f", "b", "", "v", variant.resolution, "p", dtype, [], [], [], "", [], "0")
    out = export_model(source, tmp_path / "out", config=ExportConfig("big_vision", dtype), card=card).folder
    done = run(
        repo, Path(os.environ["RADVQA_BIG_VISION"]),
        "--checkpoint", out / "model.npz", "--variant", variant_name(variant),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("5 passed, 0 failed\n")
