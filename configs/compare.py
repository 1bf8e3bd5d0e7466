"""Compares two systems' answers to the same questions, paired, without a model.

    python -m radvqa_jax.main --config configs/compare.py --workdir runs/compare \\
        --config.eval.predictions=A.jsonl --config.eval.compare_with=B.jsonl

Prints a table, and writes it to compare.txt and every number to compare.json: the difference with its interval from a
bootstrap over images, the exact McNemar test, a permutation test over images, effect sizes, and Holm's correction over
the cells.

Machine: any.
"""

import ml_collections

from radvqa_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    config = default_config()
    config.mode = "compare"
    return config
