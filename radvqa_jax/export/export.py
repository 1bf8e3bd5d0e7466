"""One export: written to a temporary folder, read back, compared with the model in memory, then moved to its place."""

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np

from radvqa_jax import files, locks, typed_json
from radvqa_jax.backbones import backbone_of
from radvqa_jax.checkpoints import big_vision
from radvqa_jax.checkpoints.adapter import LORA_A
from radvqa_jax.checkpoints.layouts import layout_of
from radvqa_jax.checkpoints.peft import load_peft, save_peft
from radvqa_jax.config import ExportConfig, LoraConfig
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.export import verify
from radvqa_jax.export.card import Card, render
from radvqa_jax.export.merged import Merge, merge_leaf, merged_leaves
from radvqa_jax.export.whole_model import check_written, write_model
from radvqa_jax.models import lora as lora_lib
from radvqa_jax.models.variants import Variant
from radvqa_jax.trees import Flat

CARD, RECORD = "README.md", "export.json"
MANIFEST = ".radvqa_files.json"  # the names of the files of an export: nothing else is ever replaced
FORMATS = get_args(get_type_hints(ExportConfig)["format"])  # the names of the exports in a workdir
MERGE_INSTEAD = "Merge it instead: export.format=huggingface or big_vision."


class Source(NamedTuple):
    """The model that is exported."""

    merge: Merge  # the checkpoint and the trained leaves
    lora: LoraConfig  # of the adapters
    variant: Variant  # at the resolution in use
    tokenizer: Tokenizer
    prompt: str  # template
    new_tokens: int  # of an answer


class Exported(NamedTuple):
    """The folder of an export, and its difference from the model in memory."""

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
        ValueError: if the format cannot hold the trained leaves, or the export does not give the model's logits.
    """
    check_replaceable(folder, conversion=False)
    leaves = projector_whole(source) if config.format == "peft" else {}
    rows = verify.make_rows(source.variant, source.tokenizer, prompt=source.prompt)
    what = f"The export as {config.format}"
    with replacing(folder, conversion=False) as part:
        reference, merged = _in_memory(source, rows, config)
        if config.format == "peft":
            save_peft(part, leaves, source.lora, base_name=config.base_name)
            again = _peft_again(source, part, leaves, rows)
        else:
            again = _merged_and_again(source, part, config, rows)
        verify.check(verify.compare(merged, again, rows), what=what)
        rounding = float(np.abs(reference - merged)[rows.targets].max())
        difference = verify.compare(reference, again, rows, rounding=rounding)
        files.write_json(part / RECORD, _record(config, card, difference))
        files.write_text(part / CARD, render(card._replace(check=difference.text())))
    return Exported(folder, difference)


@contextlib.contextmanager
def replacing(folder: Path, *, conversion: bool) -> Iterator[Path]:
    """Gives a folder to write into, which takes the place of `folder` if the block ends without an error.

    One process at a time: of two exports to one folder the second is refused. What killed exports left is removed, also
    that of other formats in the same workdir.

    Args:
        folder: the place.
        conversion: whether the new folder is a converted checkpoint (mode=convert) and not an export.

    Raises:
        locks.InUse: if another process is writing the folder.
        ValueError: if there is something in its place that is not an earlier folder of the same kind; nothing of it is
            touched.
    """
    folder = folder.expanduser().resolve()
    if not folder.name:
        raise ValueError(f"{folder} cannot be replaced by an export. Give a folder of its own.")
    check_replaceable(folder, conversion=conversion)  # first, so that what is refused leaves no lock
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (
        locks.hold_file(folder, remedy="Wait until it is done, or give another folder."),
        _swapped(folder, conversion=conversion) as part,
    ):
        yield part


@contextlib.contextmanager
def _swapped(folder: Path, *, conversion: bool) -> Iterator[Path]:
    """Gives a folder that takes the place of another, while this process holds the lock."""
    part, old = _places(folder)
    _remove_remains(folder, conversion=conversion)
    _remove_others_remains(folder)
    part.mkdir()
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


def _places(folder: Path) -> tuple[Path, Path]:
    """The folder that an export is written to, and the one to which an earlier export is moved meanwhile."""
    return folder.with_name(f".{folder.name}.part"), folder.with_name(f".{folder.name}.old")


def _remove_remains(folder: Path, *, conversion: bool | None = None) -> None:
    """Removes what a killed export to a folder left, while this process holds the folder's lock.

    Raises:
        ValueError: if there is something in its place that is not an earlier export; only the unfinished one is gone.
    """
    part, old = _places(folder)
    shutil.rmtree(part, ignore_errors=True)
    if old.exists() and not folder.exists():
        old.rename(folder)  # a run was killed between the two renames of `_swapped`
    check_replaceable(folder, conversion=conversion)
    shutil.rmtree(old, ignore_errors=True)


def _remove_others_remains(folder: Path) -> None:
    """Removes what killed exports of the other formats left in the same workdir; one that runs holds its lock."""
    for other in (folder.with_name(name) for name in FORMATS if name != folder.name):
        if any(place.is_dir() for place in _places(other)):
            with contextlib.suppress(ValueError, OSError), locks.hold_file(other, remedy=""):
                _remove_remains(other)


def check_inputs_stay(folder: Path, inputs: Mapping[str, str]) -> None:
    """Raises ValueError if a file or folder that is read, by its field, is in the folder that will be replaced."""
    for field, path in inputs.items():
        if path and Path(path).expanduser().resolve().is_relative_to(folder.expanduser().resolve()):
            raise ValueError(f"{field}={path} is in {folder}, which is replaced. Give another place for the result.")


def check_replaceable(folder: Path, *, conversion: bool | None = None) -> None:
    """Raises ValueError if a path holds anything but an earlier export, as its list of files says.

    An export does not take the place of a converted checkpoint, on which adapters may have been trained, nor the other
    way round; `conversion` tells which of the two is to be written, None = either.
    """
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
    if conversion is not None and conversion != (RECORD not in listed):
        kinds = ("an export", "a converted checkpoint")
        raise ValueError(
            f"{folder} holds {kinds[not conversion]}, and {kinds[conversion]} would take its place. Give another "
            "folder, or remove it."
        )


def _in_memory(source: Source, rows: verify.Rows, config: ExportConfig) -> tuple[np.ndarray, np.ndarray]:
    """The logits of the model in memory with an unmerged adapter, and those that the export should give.

    For an adapter the two are the same. Else the second are those of the model merged and rounded in memory, apart from
    what is written.

    Raises:
        ValueError: if merging changes more than rounding does.
    """
    merge, trained = source.merge, _arrays(source.merge.trained)
    base, report = _load_base(source)
    print(report.text(), flush=True)
    reference = verify.logits_of(source.variant, merge.lora, base | trained, rows)
    if config.format == "peft":
        return reference, reference
    for name in list(base):  # in place: one leaf is twice in memory
        leaf = trained.get(name, base[name]).astype(jnp.float32)
        if merge.lora is not None and name in merge.lora.targets:
            one = dataclasses.replace(merge.lora, targets=frozenset([name]))
            leaf = lora_lib.merge({name: leaf}, trained, one)[name]
        base[name] = leaf.astype(config.dtype)
    merged = verify.logits_of(source.variant, None, base, rows)
    allowed = verify.ROUNDED[config.dtype] * float(reference[rows.targets].std())
    verify.check(verify.compare(reference, merged, rows, rounding=allowed), what=f"Merged to {config.dtype}, it")
    return reference, merged


def _arrays(leaves: Mapping[str, Any]) -> Flat:
    return {name: jnp.asarray(leaf) for name, leaf in leaves.items()}


def _load_base(source: Source) -> tuple[Flat, big_vision.LoadReport]:
    """The base in the checkpoint's dtype, and the report on loading it."""
    dtype = big_vision.stored_dtype(source.merge.checkpoint, source.merge.abstract)
    want = {name: jax.ShapeDtypeStruct(leaf.shape, dtype) for name, leaf in source.merge.abstract.items()}
    merge = source.merge
    return big_vision.load(
        merge.checkpoint,
        want,
        allow_missing=merge.allow_missing,
        allow_extra=merge.allow_extra,
        digest=False,
    )


