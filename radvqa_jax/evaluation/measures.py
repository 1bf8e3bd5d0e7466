"""The metrics that papers print, by the names of paper_figures.json, over the answers of one run."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from radvqa_jax.config import ScoreConfig
from radvqa_jax.evaluation import intervals, judge_scores, llama32_med, med_idefics, medm, published, samples, scoring
from radvqa_jax.evaluation.contradictions import score_contradictions
from radvqa_jax.evaluation.judge_file import JudgeFile
from radvqa_jax.evaluation.nonsense import score_nonsense
from radvqa_jax.schema import Record

STRING_MATCH = "accuracy, string match"
# Metric -> the module and the name of a value that each answer has.
PER_ANSWER = {
    STRING_MATCH: (llama32_med, "string_match"),
    "recall": (llama32_med, "recall"),
    "containment of the reference": (med_idefics, "containment"),
    "set F1": (med_idefics, "f1"),
    "BLEU-1": (med_idefics, "bleu1"),
    "containment of the reference, no punctuation": (med_idefics, "containment_no_punctuation"),
    "set F1, no punctuation": (med_idefics, "f1_no_punctuation"),
    "BLEU-1, no punctuation": (med_idefics, "bleu1_no_punctuation"),
    "ROUGE-1, prompt included": (medm, "rouge1_with_prompt"),
    "ROUGE-2, prompt included": (medm, "rouge2_with_prompt"),
    "ROUGE-L, prompt included": (medm, "rougeL_with_prompt"),
    "BLEU-4, prompt included": (medm, "bleu4_with_prompt"),
}
JUDGED = {"judged accuracy": ("medm", "accuracy"), "score of a judge, 1 to 5": ("llama32_med", "score")}
NONSENSE = {"refused": "refused", "made up": "made_up"}
# Metric -> why no program can give it.
BY_HAND = {
    "read by the authors": "people read these answers: report.review_rows writes the sheet for it (docs/scoring.md)",
    "read by three clinicians": "clinicians read these answers: report.review_rows writes the sheet (docs/scoring.md)",
    "read by a physician": "a physician read these answers: report.review_rows writes the sheet (docs/scoring.md)",
    "evaluation loss": "a loss, and no score",
}
CONTRADICTORY = "contradictory pairs"
METRICS = ("accuracy", "BLEU", "BERTScore", CONTRADICTORY, *PER_ANSWER, *JUDGED, *NONSENSE, *BY_HAND)


class Answered(NamedTuple):
    """The answers of one experiment, the answers of blind baselines, and the verdicts of judges."""

    records: Sequence[Record]
    guesses: Mapping[str, Sequence[Record]]  # baseline -> answers without a model
    judges: Sequence[JudgeFile] = ()


class Settings(NamedTuple):
    """The settings with which values are computed."""

    score: ScoreConfig
    resamples: int
    seed: int

    @property
    def bootstrap(self) -> dict[str, int]:
        """The settings of the bootstrap, for intervals."""
        return {"resamples": self.resamples, "seed": self.seed}


def choose(records: Sequence[Record], column: str, *, metric: str) -> list[Record]:
    """The records of a column: `overall`, `closed`, `open`, or an organ. String match calls yes/no closed."""
    if column == "overall":
        return list(records)
    if column in ("closed", "open"):
        if metric == STRING_MATCH:
            return [record for record in records if llama32_med.is_closed(record) == (column == "closed")]
        return [record for record in records if record.answer_type == column]
    return [record for record in records if record.organ.casefold() == column.casefold()]


def _mean(values: np.ndarray, records: Sequence[Record], settings: Settings) -> dict[str, Any]:
    images = scoring.image_ids(records)
    estimate = intervals.mean_interval(values, images, resamples=settings.resamples, seed=settings.seed)
    return scoring.cell_to_json(estimate)


def _accuracy(records: Sequence[Record], settings: Settings) -> dict[str, Any]:
    """Accuracy by the radvqa rules of the first answers, and MedM's frame of samples."""
    right = scoring.correct_answers(scoring.first_verdicts(records))
    framed = samples.score_samples(
        records,
        sample_size=settings.score.sample_size,
        runs=settings.score.sample_runs,
        resamples=settings.resamples,
        seed=settings.seed,
    )
    return _mean(right, records, settings) | {"frame": framed["frame"]["sampled"]}


def _judged(records: Sequence[Record], judges: Sequence[JudgeFile], metric: str, settings: Settings) -> Any:
    rubric, wanted = JUDGED[metric]
    for judge in judges:
        if judge.name.split("-")[0] == rubric:
            cell = judge_scores.score_judge(judge, records, **settings.bootstrap)["overall"]
            if cell and cell[wanted]:
                return cell[wanted] | {"unjudged": cell["unjudged"], "judge": judge.about["model"]}
    return f"no judge has read these answers: mode=judge with --config.judge.prompt={rubric}"


def measure(metric: str, column: str, answered: Answered, settings: Settings) -> dict[str, Any] | str:
    """A value with interval, n and number of images, as plain JSON values; or the reason why there is no value.

    Args:
        metric: of METRICS.
        column: the questions that count, see `choose`.
        answered: the answers.
        settings: of the bootstrap and of the metric.

    Raises:
        ValueError: for an unknown metric.
    """
    if metric not in METRICS:
        raise ValueError(f"There is no metric {metric!r}. Known: {', '.join(METRICS)}.")
    if metric in BY_HAND:
        return BY_HAND[metric]
    records = choose(answered.records, column, metric=metric)
    if not records:
        return f"no question is {column}"
    if metric in PER_ANSWER:
        module, name = PER_ANSWER[metric]
        return _mean(module.per_answer(records)[name], records, settings)
    if metric in JUDGED:
        return _judged(records, answered.judges, metric, settings)
    if metric in NONSENSE:
        found = score_nonsense(records, **settings.bootstrap)
        return found[NONSENSE[metric]] if found else "every question has an answer"
    if metric == "BLEU":
        return published.corpus_bleu_cell(records, scoring.image_ids(records), **settings.bootstrap)
    if metric == "BERTScore":
        return _bertscore(records, settings)
    if metric == CONTRADICTORY:
        found = score_contradictions(records, **settings.bootstrap)["overall"]
        return found or "no two answers about one image could exclude each other"
    return _accuracy(records, settings)


def _bertscore(records: Sequence[Record], settings: Settings) -> dict[str, Any] | str:
    model = settings.score.bertscore_model
    if not model:
        return "needs an encoder: --config.score.bertscore_model=FOLDER (pip install 'radvqa_jax[bertscore]')"
    values = llama32_med.bertscore(records, model=model, layers=settings.score.bertscore_layers)
    return _mean(values, records, settings)


def measure_blind(metric: str, column: str, answered: Answered, settings: Settings) -> dict[str, Any]:
    """{baseline: value} of the same metric over the answers of blind baselines; empty for a judge's metric."""
    if metric in (*JUDGED, *NONSENSE, *BY_HAND, "BERTScore"):
        return {}
    asked = Answered((), {})
    found = {
        name: measure(metric, column, asked._replace(records=records), settings)
        for name, records in answered.guesses.items()
    }
    return {name: value for name, value in found.items() if not isinstance(value, str)}
