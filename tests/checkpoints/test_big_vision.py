"""Native checkpoints are loaded exactly as the file has them, or the error says why not."""

import json
import weakref
import zlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from radvqa_jax import files, trees
from radvqa_jax.checkpoints import big_vision, leaf_fit
from radvqa_jax.checkpoints.npz import BFLOAT16, NpzReader
from radvqa_jax.checkpoints.paligemma_layout import LAYOUT

GOLDEN = Path(__file__).parents[1] / "golden"
POS, VOCAB = LAYOUT.position_embedding, LAYOUT.token_table


def spec(shape: tuple[int, ...], dtype: Any = np.float32, **more: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, **more)


def abstract_of(flat: dict[str, Any], dtype: Any = None) -> dict[str, jax.ShapeDtypeStruct]:
    return {name: spec(leaf.shape, dtype or leaf.dtype) for name, leaf in flat.items()}


def draw(shapes: dict[str, tuple[int, ...]], dtype: Any = np.float32) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in sorted(shapes.items())}


SHAPES = {POS: (1, 9, 4), "img/head/kernel": (4, 6), "llm/layers/attn/q_einsum/w": (2, 2, 6, 3), VOCAB: (10, 6)}


@pytest.fixture
def flat() -> dict[str, np.ndarray]:
    return draw(SHAPES)


@pytest.fixture
def path(tmp_path: Path, flat: dict[str, np.ndarray]) -> Path:
    big_vision.save(tmp_path / "model.npz", flat)
    return tmp_path / "model.npz"


@pytest.mark.parametrize("held", [np.float16, BFLOAT16, np.float32])
@pytest.mark.parametrize("wanted", [BFLOAT16, np.float32])
def test_every_dtype_loads_into_every_dtype(tmp_path: Path, held: Any, wanted: Any) -> None:
    flat = draw(SHAPES, held)
    big_vision.save(tmp_path / "model.npz", flat)
    loaded, report = big_vision.load(tmp_path / "model.npz", abstract_of(flat, wanted))
    assert list(loaded) == list(flat)
    for name, leaf in loaded.items():
        assert isinstance(leaf, jax.Array) and leaf.dtype == wanted
        np.testing.assert_array_equal(np.asarray(leaf), flat[name].astype(wanted))
    assert (report.leaves, report.weights, report.nonfinite) == (4, trees.count(flat), {})
    assert report.sha256 == files.sha256(tmp_path / "model.npz")


def test_a_reload_of_bfloat16_is_bit_equal_and_on_disk_two_raw_bytes(tmp_path: Path, flat: dict[str, Any]) -> None:
    path = tmp_path / "half.npz"
    big_vision.save(path, {name: jnp.asarray(leaf) for name, leaf in flat.items()}, dtype=jnp.bfloat16, compress=True)
    with np.load(path, allow_pickle=False) as file:
        assert set(file.files) == {f"params/{name}" for name in flat}
        assert {file[key].dtype for key in file.files} == {np.dtype("V2")}
    assert {leaf.dtype for leaf in big_vision.read_shapes(path).values()} == {BFLOAT16}
    loaded, _ = big_vision.load(path, abstract_of(flat, BFLOAT16))
    for name, leaf in flat.items():
        assert np.asarray(loaded[name]).tobytes() == leaf.astype(BFLOAT16).tobytes()


@pytest.mark.parametrize("model", ["paligemma", "paligemma2"])
def test_the_golden_weights_load_and_save_to_the_same_arrays(tmp_path: Path, model: str) -> None:
    golden = GOLDEN / f"{model}_params.npz"
    shapes = big_vision.read_shapes(golden)
    flat, _ = big_vision.load(golden, shapes)
    big_vision.save(tmp_path / "again.npz", flat)
    with np.load(golden) as old, np.load(tmp_path / "again.npz") as new:
        assert set(old.files) == set(new.files) == {f"params/{name}" for name in shapes}
        for key in old.files:
            assert old[key].dtype == new[key].dtype
            np.testing.assert_array_equal(old[key], new[key])


