"""Values that the tests of writing questions share."""

from collections.abc import Callable
from pathlib import Path

from radvqa_jax.config import Config
from radvqa_jax.synthesis.candidates import Candidate, read_candidates

Configure = Callable[..., Config]


def written(folder: Path) -> list[Candidate]:
    return read_candidates(folder / "candidates.jsonl")
