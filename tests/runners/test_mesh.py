"""Several devices: a job writes the same files as on one, and answers with the mesh set."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from radvqa_jax.backbones import make_model
from radvqa_jax.checkpoints.adapter import load_adapter
from radvqa_jax.config import LoraConfig, MeshConfig
from radvqa_jax.data.sources import load_rows
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.evaluation.predict import read_records
from radvqa_jax.loaded_base import LoadedBase
from radvqa_jax.runners import evaluate
from radvqa_jax.training.sharding import make_mesh
from radvqa_jax.training.stage import Base, Trained
from tests.runners.shared import MakeConfig
from tests.virtual_devices import start_main


@pytest.mark.slow
def test_a_job_on_four_devices_leaves_what_one_leaves(micro_file: Path, tmp_path: Path) -> None:
    one, four = tmp_path / "one", tmp_path / "four"
    fields = ("--config.run_stages=('stage2',)", "--config.mesh.data=2", "--config.mesh.fsdp=2")
    alone = start_main(micro_file, one, fields[0], mode="job", devices=1)
    several = start_main(micro_file, four, *fields, mode="job", devices=4)
    for process in (alone, several):
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
    # Without stage2/ and saliency/: checkpoints have random names, and what is in saliency/ is counted below.
    files = [{path.relative_to(folder) for path in folder.glob("[!s]*/*")} for folder in (one, four)]
    assert files[0] == files[1]
    assert {path.name for path in four.iterdir()} == {path.name for path in one.iterdir()}
    assert len(list(four.glob("saliency/*.npz"))) == len(list(one.glob("saliency/*.npz"))) > 0
    leaves = [load_adapter(folder / "stage2")[0] for folder in (one, four)]
    for name, leaf in leaves[0].items():
        np.testing.assert_allclose(leaves[1][name], leaf, rtol=1e-5, atol=1e-5, err_msg=name)
    predictions = sorted(one.glob("predictions/*.jsonl"))
    assert {"base.jsonl", "stage2.jsonl", "stage2_swapped.jsonl"} <= {path.name for path in predictions}
    for path in predictions:
        for want, have in zip(read_records(path), read_records(four / "predictions" / path.name), strict=True):
            assert have.predictions == want.predictions
            assert have.logprobs == pytest.approx(want.logprobs, abs=1e-4)  # sums over four tokens, six digits kept


def test_questions_are_answered_with_the_mesh_set_and_what_was_trained_on_it(
    micro_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def predict(model: Any, params: Any, *_: Any, **__: Any) -> list[Any]:
        where = {name: type(leaf.sharding).__name__ for name, leaf in params.items()}
        seen.append((jax.sharding.get_abstract_mesh().axis_names, where))
        return []

    config = micro_config()
    loaded = LoadedBase(config, tmp_path, Tokenizer(config.model.tokenizer), Base({}, "", ""))
    rows = load_rows(config.eval.source, config.data, seed=0)
    trained = Trained({"img/head/bias": jnp.zeros(4)}, LoraConfig())
    # A leaf of the base stays where it was loaded: it is not put, which may copy it.
    model = make_model(config.model)
    monkeypatch.setattr(evaluate, "assemble", lambda *_: (model, trained.leaves | {"base": jnp.zeros(4)}))
    monkeypatch.setattr(evaluate, "predict", predict)
    for mesh in (None, make_mesh(MeshConfig(), jax.devices()[:1])):
        monkeypatch.setattr(evaluate, "answering_mesh", lambda _, mesh=mesh: mesh)
        evaluate.answer(loaded, trained, rows, run="base")
    on_one = {"img/head/bias": "SingleDeviceSharding", "base": "SingleDeviceSharding"}
    assert seen == [((), on_one), (("data", "fsdp", "tensor"), on_one | {"img/head/bias": "NamedSharding"})]
