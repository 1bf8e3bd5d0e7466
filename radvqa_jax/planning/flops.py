"""Arithmetic and bytes of a program, counted from its jaxpr. The body of a scan counts once per iteration.

Only products (dot, convolution, attention kernels) are counted; in these models everything else is less than 1 % of
the arithmetic. XLA's own cost analysis counts the body of a loop once, and does not exist on NVIDIA GPUs.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from jax.interpreters import partial_eval


class Work(NamedTuple):
    """The work of a program."""

    flops: float  # a multiplication and an addition count as two
    bytes: float  # operands and results of products, each read or written once; the rest counts as fused into them

    def __add__(self, other: "Work") -> "Work":  # pyright: ignore[reportIncompatibleMethodOverride] not concatenation
        return Work(self.flops + other.flops, self.bytes + other.bytes)

    def times(self, n: float) -> "Work":
        """The work of doing this n times."""
        return Work(self.flops * n, self.bytes * n)


NOTHING = Work(0.0, 0.0)


def count_work(traced: Any, *, while_turns: int | None = None) -> Work:
    """The work of a traced function (`jax.jit(f).trace(…)`) or closed jaxpr, without unused values.

    A `cond` counts as its branch with the most arithmetic.

    Args:
        traced: the function or jaxpr.
        while_turns: iterations of each `while` loop, whose number depends on the data, as in decoding.

    Raises:
        ValueError: if a `while` loop contains products, and `while_turns` is not given.
    """
    closed = getattr(traced, "jaxpr", traced)
    jaxpr = getattr(closed, "jaxpr", closed)
    live, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return _count(live, while_turns)


def _count(jaxpr: Any, while_turns: int | None) -> Work:
    total = NOTHING
    for equation in jaxpr.eqns:
        total = total + _equation(equation, while_turns)
    return total


def _equation(equation: Any, while_turns: int | None) -> Work:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        return Work(_dot_flops(equation), _bytes(equation))
    if name == "conv_general_dilated":
        return Work(_conv_flops(equation), _bytes(equation))
    if "dot_product_attention" in name:
        return Work(_attention_flops(equation, backward="bwd" in name), _bytes(equation))
    if name == "pallas_call":  # the jaxpr is one program of the grid; tiles that a mask skips are counted too
        return Work(_inside(params, while_turns).flops * math.prod(params["grid_mapping"].grid), _bytes(equation))
    if name == "shard_map":  # the jaxpr is one device's share
        return _inside(params, while_turns).times(params["mesh"].size)
    if name == "scan":
        return _count(params["jaxpr"].jaxpr, while_turns).times(params["length"])
    if name == "cond":
        return max((_count(branch.jaxpr, while_turns) for branch in params["branches"]), key=lambda work: work.flops)
    if name == "while":
        inside = _count(params["body_jaxpr"].jaxpr, while_turns) + _count(params["cond_jaxpr"].jaxpr, while_turns)
        if inside.flops and while_turns is None:
            raise ValueError("A while loop contains products, and its iterations are not known: give while_turns.")
        return inside.times(while_turns or 1)
    return _inside(params, while_turns)


def _inside(params: dict[str, Any], while_turns: int | None) -> Work:
    return sum((_count(inner, while_turns) for inner in _inner(params)), start=NOTHING)


def _inner(params: dict[str, Any]) -> Iterator[Any]:
    """Yields the jaxprs that an equation calls (jit, checkpoint, custom derivatives)."""
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            item = getattr(item, "jaxpr", item)
            if hasattr(item, "eqns"):
                yield item


def _bytes(equation: Any) -> float:
    avals = [variable.aval for variable in (*equation.invars, *equation.outvars)]
    return float(sum(math.prod(aval.shape) * aval.dtype.itemsize for aval in avals if hasattr(aval, "shape")))


def _dot_flops(equation: Any) -> float:
    (contracted, _), _ = equation.params["dimension_numbers"]
    lhs = equation.invars[0].aval.shape
    return 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(lhs[axis] for axis in contracted)


def _conv_flops(equation: Any) -> float:
    kernel, out = equation.invars[1].aval.shape, equation.outvars[0].aval.shape
    features = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
    return 2.0 * math.prod(out) * math.prod(kernel) / features


def _attention_flops(equation: Any, *, backward: bool) -> float:
    """Two products forward; five backward, one of which recomputes the logits."""
    batch, length, heads, head_dim = equation.invars[0].aval.shape
    keys = equation.invars[1].aval.shape[1]
    return (5 if backward else 2) * 2.0 * batch * heads * length * keys * head_dim


def seconds(work: Work, *, peak_flops: float, bandwidth: float) -> float:
    """The roofline time in seconds: arithmetic or bytes at peak rate, whichever takes longer (Williams et al. 2009)."""
    return max(work.flops / peak_flops, work.bytes / bandwidth)
