"""Helpers for the tests of runners: functions that must not be called, and the files of a folder."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from radvqa_jax.config import Config

MakeConfig = Callable[..., Config]


def refuse(*_: Any, **__: Any) -> NoReturn:
    raise AssertionError("this must not be called")


def replace_in_runners(monkeypatch: pytest.MonkeyPatch, name: str, value: Any) -> None:
    """Replaces the import `name` of every runner by `value`."""
    modules = [module for path, module in sys.modules.items() if path.startswith("radvqa_jax.runners.")]
    found = [module for module in modules if hasattr(module, name)]
    assert found, f"no runner uses {name}"
    for module in found:
        monkeypatch.setattr(module, name, value)


def contents(folder: Path, pattern: str) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.glob(pattern)) if path.is_file()}
