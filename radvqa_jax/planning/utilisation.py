"""How much of the device's peak arithmetic training uses while it runs (MFU, Chowdhery et al. 2022, appendix B)."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from radvqa_jax.models.fused_attention import with_attention
from radvqa_jax.planning.devices import find_kind
from radvqa_jax.planning.flops import count_work
from radvqa_jax.training.loop import Plan
from radvqa_jax.training.step import train_step


def utilisation(plan: Plan, args: tuple[Any, ...]) -> Callable[[float], dict[str, float]]:
    """Returns the function from seconds a step to {"mfu": share of the peak}; {} on a device that is not in the table.

    The arithmetic is what the step asks for: what is computed again to save memory does not count. Peaks are those of
    bfloat16 products, so a run in float32 gets no share either.
    """
    devices = jax.devices() if plan.mesh is None else list(plan.mesh.devices.flat)
    known = find_kind(devices[0].device_kind)
    if known is None or plan.model.dtype != jnp.bfloat16:
        return lambda seconds: {}
    variant = with_attention(plan.model.variant, "xla", dtype=plan.model.dtype)
    model = dataclasses.replace(plan.model, variant=variant, remat="none", remat_img=None)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), args)
    flops = count_work(train_step.trace(*shapes, model=model, tx=plan.tx, options=plan.options)).flops
    peak = known.peak_flops * (1 if plan.mesh is None else plan.mesh.size)
    return lambda seconds: {"mfu": flops / seconds / peak}
