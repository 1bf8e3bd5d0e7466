"""The notebook runs from start to end on the embedded model, and the outputs that are committed are those of a run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_notebook_runs_and_draws(repo: Path, phantoms: Path, tmp_path: Path) -> None:
    pytest.importorskip("nbclient", reason="needs nbclient: pip install -e '.[notebook]'")
    pytest.importorskip("ipykernel", reason="needs ipykernel: pip install -e '.[notebook]'")
    to = tmp_path / "run.ipynb"
    command = [sys.executable, repo / "scripts" / "run_notebook.py", repo / "notebooks" / "saliency_quality.ipynb"]
    environment = {**os.environ, "PYTHONPATH": str(repo), "RADVQA_DATA": str(phantoms), "IPYTHONDIR": str(tmp_path)}
    done = subprocess.run(
        [*command, "--to", to], env=environment, capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert pictures(to) == pictures(repo / "notebooks" / "saliency_quality.ipynb") == 5


def pictures(path: Path) -> int:
    """Returns how many outputs hold a picture; every code cell must have been run, in order."""
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    return sum("image/png" in output.get("data", {}) for cell in cells for output in cell["outputs"])
