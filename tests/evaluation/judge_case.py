"""Verdicts of the two rubrics, for the tests of the judge."""

import json
from typing import Any

from radvqa_jax.evaluation.judge_prompts import (
    RUBRICS,
)

MEDM, LLAMA = RUBRICS["medm"], RUBRICS["llama32_med"]


def verdict(mark: str, score: Any, reason: str = "because") -> str:
    return json.dumps({"mark": mark, "reason": reason, "score": score})
