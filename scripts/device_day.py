"""Measures correctness, speed and memory of a device in the given minutes, the most important parts first.

    python scripts/device_day.py --minutes 9 --out runs/day            # on a GPU
    python scripts/device_day.py --minutes 9 --out runs/day_cpu --cpu  # the same on the embedded model, to rehearse it

Needs JAX, this repository and the wheels of scripts/device_wheels.sh; the last part also torch, transformers and peft.
Each part's result is written at once to FOLDER/PART.json, with device, driver, versions, clocks and raw samples. A part
starts if enough time is left by an estimate, which earlier parts correct. Parts run in other processes. If one fails,
hangs or dies, its record has the reason, and the others run. The same command continues an interrupted run: it repeats
no finished part, and tries failed parts again last. FOLDER/table.md has the table. The script changes no setting of the
device.
"""

import argparse
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from day_parts import FORMS, PARTS, Form, Part, run_part
from day_record import (
    DONE,
    FAILED,
    STOPPED,
    check_same,
    describe_here,
    format_heading,
    format_table,
    read_records,
    set_aside_damaged,
    write_failure,
)

from radvqa_jax import locks, runtime
from radvqa_jax.command_line.script import run_script
from radvqa_jax.files import read_json, write_json

CLOSING = 3.0  # seconds that are kept for the table
SLOW = 3.0  # a part that takes longer than this many times its estimate is taken as hanging,
STARTING = 90.0  # but not before this many seconds
HERE = "here.json"
NAMES = [part.name for part in PARTS]


def work(folder: Path, form: Form) -> None:
    """Runs the parts whose names come on stdin, one after another: the main function of a worker process."""
    runtime.keep_compiled(str(folder / "compiled"))
    here = describe_here()
    write_json(folder / HERE, here, private=False)
    parts = {part.name: part for part in PARTS}
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    for line in sys.stdin:
        part = parts[line.strip()]
        write_json(folder / f"{part.name}.json", run_part(part, form, folder, here), private=False)


def _end_with(parent: int) -> None:
    """Ends this process when the one that started it has ended: nothing may continue to compute on the device."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


class Worker:
    """A worker process, started for a part; it can run others that need the same memory settings."""

    def __init__(self, folder: Path, form: Form, part: Part) -> None:
        self.folder, self.share_card, self.used = folder, part.share_card, False
        env = os.environ | ({"JAX_PLATFORMS": "cpu"} if form.name == "cpu" else {})
        if part.share_card:
            env["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
        else:  # by default XLA takes three quarters of the card
            env.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.94")
        (folder / HERE).unlink(missing_ok=True)
        self.log = (folder / "log.txt").open("a")
        command = [sys.executable, __file__, "--work", "--out", str(folder), *(["--cpu"] * (form.name == "cpu"))]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            env=env,
            text=True,
            start_new_session=True,  # a process group of its own, so that stop() also ends what it started
        )

    def facts(self, limit: float) -> dict[str, Any]:
        """The device that the process found; empty if it ended or took too long before that."""
        end = time.monotonic() + limit
        while not (self.folder / HERE).is_file():
            if self.process.poll() is not None or time.monotonic() > end:
                return {}
            time.sleep(0.05)
        return read_json(self.folder / HERE)

    def suits(self, part: Part, tells_peak: bool) -> bool:
        """Whether this process can run that part, too."""
        alone = part.own_process and tells_peak and self.used
        return self.process.poll() is None and self.share_card == part.share_card and not alone

    def run(self, part: Part, limit: float) -> str:
        """Runs a part and waits for its record; returns why there is none, or an empty string."""
        assert self.process.stdin is not None
        self.used = True
        path, end = self.folder / f"{part.name}.json", time.monotonic() + limit
        path.unlink(missing_ok=True)
        with contextlib.suppress(BrokenPipeError):  # it has ended, which the loop below reports
            print(part.name, file=self.process.stdin, flush=True)
        while not path.is_file():
            if self.process.poll() is not None:
                return f"its process ended with {self.process.returncode}: {self._end_of_log()}"
            if time.monotonic() > end:
                return f"no result after {limit:.0f} s"
            time.sleep(0.05)
        return ""

    def _end_of_log(self) -> str:
        return (self.folder / "log.txt").read_text(encoding="utf-8", errors="replace")[-1500:]

    def stop(self) -> None:
        """Ends the process and what it started, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # the process has ended: unread names are lost, which is fine
                self.process.stdin.close()


