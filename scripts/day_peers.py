"""Part 3 of device_day.py: the same step and answers in transformers with peft, on the same device, in turns."""

import statistics
from pathlib import Path
from typing import Any

import jax
from day_parts import SAMPLES, Form
from full_size import draw_leaf
from peer_sides import Job, Ours, Peer, compare, race, tasks

from radvqa_jax.backbones import abstract_params
from radvqa_jax.models.variants import get_variant


def side_by_side(form: Form, folder: Path) -> dict[str, Any]:
    """Times of both sides, pair by pair, after logits and loss agree.

    Raises:
        ArithmeticError: if the two do not compute the same.
    """
    variant = get_variant(form.variant)
    job = Job(
        variant,
        rows=form.batch_size,
        accumulate=form.accumulate,
        text=form.seq_len,
        dtype="bfloat16",
        device="cuda" if jax.default_backend() == "gpu" else "cpu",
        remat=form.peers_remat,
    )
    weights = {name: draw_leaf(name, leaf.shape, job.dtype) for name, leaf in abstract_params(variant).items()}
    sides = Ours(job, weights), Peer(job, weights)
    del weights
    agree = compare(*sides)
    found, told = {}, {}
    for name, run in tasks(form.new_tokens, SAMPLES).items():
        ours, peer = race(run, sides, form.rounds)
        ratios = [b / a for a, b in zip(ours, peer, strict=True)]
        found[name] = {"ours": ours, "peer": peer}
        told[name] = (
            f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}] times as fast "
            f"({statistics.median(ours):.3f} s, {statistics.median(peer):.3f} s)"
        )
    return {"agree": agree, "samples": found, "figures": told}
