"""Fits scaling laws of the loss by size and tokens: MedM's equation 1 and two others.

    python -m radvqa_jax.main --config configs/fit_scaling.py --workdir runs/scaling --config.scaling.table=FILE.csv
    python -m radvqa_jax.main --config configs/fit_scaling.py --workdir runs/scaling \
        --config.scaling.runs="('runs/sweep/*/stage2',)"

The first takes a CSV file with the columns parameters, tokens and loss; the second the losses of trained stages that
had an `eval_source` (scripts/sweep.py makes some). Machine: one core, about a minute for a law. Expect the parameters
with intervals, how well the losses after the most tokens were predicted, and in the first lines what is wrong with a
fit: a parameter at a bound, too few sizes, repeated data. MedM (Shourya, Dumontier, Sun 2025) states L = A / (X^alpha
D^beta) + E and fits nothing: there is no published figure to compare with.
"""

import ml_collections

from radvqa_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    config = default_config()
    config.mode = "fit_scaling"
    return config
