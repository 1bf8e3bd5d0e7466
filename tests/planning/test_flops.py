"""The count of arithmetic, against products whose work is known; and the search for the largest batch."""

import jax
import jax.numpy as jnp
import pytest

from radvqa_jax.models.fused_attention import splash
from radvqa_jax.planning.devices import DEVICES, find_kind, get_device
from radvqa_jax.planning.fit import find_float32, largest_batch
from radvqa_jax.planning.flops import count_work

X, W = jnp.ones((4, 8)), jnp.ones((3, 8, 8))


def test_a_scan_counts_once_per_turn_and_unused_values_do_not_count() -> None:
    def chain(x: jax.Array) -> jax.Array:
        unused = jnp.sin(x @ W[0])
        return jax.lax.scan(lambda y, w: (y @ w + 0 * unused.shape[0], None), x, W)[0]

    work = count_work(jax.jit(chain).trace(X))
    assert work.flops == 3 * 2 * 4 * 8 * 8
    assert work.bytes == 3 * 4 * (4 * 8 + 8 * 8 + 4 * 8)


def test_the_backward_pass_and_what_it_computes_again_count() -> None:
    inner = lambda x: jnp.sin(x @ W[0]).sum()  # noqa: E731
    one = 2 * 4 * 8 * 8
    assert count_work(jax.jit(jax.grad(inner)).trace(X)).flops == 2 * one
    two = lambda x: jnp.sin(jnp.sin(x @ W[0]) @ W[1]).sum()  # noqa: E731
    # Forward, both computed again, and two backward; without the value, nothing uses the forward pass itself.
    assert count_work(jax.jit(jax.value_and_grad(jax.checkpoint(two))).trace(X)).flops == 6 * one
    assert count_work(jax.jit(jax.grad(jax.checkpoint(two))).trace(X)).flops == 4 * one


def test_a_kernel_counts_once_for_every_program_of_its_grid() -> None:
    query, key, mask = jnp.zeros((3, 256, 4, 24)), jnp.zeros((3, 256, 2, 24)), jnp.ones((3, 256, 256), bool)
    product = 2 * 3 * 4 * 256 * 256 * 24

    def attend(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        return splash(query, key, value, mask)

    assert count_work(jax.jit(attend).trace(query, key, key)).flops == 2 * product
    mesh = jax.sharding.AbstractMesh(
        (3, 1, 1), ("data", "fsdp", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 3
    )
    with jax.sharding.use_abstract_mesh(mesh):
        traced = jax.jit(attend).trace(query, key, key)
    assert "shard_map" in str(traced.jaxpr)  # each device has its own rows
    assert count_work(traced).flops == 2 * product
    # Backward three for the query and four for key and value: each computes the logits again.
    grad = jax.jit(jax.grad(lambda *a: attend(*a).sum(), argnums=(0, 1, 2)))
    assert count_work(grad.trace(query, key, key)).flops == pytest.approx(9 * product, rel=1e-3)


def test_a_loop_of_unknown_length_asks_for_it() -> None:
    loop = jax.jit(lambda x: jax.lax.while_loop(lambda y: y.sum() < 9, lambda y: y @ W[0], x)).trace(X)
    with pytest.raises(ValueError, match="give while_turns"):
        count_work(loop)
    assert count_work(loop, while_turns=5).flops == 5 * 2 * 4 * 8 * 8


@pytest.mark.parametrize(("memory", "batch"), [(1000, 90), (109, 0), (110, 1), (100_000, 4096)])
def test_the_largest_batch_is_found_with_few_compilations(memory: int, batch: int) -> None:
    tried: list[int] = []

    def peak_of(n: int) -> int:
        tried.append(n)
        return 100 + 10 * n

    found, peak = largest_batch(peak_of, memory)
    assert (found, peak) == (batch, 100 + 10 * max(batch, 1))
    assert len(tried) <= 8
    assert len(set(tried)) == len(tried)


@pytest.mark.parametrize("step", [2, 3, 5, 7, 12])
def test_the_largest_batch_is_a_multiple_of_the_devices(step: int) -> None:
    tried: list[int] = []

    def peak_of(n: int) -> int:
        tried.append(n)
        assert len(tried) <= 8
        return 10 * n

    assert largest_batch(peak_of, 10**9, step=step)[0] == 4096 // step * step
    tried.clear()
    assert largest_batch(peak_of, 10 * 9 * step + 1, step=step)[0] == 9 * step


def test_a_float32_copy_of_a_layer_is_found_in_the_compiled_text() -> None:
    leaves = {"llm/x": jax.ShapeDtypeStruct((3, 2048, 4096), jnp.bfloat16)}
    assert find_float32("%c = f32[1,2048,4096]{2,1,0} convert(%w)", leaves) == ("llm/x f32[1,2048,4096]",)
    assert find_float32("%c = bf16[2048,4096] copy(%w)", leaves) == ()


def test_devices_are_found_by_their_names_and_kinds() -> None:
    assert find_kind("NVIDIA H100 80GB HBM3") == DEVICES["h100"]
    assert find_kind("cpu") is None
    with pytest.raises(ValueError, match="Did you mean `h100`"):
        get_device("h10")
