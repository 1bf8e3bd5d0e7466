"""Settings of jax before it computes anything: the processes of a run, and the cache of compiled programs."""

import contextlib
import dataclasses
import glob
import json
import os
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import psutil

from radvqa_jax import processes, progress
from radvqa_jax.config import Config, ProcessConfig
from radvqa_jax.trees import flatten
from radvqa_jax.xla_flags import avoid_miscompilation

# jax's warning that it could not read or write a kept program.
_CACHE_WARNING = re.compile(
    r"Error (?P<doing>reading|writing) persistent compilation cache entry for '(?P<name>.+?)': (?P<why>.+)", re.DOTALL
)


def start(config: Config) -> None:
    """Joins the run's processes and sets the compilation cache; call it once, before anything uses a device."""
    avoid_miscompilation()
    compute_in_32_bits()
    # A run that only plans compiles for devices that need not be present, and does not keep the programs.
    keep_compiled("" if config.only_plans else config.compilation_cache)
    if config.process.coordinator:
        _join(config.process)


def compute_in_32_bits() -> None:
    """Leaves JAX_ENABLE_X64 without effect, and says so: models and golden values have 32 bits or fewer."""
    if jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        jax.config.update("jax_enable_x64", False)
        print("JAX_ENABLE_X64 has no effect: models are computed in 32 bits or fewer.", file=sys.stderr, flush=True)


def release_programs(most: float = 0.5) -> None:
    """Drops the compiled programs of this process if they hold more than a share of the memory maps that it may have.

    XLA for CPUs maps each part of a program into memory (18 maps for a small program of jaxlib 0.12), and Linux ends a
    process that compiles after its last map (`vm.max_map_count`, usually 65,530). A program that is used again is
    compiled again.
    """
    limit, held = Path("/proc/sys/vm/max_map_count"), Path("/proc/self/maps")
    if limit.is_file() and held.is_file() and held.read_bytes().count(b"\n") > most * int(limit.read_text()):
        jax.clear_caches()


def local_devices() -> list[Any]:
    """This process's devices (jax.Device).

    Raises:
        ValueError: if jax cannot start the requested platform.
    """
    try:
        return jax.local_devices()
    except (RuntimeError, AssertionError) as error:
        asked = os.environ.get("JAX_PLATFORMS", "")
        said = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(
            f"jax finds no device for JAX_PLATFORMS={asked!r} ({said[:200]}). Set JAX_PLATFORMS=cpu, or install "
            "what the device needs (pip install 'jax[cuda13]' or 'jax[tpu]')."
        ) from error


def is_first() -> bool:
    """Whether this is the process that writes the run's files and prints."""
    return jax.process_index() == 0


def check_alike(config: Config) -> None:
    """Checks that all processes of the run were started with the same configuration.

    Raises:
        ValueError: naming the fields that differ.
    """
    check_equal(
        dataclasses.asdict(dataclasses.replace(config, process=ProcessConfig())),
        what="configuration",
        differs="was started with other settings",
        remedy="Start the same command in each process; only process.index may differ.",
    )


def check_equal(values: Mapping[str, Any], *, what: str, differs: str, remedy: str) -> None:
    """Checks that all processes of the run have the same values; waits for all of them.

    Args:
        values: this process's, which JSON can hold.
        what: the name of this place in the program.
        differs: what is wrong with another process, for the error.
        remedy: the way out.

    Raises:
        ValueError: naming the fields that differ.
    """
    said = processes.group().gather(json.dumps(values).encode(), what=what)
    first = flatten(json.loads(said[0]))
    for index, other in enumerate(said):
        here = flatten(json.loads(other))
        if differing := sorted(name for name in first | here if first.get(name) != here.get(name)):
            raise ValueError(
                f"Process {index} {differs} than process 0; these differ: {', '.join(differing)}. {remedy}"
            )


def free_bytes(devices: Sequence[Any]) -> int:
    """The free bytes of the fullest of this process's devices among `devices`.

    If they do not report it, the machine's available memory is divided by their number.
    """
    left = [_left(device.memory_stats()) for device in devices if device.process_index == jax.process_index()]
    known = [size for size in left if size is not None]
    return min(known) if len(known) == len(left) else psutil.virtual_memory().available // len(left)


