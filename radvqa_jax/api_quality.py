"""The quality of a model's maps on a data set with marked regions, for `Model.saliency_quality`."""

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from matplotlib.figure import Figure

from radvqa_jax.api_maps import Picture
from radvqa_jax.backbones import backbone_of
from radvqa_jax.config import QualityConfig
from radvqa_jax.data.fitting import fitting
from radvqa_jax.data.rows import RowSource
from radvqa_jax.evaluation.scorable import scorable
from radvqa_jax.loaded_base import LoadedBase
from radvqa_jax.saliency import quality_report
from radvqa_jax.saliency.quality_cases import Settings, Subject, measure_cases
from radvqa_jax.saliency.quality_choice import answers_to_force, choose, make_cases
from radvqa_jax.saliency.quality_scores import quality_scores
from radvqa_jax.saliency.sanity import shuffle_weights, towers
from radvqa_jax.schema import Record
from radvqa_jax.training.stage import Trained, assemble


@dataclass(frozen=True, repr=False)
class MapQuality:
    """All numbers of the saliency quality report, with n and intervals over images."""

    scores: Mapping[str, Any]  # as in saliency_quality.json
    cases: tuple[Mapping[str, Any], ...]  # one row per question, as in quality_cases.jsonl
    left_out: Mapping[str, int]  # reason why rows were not measured -> number of rows

    def __repr__(self) -> str:
        return quality_report.format_quality(self.scores)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>"

    def localisation(self) -> Picture:
        """Whether the maps find the marked regions, compared with chance and with maps that do not see the question."""
        return Picture(quality_report.localisation_figure(self.scores))

    def heads(self) -> Picture:
        """The quality of each layer and head, and that of the best head on images that did not choose it."""
        return Picture(quality_report.heads_figure(self.scores))

    def curves(self) -> Picture:
        """Deletion and insertion: whether the patches that a map marks matter to the answer."""
        return _drawn(quality_report.curves_figure, self.scores, "curves")

    def compared(self) -> Picture:
        """The similarity of maps from other weights: shuffled ones, and the base before adaptation."""
        return _drawn(quality_report.compared_figure, self.scores, "maps of other weights")


def _drawn(draw: Callable[[Mapping[str, Any]], Figure | None], scores: Mapping[str, Any], what: str) -> Picture:
    figure = draw(scores)
    if figure is None:
        raise ValueError(f"No case was measured with {what}.")
    return Picture(figure)


def measure_quality(
    loaded: LoadedBase,
    trained: Trained,
    subject: Subject,
    rows: RowSource,
    *,
    quality: QualityConfig,
    answer: Callable[[RowSource], list[Record]],
) -> MapQuality:
    """Measures a model's maps in memory; `answer` gives the model's greedy answers to rows, in their order."""
    config, tokenizer, variant = loaded.config, loaded.tokenizer, subject.model.variant
    rows = fitting(scorable(rows), data=config.data, tokenizer=tokenizer)
    grid = round(variant.num_patches**0.5)
    rows, targets, left_out = choose(rows, quality, seed=config.seed, grid=grid)
    records = answer(rows) if quality.answer == "own" else None
    answers = answers_to_force(rows, records, tokenizer=tokenizer, prompt=config.data.prompt)
    cases = make_cases(
        rows, targets, records, answers=answers, tokenizer=tokenizer, data=config.data, resolution=variant.resolution
    )
    backbone = backbone_of(variant)
    shuffle = partial(shuffle_weights, subject.params, seed=config.seed, equations=backbone.equations)
    others = {f"{name} shuffled": Subject(subject.model, shuffle(part)) for name, part in towers(backbone.tree).items()}
    if trained.leaves:
        others["before adaptation"] = Subject(*assemble(config, loaded.base, Trained.nothing()))
    settings = Settings(config.saliency, quality, max(map(len, answers)), tokenizer.eos, config.seed)
    measured = [row for part in measure_cases(subject, others, cases, settings) for row in part]
    scores = quality_scores(measured, resamples=quality.bootstrap, seed=config.seed, provenance={})
    return MapQuality(scores, tuple(measured), left_out)
