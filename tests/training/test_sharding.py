"""Where leaves lie on a mesh, and that the numbers on eight devices are those of one."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from radvqa_jax.config import MeshConfig
from radvqa_jax.models.paligemma import abstract_params
from radvqa_jax.models.variants import get_variant
from radvqa_jax.training.sharding import RULES, check_rows, leaf_sharding, make_mesh
from radvqa_jax.trees import apply_rules

REPO = Path(__file__).resolve().parents[2]


def test_every_rule_decides_about_a_leaf_and_has_its_rank() -> None:
    names = {**abstract_params(get_variant("paligemma-3b-448"))}
    rules = [(pattern, "x") for pattern, _ in RULES[1:]]
    apply_rules(names, rules, what="sharding")
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    for name, leaf in names.items():
        leaf_sharding(mesh, name, leaf.shape)


def test_a_mesh_that_does_not_fit_the_devices_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit 1 devices"):
        make_mesh(MeshConfig(data=1, fsdp=2), jax.devices()[:1])
    with pytest.raises(ValueError, match="do not fit 1 devices"):
        make_mesh(MeshConfig(data=0, tensor=2), jax.devices()[:1])


def test_rows_that_cannot_be_shared_out_are_refused() -> None:
    # The same device four times: nothing is put there.
    mesh = make_mesh(MeshConfig(data=2, fsdp=2), jax.devices()[:1] * 4)
    check_rows(mesh, 16, accumulate=4)
    with pytest.raises(ValueError, match="batch_size=6 rows cannot be cut"):
        check_rows(mesh, 6, accumulate=1)


def run(path: Path, devices: int, mesh: tuple[int, int, int]) -> dict[str, np.ndarray]:
    flags = f"--xla_backend_optimization_level=0 --xla_force_host_platform_device_count={devices}"
    env = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "PYTHONPATH": str(REPO)}
    command = [sys.executable, str(Path(__file__).with_name("run_mesh.py")), str(path), *map(str, mesh)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(path) as arrays:
        return dict(arrays)


@pytest.mark.slow
def test_eight_devices_give_the_numbers_of_one_and_compile_once(tmp_path: Path) -> None:
    one = run(tmp_path / "one.npz", 1, (1, 1, 1))
    eight = run(tmp_path / "eight.npz", 8, (2, 2, 2))
    assert (int(one.pop("compiled")), int(eight.pop("compiled"))) == (1, 1)
    assert int(one.pop("cut")) == 0
    assert int(eight.pop("cut")) > 5  # weights are shared out, not copied
    assert set(one) == set(eight)
    for name, leaf in one.items():
        np.testing.assert_allclose(eight[name], leaf, rtol=1e-5, atol=1e-5, err_msg=name)
