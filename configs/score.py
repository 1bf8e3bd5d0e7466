"""Scores files of answers, from this package or any other system, without a model.

    python -m radvqa_jax.main --config configs/score.py --workdir runs/score --config.eval.predictions=answers.jsonl
    python -m radvqa_jax.main --config configs/score.py --workdir runs/score \\
        --config.eval.predictions="results/*/SLAKE/results.json"

Takes several files separated by commas, patterns, and result files of MedEvalKit, VLMEvalKit and lmms-eval. Prints a
table per data set; writes table.csv, table.md, table.tex, verdicts.jsonl, verdicts.csv, unscored.jsonl, scores.json and
report.html. docs/scoring.md describes them.

Name the prepared data set to add the blind baselines:

    --config.eval.source.dataset=vqa_rad --config.eval.train_source.dataset=vqa_rad

To have a language model judge the same answers: --config.mode=judge
--config.judge.base_url=http://127.0.0.1:8000/v1 --config.judge.model=NAME. Its verdicts are written next to the file of
answers, and the next run of this config shows them.

Machine: any.
"""

import ml_collections

from radvqa_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    config = default_config()
    config.mode = "score"
    return config
