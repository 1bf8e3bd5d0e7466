"""Imports keep to the table of allowed ones, and the main job needs neither TensorFlow nor torch."""

import ast
import importlib.util
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPO = Path(__file__).resolve().parent.parent

CORE = {
    "closing",
    "config",
    "processes",
    "runtime",
    "schema",
    "trees",
    "untrusted",
    "files",
    "folder_in_use",
    "locks",
    "prompts",
    "chat_budget",
    "chat_stop",
    "chat_cache",
    "chat_http",
    "chat_proxy",
    "chat_client",
    "chat_reply",
    "pages",
    "progress",
    "shell",
    "spreadsheet",
    "typed_json",
    "xla_flags",
}
PARTS = {
    "backbones",
    "data",
    "models",
    "checkpoints",
    "training",
    "decoding",
    "evaluation",
    "saliency",
    "synthesis",
    "planning",
    "export",
    "scaling",
}

API = {"api", "api_maps", "api_quality", "api_checks", "api_rows", "api_values"}

# Package or module of radvqa_jax -> the parts of radvqa_jax and tfds_builders that it may import, apart from itself.
MAY_IMPORT = {
    **{name: CORE for name in CORE},
    "files": CORE | {"tfds_builders"},
    "spreadsheet": CORE | {"tfds_builders"},
    "data": CORE | {"tfds_builders"},
    "models": CORE - {"files", "spreadsheet"},
    "checkpoints": CORE,
    "backbones": CORE | {"data", "models", "checkpoints"},
    "training": CORE | {"backbones", "models", "checkpoints"},
    "decoding": CORE | {"models"},
    "evaluation": CORE | {"data", "models", "checkpoints", "decoding", "tfds_builders"},
    "saliency": CORE | {"backbones", "data", "models", "checkpoints", "decoding", "evaluation"},
    # The normal form, the verdicts, the question-only lookup, intervals and kappa exist once, in evaluation.
    "synthesis": CORE | {"data", "evaluation", "tfds_builders"},
    "export": CORE | {"backbones", "data", "models", "checkpoints"},
    "planning": CORE | {"backbones", "models", "training"},
    "scaling": CORE,
    "": {"api"},  # radvqa_jax/__init__.py lists the public surface
    "resolve": CORE | PARTS,
    "loaded_base": CORE | PARTS,
    "exporting": CORE | PARTS | {"loaded_base"},
    "api": CORE | PARTS | API | {"loaded_base", "resolve", "exporting", "tfds_builders"},
    "api_maps": CORE | PARTS | {"api_checks", "api_values"},
    "api_quality": CORE | PARTS | {"api_maps", "loaded_base"},
    "api_checks": CORE | PARTS,
    "api_rows": CORE | PARTS | {"api_checks", "tfds_builders"},
    "api_values": CORE | PARTS,
    "runners": CORE | PARTS | API | {"loaded_base", "resolve", "exporting", "tfds_builders"},
    "device_check": CORE | {"models"},
    "command_line": CORE | PARTS | {"tfds_builders", "runners", "loaded_base", "resolve", "device_check"},
    "main": {"command_line"},
}

# Extras whose packages a module may import within a function.
OPTIONAL = ("bertscore", "judge", "dicom", "quantize", "croissant")
NEVER = {"tensorflow", "tf_keras", "keras", "torch", "torchvision", "transformers"}
# Third-party packages that one part must not load.
NOT_IN = {"models": {"tensorflow_datasets", "PIL", "grain"}}

# Imports whose name differs from that of their distribution.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "absl": "absl-py",
    "bert_score": "bert-score",
    "array_record": "array-record",
    "google": "protobuf",
    "ml_collections": "ml-collections",
    "orbax": "orbax-checkpoint",
    "re2": "google-re2",
    "rouge_score": "rouge-score",
    "tensorflow_datasets": "tensorflow-datasets",
    "yaml": "pyyaml",
}


