"""A chat model behind another project's server: `transformers serve`, in a separate process."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def serve(folder: Path, *arguments: str) -> Iterator[dict[str, Any]]:
    """Serves the model in a folder; gives the fields of a chat configuration. Skips where transformers cannot serve."""
    if importlib.util.find_spec("fastapi") is None:
        pytest.skip("transformers cannot serve: pip install -e '.[judge-test]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("transformers")
    command = [program, "serve", folder, "--host", "127.0.0.1", "--device", "cpu", "--port", str(port), *arguments]
    log = folder / "serve.log"
    # One thread: on a busy machine, several would wait for each other at every layer.
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hub"), "OMP_NUM_THREADS": "1"}
    with log.open("wb") as file:
        server = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
    try:
        _wait(f"http://127.0.0.1:{port}/health", server, log)
        yield {"base_url": f"http://127.0.0.1:{port}/v1", "model": str(folder)}
    finally:
        server.terminate()
        server.wait(20)


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(900):
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            assert server.poll() is None, log.read_text(encoding="utf-8", errors="replace")[-2000:]
            time.sleep(0.2)  # another process starts, which gives no signal to wait for
    raise AssertionError(f"no server at {url} after three minutes: {log.read_text(errors='replace')[-2000:]}")
