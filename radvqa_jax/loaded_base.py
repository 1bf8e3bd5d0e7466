"""The inputs of every mode with a model: the tokenizer, the base checkpoint, and their devices."""

import dataclasses
import hashlib
import importlib.metadata
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from radvqa_jax import __version__
from radvqa_jax.backbones import configured_backbone
from radvqa_jax.checkpoints import big_vision
from radvqa_jax.checkpoints.adapter import inspect_adapter
from radvqa_jax.checkpoints.adapter_formats import inspect_any_adapter
from radvqa_jax.checkpoints.peft import is_peft
from radvqa_jax.config import EMBEDDED, EMBEDDED_SHA256, Config
from radvqa_jax.config.bounds import MOST_PIXELS
from radvqa_jax.config.rules import check
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.decoding.image_tokens import ImageTokens
from radvqa_jax.models.quantize import check_installed
from radvqa_jax.models.variants import get_variant
from radvqa_jax.saliency.chosen import check_patches
from radvqa_jax.saliency.methods import check_config, check_methods
from radvqa_jax.training.base_leaves import keep_leaf, loaded_shapes
from radvqa_jax.training.base_use import check_accept, check_use, follow, make_use
from radvqa_jax.training.sharding import check_rows, with_shardings
from radvqa_jax.training.stage import Base, Trained, check_fits, load_trained
from radvqa_jax.training.stage_plan import answering_mesh, mesh_of
from radvqa_jax.training.wandb_run import check_wandb
from radvqa_jax.trees import Flat

PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "sentencepiece")


class LoadedBase(NamedTuple):
    """The inputs of every mode with a model."""

    config: Config
    workdir: Path
    tokenizer: Tokenizer
    base: Base
    image_tokens: ImageTokens | None = None  # a cache that all requests to this base share


def inspect_model(config: Config) -> tuple[Tokenizer, Flat]:
    """The tokenizer, and the shape and dtype in which each leaf of the base will be loaded. Loads no weight.

    Raises:
        FileNotFoundError, ValueError: if the checkpoint, the tokenizer or an adapter is missing or not valid, the
            tokenizer has too many tokens, the rules of a stage do not fit the model, or the mesh does not fit the
            devices, the batches or the attention.
    """
    check_accept(config.adapter_accept)
    with big_vision.open_weights(config.model.checkpoint):
        pass  # raises if its headers are not valid
    if not config.model.tokenizer:
        raise ValueError(
            f"model.tokenizer is empty, and model.checkpoint={config.model.checkpoint} has no tokenizer.model "
            "(a tokenizer.json is not read). Set model.tokenizer to the SentencePiece file of the model: "
            "tokenizer.model of its repository on the Hub, or paligemma_tokenizer.model of Kaggle's .npz."
        )
    tokenizer = configured_backbone(config.model).tokenizer(config.model.tokenizer)
    check_embedded(config.model.tokenizer, tokenizer.sha256)
    variant = get_variant(config.model.variant).at(config.model.resolution)
    if tokenizer.vocab_size > variant.llm.vocab_size:
        raise ValueError(
            f"model.tokenizer={config.model.tokenizer} has {tokenizer.vocab_size} tokens, but {config.model.variant} "
            f"embeds {variant.llm.vocab_size}. Give the tokenizer that belongs to the checkpoint."
        )
    stages = _trained_stages(config)
    if stages and variant.resolution > MOST_PIXELS:  # adapter.json would be refused after the training
        raise ValueError(
            f"model.checkpoint={config.model.checkpoint} is for images of {variant.resolution} pixels, and a stage may "
            f"train with {MOST_PIXELS} a side. Set model.resolution."
        )
    mesh, answering = mesh_of(config), answering_mesh(config)
    if mesh is not None:
        for stage in (config.stages[name] for name in stages):
            check_rows(mesh, stage.batch_size * stage.accumulate, accumulate=stage.accumulate)
    if answering is not None:
        if _answers_rows(config):
            check_rows(answering, config.decode.batch_size, field="decode.batch_size")
        if answering.size > 1 and config.model.attention == "splash" and config.mode in _ONE_IMAGE:
            raise ValueError(
                f"model.attention=splash cannot compute one image on several devices, as mode={config.mode} would on "
                f"{answering.size}: one row cannot be split over devices, and the compiler cannot split the kernel. "
                "Set model.attention='blocks', or leave mesh.* at 1."
            )
    wanted = loaded_shapes(config, stages)
    starts = [config.stages[name].init_from for name in stages] if config.mode in _TRAINING else []
    for adapter in [*starts, config.adapter, *config.saliency.beside]:
        if adapter:
            check_adapter(adapter, config, tokenizer, wanted, training=adapter in starts)
    if config.model.quantize != "none":
        check_installed()
    if stages:
        check_wandb(config.wandb)
    if config.mode in _ONE_IMAGE:
        check_config(config.saliency, depth=variant.llm.depth)
        check_patches(config.saliency, grid=round(variant.num_patches**0.5))
        check_methods(config.quality.methods, field="quality.methods")
    return tokenizer, wanted


