"""The metrics of the three published systems over a run, each with n, an interval, and the package that computed it.

They exist for comparison with the papers' figures, not to be trusted: each has a known flaw, stated where it is
computed. The scorer to trust is scoring.py.
"""

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from radvqa_jax import __version__
from radvqa_jax.config import ScoreConfig
from radvqa_jax.evaluation import intervals, llama32_med, med_idefics, medm
from radvqa_jax.evaluation.scoring import GROUPS, cell_to_json, check_once, group, image_ids
from radvqa_jax.evaluation.tables import align, format_cell
from radvqa_jax.schema import Record

SYSTEMS = {"medm": medm, "med_idefics": med_idefics, "llama32_med": llama32_med}
_ROUNDING = 1e-9  # a sum of floats may exceed 1 by less


def package(system: str, metric: str) -> str:
    """The name and version of the package that computes a metric: `nltk 3.10.4`, or this package."""
    for prefix, name in SYSTEMS[system].PACKAGES.items():
        if metric.startswith(prefix):
            return f"{name} {importlib.metadata.version(name)}"
    return f"radvqa_jax {__version__}"


def corpus_bleu_cell(records: Sequence[Record], images: np.ndarray, *, resamples: int, seed: int) -> dict[str, Any]:
    """The corpus BLEU of the first answers."""
    return corpus_bleu_of(llama32_med.bleu_counts(records), images, resamples=resamples, seed=seed)


def corpus_bleu_of(
    counts: Float[np.ndarray, "n m"], images: np.ndarray, *, resamples: int, seed: int
) -> dict[str, Any]:
    """The cell of the corpus BLEU of answers with these counts (`llama32_med.bleu_counts`)."""
    found = intervals.statistic_interval(counts, images, llama32_med.corpus_bleu, resamples=resamples, seed=seed)
    return {
        "value": llama32_med.corpus_bleu(counts.sum(axis=0)),
        "interval": None if found is None else list(found),
        "n": len(counts),
        "n_images": len(np.unique(images)),
    }


def check_installed(config: ScoreConfig) -> None:
    """Raises ValueError if something that `config` needs is missing, before there is anything to score."""
    if config.bertscore_model and "llama32_med" in config.published:
        llama32_med.check_bertscore(config.bertscore_model)


def score_published(
    records: Sequence[Record],
    systems: Sequence[str],
    *,
    resamples: int = 2000,
    seed: int = 0,
    bertscore_model: str = "",
    bertscore_layers: int = 0,
) -> dict[str, Any]:
    """{system: {metric: {value, interval, n, n_images, package, by}}} of the first predictions.

    `by` holds the cells of each group (organ, modality, …) for metrics that are means over answers; a cell without
    answers is absent. LLaMA32-Med's string match is also given for its closed (yes/no) and open questions.

    Args:
        records: of one run, each question once.
        systems: of `SYSTEMS`.
        resamples: bootstrap resamples of images.
        seed: of the bootstrap.
        bertscore_model: a model folder for LLaMA32-Med's BERTScore; empty leaves it out.
        bertscore_layers: the layer it compares; 0 is the last.

    Raises:
        ValueError: for an unknown system, a question that occurs twice, or a question without a prediction.
    """
    if unknown := [system for system in systems if system not in SYSTEMS]:
        raise ValueError(f"There are no published metrics of {unknown}. Known: {', '.join(SYSTEMS)}.")
    check_once(records)
    if not records:
        return {}
    images = image_ids(records)
    groups = {field: group(records, field) for field in GROUPS}

    def cell(values: Float[np.ndarray, " n"], rows: Sequence[int]) -> dict[str, Any]:
        chosen = np.asarray(values)[rows]
        if len(chosen) and chosen.max() <= 1 + _ROUNDING:
            chosen = np.minimum(chosen, 1.0)
        return cell_to_json(intervals.mean_interval(chosen, images[rows], resamples=resamples, seed=seed))

    def cells(values: Float[np.ndarray, " n"]) -> dict[str, Any]:
        by = {field: {value: cell(values, rows) for value, rows in found.items()} for field, found in groups.items()}
        return cell(values, range(len(records))) | {"by": {field: found for field, found in by.items() if found}}

    scores: dict[str, dict[str, Any]] = {}
    for system in systems:
        values = SYSTEMS[system].per_answer(records)
        if system == "llama32_med" and bertscore_model:
            values["bertscore"] = llama32_med.bertscore(records, model=bertscore_model, layers=bertscore_layers)
        found = {name: cells(value) for name, value in values.items()}
        if system == "llama32_med":
            closed = np.array([llama32_med.is_closed(record) for record in records])
            for name, rows in (("closed", np.flatnonzero(closed)), ("open", np.flatnonzero(~closed))):
                if len(rows):
                    found[f"string_match_{name}"] = cell(values["string_match"], rows.tolist())
            found["bleu"] = corpus_bleu_cell(records, images, resamples=resamples, seed=seed)
        scores[system] = {name: value | {"package": package(system, name)} for name, value in found.items()}
    return scores


def published_table(runs: Mapping[str, Mapping[str, Any]], *, label: Callable[[str], str] = str) -> list[list[str]]:
    """Rows of text, the header first: system and metric, package, then one column for each run."""
    rows = [["published metric", "package", *map(label, runs)]]
    for system in SYSTEMS:
        for metric in dict.fromkeys(metric for run in runs.values() for metric in run.get(system, {})):
            cells = [run.get(system, {}).get(metric) for run in runs.values()]
            made_by = next(cell["package"] for cell in cells if cell)
            rows.append([f"{system} {metric}", made_by, *map(format_cell, cells)])
    return rows


def format_published(runs: Mapping[str, Mapping[str, Any]], *, label: Callable[[str], str] = str) -> str:
    """The published metrics as a table for the terminal; {run: {system: {metric: cell}}}."""
    note = "As the systems' own code computed them; their known flaws are in radvqa_jax/evaluation/<system>.py."
    return "\n".join([*align(published_table(runs, label=label)), note])
