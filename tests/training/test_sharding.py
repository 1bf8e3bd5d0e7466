"""The sharding of leaves on a mesh; the numbers on eight devices are those of one."""

import json
import socket
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from radvqa_jax.backbones import PALIGEMMA, abstract_params
from radvqa_jax.checkpoints.adapter import load_adapter
from radvqa_jax.config import MeshConfig
from radvqa_jax.models.variants import get_variant
from radvqa_jax.training.hooks import read_losses
from radvqa_jax.training.sharding import check_rows, leaf_sharding, make_mesh
from radvqa_jax.trees import apply_rules
from tests.virtual_devices import run_script, start_main


def test_every_rule_decides_about_a_leaf_and_has_its_rank() -> None:
    names = {**abstract_params(get_variant("paligemma-3b-448"))}
    rules = [(pattern, "x") for pattern, _ in PALIGEMMA.sharding[1:]]
    apply_rules(names, rules, what="sharding")
    mesh = make_mesh(MeshConfig(data=1, fsdp=2, tensor=2), jax.devices()[:1] * 4)  # nothing is put there
    cut = {name: leaf_sharding(mesh, name, leaf.shape, PALIGEMMA.sharding).spec for name, leaf in names.items()}
    assert cut["llm/embedder/input_embedding"] == PartitionSpec(("tensor", "fsdp"), None)
    assert cut["llm/layers/attn/q_einsum/w"] == PartitionSpec(None, "tensor", "fsdp", None)
    assert cut["llm/layers/attn/kv_einsum/w"] == PartitionSpec(None, None, None, "fsdp", None)  # one key head
    large = {name for name, leaf in names.items() if leaf.size > 2**21}
    halves = {name for name in large if not {"fsdp", "tensor"} <= set(jax.tree.leaves(tuple(cut[name])))}
    assert halves == {"img/head/kernel", "llm/layers/attn/kv_einsum/w"}
    table = {n: leaf_sharding(mesh, "llm/embedder/input_embedding", (n, 8), PALIGEMMA.sharding).spec for n in (6, 7)}
    assert table == {6: PartitionSpec("fsdp", None), 7: PartitionSpec(None, None)}


def test_a_mesh_that_does_not_fit_the_devices_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit 1 devices"):
        make_mesh(MeshConfig(data=1, fsdp=2), jax.devices()[:1])
    with pytest.raises(ValueError, match="do not fit 1 devices"):
        make_mesh(MeshConfig(data=0, tensor=2), jax.devices()[:1])


def test_rows_that_cannot_be_shared_out_are_refused() -> None:
    # The same device four times: nothing is put there.
    mesh = make_mesh(MeshConfig(data=2, fsdp=2), jax.devices()[:1] * 4)
    check_rows(mesh, 16, accumulate=4)
    with pytest.raises(ValueError, match=r"batch_size=6 rows cannot be cut(?s:.*)Give a multiple of it"):
        check_rows(mesh, 6, accumulate=1)
    with pytest.raises(ValueError, match="Give batch_size=12 and accumulate=8, the same rows a step"):
        check_rows(mesh, 96, accumulate=16)


def run(folder: Path, devices: int, mesh: tuple[int, int, int], *, stop_at: int = 0) -> tuple[dict[str, Any], str]:
    """(trained leaves and logged scalars, what was printed) of run_mesh.py on this many virtual devices."""
    folder.mkdir()
    said = run_script(Path(__file__).with_name("run_mesh.py"), folder, *mesh, stop_at, devices=devices)
    with np.load(folder / "trained.npz") as arrays:
        found = dict(arrays)
    rows = read_losses(folder)
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    return found | {name: np.array([row[name] for row in rows]) for name in ("loss", "grad_norm")}, said


@pytest.mark.slow
def test_eight_devices_give_the_numbers_of_one_interrupted_or_not(tmp_path: Path) -> None:
    one, said = run(tmp_path / "one", 1, (1, 1, 1))
    assert said.count("the step compiled in") == 1
    assert int(one.pop("cut")) == len(one.pop("sent")) == 0
    for name, stop_at in (("eight", 0), ("resumed", 2)):
        eight, said = run(tmp_path / name, 8, (2, 2, 2), stop_at=stop_at)
        assert said.count("the step compiled in") == 1 + bool(stop_at)
        assert ("stopped" in said) == bool(stop_at)
        assert int(eight.pop("cut")) > 5  # weights are sharded, not copied
        # No device computes the rows of another, and the token table stays where it is; looked at on two meshes, in
        # the run that is not interrupted.
        assert eight.pop("sent").tolist() == ([] if stop_at else [[0, 0], [0, 0]])
        assert set(one) == set(eight)
        for leaf, values in one.items():
            np.testing.assert_allclose(eight[leaf], values, rtol=1e-5, atol=1e-5, err_msg=leaf)


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [(2, 2, 1), (2, 1, 2)])
def test_splash_attention_is_sharded_by_rows(mesh: tuple[int, int, int]) -> None:
    told = json.loads(run_script(Path(__file__).with_name("run_splash.py"), *mesh, devices=4))
    assert max(told["error"]) < 1e-4  # of sums over 140 positions, in float32
    assert all(told["by_rows"])


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(micro_file: Path, tmp_path: Path) -> None:
    where = f"--config.process.coordinator=127.0.0.1:{free_port()}"
    spread = ("--config.mesh.data=0", "--config.mesh.fsdp=2", where, "--config.process.count=2")
    several = [
        start_main(micro_file, tmp_path / "two", *spread, f"--config.process.index={i}", mode="train", devices=2)
        for i in (0, 1)
    ]
    alone = start_main(micro_file, tmp_path / "one", mode="train", devices=1)
    said = {}
    for name, process in (("first", several[0]), ("second", several[1]), ("alone", alone)):
        said[name], errors = process.communicate(timeout=300)
        assert process.returncode == 0, f"{name}: {errors}"
    # One of them prints and writes; the messages of the collectives' library cannot be suppressed or kept on one line.
    assert [line for line in said["second"].splitlines() if "Gloo" not in line and "peer ranks" not in line] == []
    assert "stage2 step 2/2" in said["first"]
    for stage in ("stage1", "stage2"):
        folders = [tmp_path / name / stage for name in ("one", "two")]
        rows = [read_losses(folder) for folder in folders]
        assert [row["step"] for row in rows[1]] == [1, 2]
        np.testing.assert_allclose([r["loss"] for r in rows[1]], [r["loss"] for r in rows[0]], rtol=1e-5)
        assert (folders[0] / "data.json").read_bytes() == (folders[1] / "data.json").read_bytes()
        one, two = (load_adapter(folder)[0] for folder in folders)
        assert set(one) == set(two)
        for name, leaf in one.items():
            np.testing.assert_allclose(two[name], leaf, rtol=1e-5, atol=1e-5, err_msg=name)
