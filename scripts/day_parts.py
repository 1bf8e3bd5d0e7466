"""The parts of device_day.py, the most important first, their sizes, and the function that runs one of them."""

import importlib
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from day_record import DONE, FAILED, Clocks


class Wrong(ArithmeticError):
    """The device computed something wrong; `result` has the findings."""

    def __init__(self, message: str, result: dict[str, Any]) -> None:
        super().__init__(message)
        self.result = result


@dataclass(frozen=True)
class Form:
    """Sizes: the full ones of a card, or those of a rehearsal on the CPU. The same code runs at both."""

    name: str
    variant: str
    seq_len: int  # text positions of a training row and of a prompt
    batch_size: int
    accumulate: int
    rounds: int  # timed runs of what takes seconds
    quick_rounds: int  # timed runs of what takes milliseconds
    new_tokens: int
    attention: tuple[str, ...]  # the kernels that are compared, the fastest expected first
    most_rows: int  # upper bound of the search for the largest batch
    peers_remat: Any  # our rematerialisation in the comparison with transformers, which stores everything


FORMS = {
    "full": Form("full", "paligemma-3b-448", 128, 6, 16, 3, 10, 32, ("cudnn", "blocks"), 4096, "products"),
    "cpu": Form("cpu", "tiny", 16, 2, 2, 1, 2, 4, ("blocks", "xla"), 8, "none"),
}
SAMPLES = 5


@dataclass(frozen=True)
class Part:
    """One check or measurement."""

    name: str
    title: str
    function: str  # module:function, called with the form, the folder and `options`
    seconds: float  # estimate for a card, with loading and compiling; the times of earlier parts correct it
    own_process: bool = False  # its peak memory is read, which a device reports for a whole process
    share_card: bool = False  # another program needs the card as well: JAX must not preallocate its memory
    options: dict[str, Any] = field(default_factory=dict)

    def run(self, form: Form, folder: Path) -> dict[str, Any]:
        """The findings of the part."""
        module, _, name = self.function.partition(":")
        return getattr(importlib.import_module(module), name)(form, folder, **self.options)


def _step(name: str, title: str, seconds: float, **options: Any) -> Part:
    return Part(name, title, "day_full_size:training_step", seconds, own_process=True, options=options)


def _images(name: str, title: str, seconds: float, **options: Any) -> Part:
    return Part(name, title, "day_full_size:one_image", seconds, own_process=True, options=options)


PARTS = (
    Part("device", "small programs against NumPy", "day_correctness:device", 20, share_card=True),
    Part("goldens", "big_vision's numbers", "day_correctness:goldens", 60, share_card=True),
    Part("kernels", "attention kernels against `xla`", "day_correctness:kernels", 40, share_card=True),
    Part("determinism", "two runs of the tiny model", "day_correctness:determinism", 40, share_card=True),
    Part("gpu_tests", "tests marked `gpu`", "day_correctness:gpu_tests", 40, share_card=True),
    _step("stage2", "stage 2", 100, stage="stage2", kernel=0),
    _images("answers", "prefill and answers", 100, which=("prefill", "greedy", "sampled")),
    _step("stage2_other", "stage 2, the other attention", 90, stage="stage2", kernel=1),
    _step("stage1", "stage 1", 80, stage="stage1", kernel=0),
    _step("stage2_nf4", "stage 2 on NF4", 120, stage="stage2", kernel=0, quantize="nf4"),
    _images("maps", "attention maps", 60, which=("maps",)),
    _images("answers_nf4", "answers on NF4", 120, which=("prefill", "greedy", "sampled"), quantize="nf4"),
    Part("largest2", "stage 2, the largest batch", "day_full_size:largest", 180, own_process=True),
    Part("largest1", "stage 1, the largest batch", "day_full_size:largest", 180, True, options={"stage": "stage1"}),
    Part("loading", "writing and loading a checkpoint", "day_full_size:loading", 60),
    Part("peers", "against transformers + peft", "day_peers:side_by_side", 150, share_card=True),
)


def run_part(part: Part, form: Form, folder: Path, here: dict[str, Any]) -> dict[str, Any]:
    """The record of a part. An error in it is recorded with its reason, so that the other parts run."""
    record: dict[str, Any] = {"part": part.name, "form": form.name, "options": part.options, **here}
    start = time.perf_counter()
    with Clocks() as clocks:
        try:
            record |= {"status": DONE, "result": part.run(form, folder)}
        except Exception as error:
            lines = str(error).strip() or "no message"
            record |= {"status": FAILED, "reason": f"{type(error).__name__}: {lines[:2000]}"}
            record["traceback"] = traceback.format_exc()[-8000:]
            record |= {"result": error.result} if isinstance(error, Wrong) else {}
    return record | {"seconds": time.perf_counter() - start, "clocks": clocks.to_json()}
