"""The documentation: its site is whole and loads nothing, its commands are real, its messages are those of the code.

scripts/docs.sh builds the site; the parts without Sphinx are tested here.
"""

import dataclasses
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from absl import flags
from ml_collections import config_flags

from radvqa_jax.command_line.arguments import check_given_once, to_flags
from radvqa_jax.config import Config
from radvqa_jax.config.bounds import hints
from radvqa_jax.config.check import from_config_dict

REPO = Path(__file__).resolve().parent.parent
PAGES = [REPO / "README.md", *sorted((REPO / "docs").glob("*.md"))]


@pytest.fixture(scope="module")
def site() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("docs_site", REPO / "scripts" / "docs_site.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def dataclasses_below(kind: Any) -> Iterator[Any]:
    """Yields the dataclasses in an annotation, and those in their fields."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        yield kind
        for hint in hints(kind).values():
            yield from dataclasses_below(hint)
    for inner in get_args(kind):
        yield from dataclasses_below(inner)


def test_every_field_of_the_configuration_is_in_the_reference(site: types.ModuleType) -> None:
    sections = re.split(r"^## ", site.configuration_page(), flags=re.MULTILINE)[1:]
    for kind in set(dataclasses_below(Config)):
        about = " ".join((kind.__doc__ or "").split())
        (section,) = (text for text in sections if site.escape(about) in text)
        for field in dataclasses.fields(kind):
            if not dataclasses.is_dataclass(hints(kind)[field.name]):
                default = field.default if field.default is not dataclasses.MISSING else {}
                entry = re.search(rf"\{{confval\}} (?:\S+\.)?{field.name}\n(.*?)\n```\n", section, re.DOTALL)
                assert entry and f":default: ``{default!r}``" in entry[1], f"{kind.__name__}.{field.name}"
    assert "{confval} stages.NAME.optim.learning_rate\n:type: `float`\n:default: ``1e-05``" in site.configuration_page()
    assert "It must be above 0." in site.configuration_page()


def test_every_page_is_in_the_table_of_contents(site: types.ModuleType) -> None:
    listed = {page for pages in site.CONTENTS.values() for page in pages}
    assert {f"docs/{path.stem}" for path in PAGES[1:]} <= listed
    builders = {path.parent.name for path in REPO.glob("tfds_builders/*/README.md")}
    assert len(builders) > 9 and all(f"/tfds_builders/{name}/README\n" in site.datasets_page() for name in builders)


def test_every_module_is_in_the_list(site: types.ModuleType) -> None:
    page = site.modules_page()
    assert (
        "### radvqa_jax.models.attention\n" in page and "`attention_probs(query, key, attn_mask, *, softcap)`" in page
    )


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("a.html", '<link rel="stylesheet" href="https://fonts.example/css">', 1),
        ("a.html", '<script src="//cdn.example/x.js"></script><img src="http://x.example/a.png">', 2),
        ("a.html", '<a href="https://example.org">read on</a><img src="_images/a.png"><img src="data:,x">', 0),
        ("a.css", "@import 'https://x.example/a.css'; p {background: url(https://x.example/b.png)}", 2),
        ("a.css", "@import 'b.css'; p {background: url(data:image/png;base64,AA//)}", 0),
        ("a.js", 'fetch("https://x.example/track")', 1),
        ("a.js", "// see https://example.org\nfetch('search.json')", 0),
    ],
)
def test_addresses_that_a_page_loads_from_elsewhere_are_found(
    site: types.ModuleType, tmp_path: Path, name: str, text: str, found: int
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert len(site.outside_loads(tmp_path)) == found


def commands() -> list[tuple[str, str]]:
    """(page, command) of every command of this project in the blocks and tables of README and docs."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        blocks = re.findall(r"^```(?:bash|console)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        lines = [line for block in blocks for line in block.split("\n")]
        lines += re.findall(r"^\|[^|]*\| `((?:python|radvqa|bash) [^`]+)` \|", text, re.MULTILINE)
        found += [(page.name, line) for line in lines if re.match(r"(python|radvqa|bash) \S", line)]
    return found


def test_the_commands_of_the_docs_are_found() -> None:
    pages = [page for page, _ in commands()]
    assert len(pages) > 25 and {"README.md", "training.md", "scoring.md", "export.md"} <= set(pages)


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # of ml_collections
@pytest.mark.parametrize(("page", "command"), commands())
def test_a_command_of_the_docs_would_run(page: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its experiment, fields, values and scripts exist. What it does is tested elsewhere; the demo runs in .ci/run."""
    monkeypatch.chdir(REPO)
    words = shlex.split(command.partition(" …")[0], comments=True)
    if words[:2] == ["python", "-m"] and words[2] == "radvqa_jax.main":
        check_experiment(words[3:], monkeypatch)
    elif words[0] == "radvqa":
        check_experiment(words[1:], monkeypatch)
    elif words[1].startswith("scripts/"):
        source = (REPO / words[1]).read_text(encoding="utf-8")
        unknown = [word for word in words[2:] if word.startswith("--") and f'"{word.partition("=")[0]}"' not in source]
        assert not unknown, f"{page}: {words[1]} does not know {unknown}"


def check_experiment(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads flags and configuration as the command line does, and stops before the mode runs."""
    check_given_once(arguments)
    given = to_flags(arguments)
    monkeypatch.setattr(sys, "argv", ["radvqa", *given])
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values, lock_config=True)
    flags.DEFINE_string("workdir", "", "", flag_values=values)
    assert values(sys.argv) == ["radvqa"], "something is left over that is no flag"
    from_config_dict(values["config"].value)


def test_the_command_makes_the_folder_of_own_data(tmp_path: Path) -> None:
    line = next(command for page, command in commands() if page == "own_data.md" and "make_own_data" in command)
    words = shlex.split(line, comments=True)
    words = [word if word != "100" else "2" for word in words]
    script = [sys.executable, str(REPO / words[1]), *words[2:]]
    subprocess.run(script, cwd=tmp_path, check=True, capture_output=True, env={"PYTHONPATH": str(REPO)}, timeout=60)
    assert (tmp_path / "own_folder" / "questions.csv").is_file()


def test_explained_messages_are_those_of_the_code() -> None:
    files = [*(REPO / "radvqa_jax").rglob("*.py"), *(REPO / "scripts").glob("*.sh")]
    code = "\n".join(path.read_text(encoding="utf-8") for path in files)
    code = re.sub(r'"\s*\n\s*f?"', "", code)  # a message over several lines
    page = (REPO / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    messages = re.findall(r"^\*\*`([^`]+)`", page, re.MULTILINE)
    parts = [part.strip(" .") for message in messages for part in re.split("…|env: |\\.venv|stage2", message)]
    unknown = [part for part in parts if len(part) > 7 and part not in code]
    assert len(messages) > 8 and not unknown, unknown


def test_docs_sh_deletes_only_an_environment_of_its_own(tmp_path: Path) -> None:
    """Stand-ins for env.sh and Python: nothing is installed, and making an environment ends with status 3."""
    clone, venv = tmp_path / "clone", tmp_path / "venv"
    for folder in (clone / "scripts", tmp_path / "bin", venv):
        folder.mkdir(parents=True)
    for name in ("docs.sh", "usage.sh"):
        shutil.copy(REPO / "scripts" / name, clone / "scripts")
    (clone / "scripts" / "env.sh").write_text(f"REPO={clone}\nPATH={tmp_path / 'bin'}:$PATH\n")
    (clone / "requirements-docs.lock").write_text("sphinx==0\n")
    (tmp_path / "bin" / "python").write_text('#!/bin/sh\n[ "$1" = -c ] && echo lent || exit 3\n')
    (tmp_path / "bin" / "python").chmod(0o755)
    (venv / "thesis.txt").write_text("all of it")

    def build() -> subprocess.CompletedProcess[str]:
        environ = os.environ | {"RADVQA_DOCS_VENV": str(venv)}
        command = ["bash", str(clone / "scripts" / "docs.sh")]
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)

    done = build()
    assert done.returncode == 1 and f"docs: {venv} was not made by this script, and is not deleted." in done.stderr
    assert (venv / "thesis.txt").read_text() == "all of it"
    (venv / "made-from").write_text("an older lock")
    assert build().returncode == 3 and not venv.exists()
