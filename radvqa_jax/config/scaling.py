"""Scaling laws: which table is fitted, and by which laws."""

from dataclasses import dataclass
from typing import Literal

from radvqa_jax.config.bounds import Count, NotNegative


@dataclass(frozen=True)
class ScalingConfig:
    """mode=fit_scaling: the law of the loss by size and tokens."""

    table: str = ""  # CSV: parameters, tokens, loss; run, kind, validation, unit, epochs if there
    columns: tuple[tuple[str, str], ...] = ()  # (field, column), where a column has another name
    # Folders of trained stages whose losses.jsonl has eval/… losses; patterns such as runs/sweep/*/stage2.
    runs: tuple[str, ...] = ()
    unit: Literal["per_token", "per_row"] = "per_token"  # the loss that is taken from runs
    # Which laws are fitted, each by itself (radvqa_jax/scaling/laws.py).
    laws: tuple[Literal["multiplicative", "additive", "rectified"], ...] = ("multiplicative", "additive", "rectified")
    min_tokens: NotNegative = 0.0  # losses after fewer tokens are left out: the phase before the power law
    hold_out: bool = True  # the losses after the most tokens are predicted and not fitted
    resamples: Count = 400  # draws of runs for the intervals; 0 = no intervals