@pytest.mark.parametrize("variant", json.loads((GOLDEN / "manifest.json").read_text()))
def test_names_of_released_checkpoints_are_saved_and_loaded(tmp_path: Path, variant: str) -> None:
    names = json.loads((GOLDEN / "manifest.json").read_text())[variant]["params"]
    tiny = draw({key.removeprefix("params/"): (1,) * len(shape) for key, shape in names.items()})
    big_vision.save(tmp_path / "model.npz", tiny)
    assert {f"params/{name}" for name in big_vision.read_shapes(tmp_path / "model.npz")} == set(names)
    loaded, _ = big_vision.load(tmp_path / "model.npz", trees.flatten(trees.unflatten(abstract_of(tiny))))
    assert {name: float(leaf.item()) for name, leaf in loaded.items()} == {n: float(v.item()) for n, v in tiny.items()}


def test_keys_without_params_load_too(tmp_path: Path, flat: dict[str, Any]) -> None:
    np.savez(tmp_path / "bare.npz", **flat)
    loaded, _ = big_vision.load(tmp_path / "bare.npz", abstract_of(flat))
    np.testing.assert_array_equal(loaded[VOCAB], flat[VOCAB])
    np.savez(tmp_path / "both.npz", **{VOCAB: flat[VOCAB], f"params/{VOCAB}": flat[VOCAB]})
    with pytest.raises(ValueError, match=f"it holds both '{VOCAB}' and 'params/{VOCAB}'"):
        big_vision.load(tmp_path / "both.npz", abstract_of(flat))


def test_reading_shapes_reads_no_values(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NpzReader, "read", lambda *_: pytest.fail("values were read"))
    shapes = big_vision.read_shapes(str(path))
    assert {name: (leaf.shape, leaf.dtype) for name, leaf in shapes.items()} == {
        name: (shape, np.float32) for name, shape in SHAPES.items()
    }


