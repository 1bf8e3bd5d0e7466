"""Exports an adapter, or the model with it merged, in another library's format, for mode=export and Model.export."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from radvqa_jax import __version__
from radvqa_jax.backbones import abstract_params, backbone_of, configured_backbone
from radvqa_jax.checkpoints import big_vision
from radvqa_jax.checkpoints.adapter import check_base
from radvqa_jax.checkpoints.adapter_formats import load_any_adapter
from radvqa_jax.checkpoints.adapter_meta import AdapterMeta
from radvqa_jax.config import Config, LoraConfig
from radvqa_jax.data.sources import check_names
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.export.card import Card, licence_of, read_scores
from radvqa_jax.export.export import Exported, Source, check_inputs_stay, export_model
from radvqa_jax.export.huggingface_folder import UNIGRAM
from radvqa_jax.export.merged import Merge
from radvqa_jax.loaded_base import inspect_model
from radvqa_jax.models import lora as lora_lib
from radvqa_jax.models.variants import get_variant
from radvqa_jax.training.stage import Base, Trained
from radvqa_jax.trees import Flat


class Adapter(NamedTuple):
    """The leaves to export in addition to the base; empty for the base alone."""

    leaves: Flat
    lora: LoraConfig
    meta: AdapterMeta | None


def read_configured(config: Config, abstract: Flat, *, base_sha256: str) -> Adapter:
    """The adapter of config.adapter, checked against the base; no leaves if config.adapter is empty."""
    if not config.adapter:
        return Adapter({}, LoraConfig(), None)
    leaves, meta = load_any_adapter(config.adapter, abstract)
    check_base(meta, base_sha256, name=Path(config.model.checkpoint).name)
    return Adapter(leaves, meta.lora, meta)


def export_adapter(
    config: Config, adapter: Adapter, folder: Path, *, tokenizer: Tokenizer, base_sha256: str
) -> Exported:
    """Exports the base of the configuration with an adapter, in the format of config.export.

    Args:
        config: resolved (radvqa_jax/resolve.py). The base is read from model.checkpoint, never from memory, so that an
            adapter of a quantised base is merged into the original weights.
        adapter: the trained leaves.
        folder: the folder to write.
        tokenizer: of the checkpoint.
        base_sha256: of the checkpoint, for the model card.

    Returns:
        The place of the export, and the difference of its logits.

    Raises:
        ValueError: if the format cannot hold what was trained, or the export does not give the model's logits.
    """
    variant = get_variant(config.model.variant).at(config.model.resolution)
    abstract = abstract_params(variant)
    merge = Merge(
        checkpoint=config.model.checkpoint,
        abstract=abstract,
        trained=adapter.leaves,
        lora=lora_lib.resolve(adapter.lora, abstract, backbone_of(variant).equations),
        allow_missing=config.model.allow_missing,
        allow_extra=config.model.allow_extra,
    )
    source = Source(
        merge=merge,
        lora=adapter.lora,
        variant=variant,
        tokenizer=tokenizer,
        prompt=config.data.prompt,
        new_tokens=config.decode.max_new_tokens,
    )
    base_name = config.export.base_name or str(Path(config.model.checkpoint).expanduser())
    export = replace(config.export, base_name=base_name)
    return export_model(source, folder, config=export, card=_card(config, adapter, base_sha256=base_sha256))


class Done(NamedTuple):
    """An export, and notes for its users."""

    exported: Exported
    notes: list[str]


def export(config: Config, folder: Path, *, loaded: tuple[Base, Trained] | None = None) -> Done:
    """Exports config.adapter with its base to `folder`, and checks it; `config` is resolved (radvqa_jax/resolve.py).

    Both are read from their files.

    Raises:
        ValueError: if the files are not those of the `loaded` model; see also `export_adapter`.
    """
    check_names(config.export.datasets, field="export.datasets")
    model = config.model
    inputs = {"model.checkpoint": model.checkpoint, "model.tokenizer": model.tokenizer, "adapter": config.adapter}
    check_inputs_stay(folder, inputs | {"export.scores": config.export.scores})
    tokenizer, _ = inspect_model(config)
    abstract = abstract_params(get_variant(config.model.variant).at(config.model.resolution))
    folder.parent.mkdir(parents=True, exist_ok=True)  # first, so that mistakes are found before weights are read
    if config.export.scores:
        read_scores(config.export.scores)
    with big_vision.open_weights(config.model.checkpoint) as weights:
        base_sha256 = weights.sha256()
    adapter = read_configured(config, abstract, base_sha256=base_sha256)
    if loaded:
        _check_files(config, adapter, base_sha256, *loaded)
    exported = export_adapter(config, adapter, folder, tokenizer=tokenizer, base_sha256=base_sha256)
    return Done(exported, _notes(config, adapter))


def _check_files(config: Config, adapter: Adapter, base_sha256: str, base: Base, trained: Trained) -> None:
    same = {
        f"model.checkpoint={config.model.checkpoint!r}": base_sha256 == base.sha256,
        f"adapter={config.adapter!r}": Trained(adapter.leaves, adapter.lora).sha256() == trained.sha256(),
    }
    if other := [name for name, is_same in same.items() if not is_same]:
        raise ValueError(f"{other[0]} was replaced after the model was loaded. Load the model again, then export it.")


def _notes(config: Config, adapter: Adapter) -> list[str]:
    notes, backbone = [], configured_backbone(config.model)
    if config.export.format == "huggingface" and not backbone.tokenizer(config.model.tokenizer).is_bpe:
        notes.append(UNIGRAM)
    if config.model.quantize != "none" and config.export.format != "peft":
        notes.append(
            f"model.quantize={config.model.quantize} was set: the adapter is merged into the original weights of "
            f"{Path(config.model.checkpoint).name}, not into the rounded ones. Answers may differ from those on the "
            "rounded base"
        )
    elif config.model.quantize != "none":
        notes.append(
            f"model.quantize={config.model.quantize} was set: the adapter fits the original and the rounded weights, "
            "and answers on the two may differ"
        )
    if config.export.format == "peft" and any(map(backbone.is_projector, adapter.leaves)):
        notes.append(
            "The projector was trained: it is stored whole under modules_to_save, which PEFT loads and some servers "
            "(vLLM) refuse; for these use export.format=huggingface"
        )
    if config.export.format == "peft":
        abstract = abstract_params(get_variant(config.model.variant).at(config.model.resolution))
        made = [name for name in big_vision.made_here(config.model.checkpoint, abstract) if name not in adapter.leaves]
        if made:
            notes.append(
                f"{', '.join(made)} of the base were resampled, extended or drawn, which the adapter does not hold: on "
                f"{Path(config.model.checkpoint).name} as it is, it meets other weights than in training. For the "
                "model as it was trained use export.format=huggingface"
            )
    return notes


def _card(config: Config, adapter: Adapter, *, base_sha256: str) -> Card:
    base = config.export.base_name or Path(config.model.checkpoint).name
    variant = get_variant(config.model.variant).at(config.model.resolution)
    use = adapter.meta.base_use if adapter.meta else None
    what = "adapter" if config.export.format == "peft" else "model"
    return Card(
        title=f"Radiology VQA {what} on {base}",
        format=config.export.format,
        base=base,
        base_sha256=base_sha256,
        variant=config.model.variant,
        resolution=variant.resolution,
        prompt=config.data.prompt,
        trained_with_prompt=bool(use and use.prompt == config.data.prompt),
        dtype="float32" if config.export.format == "peft" else config.export.dtype,
        recipe=_recipe(adapter),
        datasets=[(name, licence_of(name)) for name in _datasets(config, adapter)],
        scores=read_scores(config.export.scores) if config.export.scores else [],
        check="",
        notes=_notes(config, adapter),
        version=__version__,
    )


def _datasets(config: Config, adapter: Adapter) -> list[str]:
    """The data sets that the card names: the configured ones, or those of the stages up to the adapter's own."""
    if config.export.datasets or adapter.meta is None:
        return list(config.export.datasets)
    last = adapter.meta.stage
    stages = config.stage_names[: config.stage_names.index(last) + 1] if last in config.stage_names else ()
    return sorted({source.dataset for stage in stages for source in config.stages[stage].sources})


def _recipe(adapter: Adapter) -> list[str]:
    if adapter.meta is None:
        return []
    meta, lora = adapter.meta, adapter.lora
    known = f"configuration sha256 `{meta.config_sha256}`" if meta.config_sha256 else "configuration unknown"
    lines = [f"Last stage: {meta.stage}, {meta.step} optimizer steps; {known}"]
    if lora.rank:
        scale = "alpha / sqrt(rank)" if lora.rslora else "alpha / rank"
        targets = sorted({name.removesuffix("/lora_a") for name in adapter.leaves if name.endswith("/lora_a")})
        lines.append(f"LoRA of rank {lora.rank}, alpha {lora.alpha:g}, scale {scale}, dropout {lora.dropout:g}")
        lines += [f"Adapted: {', '.join(f'`{name}`' for name in targets)}"]
    whole = sorted(name for name in adapter.leaves if not name.endswith(("/lora_a", "/lora_b")))
    return [*lines, *([f"Trained whole: {', '.join(f'`{name}`' for name in whole)}"] if whole else [])]
