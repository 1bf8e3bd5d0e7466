"""The share of the device's peak arithmetic that training uses (MFU and HFU).

MFU (model FLOPs utilisation, Chowdhery et al. 2022, appendix B) counts the least that a step must compute. HFU
(hardware FLOPs utilisation, ibid.) also counts what it recomputes. Both count every computed text position, padding
included.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from radvqa_jax.models.remat import Remat
from radvqa_jax.planning.devices import find_kind
from radvqa_jax.planning.minimum import minimum_step_flops, recomputed_step_flops
from radvqa_jax.training.loop import Plan


def utilisation(plan: Plan, args: tuple[Any, ...]) -> Callable[[float, float], dict[str, float]]:
    """A function from (seconds per step, mean text positions of a row) to {"mfu": …, "hfu": …}, shares of 1.

    It returns {} on a device that is not in the table, and for a model that does not compute in bfloat16, because the
    table's peak rates are for bfloat16 products.

    Args:
        plan: of the stage.
        args: of the step: state, frozen leaves, the whole batch, key.
    """
    devices = jax.devices() if plan.mesh is None else list(plan.mesh.devices.flat)
    known = find_kind(devices[0].device_kind)
    if known is None or plan.model.dtype != jnp.bfloat16:
        return lambda seconds, positions: {}
    state, frozen, batch, _ = args
    sizes = (plan.model.variant, state.trainable | frozen, set(state.trainable))
    remat: Remat = plan.model.remat
    remat_img: Remat = plan.model.remat_img or remat
    peak = known.peak_flops * (1 if plan.mesh is None else plan.mesh.size)

    def shares(seconds: float, positions: float) -> dict[str, float]:
        amount: dict[str, Any] = {"rows": len(batch.tokens), "seq_len": positions}
        useful = minimum_step_flops(*sizes, **amount)
        again = recomputed_step_flops(*sizes, **amount, remat=remat, remat_img=remat_img)
        return {"mfu": useful / seconds / peak, "hfu": (useful + again) / seconds / peak}

    return shares
