"""The mode that trains."""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from radvqa_jax import processes, runtime
from radvqa_jax.config import Config
from radvqa_jax.data.loader import TrainLoader, make_train_loader
from radvqa_jax.data.packing import describe_tokens
from radvqa_jax.data.rows import RowSource
from radvqa_jax.data.sources import find_prepared, load_rows
from radvqa_jax.data.unchanged import unchanged
from radvqa_jax.files import write_json
from radvqa_jax.loaded_base import LoadedBase, load_base
from radvqa_jax.models.variants import get_variant
from radvqa_jax.planning.choosing_here import choose_here
from radvqa_jax.planning.utilisation import utilisation
from radvqa_jax.runners.audit import evaluated_sources, refuse_leaks
from radvqa_jax.runners.budget import check_held_out, keep_held_out, write_budget
from radvqa_jax.runners.data import stage_sources
from radvqa_jax.runners.validation import Validation
from radvqa_jax.training.sharding import batch_part
from radvqa_jax.training.stage import Trained, load_trained, run_stage, stage_number
from radvqa_jax.training.stage_plan import count_steps, mesh_of
from radvqa_jax.training.text_lengths import choose_lengths


def _as_they_are(rows: RowSource) -> RowSource:
    return rows


def make_loader(
    loaded: LoadedBase, name: str, *, change: Callable[[RowSource], RowSource] = _as_they_are
) -> TrainLoader:
    """The batches of a stage: all training draws them here.

    Args:
        loaded: config and tokenizer.
        name: of the stage.
        change: applied to the rows of every source, for a control that trains on changed rows.

    Raises:
        ValueError: if the sources give no batches, or fewer steps than the stage warms up for.
    """
    config, stage = loaded.config, loaded.config.stages[name]
    mesh = mesh_of(config)
    index, count = batch_part(mesh) if mesh is not None else (0, 1)
    sources = [load_rows(source, config.data, seed=config.seed) for source in stage.sources]
    loader = make_train_loader(
        [change(rows) for rows in sources],
        data=config.data,
        tokenizer=loaded.tokenizer,
        resolution=get_variant(config.model.variant).at(config.model.resolution).resolution,
        batch_size=stage.batch_size * stage.accumulate,
        seed=config.seed + stage_number(name),
        total_batches=lambda rows_per_epoch: count_steps(stage, rows_per_epoch),
        weight_by=stage.weight_by,
        process_index=index,
        process_count=count,
    )
    steps = count_steps(stage, loader.rows_per_epoch)
    if stage.optim.warmup_steps >= steps:
        loader.close()
        raise ValueError(
            f"stages.{name}.optim.warmup_steps={stage.optim.warmup_steps} must be below the {steps} steps of {name}, "
            f"of {loader.rows_per_epoch} rows an epoch. Give fewer of them, or more epochs."
        )
    return loader


def train_stage(
    loaded: LoadedBase,
    name: str,
    loader: TrainLoader,
    *,
    start: Trained,
    folder: Path,
    validate: Validation | None = None,
) -> Trained:
    """Trains a stage on the batches of its loader; the checkpoints and the adapter are in the folder."""
    config = loaded.config
    runtime.release_programs()
    if loaded.image_tokens is not None:
        loaded.image_tokens.clear()  # free the device's memory for training
    data: dict[str, Any] = {str(i): entry["source"] for i, entry in enumerate(loader.report)}
    data |= {"augment": dataclasses.asdict(config.data.augment), "tokenizer": loaded.tokenizer.sha256}
    return run_stage(
        name,
        config,
        base=loaded.base,
        start=start,
        batches=loader,
        rows_per_epoch=loader.rows_per_epoch,
        data=data,
        folder=folder,
        speed=utilisation,
        validate=validate,
        text_lengths=lambda parts: text_lengths(config, parts, loader),
        choose=partial(choose_here, config),
    )


def text_lengths(config: Config, parts: int, loader: TrainLoader) -> dict[int, float]:
    """The lengths to which the texts of a stage's parts are padded, and the share of the parts of each.

    They depend only on the rows of the stage, so that every process and every restart has the same.
    """
    # A row's last token is only a target.
    return choose_lengths(
        [tokens - 1 for tokens in loader.longest_rows(parts)],
        limit=loader.longest_row - 1,
        seq_len=config.data.seq_len,
        fixed=get_variant(config.model.variant).at(config.model.resolution).num_patches,
    )


def _show_example(loaded: LoadedBase, loader: TrainLoader) -> None:
    """Prints the first row of the first batch, and resets the loader."""
    position = loader.get_state()
    batch = next(loader)
    loader.set_state(position)
    row = {name: getattr(batch, name)[0] for name in ("tokens", "mask_ar", "mask_loss", "mask_input")}
    print("The first training row:\n" + describe_tokens(loaded.tokenizer, row), flush=True)


