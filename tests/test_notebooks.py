"""The notebooks run from start to end on the embedded model, and are committed with their outputs."""

import os
from pathlib import Path
from typing import Any

import pytest

nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: pip install -e '.[notebook]'")
nbformat = pytest.importorskip("nbformat")

REPO = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((REPO / "notebooks").glob("*.ipynb"))
MOST_BYTES = 1_500_000


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_start_to_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With RADVQA_NOTEBOOKS=1 the outputs are written back, to be committed."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(REPO), os.environ.get("PYTHONPATH", "")])))
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    notebook = read(path)
    client = nbclient.NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": REPO}}, record_timing=False
    )
    client.execute()
    problems = [text for cell in notebook.cells for text in streams(cell, "stderr")]
    assert problems == []
    if os.environ.get("RADVQA_NOTEBOOKS") == "1":
        notebook.metadata["language_info"] = {"name": "python"}
        nbformat.write(notebook, path)


def streams(cell: Any, name: str) -> list[str]:
    return [output["text"] for output in cell.get("outputs", []) if output.get("name") == name]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_with_its_outputs_and_without_errors(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    kinds = {output["output_type"] for cell in code for output in cell.outputs}
    assert "error" not in kinds
    pictures = [data for cell in code for output in cell.outputs if "image/png" in (data := output.get("data", {}))]
    assert len(pictures) >= 4
    assert path.stat().st_size < MOST_BYTES
    texts = sum(cell.cell_type == "markdown" for cell in notebook.cells)
    assert texts >= len(code) / 2
