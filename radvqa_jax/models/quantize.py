"""Frozen linear weights in four or eight bits (qwix), turned back into the compute dtype one layer at a time.

`nf4` is QLoRA's base (Dettmers et al. 2023): every 64 weights share a scale and are rounded to the 16 quantiles of a
normal distribution; the scales, 256 at a time, are rounded to eight bits in turn (double quantisation). A weight then
takes 4.13 bits. `int8` rounds every output channel to eight bits with one float32 scale, for serving. A quantised leaf
keeps its weight's name and shape; it is a qwix.QArray, which is a tree of arrays with the layers along axis 0 of each.
"""

import dataclasses
import types
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Quantize = Literal["none", "nf4", "int8"]
QUANTIZED = "quantized"  # the flax collection
BLOCK, SCALE_BLOCK = 64, 256  # weights that share a scale, and scales that share one


def _qwix() -> types.ModuleType:
    try:
        import qwix
    except ImportError as error:
        raise ValueError("model.quantize needs qwix: pip install 'radvqa_jax[quantize]'.") from error
    return qwix


def check_installed() -> None:
    """Raises ValueError with the pip command if qwix is not installed."""
    _qwix()


def is_quantized(leaf: Any) -> bool:
    """Whether a leaf, or its shape, is quantised."""
    return hasattr(leaf, "qvalue")


def tiles(shape: tuple[int, ...], most: int) -> dict[int, int]:
    """{axis: length of a block along it} for blocks of at most `most` values, from the last axis on.

    >>> tiles((2048, 16384), 64), tiles((1152, 4304), 64), tiles((1152, 16, 72), 64)
    ({1: 64}, {0: 4, 1: 16}, {2: 36})
    """
    found: dict[int, int] = {}
    for axis in reversed(range(len(shape))):
        length = max(n for n in range(1, min(most, shape[axis]) + 1) if shape[axis] % n == 0)
        if length > 1:
            found[axis] = length
        most //= length
    return dict(sorted(found.items()))


def _quantize_nf4(weight: Float[Array, "..."]) -> Any:
    qwix = _qwix()

    def blockwise(x: jax.Array, qtype: Any, most: int, **kwargs: Any) -> Any:
        tiled = tiles(x.shape, most)
        rest = [axis for axis in range(x.ndim) if axis not in tiled]
        return qwix.quantize(x, qtype, channelwise_axes=rest, tiled_axes=tiled, **kwargs)

    codes = blockwise(weight.astype(jnp.float32), "nf4", BLOCK)
    scale = blockwise(codes.scale, jnp.int8, SCALE_BLOCK, calibration_method="minmax")
    return dataclasses.replace(codes, scale=scale)


def _quantize_int8(weight: Float[Array, "..."], contracted: tuple[int, ...]) -> Any:
    made = [axis for axis in range(weight.ndim) if axis not in contracted]
    return _qwix().quantize(weight.astype(jnp.float32), jnp.int8, channelwise_axes=made)


@partial(jax.jit, static_argnames=("kind", "equation"))
def quantize(weight: Float[Array, "..."], kind: Quantize, *, equation: str) -> Any:
    """The qwix.QArray of a linear weight; with a layer axis in front, layer by layer.

    Args:
        weight: whole, in any float dtype.
        kind: nf4 or int8.
        equation: of its use (lora.equation_of), which gives the axes that are summed over.
    """
    x, own = equation.split("->")[0].split(",")
    contracted = tuple(axis for axis, letter in enumerate(own) if letter in x)
    one = _quantize_nf4 if kind == "nf4" else partial(_quantize_int8, contracted=contracted)
    return jax.lax.map(one, weight) if weight.ndim > len(own) else one(weight)


def dequantize(leaf: Any, dtype: Any) -> Float[Array, "..."]:
    """The weight that a quantised leaf represents."""
    qwix = _qwix()
    scale = qwix.dequantize(leaf.scale) if is_quantized(leaf.scale) else leaf.scale
    return qwix.dequantize(dataclasses.replace(leaf, scale=scale.astype(dtype)))
