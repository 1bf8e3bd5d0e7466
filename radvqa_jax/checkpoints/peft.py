"""PEFT adapter folders (`adapter_config.json`, `adapter_model.safetensors`): read as our adapters, and written.

PEFT has one pair of factors for each linear module, A [rank, in] and B [out, rank]. Ours are stacked as the weights are
(layers; key and value; the two gates), each slice with factors of its own, so both ways are exact. If an adapter leaves
out modules that share a leaf here (some layers, the value without the key), their factors are zero: they add nothing,
and because both factors are zero, further training would not change that.

Names are written as transformers 4.52 has them, which that and every later version loads; all known ones are read.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from einops import rearrange

from radvqa_jax import files
from radvqa_jax.checkpoints import huggingface, layouts
from radvqa_jax.checkpoints.adapter import LORA_A, LORA_B
from radvqa_jax.checkpoints.adapter_meta import AdapterMeta
from radvqa_jax.checkpoints.huggingface import LAYERS, STACKED, Place
from radvqa_jax.checkpoints.npz import FLOATS, PathLike, count_nonfinite
from radvqa_jax.checkpoints.peft_config import MERGE, PeftScale, check_config, target_modules
from radvqa_jax.checkpoints.safetensors_files import SafetensorsReader, Tensor, write_file
from radvqa_jax.config import LoraConfig
from radvqa_jax.trees import Flat, compile_pattern

CONFIG, MODEL = "adapter_config.json", "adapter_model.safetensors"
WRAPPED = "base_model.model."  # PEFT's own wrapper around the model
REMEDY = "Give a PEFT folder with adapter_config.json and adapter_model.safetensors, or the adapter.npz of a stage."

_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<which>[AB])(?:\.(?!weight$)[^.]+)?\.weight")


def is_peft(path: PathLike) -> bool:
    """Whether a path is a PEFT adapter folder."""
    return (Path(path).expanduser() / CONFIG).is_file()


class _Module(NamedTuple):
    """The factors of one PEFT module, A [rank, in] and B [out, rank]."""

    a: np.ndarray
    b: np.ndarray
    scale: float


def load_peft(folder: PathLike, weights: Mapping[str, Any], *, own: bool = False) -> tuple[Flat, AdapterMeta]:
    """({leaf name: float32 array}, meta) of a PEFT adapter, for a model with these leaves (shapes suffice).

    Ranks and scales that differ between modules become one rank, with zeros, and one scale, with factors B multiplied.

    Args:
        folder: with the two files.
        weights: flat tree of the base model.
        own: the folder is an export of this project, whose trained projector is also read.

    Raises:
        FileNotFoundError: if one of the two files is missing.
        ValueError: if the adapter has a setting without an equivalent in this project (it is named), or does not fit.
    """
    folder = Path(folder).expanduser()
    config = files.read_json(folder / CONFIG)
    where = folder / CONFIG
    scaling, targets = check_config(config, where=where, projector=own)
    if not (folder / MODEL).is_file():
        pickled = (
            " adapter_model.bin is a pickle and is never read." if (folder / "adapter_model.bin").is_file() else ""
        )
        raise FileNotFoundError(f"{folder} holds no {MODEL}.{pickled} {REMEDY}")
    with SafetensorsReader(folder / MODEL, remedy=REMEDY) as reader:
        projector = layouts.layout_of(weights).projector if own else ()
        whole, modules = _read_modules(reader, scaling, where=folder, projector=projector)
    if not whole and not modules:
        raise ValueError(
            f"{folder / MODEL} holds no factors, so that the model would answer as its base does. Save it again, with "
            "the weights gathered first if they are sharded (DeepSpeed ZeRO-3)."
        )
    rank = max((module.a.shape[0] for module in modules.values()), default=0)
    scale = Counter(module.scale for module in modules.values()).most_common(1)[0][0] if modules else 1.0
    leaves = _assemble(modules, weights, rank=rank, scale=scale, where=folder)
    for name in modules:
        if setting := targets.leaves_out(_aliases(name)):
            raise ValueError(
                f"{where}: {setting} leaves out {name}, and {MODEL} has factors of it, which PEFT would ignore. Was "
                f"one of the two files edited? {REMEDY}"
            )
    lora = LoraConfig(
        rank=rank,
        alpha=scale * (math.sqrt(rank) if scaling.use_rslora else rank) if rank else LoraConfig().alpha,
        dropout=scaling.lora_dropout,
        rslora=scaling.use_rslora,
        targets=_rules(sorted({name.removesuffix(LORA_A) for name in leaves if name.endswith(LORA_A)}), weights),
    )
    base = str(config.get("base_model_name_or_path") or "an unnamed base")
    meta = AdapterMeta(stage="peft", step=0, lora=lora, base_name=base, base_sha256="", config_sha256="")
    return leaves | whole, meta


def save_peft(folder: PathLike, leaves: Mapping[str, Any], lora: LoraConfig, *, base_name: str) -> Path:
    """Writes the two files; returns the folder.

    Args:
        folder: made if it is missing.
        leaves: adapters `<weight>/lora_a`, `<weight>/lora_b` and, if it was trained, the whole projector.
        lora: rank, alpha and the kind of scale.
        base_name: of the base model, for loaders of the adapter: a name on the Hub, or a folder.

    Raises:
        ValueError: if a leaf has no place in a PEFT adapter.
    """
    folder = Path(folder)
    weights = sorted(name.removesuffix(LORA_A) for name in leaves if name.endswith(LORA_A))
    projector = layouts.layout_of(leaves).projector
    whole = [name for name in projector if name in leaves]
    known = {f"{name}{factor}" for name in weights for factor in (LORA_A, LORA_B)} | set(whole)
    if other := sorted(set(leaves) - known):
        raise ValueError(
            f"A PEFT adapter holds factors and the projector; these trained leaves are neither: {other}. Merge them "
            "into the base: export.format=huggingface or big_vision."
        )
    if set(whole) & set(weights) or len(whole) == 1:
        raise ValueError(f"The projector must be whole ({projector}) and have no factors of its own; got {whole}.")
    tensors: dict[str, np.ndarray] = {}
    modules: list[str] = []
    table = layouts.places([*weights, *whole])
    for name in weights:
        a, b = (np.asarray(leaves[f"{name}{factor}"], np.float32) for factor in (LORA_A, LORA_B))
        for module, pair in _split(table[name], a, b):
            modules.append(huggingface.module_name(module))
            tensors |= {f"{WRAPPED}{modules[-1]}.lora_{which}.weight": factor for which, factor in pair.items()}
    for name in whole:
        place = table[name]
        tensor = huggingface.to_tensor(place, np.asarray(leaves[name], np.float32))
        tensors[f"{WRAPPED}{huggingface.module_name(place.names[0])}"] = tensor
    specs = [Tensor(name, array.shape, array.dtype) for name, array in tensors.items()]
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / MODEL, specs, tensors.items())
    files.write_json(folder / CONFIG, _config(lora, modules, base_name=base_name, projector=bool(whole)))
    return folder


def _config(lora: LoraConfig, modules: list[str], *, base_name: str, projector: bool) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "r": lora.rank or 1,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "use_rslora": lora.rslora,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "modules_to_save": ["multi_modal_projector"] if projector else None,
        "target_modules": target_modules(modules),
    }


def _axes(place: Place) -> tuple[str, str, str, str]:
    """The axes of a slice of our A and B, and of PEFT's A and B, as einops writes them (`r` is the rank)."""
    out, into = re.findall(r"\([^)]*\)|\S+", place.theirs)
    made, contracted = out.strip("()"), into.strip("()")
    return f"{contracted} r", f"r {made}", f"r {into}", f"{out} r"