def module_name(path: Path) -> str:
    parts = path.relative_to(REPO).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_module(name: str) -> bool:
    path = REPO.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def read_imports(source: str) -> Iterator[str]:
    """Yields the full name of each import at any depth of the code; `from a import b` gives a.b if that is a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from (full if is_module(full := f"{base}.{a.name}") else base for a in node.names)


def part_of(name: str) -> str:
    """The row of the table for a full module name: `radvqa_jax.models.lora` is `models`."""
    package, _, rest = name.partition(".")
    return rest.split(".")[0] if package == "radvqa_jax" else package


def violations(name: str, source: str) -> list[str]:
    """The rules that the imports of one module break, one readable line each."""
    part, found = part_of(name), []
    for target in read_imports(source):
        top, to = target.split(".")[0], part_of(target)
        if target.startswith("."):
            found.append(f"{name} has a relative import ({target}): write it in full")
        elif top in NEVER:
            found.append(f"{name} imports {target}: no module here may")
        elif top in NOT_IN.get(part, ()):
            found.append(f"{name} imports {target}: `{part}` may not")
        elif name.split(".")[0] == "tfds_builders":
            if top == "radvqa_jax":
                found.append(f"{name} imports {target}: data set builders stand alone")
        elif top in ("radvqa_jax", "tfds_builders") and to not in {part, ""} | MAY_IMPORT.get(part, set()):
            found.append(f"{name} imports {target}: `{part}` may import {sorted(MAY_IMPORT.get(part, ()))}")
    return found


def modules() -> list[Path]:
    return sorted(path for package in ("radvqa_jax", "tfds_builders") for path in (REPO / package).rglob("*.py"))


def test_every_part_of_the_package_has_a_row() -> None:
    parts = {part_of(module_name(path)) for path in modules() if path.is_relative_to(REPO / "radvqa_jax")} - {""}
    assert parts <= set(MAY_IMPORT), f"give these a row in MAY_IMPORT: {sorted(parts - set(MAY_IMPORT))}"


def test_imports_keep_to_the_table() -> None:
    assert len(modules()) > 10
    found = [line for path in modules() for line in violations(module_name(path), path.read_text(encoding="utf-8"))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        ("radvqa_jax.models.lora", "from radvqa_jax.data import image", "`models` may import"),
        ("radvqa_jax.models.lora", "from radvqa_jax import files", "`models` may import"),
        ("radvqa_jax.models.lora", "def f():\n    from PIL import Image", "`models` may not"),
        ("radvqa_jax.training.loop", "import radvqa_jax.evaluation.predict", "`training` may import"),
        ("radvqa_jax.decoding.decode", "from radvqa_jax.runners import RUNNERS", "`decoding` may import"),
        ("radvqa_jax.config", "from radvqa_jax.models import variants", "`config` may import"),
        ("radvqa_jax.unknown", "from radvqa_jax import trees", "`unknown` may import []"),
        ("radvqa_jax.data.image", "import tensorflow as tf", "no module here may"),
        ("radvqa_jax.data.image", "from .packing import pack", "relative import"),
        ("tfds_builders.slake.slake_dataset_builder", "from radvqa_jax import files", "stand alone"),
    ],
)
def test_a_forbidden_import_is_found(name: str, source: str, message: str) -> None:
    (line,) = violations(name, source)
    assert name in line
    assert message in line


def test_an_allowed_import_is_not_found() -> None:
    source = "import jax\nfrom radvqa_jax import __version__, trees\nfrom radvqa_jax.models.lora import Lora"
    assert violations("radvqa_jax.training.step", source) == []


def distributions(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(text).name) for text in requirements}


def test_every_third_party_import_is_declared(setup_arguments: dict[str, Any]) -> None:
    extras = [setup_arguments["extras_require"][name] for name in OPTIONAL]
    declared = distributions([*setup_arguments["install_requires"], *itertools.chain(*extras)])
    ours = set(sys.stdlib_module_names) | {"radvqa_jax", "tfds_builders"}
    missing = [
        f"{module_name(path)} imports {top}"
        for path in modules()
        for top in sorted({name.split(".")[0] for name in read_imports(path.read_text(encoding="utf-8"))} - ours)
        if canonicalize_name(DISTRIBUTIONS.get(top, top)) not in declared
    ]
    assert not missing, f"add these to install_requires or an extra in setup.py: {missing}"


# Run in a separate process: here pytest has loaded far more than the main job does.
IMPORT_ALL = """
import importlib, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {refused!r}:
            raise ModuleNotFoundError(f"{{name}} is refused by this test", name=name)

sys.meta_path.insert(0, Refuse())
for name in {names!r}:
    importlib.import_module(name)
print(*sorted({{"tensorflow", "torch"}} & set(sys.modules)), "loaded", len({names!r}))
"""


def import_all(names: list[str], refused: list[str]) -> str:
    """The output of a fresh Python after importing the modules, with some packages made unimportable."""
    code = IMPORT_ALL.format(names=names, refused=refused)
    env = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(REPO)}
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_module_loads_where_tensorflow_and_torch_cannot() -> None:
    names = [module_name(path) for path in modules()]
    assert import_all(names, ["tensorflow", "torch"]) == f"loaded {len(names)}"


@pytest.mark.tf
def test_the_main_job_leaves_an_installed_tensorflow_alone() -> None:
    assert importlib.util.find_spec("tensorflow") is not None
    names = [module_name(path) for path in modules()]
    assert import_all(names, []) == f"loaded {len(names)}"
