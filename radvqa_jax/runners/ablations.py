"""The mode that runs a grid of ablations and writes one table."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from radvqa_jax.config import CellConfig, Config, History, SourceConfig, StageConfig
from radvqa_jax.data.audit import consequences
from radvqa_jax.evaluation.ablation_page import write_grid
from radvqa_jax.evaluation.ablations import CellAnswers, build_grid
from radvqa_jax.loaded_base import LoadedBase, check_adapter, inspect_model, load_base, provenance
from radvqa_jax.runners.audit import refuse_leaks
from radvqa_jax.runners.cell_questions import Asked, Guesses, for_cell, missing, questions_of, rows_to_ask
from radvqa_jax.runners.cell_words import changed_stage, describe_cell
from radvqa_jax.runners.data import prepare_all
from radvqa_jax.runners.evaluate import answer
from radvqa_jax.runners.train import make_loader, train_stages
from radvqa_jax.training.stage import Trained, load_trained


def chain_of(cell: CellConfig, config: Config) -> list[tuple[str, StageConfig]]:
    """The stages that a cell trains, in order, with its changes."""
    found = []
    for name in () if cell.adapter else (name for name in config.stage_names if name not in cell.without):
        stage = config.stages[name]
        changed = name == changed_stage(cell, config)
        if changed and cell.stage_sources:
            stage = dataclasses.replace(stage, sources=cell.stage_sources)
        if changed and cell.stage_steps:
            stage = dataclasses.replace(stage, total_steps=cell.stage_steps, epochs=0.0)
        found.append((name, stage))
    return found


class _Trainer:
    """The trained leaves of cells: each distinct chain of stages once, in store/<hash of its settings>."""

    def __init__(self, loaded: LoadedBase, store: Path, decides: str) -> None:
        """Takes the folder of trained leaves, and the further settings that determine them: empty for a single grid."""
        self._loaded = loaded
        self._store = store
        self._decides = decides
        self._done: dict[Path, Trained] = {}
        self._checked: set[Path] = set()

    def check(self, cell: CellConfig) -> None:
        """Raises ValueError if the adapter of a cell does not fit, or a stage gets no batches from its data."""
        if cell.adapter:
            self._given(cell)
        for folder, name, one in self._chain(cell):
            if folder not in self._checked:
                self._checked.add(folder)
                make_loader(one, name).close()

    def __call__(self, cell: CellConfig) -> tuple[str, Trained]:
        """(path relative to the folder that holds the store, trained leaves) of a cell."""
        if cell.adapter:
            return cell.adapter, self._given(cell)
        trained, place = Trained.nothing(), ""
        for folder, name, one in self._chain(cell):
            if folder not in self._done:
                self._done[folder] = train_stages(one)
            trained, place = self._done[folder], str(folder / name)
        return place and str(Path(place).relative_to(self._store.parent)), trained

    def _given(self, cell: CellConfig) -> Trained:
        loaded = self._loaded
        return load_trained(cell.adapter, loaded.base, for_cell(cell, loaded.config), accept=_set_by(cell))

    def _chain(self, cell: CellConfig) -> Iterator[tuple[Path, str, LoadedBase]]:
        """Yields (folder, name, what it is trained with) for each stage of a cell, in order."""
        config, place, chain = self._loaded.config, "", self._decides
        prompt = cell.train_prompt or config.data.prompt
        # In training the answers are the references, whatever they are in answering.
        taught: History = "none" if config.data.history == "none" or "{history}" not in prompt else "references"
        data = dataclasses.replace(config.data, prompt=prompt, history=taught)
        for name, stage in chain_of(cell, config):
            decides = [chain, name, dataclasses.asdict(stage), data.prompt, *([cell.seed] if cell.seed >= 0 else [])]
            decides += [taught] if taught != "none" else []
            chain = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:12]
            folder = self._store / chain
            stage = dataclasses.replace(stage, init_from=stage.init_from or place)
            place = str(folder / name)
            seed = cell.seed if cell.seed >= 0 else config.seed
            one = dataclasses.replace(config, seed=seed, run_stages=(name,), data=data).with_stages({name: stage})
            yield folder, name, self._loaded._replace(config=one, workdir=folder)


def _set_by(cell: CellConfig) -> tuple[str, ...]:
    """The fields that a cell changes on purpose, compared with an adapter's training."""
    return ("data.prompt",) * bool(cell.prompt) + ("data.seq_len",) * bool(cell.seq_len)


def _file_name(name: str, place: str) -> str:
    """The name of a cell's predictions file; it differs between cells, and changes with a cell's training."""
    plain = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")
    return f"{plain}-{hashlib.sha256(json.dumps([name, place]).encode()).hexdigest()[:6]}"


