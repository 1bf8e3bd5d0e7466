"""The ways to compute a step on a device, with estimates of time and memory, the fastest first."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp

from radvqa_jax.backbones import backbone_of
from radvqa_jax.models.remat import Remat
from radvqa_jax.models.vision_language import VisionLanguageModel
from radvqa_jax.planning.devices import Device
from radvqa_jax.planning.flops import Work, seconds
from radvqa_jax.planning.memory import working_bytes
from radvqa_jax.planning.minimum import step_work
from radvqa_jax.training.way import Way

# (language model, vision tower): each stores less than the one before it, and recomputes more.
POLICIES: tuple[tuple[Remat, Remat], ...] = (
    ("products", "products"),
    ("products", "full"),
    ("gate", "full"),
    ("attention", "full"),
    ("blocks", "full"),
)
EQUAL = 0.01  # times that differ by less count as equal


class Candidate(NamedTuple):
    """A way with its needs, estimated from the sizes of the model."""

    way: Way
    work: Work  # of the whole step
    seconds: float  # roofline time; if peak rates are unknown, floating-point operations
    working: int  # bytes in addition to the arguments, on one device


def list_ways(batch_size: int, accumulate: int, *, share: int, remat_img: str, host: bool) -> Iterator[Way]:
    """Yields every way for a batch of accumulate x batch_size examples. A part has at most `batch_size` of them.

    Args:
        batch_size: examples of a part, as configured.
        accumulate: parts of a batch, as configured.
        share: devices that share the rows; the examples of a part are a multiple of it.
        remat_img: of the vision tower, if it is configured; empty = any.
        host: whether a CPU computes. Only a CPU may store everything: that saves it elementwise work, while an
            accelerator would wait for its memory.
    """
    policies = ((("none", "none"),) if host else ()) + POLICIES
    if remat_img:
        policies = tuple(dict.fromkeys((remat, remat_img) for remat, _ in policies))
    for parts in range(1, batch_size + 1):
        if batch_size % parts == 0 and batch_size // parts % share == 0:
            for remat, img in policies:
                yield Way(remat, img, batch_size // parts, accumulate * parts)  # pyright: ignore[reportArgumentType]


def rank(
    ways: Collection[Way],
    model: VisionLanguageModel,
    leaves: Mapping[str, Any],
    trained: Collection[str],
    *,
    seq_len: int,
    device: Device | None,
    devices: int,
    share: int,
) -> list[Candidate]:
    """The ways with their estimates, the fastest first; among equally fast ones, those with the largest parts first.

    Args:
        ways: of the same batch.
        model: sizes, attention and compute dtype.
        leaves: shapes of base leaves and adapters.
        trained: names of the leaves that train.
        seq_len: text positions of a row.
        device: peak rates of one device; None = unknown.
        devices: number of devices that compute.
        share: number of devices that share the rows.
    """
    size, variant, found = jnp.dtype(model.dtype).itemsize, model.variant, []
    layers = backbone_of(variant).layers_of("img")
    if not any(name.startswith(layers) for name in trained):  # the vision tower runs forward and stores nothing
        ways = list({(way.remat, way.batch_size): way for way in reversed(list(ways))}.values())
        variant = replace(variant, img=replace(variant.img, depth=0))
    for way in ways:
        amount: dict[str, Any] = {"seq_len": seq_len, "itemsize": size, "remat": way.remat, "remat_img": way.remat_img}
        work = step_work(model.variant, leaves, trained, rows=way.batch_size, **amount).times(way.accumulate)
        best = work.flops
        if device is not None:
            best = seconds(work, peak_flops=devices * device.peak_flops, bandwidth=devices * device.bandwidth)
        working = working_bytes(variant, rows=-(-way.batch_size // share), **amount)
        found.append(Candidate(way, work, best, working))
    unit = EQUAL * min(candidate.seconds for candidate in found)
    return sorted(found, key=lambda candidate: (round(candidate.seconds / unit), -candidate.way.batch_size))
