"""The console: characters that its encoding lacks, and streams that are closed, full or no longer read."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from radvqa_jax.command_line.streams import visible_streams

REPO = Path(__file__).parents[2]
RADVQA = [sys.executable, "-m", "radvqa_jax.main"]
ENV = os.environ | {"PYTHONPATH": str(REPO)}


def test_a_console_that_is_not_unicode_gets_every_character() -> None:
    done = subprocess.run([*RADVQA, "--helpfull"], env=ENV | {"PYTHONIOENCODING": "ascii"}, capture_output=True)
    assert done.returncode == 0 and done.stderr == b"" and done.stdout.isascii()
    assert rb"\u" in done.stdout  # the configuration's meanings hold such characters


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_an_output_that_cannot_be_written_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([*RADVQA, "--help"], env=ENV, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: the output cannot be written (No space left on device). Send it elsewhere.\n"


def test_a_closed_pipe_ends_the_help_quietly() -> None:
    with subprocess.Popen([*RADVQA, "--helpfull"], env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as shown:
        assert shown.stdout is not None and shown.stderr is not None
        shown.stdout.close()
        assert shown.stderr.read() == b""


def test_closed_streams_do_not_stop_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with visible_streams():
        print("nobody sees this")
        print("nor this", file=sys.stderr, flush=True)
    assert sys.stdout is None


class _Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")

    def flush(self) -> None:
        self.write("")


def test_a_log_on_a_full_disk_stops_no_run_but_results_that_cannot_be_printed_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stderr", _Full())
    with visible_streams():
        print("a bar", file=sys.stderr, flush=True)
    monkeypatch.setattr(sys, "stdout", _Full())
    with pytest.raises(OSError, match="No space"), visible_streams():
        print("a table")
