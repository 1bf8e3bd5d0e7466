"""The output of `radvqa doctor`: what is installed and prepared, and whether the device computes correctly."""

import importlib.metadata
import os
import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from radvqa_jax import __version__
from radvqa_jax.command_line.modes import experiments
from radvqa_jax.config import Config

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow-datasets", "grain")
# Environment variables that may hold a key. The doctor reports whether they are set, and never prints their values.
KEYS = (Config().judge.key_variable, "HF_TOKEN", "WANDB_API_KEY")
GIB = 2**30


def doctor() -> int:
    """Prints the report. Returns the exit status: 1 if there is no device or it computes wrongly."""
    for title, lines in (
        ("versions", _versions()),
        ("machine", _machine()),
        ("extras", _extras()),
        ("keys", _keys()),
        ("data sets", _prepared()),
    ):
        print("\n".join([f"{title}:", *(f"  {line}" for line in lines)]), flush=True)
    return _devices()


def _versions() -> Iterator[str]:
    yield f"radvqa_jax {__version__}, Python {platform.python_version()} ({sys.executable})"
    for name in PACKAGES:
        yield f"{name} {_version(name) or 'is missing'}"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _machine() -> Iterator[str]:
    memory = psutil.virtual_memory()
    yield f"{platform.platform()}, {len(os.sched_getaffinity(0)) if sys.platform == 'linux' else os.cpu_count()} cores"
    yield f"memory: {memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free"
    yield f"XLA_FLAGS={os.environ.get('XLA_FLAGS', '')}"


def _extras() -> Iterator[str]:
    try:
        extras = importlib.metadata.metadata("radvqa_jax").get_all("Provides-Extra") or []
    except importlib.metadata.PackageNotFoundError:
        yield "unknown: the package is not installed (pip install -e .)"
        return
    for extra in extras:
        missing = sorted(set(_missing("radvqa_jax", extra)))
        yield f"{extra}: " + (f"missing {', '.join(missing)}" if missing else "installed")


def _missing(distribution: str, extra: str) -> Iterator[str]:
    """Yields the missing packages of an extra, including those of nested extras such as `jax[cuda13]`."""
    for text in importlib.metadata.requires(distribution) or []:
        match = re.match(r"([\w.-]+)(?:\[([\w,.-]+)\])?", text)
        if match is None or not re.search(rf"extra == ['\"]{re.escape(extra)}['\"]", text):
            continue
        if not _version(match[1]):
            yield match[1]
            continue
        for inner in (match[2] or "").split(","):
            if inner:
                yield from _missing(match[1], inner)


def _keys() -> Iterator[str]:
    for name in KEYS:
        yield f"{name} is {'set' if os.environ.get(name) else 'not set'}"


def _folders() -> list[str]:
    """The names of the folders of prepared data sets: the default one, and the demo's."""
    text = experiments()["demo"].path.read_text(encoding="utf-8") if "demo" in experiments() else ""
    own = re.findall(r'data_dir = "(.+)"', text)
    return list(dict.fromkeys([Config().data.data_dir, *own]))


def _prepared() -> Iterator[str]:
    for name in _folders():
        folder = Path(os.path.expanduser(name))  # unlike Path.expanduser no error where there is no home folder
        if folder.parts[0] == "~":
            yield f"{name}: unknown, because ~ is not a home folder on this machine; set HOME"
            continue
        found = sorted(path.parent.relative_to(folder) for path in folder.glob("*/**/dataset_info.json"))
        yield f"{folder}: " + (", ".join(map(str, found)) if found else "none")


def _devices() -> int:
    # Imported late, so that the first lines are printed at once.
    from radvqa_jax.device_check import WrongResult, check_device, describe_device
    from radvqa_jax.runtime import local_devices

    print("devices:")
    try:
        devices = local_devices()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for device in devices:
        limit = (device.memory_stats() or {}).get("bytes_limit", 0)
        room = f", {limit / GIB:.1f} GiB" if limit else ""
        facts = {
            name: text for name, text in describe_device(device).items() if text and name not in ("device", "XLA_FLAGS")
        }
        print(f"  {device.device_kind}{room}; " + ", ".join(f"{name} {text}" for name, text in facts.items()))
    try:
        errors = check_device(fresh=True)
    except WrongResult as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    worst = max(errors, key=lambda name: errors[name])
    print(f"  computes correctly: {len(errors)} programs agree with NumPy to {errors[worst]:.1g}")
    return 0