def test_leaves_go_to_the_sharding_of_their_target(path: Path, flat: dict[str, Any]) -> None:
    mesh = jax.make_mesh((jax.device_count(),), ("fsdp",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    loaded, _ = big_vision.load(path, {name: spec(leaf.shape, sharding=sharding) for name, leaf in flat.items()})
    assert {leaf.sharding for leaf in loaded.values()} == {sharding}
    np.testing.assert_array_equal(loaded[POS], flat[POS])


@pytest.mark.parametrize(("old", "new"), [(3, 6), (4, 3), (16, 32), (7, 7)])
def test_position_embeddings_are_resampled_as_in_the_reference(tmp_path: Path, old: int, new: int) -> None:
    flat = draw(SHAPES | {POS: (1, old * old, 4)})
    big_vision.save(tmp_path / "model.npz", flat)
    loaded, report = big_vision.load(tmp_path / "model.npz", abstract_of(flat) | {POS: spec((1, new * new, 4))})
    grid = flat[POS].reshape(old, old, 4)
    expected = scipy.ndimage.zoom(grid, (new / old, new / old, 1), order=1).reshape(1, new * new, 4)
    np.testing.assert_array_equal(loaded[POS], expected)
    resampled = (f"{POS}: grid {old}x{old} to {new}x{new}",) if old != new else ()
    assert report.resampled == resampled and all(line in report.text() for line in resampled)


def test_a_grid_that_no_model_has_is_not_read(tmp_path: Path) -> None:
    """The shape in the file is not checked against the model's, so packed zeros of any grid would fill the memory."""
    flat = draw(SHAPES) | {POS: np.zeros((1, 257 * 257, 4), np.float32)}
    big_vision.save(tmp_path / "model.npz", flat, compress=True)
    with pytest.raises(ValueError, match=rf"{POS}: .*66049"):
        big_vision.load(tmp_path / "model.npz", abstract_of(flat) | {POS: spec((1, 16, 4))})


def test_resampling_keeps_corners_and_puts_the_mean_between() -> None:
    square = np.array([0.0, 1.0, 2.0, 3.0]).reshape(1, 4, 1)
    resampled = leaf_fit.resample_pos_embedding(square, 3).reshape(3, 3)
    np.testing.assert_allclose(resampled, [[0, 0.5, 1], [1, 1.5, 2], [2, 2.5, 3]])


def test_half_precision_position_embeddings_are_resampled_in_float32(tmp_path: Path) -> None:
    flat = draw(SHAPES, BFLOAT16)
    big_vision.save(tmp_path / "model.npz", flat)
    loaded, _ = big_vision.load(tmp_path / "model.npz", abstract_of(flat, np.float32) | {POS: spec((1, 25, 4))})
    expected = leaf_fit.resample_pos_embedding(flat[POS].astype(np.float32), 5)
    np.testing.assert_array_equal(loaded[POS], expected)


def test_vocabulary_rows_are_added_with_the_right_spread_and_always_alike(path: Path, flat: dict[str, Any]) -> None:
    target = abstract_of(flat) | {VOCAB: spec((4010, 6))}
    loaded, report = big_vision.load(path, target)
    rows = np.asarray(loaded[VOCAB])
    np.testing.assert_array_equal(rows[:10], flat[VOCAB])
    assert abs(rows[10:].std() - 0.02) < 5e-4 and abs(rows[10:].mean()) < 5e-4
    assert report.extended == (f"{VOCAB}: 10 rows from the file, 4,000 drawn N(0, 0.02)",)
    again, _ = big_vision.load(path, target)
    np.testing.assert_array_equal(again[VOCAB], rows)
    assert rows[10:].ravel()[:2].tolist() == pytest.approx(
        [0.028881, 0.024997], abs=1e-6
    )  # as earlier releases drew them


def test_every_leaf_that_does_not_fit_is_listed_and_nothing_is_read(
    path: Path, flat: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NpzReader, "read", lambda *_: pytest.fail("values were read"))
    target = abstract_of(flat) | {"img/head/bias": spec((6,)), VOCAB: spec((9, 6)), POS: spec((1, 8, 4))}
    del target["llm/layers/attn/q_einsum/w"]
    with pytest.raises(ValueError) as caught:
        big_vision.load(path, target)
    message = str(caught.value)
    for line in (
        "holds 4 leaves and the model has 4",
        "missing (1):\n  img/head/bias (6,)",
        "extra (1):\n  llm/layers/attn/q_einsum/w (2, 2, 6, 3)",
        f"misshaped (2):\n  {POS}: have (1, 9, 4), want (1, 8, 4)\n  {VOCAB}: have (10, 6), want (9, 6)",
        "model.allow_missing and model.allow_extra",
    ):
        assert line in message


@pytest.mark.parametrize(
    ("name", "shape"), [(POS, (1, 16, 5)), (POS, (2, 16, 4)), (VOCAB, (12, 7)), ("img/head/kernel", (9, 6))]
)
def test_only_the_two_known_leaves_are_adapted_and_only_along_their_axis(
    path: Path, flat: dict[str, Any], name: str, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=rf"misshaped \(1\):\n  {name}"):
        big_vision.load(path, abstract_of(flat) | {name: spec(shape)})


def test_rules_allow_missing_and_extra_leaves(path: Path, flat: dict[str, Any]) -> None:
    target = abstract_of(flat) | {"img/head/bias": spec((500,)), "img/other": spec((500,))}
    del target[VOCAB]
    allow = {"allow_missing": (r"img/(head/bias|other)",), "allow_extra": (r"llm/embedder/.*",)}
    loaded, report = big_vision.load(path, target, **allow)
    assert report.drawn == ("img/head/bias (500,)", "img/other (500,)")
    assert report.ignored == (f"{VOCAB} (10, 6)",) and set(loaded) == set(target)
    bias, other = np.asarray(loaded["img/head/bias"]), np.asarray(loaded["img/other"])
    assert abs(bias.std() - 0.02) < 2e-3 and not np.array_equal(bias, other)
    rng = np.random.default_rng([0, zlib.crc32(b"img/head/bias")])
    np.testing.assert_array_equal(bias, rng.standard_normal(500, dtype=np.float32) * np.float32(0.02))
    with pytest.raises(ValueError, match=r"missing \(1\):\n  img/other"):
        big_vision.load(path, target, **(allow | {"allow_missing": ("img/head/bias", "other")}))


def test_groups_next_to_params_are_extra_leaves(tmp_path: Path, flat: dict[str, Any]) -> None:
    np.savez(tmp_path / "x.npz", **{f"params/{name}": leaf for name, leaf in flat.items()}, **{"opt/0/mu": np.ones(3)})
    with pytest.raises(ValueError, match=r"extra \(1\):\n  opt/0/mu"):
        big_vision.load(tmp_path / "x.npz", abstract_of(flat))
    _, report = big_vision.load(tmp_path / "x.npz", abstract_of(flat), allow_extra=(r"opt/.*",))
    assert report.ignored == ("opt/0/mu (3,)",)


def test_leaves_that_are_not_floats_are_refused(tmp_path: Path, flat: dict[str, Any]) -> None:
    np.savez(tmp_path / "x.npz", **(flat | {"img/head/kernel": np.ones((4, 6), np.int32)}))
    with pytest.raises(ValueError, match=r"not float16, bfloat16, float32 or float64 \(1\):\n  img/head/kernel: int32"):
        big_vision.load(tmp_path / "x.npz", abstract_of(flat))
    with pytest.raises(ValueError, match=r"got 'img/head/kernel', int32"):
        big_vision.save(tmp_path / "y.npz", flat | {"img/head/kernel": np.ones((4, 6), np.int32)})
    assert not (tmp_path / "y.npz").exists()


def test_nonfinite_values_are_reported_and_a_leaf_without_finite_values_is_refused(
    tmp_path: Path, flat: dict[str, Any]
) -> None:
    flat[POS][0, 1, 2] = np.nan
    flat[VOCAB][3] = np.inf
    big_vision.save(tmp_path / "x.npz", flat)
    _, report = big_vision.load(tmp_path / "x.npz", abstract_of(flat))
    assert report.nonfinite == {POS: 1, VOCAB: 6} and f"{POS}: 1 values are NaN" in report.text()
    flat["img/head/kernel"][:] = np.nan
    big_vision.save(tmp_path / "x.npz", flat)
    with pytest.raises(ValueError, match="every value of img/head/kernel is NaN, infinite or too large for float32"):
        big_vision.load(tmp_path / "x.npz", abstract_of(flat))


@pytest.mark.parametrize(
    ("stored", "wanted", "over", "under"),
    [
        (np.float64, np.float32, np.nextafter(2.0**128, 0), np.float64(np.finfo(np.float32).max)),
        (np.float32, np.float16, 65520.0, 65519.0),
        (np.float32, jnp.bfloat16, np.finfo(np.float32).max, 3.39e38),
    ],
)
def test_values_that_overflow_in_the_models_dtype_are_reported(
    tmp_path: Path, flat: dict[str, Any], stored: Any, wanted: Any, over: float, under: float
) -> None:
    flat = {name: leaf.astype(stored) for name, leaf in flat.items()}
    flat[VOCAB][2, :2] = over, -over
    flat[VOCAB][3, :2] = under, -under
    big_vision.save(tmp_path / "x.npz", flat)
    model = {name: jax.ShapeDtypeStruct(leaf.shape, wanted) for name, leaf in flat.items()}
    loaded, report = big_vision.load(tmp_path / "x.npz", model)
    assert report.nonfinite == {VOCAB: 2} and "too large for the dtype" in report.text()
    assert int(jnp.isinf(loaded[VOCAB]).sum()) == 2


def test_a_damaged_leaf_gives_no_model(path: Path, flat: dict[str, Any]) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(flat[VOCAB].tobytes())] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"the array 'params/{VOCAB}' is damaged.*Set model.checkpoint"):
        big_vision.load(path, abstract_of(flat))


