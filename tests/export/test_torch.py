"""Exports and folders compared with transformers and peft, in two versions: the same logits, loss and greedy tokens.

The newer version is the one of this environment. The older one is in the folder that RADVQA_TRANSFORMERS_OLD names
(scripts/old_transformers.sh makes it) and stands first on PYTHONPATH. One process a version loads everything.
"""

import functools
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from radvqa_jax import files
from radvqa_jax.backbones import PALIGEMMA, abstract_params
from radvqa_jax.checkpoints import big_vision
from radvqa_jax.checkpoints.peft import load_peft
from radvqa_jax.config import DecodeConfig, ExportConfig, LoraConfig
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.decoding.decode import decode
from radvqa_jax.export.card import Card
from radvqa_jax.export.export import Source, export_model
from radvqa_jax.export.merged import Merge
from radvqa_jax.models import lora as lora_lib
from radvqa_jax.models.hf_config import variant_of
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.models.variants import GemmaConfig, SiglipConfig, Variant
from radvqa_jax.models.vision_language import variables
from radvqa_jax.schema import Batch
from radvqa_jax.trees import Flat

pytestmark = [pytest.mark.slow, pytest.mark.torch]

IMG = SiglipConfig(width=32, depth=2, mlp_dim=48, num_heads=4, patch=14)
LLM = GemmaConfig(width=64, depth=2, mlp_dim=96, num_heads=4, num_kv_heads=1, head_dim=16, vocab_size=1664)
GEMMA = Variant(IMG, LLM, 28)
GEMMA2 = Variant(IMG, replace(LLM, num_kv_heads=2, attn_softcap=50.0, post_norms=True), 28)
FUSED = Variant(IMG, replace(LLM, num_kv_heads=4), 28)
MODELS = {"gemma": GEMMA, "gemma2": GEMMA2, "fused": FUSED}

EVERY = r".*"
TARGETS = {
    "img-query": r"img/.*/query/kernel",
    "img-key": r"img/.*/key/kernel",
    "img-value": r"img/.*/value/kernel",
    "img-out": r"img/.*/out/kernel",
    "img-fc1": r"img/.*/Dense_0/kernel",
    "img-fc2": r"img/.*/Dense_1/kernel",
    "projector": r"img/head/kernel",
    "llm-q": r"llm/.*/q_einsum/w",
    "llm-kv": r"llm/.*/kv_einsum/w",
    "llm-o": r"llm/.*/attn_vec_einsum/w",
    "llm-gates": r"llm/.*/gating_einsum",
    "llm-down": r"llm/.*/linear",
}


class Adapter(NamedTuple):
    lora: LoraConfig
    whole: tuple[str, ...] = ()  # base leaves that were trained, too


ADAPTERS = {
    **{
        f"gemma/{name}": Adapter(LoraConfig(3, 7.0, targets=((rule, "lora"), (EVERY, "none"))))
        for name, rule in TARGETS.items()
    },
    "gemma/all": Adapter(LoraConfig(2, 5.0, targets=((EVERY, "lora"),))),
    "gemma2/all-rslora": Adapter(LoraConfig(4, 3.0, rslora=True, targets=((EVERY, "lora"),))),
    "fused/all": Adapter(LoraConfig(3, 6.0, targets=((EVERY, "lora"),))),
    "gemma/attention-and-projector": Adapter(LoraConfig(3, 7.0), ("img/head/kernel", "img/head/bias")),
}
MERGED = {"gemma/merged": "gemma/all", "gemma2/merged": "gemma2/all-rslora", "fused/merged": "fused/all"}
HARMLESS = ("loss_type=None", "use_fast", "image tokens", "torch_dtype")  # messages that concern no weight


class Case(NamedTuple):
    """One export, in memory."""

    variant: Variant
    lora: lora_lib.Lora | None
    leaves: Flat  # the base and what was trained


CASES: dict[str, Case] = {}  # filled by the fixture below


class World(NamedTuple):
    """Everything that both versions loaded, and what they answered."""

    cases: dict[str, Case]
    inputs: dict[str, np.ndarray]
    folders: dict[str, Path]
    results: dict[str, dict[str, tuple[dict[str, Any], dict[str, np.ndarray]]]]  # version -> case -> (said, arrays)


def draw(shapes: Flat, seed: int, std: float = 0.2) -> Flat:
    rng = np.random.default_rng(seed)
    return {name: (std * rng.normal(size=leaf.shape)).astype(np.float32) for name, leaf in shapes.items()}