def in_order(records: dict[str, dict[str, Any]], only: list[str]) -> list[Part]:
    """The parts that remain: those without a result, then those that failed."""
    wanted = [part for part in PARTS if not only or part.name in only]
    states = {part.name: records.get(part.name, {}).get("status") for part in wanted}
    fresh = [part for part in wanted if states[part.name] not in (DONE, FAILED)]
    return fresh + [part for part in wanted if states[part.name] == FAILED]


class Day:
    """A run of the script: its time budget, its worker process, and how long parts took by their estimates."""

    def __init__(self, folder: Path, form: Form, minutes: float) -> None:
        self.folder, self.form = folder, form
        self.end = time.monotonic() + 60 * minutes - CLOSING
        self.ratios: list[float] = []  # seconds that a part took / its estimate
        self.left: dict[str, str] = {}  # part -> why it was not started
        self.here: dict[str, Any] = {}
        self.worker: Worker | None = None

    def run(self, part: Part) -> None:
        """Runs a part if enough time is left, and makes sure that it has a record, also if it fails or is stopped."""
        need = part.seconds * (statistics.median(self.ratios) if self.ratios else 1.0)
        left = self.end - time.monotonic()
        if need > left:
            self.left[part.name] = f"takes about {need:.0f} s, and {max(left, 0):.0f} s were left"
            return
        print(f"{part.name}: {part.title} (about {need:.0f} s; {left:.0f} s left)", flush=True)
        start = time.monotonic()
        if self.worker is None or not self.worker.suits(part, self.here.get("tells_peak", False)):
            self.close()
            self.worker = Worker(self.folder, self.form, part)
            self.here = self.worker.facts(left)
            if self.here:
                check_same(self.here, self.form.name, read_records(self.folder, NAMES), self.folder)
        left = self.end - time.monotonic()
        limit = min(left, max(SLOW * need, STARTING))
        reason = self.worker.run(part, limit)
        seconds = time.monotonic() - start
        if reason:
            status = STOPPED if limit == left and self.worker.process.poll() is None else FAILED
            self.close()
            facts = {key: value for key, value in self.here.items() if key != "tells_peak"}
            told: dict[str, Any] = {"status": status, "reason": reason, "seconds": seconds, "here": facts}
            write_failure(self.folder, part.name, form=self.form.name, **told)
        else:
            self.ratios.append(seconds / part.seconds)

    def close(self) -> None:
        """Ends the worker process, if there is one."""
        if self.worker is not None:
            self.worker.stop()
        self.worker = None


def write_table(folder: Path, left: dict[str, str]) -> str:
    """Writes and returns the table of what the folder holds."""
    titles = {part.name: part.title for part in PARTS}
    records = read_records(folder, NAMES)
    text = f"{format_heading(records)}\n\n{format_table(titles, records, left)}\n"
    (folder / "table.md").write_text(text, encoding="utf-8")
    return text


def main() -> int | None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.0, help="time limit, with the table")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--cpu", action="store_true", help="the embedded model on the CPU: a rehearsal")
    parser.add_argument("--only", nargs="+", default=[], metavar="PART", help=", ".join(NAMES))
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not 0 < args.minutes < 10_000:
        parser.error(f"--minutes={args.minutes} must be above 0 and below 10,000.")
    if unknown := set(args.only) - set(NAMES):
        parser.error(
            f"--only: {', '.join(sorted(unknown))} is not a part. Give some of {', '.join(p.name for p in PARTS)}."
        )
    form = FORMS["cpu" if args.cpu else "full"]
    folder = args.out.resolve()
    if args.work:
        return work(folder, form)
    folder.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # the end of a lease, or of a batch job
    day = Day(folder, form, args.minutes)
    with locks.hold(folder, doing="device_day.py", remedy=" Wait for it, or give another --out."):
        set_aside_damaged(folder, NAMES)
        todo = in_order(read_records(folder, NAMES), args.only)
        try:
            for part in todo:
                day.run(part)
                write_table(folder, day.left)
        finally:
            day.close()
        print(write_table(folder, day.left))


if __name__ == "__main__":
    run_script(main)
