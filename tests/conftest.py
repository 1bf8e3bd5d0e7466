"""How every test runs: on the CPU and with the shape letters of radvqa_jax checked; and the paths that tests share."""

import os
from pathlib import Path

# Before anything imports jax: it reads this once. RADVQA_GPU=1 leaves the choice of device to jax.
if os.environ.get("RADVQA_GPU") != "1":
    os.environ["JAX_PLATFORMS"] = "cpu"
    # Tests compile much and compute little: half the time goes with the compiler's optimisations.
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import importlib.util
import runpy
import sys
import types
from typing import Any

import jax
import jaxtyping
import pytest

REPO = Path(__file__).resolve().parent.parent
SHARED = REPO.parent / "shared"

# Marker -> (whether the test can run here, why it cannot and the way out).
NEEDS = {
    "tf": (importlib.util.find_spec("tensorflow") is not None, "TensorFlow is not installed: pip install -e '.[tf]'"),
    "torch": (importlib.util.find_spec("torch") is not None, "torch is not installed: pip install -e '.[bench]'"),
    "gpu": (os.environ.get("RADVQA_GPU") == "1", "needs a GPU: set RADVQA_GPU=1"),
    "weights": ("RADVQA_WEIGHTS" in os.environ, "needs released weights: set RADVQA_WEIGHTS to their folder"),
    "network": (os.environ.get("RADVQA_NETWORK") == "1", "needs the network: set RADVQA_NETWORK=1"),
}

# Without the numeric tower beartype would refuse alpha=7 where a float is annotated.
jaxtyping.install_import_hook("radvqa_jax", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

# [B 1] + [B] would broadcast to [B B] in silence.
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips, with the reason, what cannot run here."""
    for item in items:
        for name, (possible, reason) in NEEDS.items():
            if not possible and item.get_closest_marker(name) is not None:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def repo() -> Path:
    """Returns the root of the repository."""
    return REPO


@pytest.fixture(scope="session")
def golden() -> Path:
    """Returns the folder of golden values."""
    return REPO / "tests" / "golden"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Returns the folder of data sets beside the repository; skips the test where it is absent."""
    data = SHARED / "data"
    if not data.is_dir():
        pytest.skip(f"no data sets beside the repository ({data.relative_to(REPO.parent)} is absent)")
    return data


@pytest.fixture
def setup_arguments(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Returns what setup.py says, without setuptools: an environment of Python >= 3.12 does not have it."""
    said: dict[str, Any] = {}
    fake = types.ModuleType("setuptools")
    vars(fake).update(setup=lambda **arguments: said.update(arguments), find_packages=lambda **_: [])
    monkeypatch.setitem(sys.modules, "setuptools", fake)
    runpy.run_path(str(REPO / "setup.py"))
    return said
