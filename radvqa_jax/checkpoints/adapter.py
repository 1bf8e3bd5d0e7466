"""What a stage leaves behind: `adapter.npz`, the leaves that differ from the base, and `adapter.json` about them.

The leaves are trained base leaves (`img/head/kernel`) and adapters (`<weight>/lora_a`, `<weight>/lora_b`), float32.
The description says which base they belong to, and holds the sha256 of the `.npz`, so that a pair whose writing was
interrupted, or which was mixed from two stages, is recognised.
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from radvqa_jax import files, trees
from radvqa_jax.checkpoints.npz import FLOATS, NpzReader, PathLike, count_nonfinite, write_npz
from radvqa_jax.config import LoraConfig
from radvqa_jax.trees import Flat

NPZ, JSON = "adapter.npz", "adapter.json"
FORMAT = 1
LORA_A, LORA_B = "/lora_a", "/lora_b"

# Of adapter.json, beside `format`.
FIELD_TYPES = {
    "stage": str,
    "step": int,
    "lora": dict,
    "base_name": str,
    "base_sha256": str,
    "config_sha256": str,
    "sha256": str,
    "leaves": dict,
}

KIND = "the adapter.npz of a stage"
REMEDY = "Give the adapter.npz that a stage wrote, with its adapter.json beside it, or train the stage again."


class AdapterMeta(NamedTuple):
    """Where an adapter comes from, and what it belongs to."""

    stage: str  # stage1 or stage2
    step: int  # optimizer steps done
    lora: LoraConfig
    base_name: str  # the base checkpoint's file name
    base_sha256: str  # of that file
    config_sha256: str  # of the run's configuration


def save_adapter(folder: PathLike, leaves: Mapping[str, Any], meta: AdapterMeta) -> Path:
    """Writes `adapter.npz` and `adapter.json` into the folder; returns the path of the first.

    Raises:
        ValueError: if there is no leaf, a leaf is no float array or has a value that is not finite, an adapter lacks
            one of its two factors, or the base's sha256 is none.
    """
    if not leaves:
        raise ValueError(
            "An adapter without leaves was to be saved. A stage must train something: see its train rules."
        )
    if len(meta.base_sha256) != 64:
        raise ValueError(
            f"AdapterMeta.base_sha256 must be 64 hexadecimal digits; got {meta.base_sha256!r}. Take it from the "
            "LoadReport of the base checkpoint."
        )
    _check_factors(leaves, "The leaves to save")

    def arrays() -> Iterator[tuple[str, np.ndarray]]:
        for name in sorted(leaves):
            yield name, _to_float32(name, leaves[name])

    path = Path(folder) / NPZ
    write_npz(path, arrays())
    # The description comes last: without it, or with an older one, the pair is refused.
    files.write_json(path.with_name(JSON), _to_json(meta, leaves, files.sha256(path)))
    return path


def load_adapter(path: PathLike) -> tuple[Flat, AdapterMeta]:
    """Returns ({leaf name: float32 numpy array}, meta) from `adapter.npz`, or the folder that holds it.

    Raises:
        FileNotFoundError: if one of the two files is missing.
        ValueError: if a file is damaged, the format is unknown, or the two files do not belong together.
    """
    if not os.fspath(path):
        raise ValueError(f"The path of {KIND} is empty. {REMEDY}")
    npz = Path(path).expanduser()
    npz = npz / NPZ if npz.is_dir() else npz
    described = npz.with_suffix(".json")
    with NpzReader(npz, kind=KIND, remedy=REMEDY) as reader:
        if not described.exists():
            raise FileNotFoundError(f"{described} does not exist; it describes {npz.name}. {REMEDY}")
        text = files.read_json(described)
        meta = _from_json(described, text)
        _check_leaves(described, reader, text["leaves"])
        if (digest := files.sha256(npz)) != text["sha256"]:
            raise ValueError(
                f"{described} describes another {npz.name} (sha256 {text['sha256'][:16]}…, found {digest[:16]}…): one "
                f"of them was changed, or its writing was interrupted. {REMEDY}"
            )
        return {name: reader.read(name) for name in reader.shapes}, meta


def check_base(meta: AdapterMeta, sha256: str, *, name: str = "") -> None:
    """Raises ValueError if the adapter was trained on another base checkpoint than the one with this sha256."""
    if meta.base_sha256 != sha256:
        raise ValueError(
            f"The adapter of {meta.stage} was trained on {meta.base_name} (sha256 {meta.base_sha256[:16]}…), and not "
            f"on {name or 'this checkpoint'} (sha256 {sha256[:16]}…). Set model.checkpoint to the former, or train "
            f"{meta.stage} again on the latter."
        )


def _to_float32(name: str, leaf: Any) -> np.ndarray:
    host = np.asarray(leaf)
    if host.dtype not in FLOATS:
        raise ValueError(f"Leaf {name} must be a float array; got {host.dtype}. Flatten a nested tree first.")
    if bad := count_nonfinite(host):
        raise ValueError(
            f"Leaf {name} has {bad:,} NaN or infinite values of {host.size:,}: training diverged, and nothing was "
            "saved. Go back to an earlier checkpoint, with a smaller learning rate."
        )
    return host.astype(np.float32, copy=False)


def _check_factors(names: Mapping[str, Any], what: str) -> None:
    """Raises ValueError if an adapter lacks one of its factors."""
    with_a = {name.removesuffix(LORA_A) for name in names if name.endswith(LORA_A)}
    with_b = {name.removesuffix(LORA_B) for name in names if name.endswith(LORA_B)}
    if lone := sorted(with_a ^ with_b):
        raise ValueError(f"{what} hold only one of lora_a and lora_b for {lone}. An adapter needs both: {REMEDY}")


def _to_json(meta: AdapterMeta, leaves: Mapping[str, Any], digest: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        **meta._asdict(),
        "lora": dataclasses.asdict(meta.lora),
        "sha256": digest,
        "leaves": {name: list(leaves[name].shape) for name in sorted(leaves)},
    }


def _from_json(path: Path, text: Any) -> AdapterMeta:
    """Returns the description, or raises ValueError that names the field that is wrong."""
    found = text.get("format") if isinstance(text, dict) else None
    if found != FORMAT:
        raise ValueError(
            f"{path} has format {found!r}, and this version of radvqa_jax reads format {FORMAT}. Use the version that "
            "wrote it, or train the stage again."
        )
    fields = {"format", *FIELD_TYPES}
    if set(text) != fields:
        raise ValueError(
            f"{path} lacks {sorted(fields - set(text))} and has unknown {sorted(set(text) - fields)}. {REMEDY}"
        )
    if wrong := [name for name, kind in FIELD_TYPES.items() if not isinstance(text[name], kind)]:
        raise ValueError(f"{path}: the values of {wrong} are of the wrong type. {REMEDY}")
    known = {field.name for field in dataclasses.fields(LoraConfig)}
    if set(text["lora"]) != known:
        raise ValueError(f"{path}: `lora` must have the fields {sorted(known)}; got {sorted(text['lora'])}. {REMEDY}")
    try:
        targets = tuple((str(rule), str(label)) for rule, label in text["lora"]["targets"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: `lora.targets` must be a list of (pattern, label) pairs. {REMEDY}") from error
    return AdapterMeta(
        stage=text["stage"],
        step=text["step"],
        lora=LoraConfig(**(text["lora"] | {"targets": targets})),
        base_name=text["base_name"],
        base_sha256=text["base_sha256"],
        config_sha256=text["config_sha256"],
    )


def _check_leaves(path: Path, reader: NpzReader, described: Mapping[str, Any]) -> None:
    """Raises ValueError, listing them, if the arrays of the file are not the described ones in float32."""
    try:
        want = {name: jax.ShapeDtypeStruct(tuple(map(int, shape)), np.float32) for name, shape in described.items()}
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: `leaves` must give the shape of each leaf. {REMEDY}") from error
    problems = trees.diff(reader.shapes, want)
    problems["not float32"] = [
        f"{name}: {leaf.dtype}" for name, leaf in reader.shapes.items() if leaf.dtype != np.float32
    ]
    found = [f"{kind} {lines}" for kind, lines in problems.items() if lines]
    if found:
        raise ValueError(f"{path} does not describe {reader.path.name}: {'; '.join(found)}. {REMEDY}")
    _check_factors(reader.shapes, f"The leaves of {reader.path}")
