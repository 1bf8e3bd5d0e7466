"""`adapter.json`: the origin of an adapter, its base, and how the base was used in training.

The file is a typed record. It holds the sha256 of `adapter.npz` and one of its own content, so that a changed value is
noticed. Both detect accidents and edits by hand. They do not prove an author: anyone who can write the file can hash it
again.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from radvqa_jax import files, typed_json
from radvqa_jax.config import History, LoraConfig
from radvqa_jax.config.bounds import MOST_PATTERN, MOST_PATTERNS, MOST_PIXELS, MOST_TEXT, Alpha, Below1

FORMAT = 2
REMEDY = "Give the adapter.npz that a stage wrote, with its adapter.json in the same folder, or train the stage again."

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Size = Annotated[int, Field(ge=1, le=2**31)]
Pattern = Annotated[str, Field(max_length=MOST_PATTERN)]


class BaseUse(NamedTuple):
    """The use of a base model: the settings whose change gives other numbers."""

    variant: str
    resolution: Annotated[int, Field(ge=1, le=MOST_PIXELS)]  # pixels, of the model's input images
    prompt: str  # data.prompt
    seq_len: Annotated[int, Field(ge=1, le=MOST_TEXT)]  # text tokens
    tokenizer_sha256: Sha256
    quantize: Literal["none", "nf4", "int8"]
    compute_dtype: Literal["float32", "bfloat16"]
    param_dtype: Literal["float32", "bfloat16"]
    history: History | None = None  # data.history; None = not known, as in files of earlier releases


class AdapterMeta(NamedTuple):
    """The origin of an adapter, its base, and the use of that base."""

    stage: str  # the stage's name
    step: int  # optimizer steps done
    lora: LoraConfig
    base_name: str  # the base checkpoint's file name
    base_sha256: str  # of that file
    config_sha256: str  # of the run's configuration
    base_use: BaseUse | None = None  # None: not known, as for an adapter from elsewhere
    # The prompt of its training captions; empty = "caption" and the row's language. None: no captions, or not known.
    caption_prompt: str | None = None


class _Lora(NamedTuple):
    rank: Annotated[int, Field(ge=0, le=2**16)]
    alpha: Alpha
    dropout: Below1
    rslora: bool
    targets: Annotated[list[tuple[Pattern, Literal["lora", "none"]]], Field(max_length=MOST_PATTERNS)]


class _Description(NamedTuple):
    """The content of adapter.json."""

    format: Literal[2]
    stage: Annotated[str, Field(min_length=1)]
    step: Annotated[int, Field(ge=0)]
    lora: _Lora
    base_name: str
    base_sha256: Sha256
    config_sha256: Sha256
    base_use: BaseUse | None
    sha256: Sha256  # of adapter.npz
    leaves: dict[str, list[Size]]  # name -> shape
    content_sha256: Sha256  # of all other fields (see `_hash_content`)
    caption_prompt: str | None = None  # absent in files of earlier releases


class _Format1(NamedTuple):
    """The content of an adapter.json without the use of its base and without a hash of its own content."""

    format: Literal[1]
    stage: Annotated[str, Field(min_length=1)]
    step: Annotated[int, Field(ge=0)]
    lora: _Lora
    base_name: str
    base_sha256: Sha256
    config_sha256: Sha256
    sha256: Sha256
    leaves: dict[str, list[Size]]


class Described(NamedTuple):
    """The content of adapter.json, about the adapter and about adapter.npz."""

    meta: AdapterMeta
    sha256: str  # of adapter.npz
    leaves: dict[str, tuple[int, ...]]  # name -> shape


def write_meta(path: Path, meta: AdapterMeta, *, leaves: Mapping[str, Any], sha256: str) -> None:
    """Writes adapter.json about the leaves (name -> array) of an adapter.npz with this sha256; see `check_meta`."""
    files.write_json(path, _to_json(meta, leaves, sha256), private=False)


def check_meta(meta: AdapterMeta, leaves: Mapping[str, Any]) -> None:
    """Raises ValueError, naming the field, if `read_meta` would not accept a value."""
    typed_json.check(_to_json(meta, leaves, "0" * 64), _Description, where="AdapterMeta")


def _to_json(meta: AdapterMeta, leaves: Mapping[str, Any], sha256: str) -> dict[str, Any]:
    row = {
        "format": FORMAT,
        **meta._asdict(),
        "lora": dataclasses.asdict(meta.lora),
        "base_use": None if meta.base_use is None else meta.base_use._asdict(),
        "sha256": sha256,
        "leaves": {name: list(leaves[name].shape) for name in sorted(leaves)},
    }
    return row | {"content_sha256": _hash_content(row)}


def read_meta(path: Path) -> Described:
    """Reads adapter.json.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the field, its rule and its value, if the file is not valid, or its content was changed.
    """
    row = files.read_json(path)
    found = row.get("format") if isinstance(row, dict) else None
    if found not in (1, FORMAT) or isinstance(found, bool):
        raise ValueError(
            f"{path} has format {found!r}, and this version of radvqa_jax reads formats 1 and {FORMAT}. Use the "
            "version that wrote it, or train the stage again."
        )
    kind: Any = _Description if found == FORMAT else _Format1
    try:
        text = typed_json.check(row, kind, where=str(path))
    except ValueError as error:
        raise ValueError(f"{error} {REMEDY}") from error
    if found == FORMAT and text.content_sha256 != _hash_content(row):
        raise ValueError(
            f"{path} was changed after it was written: its content has another sha256 than it says. {REMEDY}"
        )
    lora = LoraConfig(**(text.lora._asdict() | {"targets": tuple(text.lora.targets)}))
    shared = {name: getattr(text, name) for name in ("stage", "step", "base_name", "base_sha256", "config_sha256")}
    later = {name: getattr(text, name) for name in ("base_use", "caption_prompt") if found == FORMAT}
    meta = AdapterMeta(lora=lora, **shared, **later)
    return Described(meta, text.sha256, {name: tuple(shape) for name, shape in text.leaves.items()})


def _hash_content(row: Mapping[str, Any]) -> str:
    """The sha256 of everything but `content_sha256`, as JSON with sorted keys and no spaces."""
    content = {name: value for name, value in row.items() if name != "content_sha256"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