def _describe(entry: dict[str, Any]) -> list[str]:
    """The rows kept and left out of a source, one line each."""
    source = f"{entry['source']['dataset']}:{entry['source']['split']}"
    lines = [
        f"{source} where {f['filter']}: {f['after']} of {f['before']} rows" for f in entry["source"].get("filters", [])
    ]
    cut = f", {entry['cut']} answers cut" if entry["cut"] else ""
    return [*lines, f"{source} {entry['kept']} rows kept, rejected {entry['rejected']}{cut}"]


def format_shares(name: str, report: Sequence[dict[str, Any]], shares: Sequence[dict[str, Any]]) -> str:
    """One line for each source on its share of a stage, in total and in each tenth."""
    lines = []
    for entry, share in zip(report, shares, strict=True):
        tenths = " ".join(f"{part:.0%}" for part in share["share_by_tenth"])
        source = f"{entry['source']['dataset']}:{entry['source']['split']}"
        lines.append(
            f"{name}: {source} gave {share['drawn']} rows, {share['share']:.1%}; by tenth of training {tenths}"
        )
    return "\n".join(lines)


def train_stages(
    loaded: LoadedBase,
    *,
    first: Callable[[], None] = lambda: None,
    before: Callable[[str], None] = lambda name: None,
    after: Callable[[str, Trained], None] = lambda name, trained: None,
) -> Trained:
    """Trains the configured stages in order and returns the result of the last one.

    `first` is called when the data and the adapters of every stage are opened, so that a mistake in one is found before
    it. `before` is called with the name of each stage, and `after` with the name and the trained leaves.

    A stage starts from `init_from`, or from the stage before it in this run, or from the base.
    """
    config = loaded.config
    # Loaded before the first stage trains, so that a misfit is not found hours later.
    given = {
        name: load_trained(path, loaded.base, config, training=True)
        for name in config.stage_names
        if (path := config.stages[name].init_from)
    }
    trained = Trained.nothing()
    with contextlib.ExitStack() as stack:
        # All of them before the first stage, for the same reason; a loader makes no batch before the first request.
        loaders = {name: make_loader(loaded, name) for name in config.stage_names}
        for loader in loaders.values():
            stack.callback(loader.close)
        held_out = {
            name: Validation(loaded, stage)
            for name in config.stage_names
            if (stage := config.stages[name]).eval_source.dataset
        }
        for name, validation in held_out.items():
            check_held_out(name, validation, loaded.workdir / name)
        _check_read_alike(loaded, loaders, held_out, given)
        first()
        for name, loader in loaders.items():
            before(name)
            opened = [entry["source"] for entry in loader.report]
            if name in held_out:
                opened.append(held_out[name].report["source"])
            # An adapter that was saved stays; the error says that it may be of both.
            with unchanged(opened, config.data):
                print("\n".join(f"{name}: {line}" for entry in loader.report for line in _describe(entry)))
                if name in held_out:
                    print("\n".join(f"{name}: held out: {line}" for line in _describe(held_out[name].report)))
                _show_example(loaded, loader)
                folder = loaded.workdir / name
                if runtime.is_first() and name in held_out:
                    keep_held_out(held_out[name], folder)
                trained = train_stage(
                    loaded, name, loader, start=given.get(name, trained), folder=folder, validate=held_out.get(name)
                )
                loader.close()
            shares = loader.realised()
            if runtime.is_first():
                write_json(folder / "data.json", [entry | s for entry, s in zip(loader.report, shares, strict=True)])
                if name in held_out:
                    write_budget(loaded, name, loader, held_out[name], folder, trained=trained)
            if len(shares) > 1:
                print(format_shares(name, loader.report, shares), flush=True)
            after(name, trained)
    return trained


def _check_read_alike(
    loaded: LoadedBase,
    loaders: Mapping[str, TrainLoader],
    held_out: Mapping[str, Validation],
    given: Mapping[str, Trained],
) -> None:
    """Raises ValueError if another process of the run has read other weights, rows or another tokenizer."""
    read = {"base": loaded.base.sha256, "tokenizer": loaded.tokenizer.sha256}
    read |= {f"stages.{name}.sources": [entry["source"] for entry in loaders[name].report] for name in loaders}
    read |= {f"stages.{name}.eval_source": validation.report["source"] for name, validation in held_out.items()}
    read |= {f"stages.{name}.init_from": trained.sha256() for name, trained in given.items()}
    runtime.check_equal(
        {name: json.dumps(value, sort_keys=True) for name, value in read.items()},
        what="weights and rows",
        differs="has read other weights, rows or another tokenizer",
        remedy="Give each process the same files: a path with ~, or on a disk of its own, may be another file there.",
    )


def train_mode(config: Config, workdir: Path) -> None:
    """Trains the configured stages."""
    for source in [*stage_sources(config), *evaluated_sources(config)]:
        find_prepared(source, config.data)
    processes.group().first_alone(lambda: refuse_leaks(config, workdir), others={}, what="the audit")
    train_stages(load_base(config, workdir))
    print(f"The trained leaves are in {workdir / config.stage_names[-1]}/adapter.npz")
