"""Scaling laws: the losses to fit, and the laws."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Interval

from radvqa_jax.config.bounds import MOST_RESAMPLES, NotNegative


@dataclass(frozen=True)
class ScalingConfig:
    """mode=fit_scaling: the loss as a function of size and tokens."""

    table: str = ""  # CSV with parameters, tokens and loss; optionally run, kind, validation, unit and epochs
    columns: tuple[tuple[str, str], ...] = ()  # (field, column) for each column whose name differs from its field's
    # Folders of trained stages whose losses.jsonl has eval/… losses; patterns such as runs/sweep/*/stage2.
    runs: tuple[str, ...] = ()
    unit: Literal["per_token", "per_row"] = "per_token"  # the loss to take from runs
    # Laws to fit, each on its own (radvqa_jax/scaling/laws.py).
    laws: tuple[Literal["multiplicative", "additive", "rectified"], ...] = ("multiplicative", "additive", "rectified")
    min_tokens: NotNegative = 0.0  # leave out losses after fewer tokens: the phase before the power law
    hold_out: bool = True  # predict the losses after the most tokens instead of fitting them
    resamples: Annotated[int, Interval(ge=0, le=MOST_RESAMPLES)] = (
        400  # bootstrap resamples of runs, for the intervals; 0 = no intervals
    )
