"""What a stage leaves behind: read back exactly, and never with the wrong description or on the wrong base."""

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from radvqa_jax.checkpoints.adapter import AdapterMeta, check_base, load_adapter, save_adapter
from radvqa_jax.config import LoraConfig

W = "llm/layers/attn/q_einsum/w"
META = AdapterMeta(
    stage="stage2",
    step=120,
    lora=LoraConfig(rank=2, alpha=7.0, rslora=True, targets=((f"{W}", "lora"), (".*", "none"))),
    base_name="tiny.npz",
    base_sha256="ab" * 32,
    config_sha256="cd" * 32,
)


@pytest.fixture
def leaves() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"img/head/kernel": (4, 6), f"{W}/lora_a": (3, 6, 2), f"{W}/lora_b": (3, 2, 4, 5)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture
def folder(tmp_path: Path, leaves: dict[str, np.ndarray]) -> Path:
    save_adapter(tmp_path / "stage2", leaves, META)
    return tmp_path / "stage2"


def rewrite(folder: Path, **changes: Any) -> None:
    path = folder / "adapter.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_it_is_read_back_exactly_from_the_folder_or_the_file(folder: Path, leaves: dict[str, np.ndarray]) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["adapter.json", "adapter.npz"]
    for path in (folder, str(folder / "adapter.npz")):
        read, meta = load_adapter(path)
        assert meta == META and isinstance(meta.lora, LoraConfig)
        assert list(read) == sorted(leaves)
        for name, leaf in leaves.items():
            assert read[name].dtype == np.float32 and read[name].tobytes() == leaf.tobytes()


def test_half_precision_leaves_are_stored_as_float32(tmp_path: Path) -> None:
    kernel = jnp.linspace(-1, 1, 12, dtype=jnp.bfloat16)
    path = save_adapter(tmp_path, {"img/head/kernel": kernel}, META)
    read, _ = load_adapter(path)
    assert path == tmp_path / "adapter.npz" and read["img/head/kernel"].dtype == np.float32
    np.testing.assert_array_equal(read["img/head/kernel"], np.asarray(kernel).astype(np.float32))


def test_another_base_is_noticed() -> None:
    check_base(META, "ab" * 32)
    with pytest.raises(ValueError, match=r"stage2 was trained on tiny\.npz \(sha256 abab.*not on big\.npz \(sha256 ef"):
        check_base(META, "ef" * 32, name="big.npz")


@pytest.mark.parametrize("name", ["adapter.npz", "adapter.json"])
def test_a_missing_half_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} does not exist.*train the stage again"):
        load_adapter(folder)


def test_a_save_that_was_interrupted_between_the_two_files_is_noticed(
    folder: Path, leaves: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("radvqa_jax.files.write_json", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_adapter(folder, {name: leaf + 1 for name, leaf in leaves.items()}, META)
    with pytest.raises(ValueError, match=r"adapter\.json describes another adapter\.npz \(sha256"):
        load_adapter(folder)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_files(folder: Path, share: float) -> None:
    for name, message in (("adapter.json", "is not valid JSON"), ("adapter.npz", "is not the adapter.npz of a stage")):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(share * len(data))])
        with pytest.raises(ValueError, match=message):
            load_adapter(folder)
        (folder / name).write_bytes(data)
    assert load_adapter(folder)[1] == META


def test_a_changed_value_is_noticed(folder: Path, leaves: dict[str, np.ndarray]) -> None:
    np.savez(folder / "adapter.npz", **{name: leaf * 2 for name, leaf in leaves.items()})
    with pytest.raises(ValueError, match=r"describes another adapter\.npz"):
        load_adapter(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "has format 2, and this version of radvqa_jax reads format 1"),
        ({"more": 1}, r"lacks \[\] and has unknown \['more'\]"),
        ({"step": "many"}, r"the values of \['step'\] are of the wrong type"),
        ({"lora": {"rank": 2}}, "`lora` must have the fields"),
        (
            {"lora": META.lora.__dict__ | {"targets": [1]}},
            r"`lora\.targets` must be a list of \(pattern, label\) pairs",
        ),
        ({"leaves": {"img/head/kernel": "x"}}, "`leaves` must give the shape of each leaf"),
        ({"leaves": {"img/head/kernel": [4, 7]}}, r"extra \[.*\]; misshaped \['img/head/kernel: have \(4, 6\), want"),
    ],
)
def test_a_wrong_description_is_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    rewrite(folder, **changes)
    with pytest.raises(ValueError, match=message):
        load_adapter(folder)


def test_json_that_is_no_description(folder: Path) -> None:
    (folder / "adapter.json").write_text("[1]")
    with pytest.raises(ValueError, match="has format None"):
        load_adapter(folder)


def test_what_cannot_be_right_is_not_saved(tmp_path: Path, leaves: dict[str, np.ndarray]) -> None:
    lone = {name: leaf for name, leaf in leaves.items() if not name.endswith("lora_b")}
    with pytest.raises(ValueError, match=rf"only one of lora_a and lora_b for \['{W}'\]"):
        save_adapter(tmp_path, lone, META)
    with pytest.raises(ValueError, match=r"head/kernel has 1 NaN or infinite values of 24: training diverged"):
        leaves["img/head/kernel"][1, 1] = np.inf
        save_adapter(tmp_path, leaves, META)
    with pytest.raises(ValueError, match="must be a float array; got int"):
        save_adapter(tmp_path, {"img/head/kernel": np.arange(3)}, META)
    with pytest.raises(ValueError, match="base_sha256 must be 64 hexadecimal digits; got ''"):
        save_adapter(tmp_path, leaves, META._replace(base_sha256=""))
    with pytest.raises(ValueError, match="An adapter without leaves"):
        save_adapter(tmp_path, {}, META)
    assert list(tmp_path.iterdir()) == []


def test_a_native_checkpoint_is_not_an_adapter(tmp_path: Path) -> None:
    np.savez(tmp_path / "model.npz", **{"params/img/head/kernel": np.ones(3, np.float32)})
    with pytest.raises(FileNotFoundError, match=r"model\.json does not exist; it describes model\.npz"):
        load_adapter(tmp_path / "model.npz")
    with pytest.raises(ValueError, match=r"path of the adapter\.npz of a stage is empty"):
        load_adapter("")
