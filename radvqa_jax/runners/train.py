"""The mode that trains."""

from collections.abc import Callable
from pathlib import Path

from radvqa_jax.config import Config
from radvqa_jax.data.loader import TrainLoader, make_train_loader
from radvqa_jax.data.packing import describe
from radvqa_jax.data.sources import find_prepared, load_rows
from radvqa_jax.files import write_json
from radvqa_jax.models.variants import get_variant
from radvqa_jax.planning.utilisation import utilisation
from radvqa_jax.runners.data import stage_sources
from radvqa_jax.runners.ground import Ground, load_ground
from radvqa_jax.training.stage import Trained, load_trained, run_stage


def _make_loader(ground: Ground, name: str) -> TrainLoader:
    config, stage = ground.config, ground.config.stage(name)
    sources = [load_rows(source, config.data, seed=config.seed) for source in stage.sources]
    return make_train_loader(
        sources,
        data=config.data,
        tokenizer=ground.tokenizer,
        resolution=get_variant(config.model.variant).at(config.model.resolution).resolution,
        batch_size=stage.batch_size * stage.accumulate,
        seed=config.seed + int(name.removeprefix("stage")),
    )


def _show_example(ground: Ground, loader: TrainLoader) -> None:
    """Prints the first row of the first batch; the loader is put back."""
    position = loader.get_state()
    batch = next(loader)
    loader.set_state(position)
    row = {name: getattr(batch, name)[0] for name in ("tokens", "mask_ar", "mask_loss", "mask_input")}
    print("The first training row:\n" + describe(ground.tokenizer, row), flush=True)


def train_stages(ground: Ground, *, after: Callable[[str, Trained], None] = lambda name, trained: None) -> Trained:
    """Trains the configured stages in order and returns what the last one leaves; `after` sees each.

    A stage starts from `init_from`, or from the stage before it in this run, or from the base.
    """
    config = ground.config
    # Loaded before the first stage trains, so that one which does not fit is not found hours later.
    given = {name: load_trained(path, ground.base) for name in config.stages if (path := config.stage(name).init_from)}
    trained = Trained.nothing()
    for name in config.stages:
        loader = _make_loader(ground, name)
        for entry in loader.report:
            source = entry["source"]
            kept = f"{entry['kept']} rows kept, rejected {entry['rejected']}"
            print(f"{name}: {source['dataset']}:{source['split']} {kept}")
        _show_example(ground, loader)
        data = {str(i): entry["source"] | {"weight": entry["weight"]} for i, entry in enumerate(loader.report)}
        try:
            trained = run_stage(
                name,
                config,
                base=ground.base,
                start=given.get(name, trained),
                batches=loader,
                rows_per_epoch=loader.rows_per_epoch,
                data=data | {"tokenizer": ground.tokenizer.sha256},
                folder=ground.workdir / name,
                speed=utilisation,
            )
        finally:
            loader.close()
        write_json(ground.workdir / name / "data.json", loader.report)
        after(name, trained)
    return trained


def train(config: Config, workdir: Path) -> None:
    """Trains the configured stages."""
    for source in stage_sources(config):
        find_prepared(source, config.data)
    train_stages(load_ground(config, workdir))
    print(f"What was trained is in {workdir / config.stages[-1]}/adapter.npz")
