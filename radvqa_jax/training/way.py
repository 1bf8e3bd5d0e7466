"""The way of computing a stage's step: the results that its backward pass stores, and the parts of a batch.

A way changes numbers only by rounding: the batch, the order of its examples, the loss and the dropout of each example
are the same in every way.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple, get_args

import jax
from jax.sharding import Mesh

from radvqa_jax.config import Config
from radvqa_jax.models.remat import Remat
from radvqa_jax.training.loop import Plan
from radvqa_jax.trees import Flat

AUTO = "auto"


@dataclass(frozen=True)
class Way:
    """The stored results, and the number of examples computed at a time."""

    remat: Remat  # of the language model
    remat_img: Remat  # of the vision tower
    batch_size: int  # examples of one part, over all devices
    accumulate: int  # parts of a batch

    def __str__(self) -> str:
        tower = "" if self.remat_img == self.remat else f" (vision tower {self.remat_img})"
        return f"{self.remat}{tower}, {self.accumulate} x {self.batch_size} examples"


class Chosen(NamedTuple):
    """A way, and the compiled step, if choosing compiled it."""

    way: Way
    step: Any = None


# (plan, way -> plan, trainable leaves, frozen leaves) -> the choice for the present devices.
Choose = Callable[[Plan, Callable[[Way], Plan], Flat, Flat], Chosen]


def configured_way(config: Config, name: str) -> Way:
    """The configured way; for `auto` the one with the least memory, which programs that only answer also use."""
    stage = config.stages[name]
    remat: Any = "blocks" if config.model.remat == AUTO else config.model.remat
    img: Any = config.model.remat_img or remat
    return Way(remat, img, stage.batch_size, stage.accumulate)


def plan_with(plan: Plan, way: Way, text_lengths: tuple[int, ...]) -> Plan:
    """The plan of a stage that computes its step in this way."""
    model = replace(plan.model, remat=way.remat, remat_img=way.remat_img)
    options = plan.options._replace(accumulate=way.accumulate, text_lengths=text_lengths)
    return plan._replace(model=model, options=options)


def describe_devices(mesh: Mesh | None) -> dict[str, Any]:
    """The kind and number of the devices that compute a step."""
    devices = jax.devices()[:1] if mesh is None else list(mesh.devices.flat)
    return {"kind": devices[0].device_kind, "devices": len(devices)}


def to_record(way: Way, mesh: Mesh | None) -> dict[str, Any]:
    """The record of a run's way: with it, on the same kind of devices, the run continues bit for bit."""
    return asdict(way) | describe_devices(mesh)


def from_record(record: Any, mesh: Mesh | None, *, rows: int) -> Way | None:
    """The way with which a run began, if the devices are of the same kind and it fits batches of `rows` examples."""
    if not isinstance(record, Mapping) or any(record.get(k) != v for k, v in describe_devices(mesh).items()):
        return None
    remats, parts = (record.get("remat"), record.get("remat_img")), (record.get("batch_size"), record.get("accumulate"))
    known = all(remat in get_args(Remat) for remat in remats) and all(type(part) is int and part > 0 for part in parts)
    way = Way(*remats, *parts) if known else None  # pyright: ignore[reportArgumentType]
    return way if way is not None and way.batch_size * way.accumulate == rows else None