def check_embedded(path: str | Path, sha256: str) -> None:
    """Raises ValueError if a file of the embedded model is not the one that the package comes with."""
    file = Path(path).expanduser().resolve()
    if file.parent == EMBEDDED.resolve() and EMBEDDED_SHA256.get(file.name, sha256) != sha256:
        raise ValueError(
            f"{file} is not the file that radvqa_jax {__version__} comes with (sha256 {sha256[:16]}…, not "
            f"{EMBEDDED_SHA256[file.name][:16]}…): it was changed or damaged. Install the package again."
        )


def check_adapter(
    path: str,
    config: Config,
    tokenizer: Tokenizer,
    wanted: Flat,
    *,
    training: bool = False,
    accept: tuple[str, ...] = (),
) -> None:
    """Raises ValueError or FileNotFoundError if load_trained would refuse an adapter. Reads none of its values."""
    shapes, meta = inspect_any_adapter(path, wanted)
    now, may = make_use(config, tokenizer.sha256), config.adapter_accept + accept
    check_use(meta.base_use, now, adapter=path, accept=may, training=training)  # load_trained prints its sentences
    check_fits(config, wanted, shapes, meta.lora)


# Modes that compute single images, even on a mesh: all its devices compute the same row.
_ONE_IMAGE = ("job", "saliency", "saliency_quality", "ask")


def _answers_rows(config: Config) -> bool:
    """Whether the mode answers the questions of a data set in batches."""
    if config.mode == "saliency_quality":
        return config.quality.answer != "reference"
    return config.mode not in ("train", "ask")


_TRAINING = ("train", "job", "ablations")


def _trained_stages(config: Config) -> tuple[str, ...]:
    """The stages that the mode trains. Their leaves are loaded in float32 and not quantised."""
    if config.mode == "saliency_quality" and config.quality.shuffled_image_steps:
        return config.stage_names[-1:]  # its control, which starts from the base
    return config.stage_names if config.mode in _TRAINING else ()


def follow_adapter(config: Config, *, given: Collection[str]) -> Config:
    """The configuration, with fields that are not `given` set as in the training of its adapter."""
    if not config.adapter or config.mode in _TRAINING or is_peft(config.adapter):  # PEFT does not keep these fields
        return config
    _, meta = inspect_adapter(config.adapter)
    config = follow(config, meta.base_use, given=given, adapter=config.adapter)
    check(config)
    return config