def card(variant: Variant) -> Card:
    return Card("t", "f", "b", "", "v", variant.resolution, "p", "float32", [], [], [], "", [], "0")


def export(name: str, model: str, adapter: Adapter | None, root: Path, tokenizer: Tokenizer, **fields: Any) -> Case:
    variant, abstract = MODELS[model], abstract_params(MODELS[model])
    base = big_vision.load(root / f"{model}.npz", abstract)[0]
    lora = lora_lib.resolve(adapter.lora, abstract, PALIGEMMA.equations) if adapter else None
    trained: Flat = {}
    if adapter and lora:
        trained = draw(jax.eval_shape(lambda: lora_lib.init(jax.random.key(0), lora, abstract)), 2)
        trained |= draw({leaf: abstract[leaf] for leaf in adapter.whole}, 3)
    merge = Merge(root / f"{model}.npz", abstract, trained, lora)
    source = Source(merge, adapter.lora if adapter else LoraConfig(), variant, tokenizer, "answer en {question}", 7)
    config = ExportConfig(base_name=str(root / "out" / model / "base"), **fields)
    export_model(source, root / "out" / name, config=config, card=card(variant))
    return Case(variant, lora, base | {leaf: jnp.asarray(value) for leaf, value in trained.items()})


def make_inputs() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    tokens = rng.integers(5, 500, (2, 12))
    mask_ar = np.zeros((2, 12), np.int64)
    mask_ar[0, 6:] = mask_ar[1, 4:] = 1
    lengths = np.array([6, 4])
    image = rng.uniform(-1, 1, (2, 28, 28, 3)).astype(np.float32)
    return {
        "image": image,
        "tokens": tokens,
        "mask_ar": mask_ar,
        "mask_loss": mask_ar,
        "prompt": tokens[:, :6],
        "prompt_length": lengths,
    }


def break_a_name(folder: Path, broken: Path) -> None:
    """Copies an adapter with one module's names spelled as transformers 4.51 had them."""
    from safetensors.numpy import load_file, save_file

    broken.mkdir()
    (broken / "adapter_config.json").write_bytes((folder / "adapter_config.json").read_bytes())
    tensors = load_file(folder / "adapter_model.safetensors")
    old, new = "model.model.language_model.layers.1.mlp.up_proj", "model.language_model.model.layers.1.mlp.up_prj"
    save_file({name.replace(old, new): value for name, value in tensors.items()}, broken / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, golden: Path) -> World:
    root = tmp_path_factory.mktemp("exports")
    tokenizer = Tokenizer(golden / "tiny_tokenizer.model")
    cases = CASES
    for model, variant in MODELS.items():
        big_vision.save(root / f"{model}.npz", draw(abstract_params(variant), 0))
        name = f"{model}/base"
        shard = 0.0002 if model == "gemma2" else 5.0
        cases[name] = export(name, model, None, root, tokenizer, format="huggingface", dtype="float32", shard_gb=shard)
    for name, adapter in ADAPTERS.items():
        cases[name] = export(name, name.split("/")[0], adapter, root, tokenizer, format="peft")
    for name, adapted in MERGED.items():
        kind = {"format": "huggingface", "dtype": "float32"}
        cases[name] = export(name, name.split("/")[0], ADAPTERS[adapted], root, tokenizer, **kind)
    break_a_name(root / "out/gemma/all", root / "out/gemma/broken")
    inputs = make_inputs()
    np.savez(root / "in.npz", **inputs)
    folders = {name: root / "out" / name for name in [*cases, "gemma/broken"]}
    results = {version: ask(version, folders, root) for version in ("new", "old")}
    return World(cases, inputs, folders, {version: found for version, found in results.items() if found})


def config_for_transformers(variant: Variant) -> dict[str, Any]:
    """The configuration from which transformers builds a random model, independent of our code."""
    llm, img = variant.llm, variant.img
    vision = {"model_type": "siglip_vision_model", "hidden_size": img.width, "intermediate_size": img.mlp_dim}
    vision |= {"num_hidden_layers": img.depth, "num_attention_heads": img.num_heads, "patch_size": img.patch}
    text = {"model_type": "gemma2" if llm.post_norms else "gemma", "vocab_size": 640, "hidden_size": llm.width}
    text |= {"intermediate_size": llm.mlp_dim, "num_hidden_layers": llm.depth, "head_dim": llm.head_dim}
    text |= {"num_attention_heads": llm.num_heads, "num_key_value_heads": llm.num_kv_heads}
    text |= {"query_pre_attn_scalar": 16, "final_logit_softcapping": None} if llm.post_norms else {}
    return {
        "vision_config": vision | {"image_size": 28},  # with the pooling head, as by default
        "text_config": text,
        "projection_dim": llm.width,
        "image_token_index": 639,
    }


