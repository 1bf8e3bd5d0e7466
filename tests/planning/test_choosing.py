"""The choice of the way of computing a step, with few compilations; and the estimates from which it begins."""

from functools import partial
from typing import Any

import jax.numpy as jnp
import pytest

from radvqa_jax.backbones import abstract_params
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.models.variants import get_variant
from radvqa_jax.planning.choosing import choose
from radvqa_jax.planning.devices import GIB, get_device
from radvqa_jax.planning.flops import Work
from radvqa_jax.planning.frontier import on_the_frontier
from radvqa_jax.planning.memory import working_bytes
from radvqa_jax.planning.ways import POLICIES, Candidate, list_ways, rank
from radvqa_jax.training.way import Way

# Stage 2 at 448 px, compiled for an H100 (docs/performance.md): (policies, examples at a time) -> GiB of temporaries.
COMPILED = {
    ("products", "products", 6): 14.19,
    ("products", "products", 1): 2.45,
    ("products", "full", 6): 11.08,
    ("gate", "full", 6): 7.07,
    ("attention", "full", 6): 3.13,
    ("gate", "full", 1): 1.37,
    ("blocks", "blocks", 1): 0.50,
}


def candidates(*working: int) -> list[Candidate]:
    """Ways of these sizes in bytes, the fastest first."""
    return [
        Candidate(Way("products", "products", 100 - i, 1), Work(1.0 + i, 0.0), 1.0 + i, size)
        for i, size in enumerate(working)
    ]


class Compiler:
    """Reports the memory of each way, and records the requests."""

    def __init__(self, ways: list[Candidate], peaks: list[int | None]) -> None:
        self.peaks = {candidate.way: peak for candidate, peak in zip(ways, peaks, strict=True)}
        self.asked: list[int] = []

    def __call__(self, way: Way) -> int | None:
        self.asked.append(100 - way.batch_size)
        return self.peaks[way]


@pytest.mark.parametrize(
    ("peaks", "asked", "taken"),
    [
        ([90, 60, 30, 10], [1], 1),  # as estimated: one compilation
        ([80, 75, 30, 10], [1, 2], 2),  # more than estimated: the next that fits
        ([65, 40, 30, 10], [1, 0], 0),  # less: there is room for a faster one
        ([75, 40, 30, 10], [1, 0], 1),  # which needs more than it should
        ([90, None, 30, 10], [1, 2], 2),  # the compiler refuses it
        ([99, 90, 80, 75], [1, 2, 3], 3),  # nothing fits: the least
    ],
)
def test_the_fastest_that_fits_is_taken_with_few_compilations(peaks: Any, asked: list[int], taken: int) -> None:
    ways = candidates(80, 50, 20, 0)
    compiler = Compiler(ways, peaks)
    choice = choose(ways, compiler, arguments=10, room=70)
    assert (compiler.asked, 100 - choice.way.batch_size) == (asked, taken)
    why = [item.why for item in choice.tried]
    assert ("nothing fits" in why[taken]) == (min(filter(None, peaks)) > 70)
    assert all("needs" in said for said in why[:taken])
    assert [item.peak is not None for item in choice.tried] == [i in asked for i in range(4)]
    line = choice.describe("stage2", 70, 0.08)
    assert f"{100 - taken} examples" in line
    assert f"{4 - len(asked)} not compiled" in line


def test_the_search_for_faster_ways_keeps_to_its_budget() -> None:
    ways = candidates(80, 50, 20, 0)
    for budget, asked in ((5.0, [1]), (15.0, [1, 0])):
        compiler, times = Compiler(ways, [65, 40, 30, 10]), iter(range(0, 1000, 10))
        choose(ways, compiler, arguments=10, room=70, budget=budget, clock=lambda times=times: float(next(times)))
        assert compiler.asked == asked


def test_ways_keep_the_batch_and_are_multiples_of_the_devices() -> None:
    ways = list(list_ways(6, 16, share=2, remat_img="", host=False))
    assert {(way.batch_size, way.accumulate) for way in ways} == {(6, 16), (2, 48)}
    assert {(way.remat, way.remat_img) for way in ways} == set(POLICIES)
    host = list(list_ways(6, 16, share=1, remat_img="full", host=True))
    assert {way.remat_img for way in host} == {"full"}
    assert {way.remat for way in host} == {"none", *(remat for remat, _ in POLICIES)}


@pytest.mark.parametrize(("device", "first"), [("h100", "products"), ("v5e-1", "products"), (None, "none")])
def test_the_first_way_recomputes_nothing_in_the_largest_parts(device: str | None, first: str) -> None:
    variant = get_variant("paligemma-3b-448")
    leaves = abstract_params(variant)
    ways = list(list_ways(6, 16, share=1, remat_img="", host=device is None))
    known = get_device(device) if device else None
    sizes: dict[str, Any] = {"seq_len": 128, "devices": 1, "share": 1, "device": known}
    ranked = rank(ways, PaliGemma(variant, dtype=jnp.bfloat16), leaves, {"img/head/kernel"}, **sizes)
    assert (ranked[0].way.remat, ranked[0].way.batch_size) == (first, 6)
    frontier = on_the_frontier(ranked)
    assert [c.working for c in frontier] == sorted(c.working for c in frontier)
    assert [c.seconds for c in frontier] == sorted((c.seconds for c in frontier), reverse=True)
    assert frontier[0].working == min(c.working for c in ranked)


def test_memory_is_estimated_near_what_was_compiled() -> None:
    bytes_of = partial(working_bytes, get_variant("paligemma-3b-448"), seq_len=128, itemsize=2)
    for (remat, remat_img, rows), told in COMPILED.items():
        assert bytes_of(rows=rows, remat=remat, remat_img=remat_img) / GIB == pytest.approx(told, abs=0.35)
