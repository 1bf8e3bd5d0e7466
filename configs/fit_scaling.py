"""Fits scaling laws of the loss by model size and training tokens: MedM's equation 1 and two others.

    python -m radvqa_jax.main --config configs/fit_scaling.py --workdir runs/scaling --config.scaling.table=FILE.csv
    python -m radvqa_jax.main --config configs/fit_scaling.py --workdir runs/scaling \
        --config.scaling.runs="('runs/sweep/*/stage2',)"

The first takes a CSV file with the columns parameters, tokens and loss. The second takes the losses of trained stages
that have an `eval_source` (scripts/sweep.py trains some). Machine: one core, about a minute per law. Expect warnings
about the fit (a parameter at a bound, repeated data), the parameters with intervals, and the error of the prediction
for the losses after the most tokens. MedM (Shourya, Dumontier, Sun 2025) states L = A / (X^alpha D^beta) + E but does
not fit it, so there is no published figure to compare with.
"""

import ml_collections

from radvqa_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    config = default_config()
    config.mode = "fit_scaling"
    return config
