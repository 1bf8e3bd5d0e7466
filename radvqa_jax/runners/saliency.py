"""The mode that maps attention."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from radvqa_jax import processes, typed_json
from radvqa_jax.config import Config
from radvqa_jax.data.fitting import fitting
from radvqa_jax.data.rows import RowSource
from radvqa_jax.data.sources import load_rows
from radvqa_jax.evaluation.report import ShownMap, run_label
from radvqa_jax.evaluation.scorable import scorable
from radvqa_jax.files import write_json
from radvqa_jax.loaded_base import LoadedBase, load_base, shown_models
from radvqa_jax.runners.evaluate import answer, is_synthetic, own_base
from radvqa_jax.saliency.gallery import choose_cases
from radvqa_jax.saliency.gallery_together import write_cases_together
from radvqa_jax.saliency.unused import check_used
from radvqa_jax.saliency.viewer import write_viewer
from radvqa_jax.saliency.viewer_cases import Shown
from radvqa_jax.schema import Record
from radvqa_jax.training.stage import Trained, assemble, identify

MAPS = "maps.json"  # what the maps of a folder are of


def identify_maps(loaded: LoadedBase, models: Mapping[str, Trained] | None = None) -> dict[str, Any]:
    """The models, questions and settings of answers and maps, on which maps depend; without models, the others."""
    config = loaded.config
    own = {} if models is None else {"models": {name: trained.sha256() for name, trained in models.items()}}
    return own | {
        "tokenizer": loaded.tokenizer.sha256,
        "asked": identify(config, loaded.base) | {"max_new_tokens": config.decode.max_new_tokens},
        "source": dataclasses.asdict(config.eval.source),
        "saliency": dataclasses.asdict(dataclasses.replace(config.saliency, beside=())),
    }


def refuse_other_maps(loaded: LoadedBase, models: Mapping[str, Trained] | None = None) -> None:
    """Raises ValueError if the workdir has maps of other models, questions or settings; None = models not known yet."""
    folder = loaded.workdir / "saliency"
    if not (folder / MAPS).exists() or not any(folder.glob("*.npz")):  # a run may have failed before its first map
        return
    # As it is read back: tuples become lists.
    kept, now = typed_json.read(folder / MAPS, dict[str, Any]), json.loads(json.dumps(identify_maps(loaded, models)))
    if other := sorted(name for name in now if kept.get(name) != now[name]):
        raise ValueError(
            f"The maps in {folder} were made with other {', '.join(other)} (see {MAPS} there), and would be replaced. "
            f"Give another --workdir, or remove {folder}."
        )


def saliency_mode(config: Config, workdir: Path) -> None:
    """Writes attention maps for a few questions of config.eval.source."""
    check_used(config)
    rows = scorable(load_rows(config.eval.source, config.data, seed=config.seed))  # each case shows a verdict
    loaded = load_base(config, workdir)
    rows = fitting(rows, data=config.data, tokenizer=loaded.tokenizer)
    models = shown_models(loaded)
    refuse_other_maps(loaded, models)
    run = list(models)[-1]
    records = answer(loaded, models[run], rows, run=run, name="predictions")
    chosen = choose_cases(records, cases=config.saliency.cases, seed=config.seed)
    few, answers = rows.select(chosen), {run: [records[index] for index in chosen]}
    for number, (name, trained) in enumerate(models.items()):
        if chosen and name != run:
            file = "base_cases" if name == "base" else f"beside{number}_cases"
            answers[name] = answer(loaded, trained, few, run=name, name=file)
    maps(loaded, models, few, answers)


def maps(
    loaded: LoadedBase, models: Mapping[str, Trained], rows: RowSource, records: Mapping[str, list[Record]]
) -> list[ShownMap]:
    """Writes maps of every row, and viewer.html, under workdir/saliency; returns the cases for the report.

    Several processes divide the rows among themselves.

    Args:
        loaded: config, tokenizer and base.
        models: name of the run -> trained leaves, in the order of reading; maps are of the last one's answers.
        rows: the questions, few of them.
        records: name of the run -> its answers to them, in the same order.

    Raises:
        ValueError: if the workdir has other maps, as `refuse_other_maps` says.
    """
    folder, base, group = loaded.workdir / "saliency", own_base(loaded), processes.group()
    refuse_other_maps(loaded, models)
    if group.first:
        write_json(folder / MAPS, identify_maps(loaded, models))
    shown = {name: Shown(run_label(name), *assemble(loaded.config, base, trained)) for name, trained in models.items()}
    gallery = write_cases_together(
        rows,
        records=records,
        group=group,
        shown=shown,
        tokenizer=loaded.tokenizer,
        config=loaded.config,
        folder=folder,
    )
    if gallery.cases and group.first:
        synthetic = is_synthetic(records)
        path = write_viewer(
            folder / "viewer.html", gallery.cases, title=f"{rows.name}: what was read", synthetic=synthetic
        )
        print(f"The viewer is {path}")
    return gallery.shown
