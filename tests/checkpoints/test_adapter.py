"""The result of a stage: read back exactly, and never with the wrong description or on the wrong base."""

import contextlib
import io
import json
import os
import shutil
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from radvqa_jax import files
from radvqa_jax.checkpoints.adapter import check_base, inspect_adapter, load_adapter, save_adapter
from radvqa_jax.checkpoints.adapter_meta import AdapterMeta, BaseUse, _hash_content
from radvqa_jax.config import LoraConfig

W = "llm/layers/attn/q_einsum/w"
META = AdapterMeta(
    stage="stage2",
    step=120,
    lora=LoraConfig(rank=2, alpha=7.0, rslora=True, targets=((f"{W}", "lora"), (".*", "none"))),
    base_name="tiny.npz",
    base_sha256="ab" * 32,
    config_sha256="cd" * 32,
    base_use=BaseUse("tiny", 64, "answer en {question}", 20, "ef" * 32, "none", "float32", "bfloat16", "none"),
    caption_prompt="Describe the image.",
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


def rewrite(folder: Path, *, lora: dict[str, Any] | None = None, sign: bool = True, **changes: Any) -> None:
    """Changes fields of adapter.json and computes its hash again."""
    path = folder / "adapter.json"
    row = json.loads(path.read_text()) | changes
    row["lora"] = row["lora"] | lora if lora else row["lora"]
    with contextlib.suppress(ValueError):  # NaN has no hash
        row["content_sha256"] = _hash_content(row) if sign else row["content_sha256"]
    path.write_text(json.dumps(row))


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
def test_either_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} does not exist.*train the stage again"):
        load_adapter(folder)


def test_a_save_that_was_interrupted_between_the_two_files_is_noticed(
    folder: Path, leaves: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("radvqa_jax.files.write_json", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_adapter(folder, {name: leaf + 1 for name, leaf in leaves.items()}, META)
    with pytest.raises(ValueError, match=r"adapter\.json describes another adapter\.npz \(sha256"):
        load_adapter(folder)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_files_are_refused(folder: Path, share: float) -> None:
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
        ({"format": 3}, "has format 3, and this version of radvqa_jax reads formats 1 and 2"),
        ({"format": True}, "has format True"),
        ({"more": 1}, "field `more` is unknown"),
        ({"step": "many"}, 'field `step` must be an integer; got "many"'),
        ({"step": -1}, "field `step` must be greater than or equal to 0; got -1"),
        ({"lora": {"gain": 2}}, r"field `lora\.gain` is unknown"),
        ({"lora": {"rank": -1}}, r"field `lora\.rank` must be greater than or equal to 0; got -1"),
        ({"lora": {"rank": 16.5}}, r"field `lora\.rank` must be an integer; got 16\.5"),
        ({"lora": {"rank": "16"}}, r'field `lora\.rank` must be an integer; got "16"'),
        ({"lora": {"rank": True}}, r"field `lora\.rank` must be an integer; got true"),
        ({"lora": {"rank": 10**30}}, r"field `lora\.rank` must be less than or equal to 65536"),
        ({"lora": {"rslora": "no"}}, r'field `lora\.rslora` must be true or false; got "no"'),
        ({"lora": {"rslora": 1}}, r"field `lora\.rslora` must be true or false; got 1"),
        ({"lora": {"alpha": 0}}, r"field `lora\.alpha` must be greater than 0"),
        ({"lora": {"alpha": float("nan")}}, "not valid JSON|must be a finite number"),
        ({"lora": {"alpha": float("inf")}}, "not valid JSON|must be a finite number"),
        ({"lora": {"alpha": None}}, r"field `lora\.alpha` must be a number; got null"),
        ({"lora": {"dropout": 1.0}}, r"field `lora\.dropout` must be less than 1"),
        ({"lora": {"targets": [1]}}, r"field `lora\.targets\[0\]` must be a list; got 1"),
        ({"lora": {"targets": [["x", "maybe"]]}}, r"field `lora\.targets\[0\]\[1\]` must be 'lora' or 'none'"),
        ({"lora": {"targets": [["x" * 1001, "lora"]]}}, r"field `lora\.targets\[0\]\[0\]` must have at most 1000 ch"),
        ({"leaves": {"img/head/kernel": "x"}}, "field `leaves.img/head/kernel` must be a list"),
        (
            {"leaves": {"img/head/kernel": [0, -1]}},
            r"field `leaves.img/head/kernel\[0\]` must be greater than or equal",
        ),
        ({"leaves": {"img/head/kernel": [4, 7]}}, r"extra \[.*\]; misshaped \['img/head/kernel: have \(4, 6\), want"),
        ({"base_sha256": "AB"}, "field `base_sha256` must match pattern"),
        ({"base_use": {}}, "field `base_use.variant` is missing and 7 more"),
        (
            {"base_use": META.base_use._asdict() | {"quantize": "int4"}},
            "field `base_use.quantize` must be 'none', 'nf4'",
        ),
        (  # memory grows with their square
            {"base_use": META.base_use._asdict() | {"resolution": 9800}},
            "field `base_use.resolution` must be less than or equal to 1260",
        ),
        (
            {"base_use": META.base_use._asdict() | {"seq_len": 2**20}},
            "field `base_use.seq_len` must be less than or equal to 8192",
        ),
    ],
)
def test_a_wrong_description_is_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    rewrite(folder, **changes)
    with pytest.raises(ValueError, match=message) as caught:
        load_adapter(folder)
    assert "train the stage again" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes", [{"lora": {"alpha": 3200.0}}, {"step": 7}, {"base_use": None}, {"base_name": "x"}, {"stage": "stage1"}]
)
def test_a_value_that_was_changed_by_hand_is_noticed(folder: Path, changes: dict[str, Any]) -> None:
    rewrite(folder, sign=False, **changes)
    with pytest.raises(ValueError, match=r"adapter\.json was changed after it was written"):
        load_adapter(folder)


