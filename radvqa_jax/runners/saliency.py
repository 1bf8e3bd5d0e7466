"""The mode that maps attention."""

from collections.abc import Mapping
from pathlib import Path

from radvqa_jax import processes
from radvqa_jax.config import Config
from radvqa_jax.data.fitting import fitting
from radvqa_jax.data.rows import RowSource
from radvqa_jax.data.sources import load_rows
from radvqa_jax.evaluation.report import ShownMap, run_label
from radvqa_jax.loaded_base import LoadedBase, load_base, shown_models
from radvqa_jax.runners.evaluate import answer, is_synthetic, own_base
from radvqa_jax.saliency.gallery import choose_cases
from radvqa_jax.saliency.gallery_together import write_cases_together
from radvqa_jax.saliency.unused import check_used
from radvqa_jax.saliency.viewer import write_viewer
from radvqa_jax.saliency.viewer_cases import Shown
from radvqa_jax.schema import Record
from radvqa_jax.training.stage import Trained, assemble


def saliency_mode(config: Config, workdir: Path) -> None:
    """Writes attention maps for a few questions of config.eval.source."""
    check_used(config)
    rows = load_rows(config.eval.source, config.data, seed=config.seed)
    loaded = load_base(config, workdir)
    rows = fitting(rows, data=config.data, tokenizer=loaded.tokenizer)
    models = shown_models(loaded)
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
    """
    folder, base, group = loaded.workdir / "saliency", own_base(loaded), processes.group()
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
