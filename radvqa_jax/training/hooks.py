"""Hooks of training: progress on the terminal, scalars in files, and stopping on request."""

import signal
import threading
import time
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from tqdm import tqdm

from radvqa_jax import typed_json
from radvqa_jax.closing import Closing
from radvqa_jax.files import append_jsonl, write_jsonl
from radvqa_jax.progress import EVERY, Eta
from radvqa_jax.training.event_file import EventFile
from radvqa_jax.training.wandb_run import WandbRun

LOSSES = "losses.jsonl"
_SPEED: tuple[str, ...] = ("examples_per_s", "data_wait_share", "text_positions", "mfu", "hfu")
_GROUPS: dict[str, str] = dict.fromkeys(_SPEED, "speed")  # of TensorBoard's tags; else train
_Row = dict[str, float]  # `step`, and the scalars of that step


class Scalars(Closing):
    """Scalars of a run in `losses.jsonl` (one object a logged step), in a TensorBoard event file and in `also`.

    Rows after `start_step` are dropped first: an interrupted run computes those steps again. Without `write`, as in all
    processes of a run except the first, no file is touched.
    """

    def __init__(self, folder: Path, *, start_step: int, write: bool = True, also: WandbRun | None = None) -> None:
        """Prepares the files.

        Args:
            folder: of the stage.
            start_step: the last saved step; 0 = none.
            write: whether this process writes.
            also: a run of Weights & Biases, which takes the scalars by their tags.
        """
        self._also = also
        self.path = folder / LOSSES
        self._events: EventFile | None = None
        if not write:
            return
        kept = [row for row in read_losses(folder) if row["step"] <= start_step]
        write_jsonl(self.path, kept, private=False)
        self._events = EventFile(folder / "tensorboard", purge_step=start_step + 1)

    def __call__(self, step: int, scalars: dict[str, float]) -> None:
        """Writes the scalars of one step."""
        if self._events is None:
            return
        append_jsonl(self.path, [{"step": step} | scalars], private=False)
        tagged = {_tag(name): value for name, value in scalars.items()}
        self._events(step, tagged)
        if self._also is not None:
            self._also(step, tagged)

    def close(self) -> None:
        """Flushes and closes the event file, and ends `also`."""
        try:
            if self._events is not None:
                self._events.close()
        finally:
            if self._also is not None:
                self._also.close()


def _tag(name: str) -> str:
    """The name of a scalar with its group: train, speed, or eval, which held-out losses bring with them."""
    return name if "/" in name else f"{_GROUPS.get(name, 'train')}/{name}"


def read_losses(folder: Path) -> list[dict[str, Any]]:
    """The logged rows of a stage's folder; empty if it has not been trained.

    Raises:
        ValueError: naming line and field, if a row is not an object of finite numbers with a `step`.
    """
    path = folder / LOSSES
    if not path.exists():
        return []
    rows = []
    for line in typed_json.iter_lines(path, _Row):
        row = line.value
        if row is None:
            if line.error is not None and line.text.endswith(b"\n"):
                raise line.error
            break  # the last line, cut by an interruption
        if not (row.get("step", 0.0) >= 1 and row["step"].is_integer()):
            raise ValueError(
                f"{path}, line {line.number}: field `step` must be a number of steps; got {row.get('step', 'none')}."
            )
        rows.append(row | {"step": int(row["step"])})
    return rows


class Progress:
    """A progress bar on a terminal; elsewhere a line for each logged step, and every 30 s one with the time left.

    If `show` is false, as in all processes of a run except the first, it prints nothing.
    """

    def __init__(self, name: str, *, start_step: int, total_steps: int, show: bool = True) -> None:
        self._name, self._total, self._show = name, total_steps, show
        self._done, self._eta, self._told = start_step, Eta(start_step, total_steps), time.monotonic()
        self._bar = tqdm(total=total_steps, initial=start_step, desc=name, unit="step", disable=None if show else True)

    def step(self) -> None:
        """Counts one step."""
        self._done += 1
        self._bar.update()
        if self._show and self._bar.disable and time.monotonic() - self._told >= EVERY:
            self._told = time.monotonic()
            print(f"{self._name} step {self._done}/{self._total}, {self._eta.left(self._done)}", flush=True)

    def __call__(self, step: int, scalars: dict[str, float]) -> None:
        """Shows the scalars of a logged step."""
        if not self._show:
            return
        shown = {name: f"{value:.4g}" for name, value in scalars.items()}
        if self._bar.disable:
            print(f"{self._name} step {step}/{self._total}", *(f"{k} {v}" for k, v in shown.items()), flush=True)
        else:
            self._bar.set_postfix(shown, refresh=False)

    def close(self) -> None:
        """Ends the bar."""
        self._bar.close()


class StopSignal:
    """While this context is open, SIGTERM and Ctrl-C only set `signum`, so that a step can end and be saved.

    A second signal acts as usual. Signals can only be caught in the main thread; elsewhere this does nothing.
    """

    def __init__(self) -> None:
        self.signum = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGTERM, signal.SIGINT):
                self._previous[signum] = signal.signal(signum, self._note)
        return self

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
        self._restore()

    def _restore(self) -> None:
        while self._previous:
            signum, handler = self._previous.popitem()
            signal.signal(signum, handler)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
