"""Prints the files that scripts/check.sh checks: those of a change, and those that import or name them.

    python scripts/changed.py types [--since REF]     files whose types can have changed
    python scripts/changed.py tests [--since REF]     test files of the change

A change is what differs from REF (HEAD if not given), and all untracked files. `ruff analyze graph` finds the files
that import a changed one directly. Tests also belong to a change if they name a changed file that is not imported: a
script, a configuration, a page. Tests that depend on a change in other ways run only with `bash scripts/test.sh`.
"""

import argparse
import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from radvqa_jax.command_line.script import run_script

TYPED = ("radvqa_jax/", "tfds_builders/", "configs/", "scripts/")  # `include` of pyright in pyproject.toml
ALWAYS = ("tests/test_imports.py", "tests/test_repository.py")  # they read every file, in seconds


def run(*command: str, folder: Path) -> str:
    """The output of a command. Raises ValueError with the command's error output if it fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def changed_files(folder: Path, since: str) -> list[str]:
    """Files of the repository `folder` that differ from `since` and still exist."""
    differ = run("git", "diff", "--name-only", "--relative", since, "--", folder=folder)
    new = run("git", "ls-files", "--others", "--exclude-standard", folder=folder)
    return sorted(name for name in {*differ.splitlines(), *new.splitlines()} if (folder / name).is_file())


def naming(changed: Sequence[str], tests: Mapping[str, str]) -> set[str]:
    """The tests of {file: text} whose text names a changed script, configuration or file that is not Python."""
    said = []
    for path in map(Path, changed):
        if path.suffix != ".py":
            said.append(rf"\b{re.escape(path.name)}\b")
        elif path.parts[0] in ("scripts", "configs"):
            said.append(rf"\b{path.stem}\.py\b|\"{path.stem}\"|import {path.stem}\b")
    word = re.compile("|".join(said) or "(?!)")
    return {test for test, text in tests.items() if word.search(text)}


def select(
    changed: Sequence[str], dependents: Mapping[str, Sequence[str]], tests: Mapping[str, str], kind: str
) -> list[str]:
    """Files for `kind`, `types` or `tests`.

    Args:
        changed: files of the change.
        dependents: file -> files that import it.
        tests: test file -> its text.
        kind: what the files are for.
    """
    python = {name for name in changed if name.endswith(".py")}
    near = python.union(*(dependents.get(name, ()) for name in python))
    if kind == "types":
        return sorted(name for name in near if name.startswith(TYPED))
    return sorted({name for name in near if name in tests} | naming(changed, tests) | {*ALWAYS})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("types", "tests"))
    parser.add_argument("--since", default="HEAD", metavar="REF")
    args = parser.parse_args()
    folder = Path.cwd()
    changed = changed_files(folder, args.since)
    dependents = json.loads(run("ruff", "analyze", "graph", "--direction", "dependents", "--quiet", folder=folder))
    tests = {str(path.relative_to(folder)): path.read_text("utf-8") for path in (folder / "tests").rglob("test_*.py")}
    print("\n".join(select(changed, dependents, tests, args.kind)))


if __name__ == "__main__":
    run_script(main)
