"""One export: written beside its place, read again, compared with the model in memory, and then put there."""

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from radvqa_jax import files, typed_json
from radvqa_jax.checkpoints import big_vision
from radvqa_jax.checkpoints.adapter import LORA_A
from radvqa_jax.checkpoints.npz import write_npz
from radvqa_jax.checkpoints.peft import PROJECTOR, load_peft, save_peft
from radvqa_jax.checkpoints.readers import PREFIX
from radvqa_jax.config import ExportConfig, LoraConfig
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.export import huggingface_folder, verify
from radvqa_jax.export.card import Card, render
from radvqa_jax.export.merged import Merge, checksum, merge_leaf, merged_leaves, summed
from radvqa_jax.models import lora as lora_lib
from radvqa_jax.models.variants import Variant
from radvqa_jax.trees import Flat

NPZ, CARD, RECORD = "model.npz", "README.md", "export.json"
MANIFEST = ".radvqa_files.json"  # the names of what an export wrote: nothing else is ever replaced
MERGE_INSTEAD = "Merge it instead: export.format=huggingface or big_vision."


class Source(NamedTuple):
    """The model that is exported."""

    merge: Merge  # the checkpoint and what was trained
    lora: LoraConfig  # of the adapters
    variant: Variant  # at the resolution that is used
    tokenizer: Tokenizer
    prompt: str  # template
    new_tokens: int  # of an answer


class Exported(NamedTuple):
    """Where an export lies, and how far it is from the model in memory."""

    folder: Path
    difference: verify.Difference


def export_model(source: Source, folder: Path, *, config: ExportConfig, card: Card) -> Exported:
    """Writes an export, checks it and puts it in place; a folder that is there already is replaced at the end.

    Args:
        source: the model.
        folder: where it goes.
        config: format and dtype.
        card: the model card, whose line about the check is filled in here.

    Raises:
        ValueError: if the format cannot hold what was trained, or what was written does not give the model's logits.
    """
    leaves = projector_whole(source) if config.format == "peft" else {}
    rows = verify.make_rows(source.variant, source.tokenizer, prompt=source.prompt)
    reference = _answer(source, rows, source.merge.trained, source.merge.lora)
    with replacing(folder) as part:
        if config.format == "peft":
            save_peft(part, leaves, source.lora, base_name=config.base_name)
            again = _peft_again(source, part, leaves, rows)
            dtype = "float32"
        else:
            sums = _write_merged(source, part, config)
            again = _merged_again(source, part, config, sums, rows)
            dtype = config.dtype
        difference = verify.compare(reference, again, rows, dtype=dtype)
        verify.check(difference, what=f"The export as {config.format}")
        files.write_json(part / RECORD, _record(config, card, difference))
        files.write_text(part / CARD, render(card._replace(check=difference.text())))
    return Exported(folder, difference)


@contextlib.contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Gives a folder to write into, which takes the place of `folder` if the block ends without an error.

    Raises:
        ValueError: if there is something in its place that is no earlier export; nothing of it is touched.
    """
    folder = folder.expanduser().resolve()
    if not folder.name:
        raise ValueError(f"{folder} cannot be replaced by an export. Give a folder of its own.")
    part, old = (folder.with_name(f".{folder.name}.{suffix}") for suffix in ("part", "old"))
    if old.exists() and not folder.exists():
        old.rename(folder)  # a run was killed between the two renames below
    _check_replaceable(folder)
    for leftover in (part, old):
        shutil.rmtree(leftover, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        files.write_json(part / MANIFEST, sorted(path.name for path in part.iterdir()))
        if folder.exists():
            folder.rename(old)
        part.rename(folder)
    except BaseException:
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(part, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _check_replaceable(folder: Path) -> None:
    """Raises ValueError if a path holds anything but an earlier export, as its list of files says."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file, and an export is a folder. Give another place, or remove it.")
    found = {path.name for path in folder.iterdir()}
    if not found:
        return
    listed = typed_json.read(folder / MANIFEST, list[str]) if MANIFEST in found else []
    if other := sorted(found - {*listed, MANIFEST}):
        raise ValueError(
            f"{folder} holds {', '.join(other[:3])}{', …' if len(other) > 3 else ''}, which no earlier export put "
            "there, and an export would take its place. Give another folder, or remove it."
        )


def _answer(source: Source, rows: verify.Rows, trained: Mapping[str, Any], lora: lora_lib.Lora | None) -> np.ndarray:
    """Returns the logits of the base with what was trained beside it, as it is in memory while training."""
    dtype = big_vision.stored_dtype(source.merge.checkpoint, source.merge.abstract)
    want = {name: jax.ShapeDtypeStruct(leaf.shape, dtype) for name, leaf in source.merge.abstract.items()}
    merge = source.merge
    base, _ = big_vision.load(
        merge.checkpoint,
        want,
        allow_missing=merge.allow_missing,
        allow_extra=merge.allow_extra,
        seed=merge.seed,
        digest=False,
    )
    return verify.logits_of(
        source.variant, lora, base | {name: jnp.asarray(leaf) for name, leaf in trained.items()}, rows
    )