def ask(version: str, folders: dict[str, Path], root: Path) -> dict[str, tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """The answers of one version of transformers for every folder; empty if that version is not installed."""
    first = os.environ.get("RADVQA_TRANSFORMERS_OLD", "") if version == "old" else ""
    if version == "old" and not first:
        return {}
    jobs: dict[str, dict[str, Any]] = {}
    for name, folder in folders.items():
        base = root / "out" / name.split("/")[0] / "base"
        adapter = folder if (folder / "adapter_config.json").is_file() else None
        jobs[name] = {"base": str(base if adapter else folder), "adapter": str(adapter) if adapter else None}
        jobs[name]["inputs"] = str(root / "in.npz")
    jobs["gemma/load_adapter"] = jobs["gemma/all"] | {"how": "load_adapter"}
    for model, dtype in (("gemma", "float16"), ("gemma2", "bfloat16"), ("fused", "float32")):
        made = str(root / f"made-{version}-{model}")
        config = config_for_transformers(MODELS[model])
        jobs[f"make/{model}"] = {"make": made, "config": config, "dtype": dtype, "shard": "200KB"}
        jobs[f"made/{model}"] = {"base": made, "adapter": None, "inputs": str(root / "in.npz")}
    jobs["peft/make"] = {"make_adapter": str(root / f"peft-{version}"), "base": jobs["gemma/all"]["base"]}
    jobs["peft/made"] = jobs["gemma/all"] | {"adapter": str(root / f"peft-{version}")}
    folder = root / version
    folder.mkdir()
    (root / f"{version}.json").write_text(json.dumps(list(jobs.values())))
    command = [sys.executable, Path(__file__).with_name("hf_worker.py"), root / f"{version}.json", folder]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": first}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = {}
    for number, name in enumerate(jobs):
        said = json.loads((folder / f"{number}.json").read_text())
        assert "error" not in said, (version, name, said["error"])
        arrays = dict(np.load(folder / f"{number}.npz")) if (folder / f"{number}.npz").is_file() else {}
        found[name] = (said, arrays)
    return found


def ours(case: Case, inputs: dict[str, np.ndarray], *, rows: int = 0) -> dict[str, np.ndarray]:
    """Logits, the loss as transformers takes it (over all targets), and greedy tokens."""
    lora = replace(case.lora, dropout=0.0) if case.lora else None
    model, collections = PaliGemma(case.variant, lora), variables(case.leaves)
    tokens, mask_ar = (jnp.asarray(inputs[name]) for name in ("tokens", "mask_ar"))
    with jax.default_matmul_precision("highest"):
        logits = jax.jit(model.apply)(collections, inputs["image"], tokens[:, :-1], mask_ar[:, :-1])
        # The folder has more rows of the vocabulary; they repeat the padding token's.
        padded = jnp.concatenate([logits, jnp.repeat(logits[..., :1], max(0, rows - logits.shape[-1]), axis=-1)], -1)
        # transformers drops the last input's label: it predicts nothing that was given.
        targets, weights = tokens[:, 1:-1], inputs["mask_loss"][:, 1:-1]
        nll = -jnp.take_along_axis(jax.nn.log_softmax(padded[:, :-1]), targets[..., None], -1)[..., 0]
        loss = (nll * weights).sum() / weights.sum()
        greedy = _greedy(model, case.leaves, inputs)
    return {"logits": np.asarray(logits), "loss": np.asarray(loss), "greedy": greedy}


def _greedy(model: PaliGemma, leaves: Flat, inputs: dict[str, np.ndarray]) -> np.ndarray:
    prompt, length = inputs["prompt"], inputs["prompt_length"]
    real = (np.arange(prompt.shape[1])[None] < length[:, None]).astype(np.int32)
    tokens = (prompt * real).astype(np.int32)
    batch = Batch(inputs["image"], tokens, 1 - real, real * 0, real, np.ones(len(tokens), bool))
    out = decode(model, leaves, batch, jax.random.key(0), config=DecodeConfig(max_new_tokens=7), eos=1, pad=0)
    return np.asarray(out.tokens)[:, 0]


@functools.cache
def wanted(name: str, rows: int) -> dict[str, np.ndarray]:
    """Our own answers for a case, made once for both versions."""
    return ours(CASES[name], make_inputs(), rows=rows)


def check_quiet(said: dict[str, Any]) -> None:
    """Checks that no key is missing or left over, and that no message names one."""
    for kind, keys in said.get("loading", {}).items():
        assert keys == [], f"{kind}: {keys[:5]}"
    assert said["warnings"] == []
    loud = [line for line in said["logged"] if not any(part in line for part in HARMLESS)]
    assert loud == []


def versions() -> list[Any]:
    absent = "no older transformers: scripts/old_transformers.sh DIR, and RADVQA_TRANSFORMERS_OLD=DIR"
    old = pytest.mark.skipif(not os.environ.get("RADVQA_TRANSFORMERS_OLD"), reason=absent)
    return ["new", pytest.param("old", marks=old)]


@pytest.mark.parametrize("version", versions())
@pytest.mark.parametrize("name", [*(f"{model}/base" for model in MODELS), *ADAPTERS, *MERGED])
def test_an_export_gives_the_same_logits_loss_and_tokens(world: World, version: str, name: str) -> None:
    said, got = world.results[version][name]
    check_quiet(said)
    want = wanted(name, got["logits"].shape[-1])
    np.testing.assert_allclose(got["logits"][..., : want["logits"].shape[-1]], want["logits"], atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(got["loss"], want["loss"], rtol=1e-5)
    np.testing.assert_array_equal(got["greedy"], want["greedy"])
    assert int(got["image_token"]) == 1664  # the first id that the tokenizer leaves free


@pytest.mark.parametrize("version", versions())
def test_an_adapter_reaches_exactly_its_modules(world: World, version: str) -> None:
    for name in ADAPTERS:
        said, _ = world.results[version][name]
        lora = world.cases[name].lora
        assert lora is not None
        depth = {"img": IMG.depth, "llm": LLM.depth}
        stacked = {"kv_einsum": 2, "qkv_einsum": 3, "gating_einsum": 2}
        count = sum(
            (1 if target.startswith("img/head") else depth[target[:3]])
            * next((n for part, n in stacked.items() if part in target.split("/")), 1)
            for target in lora.targets
        )
        assert len(said["adapted"]) == count, name


@pytest.mark.parametrize("version", versions())
def test_load_adapter_of_transformers_loads_it(world: World, version: str) -> None:
    said, got = world.results[version]["gemma/load_adapter"]
    check_quiet(said)
    np.testing.assert_allclose(got["logits"], world.results[version]["gemma/all"][1]["logits"], atol=1e-5)


@pytest.mark.parametrize("version", versions())
def test_a_broken_name_is_seen(world: World, version: str) -> None:
    said, got = world.results[version]["gemma/broken"]
    with pytest.raises(AssertionError):
        check_quiet(said)
    right = world.results[version]["gemma/all"][1]["logits"]
    assert np.abs(got["logits"] - right).max() > 1e-2


@pytest.mark.parametrize("version", versions())
@pytest.mark.parametrize("model", MODELS)
def test_a_folder_that_transformers_saved_gives_its_logits(world: World, version: str, model: str) -> None:
    _, got = world.results[version][f"made/{model}"]
    folder = next(iter(world.folders.values())).parents[2] / f"made-{version}-{model}"
    variant = variant_of(files.read_json(folder / "config.json"), what="config.json")
    leaves, report = big_vision.load(folder, abstract_params(variant))
    assert all("head." in line for line in report.ignored)
    want = ours(Case(variant, None, leaves), world.inputs)
    np.testing.assert_allclose(got["logits"], want["logits"], atol=1e-4, rtol=1e-4)
    np.testing.assert_array_equal(got["greedy"], want["greedy"])


@pytest.mark.parametrize("version", versions())
def test_an_adapter_that_peft_made_is_loaded(world: World, version: str) -> None:
    _, got = world.results[version]["peft/made"]
    folder = next(iter(world.folders.values())).parents[2] / f"peft-{version}"
    base = world.cases["gemma/base"]
    leaves, meta = load_peft(folder, base.leaves)
    lora = lora_lib.resolve(meta.lora, base.leaves, PALIGEMMA.equations)
    assert lora is not None and meta.lora.rank == 5 and meta.lora.rslora
    want = ours(base._replace(lora=lora, leaves=base.leaves | leaves), world.inputs)
    np.testing.assert_allclose(got["logits"][..., :1664], want["logits"], atol=1e-4, rtol=1e-4)
    assert np.abs(got["logits"] - world.results[version]["gemma/base"][1]["logits"]).max() > 0.1