def _fill(cell: CellConfig, asked: Asked, loaded: LoadedBase, train: _Trainer) -> dict[str, Any]:
    """The records, guesses and origin of a cell: fields of CellAnswers."""
    place, trained = train(cell)
    asking, name = for_cell(cell, loaded.config), _file_name(cell.name, place)
    records = answer(loaded._replace(config=asking), trained, asked.rows, run=cell.name, name=name)
    about = {
        "trained": place or "nothing",
        "trained_sha256": trained.sha256(),
        "prompt": asking.data.prompt,
        "seq_len": asking.data.seq_len,
        "history": asking.data.history,
        "predictions": f"predictions/{name}.jsonl",
        "questions_without_an_image": sum(not record.image_id for record in records),
        "data": asked.rows.fingerprint,
    }
    in_a_row = asking.data.history != "none"
    return {"records": records, "guesses": asked.guesses, "about": about, "in_a_row": in_a_row}


def _audited(config: Config) -> Config:
    """The experiment with all data that any cell trains on or asks about, as far as they exist."""
    cells = config.ablations.cells
    stages = {}
    for name in config.stage_names:
        own = [source for cell in cells if changed_stage(cell, config) == name for source in cell.stage_sources]
        sources = tuple(dict.fromkeys([*config.stages[name].sources, *own]))
        stages[name] = dataclasses.replace(config.stages[name], sources=sources)
    asked = [cell.source for cell in cells if cell.source.dataset and not missing(cell.source, config)]
    return dataclasses.replace(
        config.with_stages(stages),
        audit=dataclasses.replace(
            config.audit, also_evaluate=tuple(dict.fromkeys([*config.audit.also_evaluate, *asked]))
        ),
    )


def fill_cells(
    config: Config, workdir: Path, *, store: Path | None = None, decides: str = ""
) -> tuple[list[CellAnswers], dict[str, Any]]:
    """Trains and answers every cell of config.ablations.

    Trained leaves and answers are kept, so that an interrupted grid continues. Mistakes in any cell are found before
    the first one trains.

    Args:
        config: the experiment.
        workdir: of answers and audit.
        store: the folder of trained leaves; None = workdir/trained.
        decides: the settings that determine training in addition to the stages, if several experiments share a store.

    Returns:
        The cells, and the facts that hold for all of them: `origin`, as JSON values, and `leaks`, one sentence each.
    """
    cells = config.ablations.cells
    tokenizer, shapes = inspect_model(config)
    for cell in cells:
        if cell.adapter:
            check_adapter(cell.adapter, for_cell(cell, config), tokenizer, shapes, accept=_set_by(cell))
    prepare_all(_audited(config), workdir)
    found = refuse_leaks(_audited(config), workdir)
    guessed: dict[tuple[SourceConfig, SourceConfig], Guesses] = {}
    to_ask = rows_to_ask(config, tokenizer)
    asked = {cell.name: questions_of(cell, config, to_ask, guessed) for cell in cells}
    loaded = load_base(config, workdir)
    train = _Trainer(loaded, store or workdir / "trained", decides)
    for cell in cells:
        if isinstance(asked[cell.name], Asked):
            train.check(cell)
    filled = []
    for cell in cells:
        changes, own = describe_cell(cell, config), asked[cell.name]
        if isinstance(own, Asked) and cell.image == "own" and not all(own.rows.column("image_id")):
            changes.append("a uniform grey where a question has no image")
        print(f"cell {cell.name}: {'; '.join(changes) or 'the experiment as it is'}", flush=True)
        if isinstance(own, str):
            print(f"  stays empty: {own}", flush=True)
            fields: dict[str, Any] = {"empty": own}
        else:
            fields = _fill(cell, own, loaded, train)
        against = cell.against or cells[0].name
        filled.append(
            CellAnswers(cell.name, changes, against if against != cell.name else "", group=cell.group, **fields)
        )
    return filled, {"origin": provenance(loaded, found), "leaks": consequences(found) if found["splits"] else []}


def ablations_mode(config: Config, workdir: Path) -> None:
    """Fills every cell of config.ablations and writes ablations.json, .txt and .html."""
    filled, common = fill_cells(config, workdir)
    grid = build_grid(
        filled, title=f"Ablations of {config.model.variant}", resamples=config.eval.bootstrap, seed=config.seed
    )
    print(write_grid(workdir, grid, provenance=common["origin"]))
    print(f"The page is {workdir / 'ablations.html'}")
