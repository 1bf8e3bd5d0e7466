"""The mode that maps attention."""

from pathlib import Path
from typing import Any

from radvqa_jax.config import Config
from radvqa_jax.data.rows import RowSource
from radvqa_jax.data.sources import load_rows
from radvqa_jax.runners.evaluate import answer
from radvqa_jax.runners.ground import Ground, configured_adapter, load_ground
from radvqa_jax.saliency.gallery import write_cases
from radvqa_jax.schema import Record
from radvqa_jax.training.stage import Trained, assemble


def saliency_mode(config: Config, workdir: Path) -> None:
    """Writes attention maps for a few questions of config.eval.source."""
    rows = load_rows(config.eval.source, config.data, seed=config.seed)
    ground = load_ground(config, workdir)
    run, trained = configured_adapter(ground)
    records = answer(ground, trained, rows, run=run, name="predictions")
    maps(ground, trained, rows, records)


def maps(ground: Ground, trained: Trained, rows: RowSource, records: list[Record]) -> list[dict[str, Any]]:
    """Writes maps for `saliency.cases` questions under workdir/saliency and returns what the report shows of them."""
    model, params = assemble(ground.config, ground.base, trained)
    return write_cases(
        model,
        params,
        rows,
        records=records,
        tokenizer=ground.tokenizer,
        config=ground.config,
        folder=ground.workdir / "saliency",
    )
