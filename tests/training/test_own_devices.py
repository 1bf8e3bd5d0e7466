"""A process has the weights that several trained, on its own devices."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.test_sharding import free_port
from tests.virtual_devices import environment


@pytest.mark.slow
def test_each_process_has_all_weights_and_copies_none_that_it_holds() -> None:
    script, where = Path(__file__).with_name("run_own_devices.py"), f"127.0.0.1:{free_port()}"
    running = [
        subprocess.Popen(
            [sys.executable, str(script), where, str(index)],
            env=environment(2),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in (0, 1)
    ]
    for process in running:
        said, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
        told = json.loads(next(line for line in said.splitlines() if line.startswith("[{")))
        assert all(one["equal"] and one["here"] and one["again"] for one in told), told
        # A mesh whose weights are within a process stays as it is; weights of both processes come whole to each device.
        assert [(one["mesh"], one["cut"], one["copied"]) for one in told] == [
            ([2, 1, 1], False, False),
            ([1, 2, 1], True, False),
            ([2, 1, 1], False, True),
        ]