def peak_bytes(memory: Any) -> int:
    """The most bytes of one device that a compiled program needs, from its `memory_analysis()`.

    XLA for CPUs leaves temporaries out of its peak; they are added here.
    """
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    peak, temporaries = memory.peak_memory_in_bytes, memory.temp_size_in_bytes
    return int(peak if peak - held > temporaries / 2 else held + temporaries)


def _left(stats: dict[str, int] | None) -> int | None:
    return stats["bytes_limit"] - stats["bytes_in_use"] if stats and "bytes_limit" in stats else None


def user_cache() -> Path | None:
    """The package's folder in the user's cache, which may be removed at any time; None without a home folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return None if cache == "~/.cache" else Path(cache) / "radvqa_jax"


def keep_compiled(folder: str) -> None:
    """Keeps compiled programs in a folder, so that the same run starts in seconds the next time.

    `auto` is $JAX_COMPILATION_CACHE_DIR if that is set, otherwise radvqa_jax/compiled in the user's cache folder; an
    empty name keeps nothing, nor does `auto` without a home folder. The folder contains no weights and no data; it may
    be removed at any time.
    """
    if folder == "auto":
        own = user_cache()
        folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") or (str(own / "compiled") if own else "")
    jax.config.update("jax_compilation_cache_dir", str(Path(folder).expanduser()) if folder else None)
    # By default jax does not keep programs that compile within a second, which are most of a small run's.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    if folder:
        _mend_cache(Path(folder).expanduser())


def _mend_cache(folder: Path) -> None:
    """Removes kept programs that cannot be read or were not written whole, and says so once instead of jax.

    jax never replaces an entry, so one that a full disk or a kill cut would be compiled in each run.
    """
    usual, said = warnings.showwarning, set[str]()

    def show(message: Warning | str, *where: Any, **more: Any) -> None:
        found = _CACHE_WARNING.fullmatch(str(message))
        if found is None:
            return usual(message, *where, **more)
        writing = found["doing"] == "writing"
        with contextlib.suppress(OSError):
            entries = sorted(folder.glob(f"{glob.escape(found['name'])}-*"), key=lambda path: path.stat().st_mtime)
            for entry in entries[-1:] if writing else entries:  # jax names the program, and not the file
                entry.unlink(missing_ok=True)
        if found["doing"] not in said:
            said.add(found["doing"])
            progress.say(_describe_cache(folder, why=found["why"], writing=writing))

    warnings.showwarning = show


def _describe_cache(folder: Path, *, why: str, writing: bool) -> str:
    why = " ".join(why.split())[:200]
    if writing:
        return (
            f"Compiled programs cannot be kept in {folder} ({why}), so the next run compiles them again. Make room "
            "there, or give another folder: --config.compilation_cache=FOLDER."
        )
    return f"Compiled programs in {folder} that cannot be read are removed and compiled again ({why})."


def _join(config: ProcessConfig) -> None:
    """Joins the other processes. All but the first stop printing, because they would print the same.

    Raises:
        ValueError: if the processes do not find each other.
    """
    if config.coordinator == "auto":  # jax finds the number of the process
        print("this process waits for the others", file=sys.stderr, flush=True)
    else:
        who = f"process {config.index} of {config.count}"
        print(f"{who} waits for the others at {config.coordinator}", file=sys.stderr, flush=True)
    try:
        if config.coordinator == "auto":
            jax.distributed.initialize()
        else:
            jax.distributed.initialize(config.coordinator, num_processes=config.count, process_id=config.index)
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"process.coordinator={config.coordinator}, process.count={config.count}, process.index={config.index}: "
            f"the processes did not find each other ({str(error)[:200]}). Start all of them, each with its own index "
            "and the host:port of process 0; `auto` works only under SLURM, Open MPI and on TPU pods."
        ) from error
    from orbax.checkpoint import multihost  # slow to import

    processes.join(processes.Group(jax.process_index(), jax.process_count(), multihost.get_jax_distributed_client()))
    if not is_first():
        progress.say_nothing()
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 open until the process ends
