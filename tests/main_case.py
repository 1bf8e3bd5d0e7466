"""The result of a command, for the tests of the command line."""

from pathlib import Path
from typing import NamedTuple

REPO = Path(__file__).resolve().parent.parent


class Said(NamedTuple):
    """The result of a command."""

    code: int
    out: str
    err: str
