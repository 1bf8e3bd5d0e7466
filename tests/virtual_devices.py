"""Processes that see several virtual CPU devices: jax takes their number once, before it is used."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parent.parent


def environment(devices: int) -> dict[str, str]:
    """The variables of a process with this many virtual devices; it compiles as the tests do."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    return os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "PYTHONPATH": str(REPO)}


def run_script(script: Path, *arguments: Any, devices: int) -> str:
    """The output of a script; the test fails if the script does."""
    command = [sys.executable, str(script), *map(str, arguments)]
    done = subprocess.run(command, env=environment(devices), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def start_main(config: Path, workdir: Path, *fields: str, mode: str, devices: int) -> subprocess.Popen[str]:
    """A process of the command line, which keeps no compiled programs."""
    command = [sys.executable, "-m", "radvqa_jax.main", "--config", str(config), "--workdir", str(workdir)]
    command += [f"--config.mode={mode}", "--config.compilation_cache=", *fields]
    return subprocess.Popen(
        command, env=environment(devices), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
