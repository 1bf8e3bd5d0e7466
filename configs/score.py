"""Scores a predictions file, of this project or of any other system, without a model.

    python scripts/csv_to_predictions.py answers.csv answers.jsonl
    python -m radvqa_jax.main --config configs/score.py --workdir runs/score --config.eval.predictions=answers.jsonl

Machine: any. Expect the table of accuracy with n and intervals, and report.html. Give the data set that the questions
come from (--config.eval.source.dataset, --config.eval.train_source.dataset), prepared, and the blind baselines stand
beside it. A language model judges the same answers with --config.mode=judge --config.judge.base_url=… and
--config.judge.model=…; its verdicts lie beside the file, and the next run of this config shows them.
"""

import ml_collections

from radvqa_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    config = default_config()
    config.mode = "score"
    return config
