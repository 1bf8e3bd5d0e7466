"""The record of a part of device_day.py: its device, the clocks while it ran, its file, and the table of all parts."""

import importlib.metadata
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from radvqa_jax import __version__, typed_json
from radvqa_jax.device_check import describe_device
from radvqa_jax.files import read_json, write_json
from radvqa_jax.runtime import local_devices

DISTRIBUTIONS = "jax jaxlib jax-cuda13-plugin flax optax numpy qwix torch transformers peft triton".split()
CLOCKS = "timestamp,clocks.sm,clocks.mem,power.draw,temperature.gpu,utilization.gpu"
LIMITS = "name,driver_version,power.limit,clocks.max.sm,clocks.max.mem,persistence_mode"
DONE, FAILED, STOPPED = "done", "failed", "stopped"  # stopped: time was up; not an error


class _Record(NamedTuple):
    """The fields of a part's file that are read; the file has more."""

    part: str
    form: str
    status: Literal["done", "failed", "stopped"]
    seconds: Annotated[float, Field(ge=0)]
    reason: str = ""
    result: dict[str, Any] | None = None
    device: dict[str, str] | None = None
    versions: dict[str, str | None] | None = None
    card: dict[str, str] | None = None


def _ask(query: str) -> list[str]:
    """The fields of the first card from nvidia-smi; empty without it. Changes no setting."""
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader", "--id=0"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except subprocess.TimeoutExpired:
        return []
    return [field.strip() for field in done.stdout.split(",")] if done.returncode == 0 else []


def describe_here() -> dict[str, Any]:
    """The device of this process, with driver and versions."""
    found: dict[str, str | None] = {}
    for name in DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    device = local_devices()[0]
    return {
        "device": describe_device(device),
        "versions": found | {"radvqa_jax": __version__, "commit": _commit()},
        "card": dict(zip(LIMITS.split(","), _ask(LIMITS), strict=False)),
        "tells_peak": device.memory_stats() is not None,
    }


def _commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    if shutil.which("git") is None:
        return None
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None


class Clocks:
    """Context that samples the card's clocks, power, temperature and load each second; a CPU's clocks before and after.

    `samples` are the rows.
    """

    def __init__(self) -> None:
        self.samples: list[list[str]] = []

    def __enter__(self) -> "Clocks":
        self._file, self._watcher = tempfile.TemporaryFile("w+"), None
        if shutil.which("nvidia-smi") is not None:
            command = ["nvidia-smi", f"--query-gpu={CLOCKS}", "--format=csv,noheader", "--id=0", "--loop-ms=1000"]
            self._watcher = subprocess.Popen(command, stdout=self._file, stderr=subprocess.DEVNULL)
        else:
            self.samples.append(_cpu_clocks())
        return self

    def __exit__(self, *_: object) -> None:
        if self._watcher is not None:
            self._watcher.terminate()
            self._watcher.wait()
            self._file.seek(0)
            self.samples = [[field.strip() for field in line.split(",")] for line in self._file.read().splitlines()]
        else:
            self.samples.append(_cpu_clocks())
        self._file.close()

    def to_json(self) -> dict[str, Any]:
        """The names of the columns, and the samples."""
        columns = CLOCKS.split(",") if self._watcher is not None else ["timestamp", "MHz of each core"]
        return {"columns": columns, "samples": self.samples}


def _cpu_clocks() -> list[str]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    clocks = [line.partition(":")[2].strip() for line in lines if line.startswith("cpu MHz")]
    return [time.strftime("%Y/%m/%d %H:%M:%S"), " ".join(clocks)]


def _check_record(found: dict[str, Any], path: Path) -> None:
    known = {key: found[key] for key in _Record._fields if key in found}
    typed_json.check(known, _Record, where=str(path))
    if nulls := [key for key, value in known.items() if value is None]:
        raise ValueError(f"{path}: field `{nulls[0]}` must not be null.")
    if not isinstance(known.get("result", {}).get("figures", {}), dict):
        raise ValueError(f"{path}: field `result.figures` must be a JSON object.")
    if "device" in known and (lacks := {"device", "machine", "driver"} - known["device"].keys()):
        raise ValueError(f"{path}: field `device` lacks {', '.join(sorted(lacks))}.")


def set_aside_damaged(folder: Path, names: Sequence[str]) -> None:
    """Renames records that cannot be read, and says so: their parts are done again."""
    for name in names:
        path = folder / f"{name}.json"
        if not path.exists():
            continue
        try:
            _check_record(typed_json.read(path, dict[str, Any]), path)
        except ValueError as error:
            aside = path.with_suffix(".damaged")
            path.replace(aside)
            print(f"{error} It is now {aside.name}, and the part is done again.", flush=True)


def read_records(folder: Path, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The records of these parts that are in the folder."""
    return {name: read_json(folder / f"{name}.json") for name in names if (folder / f"{name}.json").is_file()}


def check_same(here: dict[str, Any], form: str, records: dict[str, dict[str, Any]], folder: Path) -> None:
    """Raises ValueError if a record is of another kind of device, or of the other form of the script.

    Drivers and versions may differ, so that a run can continue next week; each record has its own.
    """
    for name, record in records.items():
        known = record.get("device", here["device"])["device"]
        if record.get("form") != form or known != here["device"]["device"]:
            raise ValueError(
                f"{folder / name}.json is a result of {known} in form {record.get('form')!r}; here is "
                f"{here['device']['device']} in form {form!r}. Results of one folder must be comparable: give another "
                "--out."
            )


def write_failure(folder: Path, name: str, *, form: str, status: str, reason: str, seconds: float, here: Any) -> None:
    """Writes the record of a part whose process ended or was stopped without a result."""
    said = {"part": name, "form": form, "status": status, "reason": reason, "seconds": seconds}
    write_json(folder / f"{name}.json", said | (here or {}), private=False)


def format_table(titles: dict[str, str], records: dict[str, dict[str, Any]], left: dict[str, str]) -> str:
    """The Markdown table: one row per part, with its figures or the reason why there are none.

    Args:
        titles: by part, in the order of the rows.
        records: by part.
        left: why a part was not started.
    """
    lines = ["| part | state | figures | seconds |", "|---|---|---|---|"]
    for name, title in titles.items():
        record = records.get(name, {})
        status = record.get("status", "not started")
        figures = record.get("result", {}).get("figures", {})
        told = "; ".join(f"{what} {value}" for what, value in figures.items())
        if status != DONE:
            told = record.get("reason") or left.get(name, "")
        seconds = f"{record['seconds']:.0f}" if "seconds" in record else ""
        cells = (title, status, told.replace("|", "\\|").replace("\n", " ")[:600], seconds)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def format_heading(records: dict[str, dict[str, Any]]) -> str:
    """Device, driver and versions: one paragraph per distinct set, with the names of its parts if there are several."""
    lines: dict[str, list[str]] = {}
    for name, record in records.items():
        if "versions" in record:
            device, card = record["device"], record.get("card", {})
            driver = card.get("driver_version") or device["driver"] or "none"
            told = ", ".join(f"{package} {version}" for package, version in record["versions"].items() if version)
            line = f"{device['device']} ({device['machine']}), driver {driver}, {told}; form `{record['form']}`"
            lines.setdefault(line, []).append(name)
    if len(lines) > 1:
        return "\n\n".join(f"{line}: {', '.join(names)}." for line, names in lines.items())
    return f"{next(iter(lines), 'No part has run')}."