def projector_whole(source: Source) -> Flat:
    """The content of a PEFT adapter: the factors, and a trained projector with its own factors merged into it.

    Raises:
        ValueError: if other leaves of the base were trained, or nothing was.
    """
    merge, projector = source.merge, layout_of(source.merge.abstract).projector
    if not merge.trained:
        raise ValueError(f"export.format=peft needs an adapter, and none is given. Set adapter. {MERGE_INSTEAD}")
    factors = {
        f"{name}{factor}" for name in (merge.lora.targets if merge.lora else ()) for factor in ("/lora_a", "/lora_b")
    }
    other = sorted(set(merge.trained) - factors - set(projector))
    if other:
        raise ValueError(
            f"export.format=peft holds adapters and the projector, but these weights were trained whole: {other}. "
            f"{MERGE_INSTEAD}"
        )
    leaves = {name: leaf for name, leaf in merge.trained.items() if name in factors}
    if set(projector) & set(merge.trained):
        wanted = {name: leaf for name, leaf in merge.abstract.items() if name in projector}
        every = big_vision.iterate(
            merge.checkpoint,
            merge.abstract,
            allow_missing=merge.allow_missing,
            allow_extra=merge.allow_extra,
        )
        for name, host in every:
            if name in wanted:
                leaves[name] = merge_leaf(name, host, merge, np.dtype(np.float32))
        leaves = {name: leaf for name, leaf in leaves.items() if not name.startswith(f"{projector[0]}/")}
    if not any(name.endswith(LORA_A) for name in leaves):
        raise ValueError(f"export.format=peft needs LoRA factors; only the projector was trained. {MERGE_INSTEAD}")
    return leaves


def _peft_again(source: Source, part: Path, leaves: Flat, rows: verify.Rows) -> np.ndarray:
    again, meta = load_peft(part, source.merge.abstract, own=True)
    changed = set(again) ^ set(leaves)
    changed |= {name for name in set(again) & set(leaves) if not np.array_equal(np.asarray(leaves[name]), again[name])}
    if changed:
        raise ValueError(f"{part} was read again with other values of {sorted(changed)}.")
    lora = lora_lib.resolve(meta.lora, source.merge.abstract, backbone_of(source.variant).equations)
    return verify.logits_of(source.variant, lora, _load_base(source)[0] | _arrays(again), rows)


def _merged_and_again(source: Source, part: Path, config: ExportConfig, rows: verify.Rows) -> np.ndarray:
    """Writes the merged model; returns the logits of what was written, read again."""
    assert config.format != "peft"
    abstract, dtype = source.merge.abstract, jnp.dtype(config.dtype)
    path, sums = write_model(
        part,
        merged_leaves(source.merge, dtype),
        abstract,
        format=config.format,
        dtype=config.dtype,
        variant=source.variant,
        tokenizer=source.tokenizer,
        new_tokens=source.new_tokens,
        shard_gb=config.shard_gb,
    )
    want = {name: jax.ShapeDtypeStruct(leaf.shape, dtype) for name, leaf in abstract.items()}
    flat, _ = big_vision.load(path, want, digest=False)
    check_written(path, ((name, np.asarray(leaf)) for name, leaf in flat.items()), sums)
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
