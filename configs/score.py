"""Scores a predictions file, from this package or any other system, without a model.

    python -m radvqa_jax.main --config configs/score.py --workdir runs/score --config.eval.predictions=FILE.jsonl

Prints the table of the radvqa rules and that of the published metrics; leaves scores.json, table.txt and report.html.
Name the data set to have the blind baselines beside the score:

    --config.eval.source.dataset=vqa_rad --config.eval.train_source.dataset=vqa_rad

Machine: any.
"""

import ml_collections

from radvqa_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    config = default_config()
    config.mode = "score"
    return config