def test_the_order_of_its_fields_does_not_matter(folder: Path) -> None:
    row = json.loads((folder / "adapter.json").read_text())
    (folder / "adapter.json").write_text(json.dumps(dict(reversed(row.items()))))
    assert load_adapter(folder)[1] == META


def test_a_description_of_format_1_is_read(folder: Path) -> None:
    row = json.loads((folder / "adapter.json").read_text())
    del row["base_use"], row["content_sha256"], row["caption_prompt"]
    (folder / "adapter.json").write_text(json.dumps(row | {"format": 1}))
    leaves, meta = load_adapter(folder)
    assert meta == META._replace(base_use=None, caption_prompt=None) and len(leaves) == 3
    (folder / "adapter.json").write_text(json.dumps(row | {"format": 1, "lora": row["lora"] | {"rslora": "no"}}))
    with pytest.raises(ValueError, match="rslora"):
        load_adapter(folder)


def test_a_description_without_the_prompt_of_captions_is_read(folder: Path) -> None:
    """Earlier releases wrote none."""
    row = json.loads((folder / "adapter.json").read_text())
    del row["caption_prompt"]
    row["content_sha256"] = _hash_content(row)
    (folder / "adapter.json").write_text(json.dumps(row))
    assert load_adapter(folder)[1] == META._replace(caption_prompt=None)


def test_a_use_of_the_base_without_a_history_is_read(folder: Path) -> None:
    assert META.base_use is not None
    use = META.base_use._asdict()
    del use["history"]
    rewrite(folder, base_use=use)
    assert load_adapter(folder)[1] == META._replace(base_use=META.base_use._replace(history=None))


def test_an_adapter_that_does_not_fit_is_refused_before_a_value_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(shapes: dict[str, Any], meta: AdapterMeta) -> None:
        assert shapes["img/head/kernel"].shape == (4, 6) and meta == META
        raise ValueError("not wanted")

    monkeypatch.setattr("radvqa_jax.checkpoints.npz.NpzReader.read", lambda *_: pytest.fail("a value was read"))
    with pytest.raises(ValueError, match="not wanted"):
        load_adapter(folder, check=check)
    assert inspect_adapter(folder)[1] == META


def test_a_small_file_cannot_fill_the_memory(folder: Path, leaves: dict[str, np.ndarray]) -> None:
    """Half a gigabyte of zeros is half a megabyte when it is deflated."""
    shape = (2**27,)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    with (
        zipfile.ZipFile(folder / "adapter.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("img/head/kernel.npy", "w") as stream,
    ):
        stream.write(header.getvalue())
        for _ in range(2**9):
            stream.write(bytes(2**20))
    assert (folder / "adapter.npz").stat().st_size < 1e6
    rewrite(folder, leaves={"img/head/kernel": list(shape)}, sha256=files.sha256(folder / "adapter.npz"))
    tracemalloc.start()
    with pytest.raises(ValueError, match="is packed: 536,870,912 bytes of values in a file of"):
        load_adapter(folder)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_leaf_that_is_not_finite_is_refused(folder: Path, leaves: dict[str, np.ndarray], value: float) -> None:
    leaves["img/head/kernel"][0, 3] = value
    np.savez(folder / "adapter.npz", **leaves)
    rewrite(folder, sha256=files.sha256(folder / "adapter.npz"))
    with pytest.raises(ValueError, match="img/head/kernel has 1 NaN or infinite values of 24"):
        load_adapter(folder)


@pytest.mark.parametrize("name", ["adapter.npz", "adapter.json"])
def test_a_named_pipe_is_not_waited_for(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(ValueError, match="not a regular file"):
        load_adapter(folder)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "1" * 5000, '{"format": ' + "[" * 3000 + "]" * 3000 + "}", "\ud800", ""]
)
def test_json_that_python_cannot_read_is_one_error(folder: Path, text: str) -> None:
    (folder / "adapter.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ValueError, match=r"adapter\.json"):
        load_adapter(folder)


def test_json_that_is_not_a_description_is_refused(folder: Path) -> None:
    (folder / "adapter.json").write_text("[1]")
    with pytest.raises(ValueError, match="has format None"):
        load_adapter(folder)


def test_invalid_leaves_and_descriptions_are_not_saved(tmp_path: Path, leaves: dict[str, np.ndarray]) -> None:
    lone = {name: leaf for name, leaf in leaves.items() if not name.endswith("lora_b")}
    with pytest.raises(ValueError, match=rf"only one of lora_a and lora_b for \['{W}'\]"):
        save_adapter(tmp_path, lone, META)
    with pytest.raises(ValueError, match=r"head/kernel has 1 NaN or infinite values of 24: training diverged"):
        leaves["img/head/kernel"][1, 1] = np.inf
        save_adapter(tmp_path, leaves, META)
    with pytest.raises(ValueError, match="must be a float array; got int"):
        save_adapter(tmp_path, {"img/head/kernel": np.arange(3)}, META)
    with pytest.raises(ValueError, match="field `base_sha256` must match pattern"):
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


def test_the_folder_of_a_run_names_the_adapters_in_it(folder: Path) -> None:
    run = folder.parent / "run"
    for stage in ("stage1", "stage2"):
        shutil.copytree(folder, run / stage)
    with pytest.raises(ValueError, match=r"run is no adapter, but holds some: stage1, stage2\. Give one, .*run/stage2"):
        load_adapter(run)
