"""Whether programs fit a device, and how fast they can be at best. Compiles the same programs that would run."""

import math
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from radvqa_jax import runtime
from radvqa_jax.planning.flops import Work, count_work, seconds
from radvqa_jax.planning.targets import Target

LARGE = 1 << 22  # elements; smaller weights need little memory, and activations may have the same shapes


class Program(NamedTuple):
    """A jitted function and the shapes of its arguments, with the sharding of the target."""

    name: str
    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    rows: int  # examples of one call
    while_turns: int | None = None  # iterations of a loop whose number depends on the data
    minimum_flops: float | None = None  # the least that the sizes require (minimum.py); None = unknown


class Fitted(NamedTuple):
    """The needs of one program: bytes on one device, and the work of the whole program."""

    name: str
    rows: int
    arguments: int
    temporaries: int
    outputs: int  # without those that reuse an argument's memory
    peak: int
    work: Work
    minimum_flops: float | None
    roofline_seconds: float | None
    float32_copies: tuple[str, ...]  # shapes of frozen weights that the compiled program holds in float32
    compile_seconds: float

    @property
    def recomputed(self) -> float | None:
        """Floating-point operations beyond the minimum: rematerialisation, and padding of blocks."""
        return None if self.minimum_flops is None else self.work.flops - self.minimum_flops

    def to_json(self) -> dict[str, Any]:
        """Plain values, sizes in bytes and times in seconds."""
        values = self._asdict() | {"flops": self.work.flops, "bytes": self.work.bytes}
        del values["work"]
        ratio = self.work.flops / self.minimum_flops if self.minimum_flops else None
        beyond = {"recomputed_flops": self.recomputed, "flops_over_minimum": ratio}
        return values | beyond | {"float32_copies": list(self.float32_copies)}


def compile_program(program: Program, target: Target, *, frozen: Mapping[str, Any] | None = None) -> Fitted:
    """The needs of a program on a target; arguments as for `compile_to_run`."""
    return compile_to_run(program, target, frozen=frozen)[0]


def compile_to_run(
    program: Program, target: Target, *, frozen: Mapping[str, Any] | None = None
) -> tuple[Fitted, jax.stages.Compiled]:
    """(the needs of a program on a target, the compiled program, which runs only if the target is present).

    Args:
        program: the program to compile.
        target: the devices to compile it for.
        frozen: half-precision weights whose float32 copies are looked for in the compiled text.
    """
    start = time.perf_counter()
    traced = program.function.trace(*program.args, **program.kwargs)
    compiled = traced.lower().compile()
    memory = compiled.memory_analysis()
    work = count_work(traced, while_turns=program.while_turns)
    best = None
    if target.device is not None:
        n = len(target.devices)
        best = seconds(work, peak_flops=n * target.device.peak_flops, bandwidth=n * target.device.bandwidth)
    fitted = Fitted(
        name=program.name,
        rows=program.rows,
        arguments=memory.argument_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        outputs=memory.output_size_in_bytes - memory.alias_size_in_bytes,
        peak=runtime.peak_bytes(memory),
        work=work,
        minimum_flops=program.minimum_flops,
        roofline_seconds=best,
        float32_copies=find_float32(compiled.as_text(), frozen or {}),
        compile_seconds=time.perf_counter() - start,
    )
    return fitted, compiled


def find_float32(text: str, leaves: Mapping[str, Any]) -> tuple[str, ...]:
    """The large half-precision leaves, or single layers of them, whose shape XLA's text has in float32."""
    found = set()
    for name, leaf in leaves.items():
        shapes = [leaf.shape, leaf.shape[1:], (1, *leaf.shape[1:])]
        for shape in shapes if leaf.dtype.itemsize == 2 else ():
            size = ",".join(map(str, shape))
            if math.prod(shape) >= LARGE and re.search(rf"\bf32\[{size}\]", text):
                found.add(f"{name} f32[{size}]")
    return tuple(sorted(found))


def largest_batch(
    peak_of: Callable[[int], int], memory: int, *, step: int = 1, most: int = 4096, first: int = 0
) -> tuple[int, int]:
    """(the largest multiple of `step` whose peak fits `memory`, its peak); (0, the peak of `step`) if none fits.

    Memory grows almost linearly with the batch, so each guess is the size at which the line through two known sizes
    reaches the limit. This takes few compilations, and the answer was itself compiled. `first` is the first guess;
    0 = eight times `step`. No guess exceeds `most`.
    """
    most = most // step * step
    known = {step: peak_of(step)}
    if known[step] > memory:
        return 0, known[step]
    low, high = step, None  # fits, does not fit
    guess = max(2 * step, min(first // step * step or 8 * step, most))
    while high is None or high - low > step:
        if guess not in known:
            known[guess] = peak_of(guess)
        if known[guess] <= memory:
            low = max(low, guess)
            if low == most:
                break
        else:
            high = min(high or guess, guess)
        guess = _next_guess(known, memory, low=low, high=high, step=step, most=most)
    return low, known[low]


def _next_guess(known: Mapping[int, int], memory: int, *, low: int, high: int | None, step: int, most: int) -> int:
    """The size to try next, strictly between the largest that fits and the smallest that does not."""
    below, above = sorted(known)[-2:] if high is None else (low, high)
    slope = max((known[above] - known[below]) / (above - below), 1e-9)
    guess = int((memory - known[below]) / slope + below) // step * step
    if high is None:
        return int(min(max(guess, low + step), 8 * low, most) // step * step)
    return min(max(guess, low + step), high - step)