def test_a_missing_file_names_the_config_field(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"a native big_vision \.npz checkpoint.*Set model\.checkpoint"):
        big_vision.load(tmp_path / "none.npz", {})


def test_names_to_save_are_checked(tmp_path: Path, flat: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must end in \.npz; got .*model'"):
        big_vision.save(tmp_path / "model", flat)
    with pytest.raises(ValueError, match="under names without 'params/'; got 'params/w'"):
        big_vision.save(tmp_path / "model.npz", {"params/w": flat[POS]})
    with pytest.raises(ValueError, match=r"got 'img', object.*trees\.flatten"):
        big_vision.save(tmp_path / "model.npz", trees.unflatten(flat))


def test_one_leaf_at_a_time_is_held_on_the_host(
    path: Path, flat: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    alive, most = 0, 0
    read = NpzReader.read

    def gone() -> None:
        nonlocal alive
        alive -= 1

    def counted(self: NpzReader, name: str) -> np.ndarray:
        nonlocal alive, most
        array = read(self, name)
        alive, most = alive + 1, max(most, alive + 1)
        weakref.finalize(array, gone)
        return array

    monkeypatch.setattr(NpzReader, "read", counted)
    loaded, _ = big_vision.load(path, abstract_of(flat, BFLOAT16))
    assert len(loaded) == 4 and (alive, most) == (0, 1)
