"""Runs a notebook from start to end and writes it, with its outputs, to another file or over itself.

    python scripts/run_notebook.py notebooks/saliency_quality.ipynb
    python scripts/run_notebook.py notebooks/saliency_quality.ipynb --to FILE.ipynb

Needs the extra `notebook`. A cell that raises ends it, and nothing is written.
"""

import argparse
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from radvqa_jax.files import write_text

TIMEOUT = 600  # seconds for one cell


def run(path: Path, to: Path) -> None:
    """Runs the notebook at `path` in its own folder and writes it to `to`, without times and without who ran it."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=TIMEOUT, kernel_name="python3", record_timing=False,
                            resources={"metadata": {"path": str(path.parent)}})  # fmt: skip
    client.execute()
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    write_text(to, nbformat.writes(notebook) + "\n")


def main() -> None:
    """Reads the arguments and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--to", type=Path, default=None, help="where the result goes; over the notebook if not given")
    args = parser.parse_args()
    run(args.notebook, args.to or args.notebook)


if __name__ == "__main__":
    main()