def load_base(config: Config, workdir: Path) -> LoadedBase:
    """Loads the tokenizer and the base checkpoint, each leaf directly into its dtype and onto its devices.

    For training, the mesh shards the leaves over all processes. For answering, each process holds all of them.

    Raises:
        ValueError: if jax computes in 64 bits; or as `inspect_model` and `big_vision.load`.
    """
    if jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        raise ValueError(
            "jax_enable_x64 is on, and models are computed in 32 bits or fewer. Unset JAX_ENABLE_X64, or call "
            'jax.config.update("jax_enable_x64", False) first.'
        )
    tokenizer, wanted = inspect_model(config)
    mesh = mesh_of(config) if _trained_stages(config) else answering_mesh(config)
    if mesh is not None:
        wanted = with_shardings(mesh, wanted, configured_backbone(config.model).sharding)
    params, report = big_vision.load(
        config.model.checkpoint,
        wanted,
        allow_missing=config.model.allow_missing,
        allow_extra=config.model.allow_extra,
        convert=keep_leaf(config, _trained_stages(config), wanted),
    )
    check_embedded(config.model.checkpoint, report.sha256)
    print(report.text(), flush=True)
    embeds = get_variant(config.model.variant).llm.vocab_size
    if embeds > tokenizer.vocab_size:
        print(
            f"  model.tokenizer has {tokenizer.vocab_size} of the {embeds} tokens that the model embeds. If the model "
            "predicts one of the others, the answer shows ⁇",
            flush=True,
        )
    base = Base(params, Path(config.model.checkpoint).name, report.sha256, tokenizer.sha256)
    return LoadedBase(config, workdir, tokenizer, base, ImageTokens())


def shown_models(loaded: LoadedBase) -> dict[str, Trained]:
    """{name: trained leaves} of the base, the adapters of `saliency.beside`, and the configured adapter, in this order.

    The last one is asked. Without a configured adapter it is the base, after the adapters of `saliency.beside`. These
    are named by the last parts of their absolute paths: two, or as many as tell them apart.
    """
    run, trained = configured_adapter(loaded)
    folders = loaded.config.saliency.beside
    first = {"base": Trained.nothing()} if run != "base" else {}
    beside = {
        name: load_trained(folder, loaded.base, loaded.config)
        for name, folder in zip(_short_names(folders), folders, strict=True)
    }
    return first | beside | {run: trained}


def _short_names(folders: Sequence[str]) -> list[str]:
    """The last parts of each absolute path, at least two, so that no name is that of a run.

    >>> _short_names(["/a/b/stage2", "/c/b/stage2"]), _short_names(["/a/b/stage2", "/c/stage2"])
    (['a/b/stage2', 'c/b/stage2'], ['b/stage2', 'c/stage2'])
    """
    paths = [Path(folder).expanduser().absolute().parts for folder in folders]
    longest = max(map(len, paths), default=2)
    found = (["/".join(parts[-depth:]) for parts in paths] for depth in range(2, longest + 1))
    return next((names for names in found if len(set(names)) == len(set(paths))), list(folders))


def provenance(loaded: LoadedBase, found: Mapping[str, Any]) -> dict[str, Any]:
    """The provenance of a run's numbers, as JSON values; `found` is the audit's report."""
    config = loaded.config
    settings = json.dumps(dataclasses.asdict(config), sort_keys=True)
    return {
        "config_sha256": hashlib.sha256(settings.encode()).hexdigest(),
        "checkpoint": {"name": loaded.base.name, "sha256": loaded.base.sha256},
        "tokenizer_sha256": loaded.tokenizer.sha256,
        "shared_between_splits": [
            {key: value for key, value in pair.items() if key not in ("near_pairs", "suspects")}
            for pair in found["shared"]
        ],
        "accepted_leaks": list(config.audit.accept),
        "prompt": config.data.prompt,
        "decoding": dataclasses.asdict(config.decode),
        "seed": config.seed,
        "device": jax.devices()[0].device_kind,
        "versions": {"radvqa_jax": __version__} | {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def configured_adapter(loaded: LoadedBase) -> tuple[str, Trained]:
    """(name of the run, trained leaves) of config.adapter, or of the base without an adapter."""
    if not loaded.config.adapter:
        return "base", Trained.nothing()
    return "adapted", load_trained(loaded.config.adapter, loaded.base, loaded.config)