def projector_whole(source: Source) -> Flat:
    """Returns what a PEFT adapter holds: the factors, and a trained projector with its own factors merged into it.

    Raises:
        ValueError: if other leaves of the base were trained, or nothing was.
    """
    merge = source.merge
    if not merge.trained:
        raise ValueError(f"export.format=peft needs an adapter, and none is given. Set adapter. {MERGE_INSTEAD}")
    factors = {
        f"{name}{factor}" for name in (merge.lora.targets if merge.lora else ()) for factor in ("/lora_a", "/lora_b")
    }
    other = sorted(set(merge.trained) - factors - set(PROJECTOR))
    if other:
        raise ValueError(
            f"export.format=peft holds adapters and the projector, but these weights were trained whole: {other}. "
            f"{MERGE_INSTEAD}"
        )
    leaves = {name: leaf for name, leaf in merge.trained.items() if name in factors}
    if set(PROJECTOR) & set(merge.trained):
        wanted = {name: leaf for name, leaf in merge.abstract.items() if name in PROJECTOR}
        every = big_vision.iterate(
            merge.checkpoint, merge.abstract, allow_missing=merge.allow_missing, allow_extra=merge.allow_extra
        )
        for name, host in every:
            if name in wanted:
                leaves[name] = merge_leaf(name, host, merge, np.dtype(np.float32))
        leaves = {name: leaf for name, leaf in leaves.items() if not name.startswith("img/head/kernel/")}
    if not any(name.endswith(LORA_A) for name in leaves):
        raise ValueError(f"export.format=peft needs LoRA factors; only the projector was trained. {MERGE_INSTEAD}")
    return leaves


def _peft_again(source: Source, part: Path, leaves: Flat, rows: verify.Rows) -> np.ndarray:
    again, meta = load_peft(part, source.merge.abstract, own=True)
    changed = set(again) ^ set(leaves)
    changed |= {name for name in set(again) & set(leaves) if not np.array_equal(np.asarray(leaves[name]), again[name])}
    if changed:
        raise ValueError(f"{part} was read again with other values of {sorted(changed)}.")
    lora = lora_lib.resolve(meta.lora, source.merge.abstract)
    return _answer(source, rows, again, lora)


def _write_merged(source: Source, part: Path, config: ExportConfig) -> dict[str, int]:
    """Writes the merged model; returns the checksum of each leaf."""
    sums: dict[str, int] = {}
    leaves = summed(merged_leaves(source.merge, jnp.dtype(config.dtype)), sums)
    if config.format == "big_vision":
        write_npz(part / NPZ, ((f"{PREFIX}{name}", leaf) for name, leaf in leaves))
        with files.atomic_write(part / "tokenizer.model", "wb") as file:
            file.write(source.tokenizer.model())
        return sums
    image_token = huggingface_folder.image_token_of(source.variant, source.tokenizer)
    huggingface_folder.write_weights(
        part,
        leaves,
        source.merge.abstract,
        dtype=jnp.dtype(config.dtype),
        rows=huggingface_folder.folder_rows(source.variant, image_token),
        shard_bytes=int(config.shard_gb * 1e9),
    )
    huggingface_folder.write_model_config(
        part, source.variant, image_token=image_token, dtype=config.dtype, new_tokens=source.new_tokens
    )
    huggingface_folder.write_processor(part, source.variant, source.tokenizer)
    return sums


def _merged_again(
    source: Source, part: Path, config: ExportConfig, sums: Mapping[str, int], rows: verify.Rows
) -> np.ndarray:
    path = part / NPZ if config.format == "big_vision" else part
    abstract = source.merge.abstract
    want = {name: jax.ShapeDtypeStruct(leaf.shape, jnp.dtype(config.dtype)) for name, leaf in abstract.items()}
    flat, _ = big_vision.load(path, want, digest=False)
    if changed := [name for name, leaf in flat.items() if checksum(np.asarray(leaf)) != sums[name]]:
        raise ValueError(f"{path} was read again with other values of {changed}. Is the disk full or failing?")
    return verify.logits_of(source.variant, None, flat, rows)


def _record(config: ExportConfig, card: Card, difference: verify.Difference) -> dict[str, Any]:
    return {
        "format": config.format,
        "dtype": card.dtype,
        "base": card.base,
        "base_sha256": card.base_sha256,
        "variant": card.variant,
        "resolution": card.resolution,
        "prompt": card.prompt,
        "radvqa_jax": card.version,
        "notes": list(card.notes),
        "check": difference._asdict() | {"rows": len(verify.QUESTIONS)},
    }