def _split(place: Place, a: np.ndarray, b: np.ndarray) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yields (canonical name of a module, its A and B as PEFT has them)."""
    our_a, our_b, their_a, their_b = _axes(place)
    for index, name in huggingface.parts(place, a.shape[0] if place.layered else 1):
        pair = {"A": rearrange(a[index], f"{our_a} -> {their_a}"), "B": rearrange(b[index], f"{our_b} -> {their_b}")}
        yield name.removesuffix(".weight"), {which: np.ascontiguousarray(factor) for which, factor in pair.items()}


def _read_modules(
    reader: SafetensorsReader, scaling: PeftScale, *, where: Path, projector: tuple[str, ...]
) -> tuple[Flat, dict[str, _Module]]:
    """(trained projector, {canonical name of a weight: its factors})."""
    factors: dict[str, dict[str, np.ndarray]] = {}
    whole: Flat = {}
    for name in sorted(reader.shapes):
        inner = name.removeprefix(WRAPPED)
        array = _to_float32(reader, name)
        if (hit := _FACTOR.fullmatch(inner)) and "lora_embedding" not in inner:
            weight = huggingface.canonical(f"{hit['module']}.weight")
            if hit["which"] in factors.setdefault(weight, {}):
                raise ValueError(f"{where} holds the factors of {weight} twice, under two names. {REMEDY}")
            factors[weight][hit["which"]] = array
        elif projector and huggingface.canonical(inner).startswith("multi_modal_projector.linear."):
            leaf = projector[0] if inner.endswith(".weight") else projector[1]
            whole[leaf] = huggingface.from_tensor(layouts.places([leaf])[leaf], array, {})
        else:
            raise ValueError(f"{where} holds {name}, which is no LoRA factor of a linear weight. {MERGE}")
    return whole, {name: _module(name, pair, scaling, where=where) for name, pair in factors.items()}


def _to_float32(reader: SafetensorsReader, name: str) -> np.ndarray:
    array = reader.read(name)
    if array.dtype not in FLOATS:
        raise ValueError(f"{reader.path}: {name} must hold floats, got {array.dtype}. {REMEDY}")
    if bad := count_nonfinite(array, np.float32):
        raise ValueError(f"{reader.path}: {name} has {bad:,} NaN or infinite values of {array.size:,}. {REMEDY}")
    return array.astype(np.float32)


def _module(name: str, pair: Mapping[str, np.ndarray], scaling: PeftScale, *, where: Path) -> _Module:
    if set(pair) != {"A", "B"}:
        raise ValueError(f"{where} holds only lora_{''.join(pair)} of {name}. {REMEDY}")
    a, b = pair["A"], pair["B"]
    rank = _by_pattern(scaling.rank_pattern, name, scaling.r, what=f"{where / CONFIG}, rank_pattern")
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1] or a.shape[0] != rank:
        raise ValueError(
            f"{where}: the factors of {name} are {a.shape} and {b.shape}, but adapter_config.json gives rank {rank}: "
            f"A must be [rank, in] and B [out, rank]. {REMEDY}"
        )
    alpha = _by_pattern(scaling.alpha_pattern, name, scaling.lora_alpha, what=f"{where / CONFIG}, alpha_pattern")
    return _Module(a, b, alpha / (math.sqrt(rank) if scaling.use_rslora else rank))


def _aliases(name: str) -> set[str]:
    """The names of the module with this weight, in every version."""
    module = name.removesuffix(".weight")
    return {module, huggingface.hub_name(module), huggingface.module_name(module), f"model.{module}"}


def _by_pattern(patterns: Mapping[str, Any], name: str, default: Any, *, what: str) -> Any:
    """The value of the first pattern that ends the module's name, whichever version's name that is."""
    aliases = _aliases(name)
    for pattern, value in patterns.items():
        compiled = compile_pattern(rf"(?:.*\.)?(?:{pattern})", what)
        if any(compiled.fullmatch(alias) for alias in aliases):
            return value
    return default


def _assemble(
    modules: Mapping[str, _Module], weights: Mapping[str, Any], *, rank: int, scale: float, where: Path
) -> Flat:
    """Our stacked factors; raises ValueError that lists the modules that no linear weight of the model has."""
    leaves: Flat = {}
    left = dict(modules)
    problems: list[str] = []
    for name, place in layouts.places(weights).items():
        shape = tuple(weights[name].shape)
        parts = list(huggingface.parts(place, shape[0] if place.layered else 1))
        if not _is_linear(place) or not any(module in modules for _, module in parts):
            continue
        sizes = huggingface.axis_sizes(place, shape) | {"r": rank}
        our_a, our_b, their_a, their_b = _axes(place)
        stack = tuple(sizes[axis] for axis in (LAYERS, STACKED) if axis in place.ours.split())
        a, b = (np.zeros((*stack, *(sizes[axis] for axis in axes.split())), np.float32) for axes in (our_a, our_b))
        out, into = huggingface.tensor_shape(place, shape)
        for index, module_name in parts:
            module = left.pop(module_name, None)
            if module is None:
                continue
            r = module.a.shape[0]
            if (module.b.shape[0], module.a.shape[1]) != (out, into):
                problems.append(f"{module_name}: {(module.b.shape[0], module.a.shape[1])}, the model has {(out, into)}")
                continue
            a[index][..., :r] = _unfold(module.a, their_a, our_a, sizes)
            factor = module.b if module.scale == scale else module.b * np.float32(module.scale / scale)
            b[index][:r] = _unfold(factor, their_b, our_b, sizes)
        leaves |= {f"{name}{LORA_A}": a, f"{name}{LORA_B}": b}
    problems += [f"{module}: the model has no such linear weight" for module in sorted(left)]
    if problems:
        listed = "\n  ".join(problems)
        raise ValueError(f"{where} does not fit the base model:\n  {listed}\nGive the base that it was trained on.")
    return leaves


def _unfold(factor: np.ndarray, theirs: str, ours: str, sizes: Mapping[str, int]) -> np.ndarray:
    return rearrange(factor, f"{theirs} -> {ours}", **{axis: sizes[axis] for axis in ours.split() if axis != "r"})


def _is_linear(place: Place) -> bool:
    """Whether a leaf's tensors are matrices of a linear module."""
    return place.names[0].endswith(("_proj.weight", ".fc1.weight", ".fc2.weight", "projector.linear.weight"))


def _rules(targets: list[str], weights: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Rules that choose exactly these weights."""
    if not targets:
        return LoraConfig().targets
    linear = [name for name, place in layouts.places(weights).items() if _is_linear(place)]
    rules = (("|".join(map(re.escape, targets)), "lora"),)
    return rules if set(linear) == set(targets) else (*rules, (".*", "none"))
