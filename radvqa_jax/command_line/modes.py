"""The modes, and the experiments that come with the package."""

import ast
from pathlib import Path
from typing import NamedTuple

from radvqa_jax.config.experiment_file import configs_folder

PACKAGE = Path(__file__).parent.parent

# Mode -> description for --help. runners/ has one function for each mode.
MODES = {
    "job": "runs everything from data to report: prepares, audits, trains, answers, scores, maps",
    "train": "trains the stages",
    "predict": "answers the questions of a data set",
    "ask": "answers one question about one image, with a viewer of attention maps",
    "score": "scores answers of this package or of any other system",
    "compare": "compares the answers of two systems, paired",
    "judge": "has a language model judge answers",
    "build_data": "prepares a data set",
    "audit": "shows what training and evaluation sets share",
    "write_questions": "writes questions from captions and cases, and checks them",
    "saliency": "draws attention maps",
    "saliency_quality": "measures attention maps against masks",
    "ablations": "runs a grid of experiments",
    "reproduce": "repeats the tables of the three papers: the results book",
    "fit": "plans whether an experiment fits a device",
    "convert": "converts a checkpoint to another format",
    "fit_scaling": "fits scaling laws to losses",
    "export": "writes an adapter or a merged model for other libraries",
}

# Modes that keep nothing of an interrupted run: they are short, or write one thing, whole or not at all.
SHORT = frozenset(("ask", "score", "compare", "build_data", "audit", "fit", "convert", "fit_scaling", "export"))


class Experiment(NamedTuple):
    """A file of configs/: its mode, and the first line of its docstring (`about`)."""

    name: str
    path: Path
    mode: str
    about: str


def experiments() -> dict[str, Experiment]:
    """The experiments by name. Their files are read, not run."""
    return {path.stem: _read(path) for path in sorted(configs_folder().glob("[!_]*.py"))}


def _read(path: Path) -> Experiment:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modes = [
        node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and ast.unparse(node.targets[0]) == "config.mode"
        and isinstance(node.value, ast.Constant)
    ]
    about = (ast.get_docstring(tree) or "").split("\n")[0]
    return Experiment(path.stem, path, str(modes[-1]) if modes else "train", about)
