"""Rules for the files of the repository as a whole."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import radvqa_jax
from radvqa_jax.trees import is_trained

REPO = Path(__file__).resolve().parent.parent
TEXT = {"", ".bib", ".cff", ".cfg", ".css", ".html", ".ipynb", ".js", ".json", ".lock", ".md", ".py", ".sh", ".toml"}
TEXT |= {".txt", ".yaml", ".yml"}

HERE = "|".join(re.escape(str(path)) for path in (REPO, REPO.parent / "shared", Path.home()) if len(path.parts) > 1)

# Each pattern is written so that it does not match its own line.
FORBIDDEN_ANYWHERE = {
    "a path of one machine": rf"(?<![\w.])({HERE}|/roo[t]|/hom[e]/\w+|/User[s]/\w+)\b",
    "an index of packages": r"pypi\.or[g]|pythonhosted\.or[g]|--(extra-)?index-ur[l]|--find-link[s]",
    "left open": r"\b(TOD[O]|FIXM[E]|XX[X])\b",
}
FORBIDDEN_IN_CODE = {
    "unpickles what it reads": r"allow_pickle\s*=\s*Tru[e]|\bpickle\.load[s]?\(|torch\.loa[d]\(",
    "runs text as code": r"shell\s*=\s*Tru[e]|(?<![\w.])eva[l]\(|yaml\.loa[d]\(",
}


def repository_files() -> list[Path]:
    """The files that git knows or would add; of an unpacked archive, all but hidden and generated ones."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return [path for name in done.stdout.split("\0") if name and (path := REPO / name).is_file()]
    generated = re.compile(r"(^|/)(\.(?!ci/)|runs/|build/|dist/|__pycache__/|[^/]*\.egg-info/)")
    return [p for p in REPO.rglob("*") if p.is_file() and not generated.search(p.relative_to(REPO).as_posix())]


def matches(path: Path, forbidden: dict[str, str]) -> list[str]:
    # The pictures of notebooks are base64, which may spell anything.
    text = re.sub(r'("image/png": ")[^"]*', r"\1", path.read_text(encoding="utf-8"))
    lines = enumerate(text.split("\n"), 1)
    return [f"{path}:{i}: {what}" for i, line in lines for what, rule in forbidden.items() if re.search(rule, line)]


def test_no_file_has_a_forbidden_line() -> None:
    texts = [path for path in repository_files() if path.suffix in TEXT]
    assert len(texts) > 20
    found = [line for path in texts for line in matches(path, FORBIDDEN_ANYWHERE)]
    # Tests may: they show that a worker process gets an object whole, or that a harmful file is refused.
    code = [path for path in texts if path.suffix == ".py" and not path.is_relative_to(REPO / "tests")]
    found += [line for path in code for line in matches(path, FORBIDDEN_IN_CODE)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line",  # the test removes each ~, which keeps these lines from being found here
    [
        "data = '/ro~ot/data'",
        "cd /ho~me/ada/radvqa",
        f"see ~{REPO}/runs",
        "# TO~DO later",
        "pip install --index-~url=X",
        "np.load(path, allow_pickle=~True)",
        "pickle.lo~ads(blob)",
        "ev~al(text)",
    ],
)
def test_a_forbidden_line_is_found(line: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    path.write_text(f"fine = 1\n{line.replace('~', '')}\n", encoding="utf-8")
    (found,) = matches(path, FORBIDDEN_ANYWHERE | FORBIDDEN_IN_CODE)
    assert found.startswith(f"{path}:2: ")


def shell_scripts() -> list[Path]:
    return [p for p in repository_files() if p.suffix == ".sh" or p.relative_to(REPO).as_posix() == ".ci/run"]


def test_shell_scripts_parse() -> None:
    scripts = shell_scripts()
    assert {"demo.sh", "test.sh", "check.sh", "env.sh", "run"} <= {path.name for path in scripts}
    for path in scripts:
        done = subprocess.run(["bash", "-n", path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{path.name}: {done.stderr}"
        assert path.read_text(encoding="utf-8").startswith("#!/usr/bin/env bash\n"), path.name


def test_the_version_is_written_once(setup_arguments: dict[str, Any]) -> None:
    assert setup_arguments["version"] == radvqa_jax.__version__
    citation = (REPO / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {radvqa_jax.__version__}\n" in citation


def versions_that_disagree(version: str, changelog: str, tags: list[str]) -> list[str]:
    """The contradictions between the version, the changelog's headings and the tags."""
    headings = re.findall(r"^## \[(.+?)\]", changelog, re.MULTILINE)
    found = [] if headings[:1] == ["Unreleased"] else ["the first heading of CHANGELOG.md is not [Unreleased]"]
    released = [tuple(map(int, heading.split("."))) for heading in headings[1:]]
    if released != sorted(set(released), reverse=True):
        found.append(f"the releases in CHANGELOG.md are not in order: {headings[1:]}")
    if released and headings[1] != version:
        found.append(f"the version is {version}, and the newest release in CHANGELOG.md is {headings[1]}")
    return found + [f"{tag} has no heading in CHANGELOG.md" for tag in tags if tag.removeprefix("v") not in headings]


def test_version_tags_and_changelog_agree() -> None:
    command = ["git", "tag", "--list", "v[0-9]*"]
    tags = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False).stdout.split()
    changelog = (REPO / "CHANGELOG.md").read_text(encoding="utf-8")
    assert versions_that_disagree(radvqa_jax.__version__, changelog, tags) == []


@pytest.mark.parametrize(
    ("version", "changelog", "tags", "found"),
    [
        ("0.2.0", "## [Unreleased]\n## [0.2.0] - x\n## [0.1.0] - x", ["v0.1.0", "v0.2.0"], 0),
        ("0.1.0", "## [Unreleased]", [], 0),  # nothing is released yet
        ("0.3.0", "## [Unreleased]\n## [0.2.0] - x", [], 1),
        ("0.2.0", "## [0.2.0] - x", [], 1),
        ("0.2.0", "## [Unreleased]\n## [0.2.0] - x\n## [0.3.0] - x", [], 1),
        ("0.1.0", "## [Unreleased]", ["v0.1.0"], 1),
    ],
)
def test_versions_that_disagree_are_found(version: str, changelog: str, tags: list[str], found: int) -> None:
    assert len(versions_that_disagree(version, changelog, tags)) == found


# torch comes in another build for each kind of device, and not all of them from one index.
WITHOUT_HASHES = {"requirements-torch.lock"}


def pins(name: str) -> dict[str, str]:
    """{distribution: version} of a lock file: exact versions, comments and other locks, nothing else.

    What only some Pythons or systems need bears a marker, as in `uvloop==0.23.0 ; sys_platform != 'win32'`.
    """
    found: dict[str, str] = {}
    text = (REPO / name).read_text(encoding="utf-8").replace("\\\n", "")
    for line in text.splitlines():
        if line.startswith("-r "):
            found |= pins(line.removeprefix("-r "))
        elif not line.startswith("#"):
            match = re.fullmatch(
                r"([\w.-]+)==([\w.+]+)(?: ; [\w.'<>=!() ]+)?((?: +--hash=sha256:[0-9a-f]{64})*) *", line
            )
            assert match, f"{name}: {line[:60]!r} is not an exact version"
            assert match[3] or name in WITHOUT_HASHES, f"{name}: {line!r} has no hash. Run: bash scripts/lock.sh"
            found[canonicalize_name(match[1])] = match[2]
    return found


def test_the_tools_of_the_installation_are_locked_too() -> None:
    assert "setuptools" in pins("requirements-build.lock")
    assert {"cyclonedx-bom", "pip-audit"} <= set(pins("requirements-audit.lock"))
    env = (REPO / "scripts" / "env.sh").read_text(encoding="utf-8")
    assert env.count("--require-hashes") >= 2 and "--no-build-isolation" in env


@pytest.mark.parametrize(
    ("lock", "extras"),
    [
        ("requirements.lock", ("test", "dev")),
        ("requirements-oldest.lock", ("test", "dev")),
        ("requirements-tf.lock", ("test", "dev", "tf")),
        ("requirements-docs.lock", ("docs",)),
    ],
)
def test_the_lock_holds_a_version_within_every_bound(
    lock: str, extras: tuple[str, ...], setup_arguments: dict[str, Any]
) -> None:
    locked = pins(lock)
    wanted = [*setup_arguments["install_requires"], *(r for e in extras for r in setup_arguments["extras_require"][e])]
    for requirement in map(Requirement, wanted):
        version = locked.get(canonicalize_name(requirement.name))
        assert version is not None, f"{lock} lacks {requirement.name}"
        assert requirement.specifier.contains(version), f"{lock}: {requirement.name} {version}, want {requirement}"


def pythons(name: str) -> list[str]:
    """The Pythons that a lock says it is for, best first."""
    return re.findall(r"^# python: (.+)$", (REPO / name).read_text(encoding="utf-8"), re.MULTILINE)[0].split()


def test_the_two_sets_are_for_all_pythons_of_the_package(setup_arguments: dict[str, Any]) -> None:
    newest, oldest = pythons("requirements.lock"), pythons("requirements-oldest.lock")
    assert not set(newest) & set(oldest)
    assert min(newest + oldest, key=Version) == setup_arguments["python_requires"].removeprefix(">=")
    jax = next(r for r in map(Requirement, setup_arguments["install_requires"]) if r.name == "jax")
    lower = next(s.version for s in jax.specifier if s.operator == ">=")
    assert pins("requirements-oldest.lock")["jax"] == lower != pins("requirements.lock")["jax"]
    assert not [bad for bad in ("0.11.0", "0.11.1") if jax.specifier.contains(bad)]


@pytest.mark.parametrize("extra", ["cuda", "tpu"])
def test_jax_has_the_same_bounds_on_every_device(extra: str, setup_arguments: dict[str, Any]) -> None:
    jax = [r for r in map(Requirement, setup_arguments["install_requires"]) if r.name == "jax"]
    (other,) = map(Requirement, setup_arguments["extras_require"][extra])
    assert [other.specifier] == [r.specifier for r in jax]


def read_tree(text: str) -> list[str]:
    """The paths of a file tree: one a line, indented below their folder, followed by two spaces and what it is.

    >>> read_tree("a/      things\\n  b.py  one\\n  c/\\n    d.py\\ne.md")
    ['a/', 'a/b.py', 'a/c/', 'a/c/d.py', 'e.md']
    """
    folders: list[tuple[int, str]] = []
    paths = []
    for line in filter(str.strip, text.split("\n")):
        indent = len(line) - len(line.lstrip())
        folders = [item for item in folders if item[0] < indent]
        path = (folders[-1][1] if folders else "") + line.split()[0]
        paths.append(path)
        if path.endswith("/"):
            folders.append((indent, path))
    return paths


def test_the_file_tree_of_the_docs_exists() -> None:
    page = (REPO / "docs" / "architecture.md").read_text(encoding="utf-8")
    trees = re.findall(r"^```tree\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    paths = [path for tree in trees for path in read_tree(tree)]
    assert len(paths) > 10, "docs/architecture.md has no file tree: put it in a block that begins with ```tree"
    absent = [path for path in paths if not list(REPO.glob(re.sub(r"<\w+>", "*", path)))]
    assert not absent, f"docs/architecture.md names files that are not there: {absent}"
    words = set(re.findall(r"\w+", " ".join(trees)))
    folders = ("configs", "tfds_builders", "radvqa_jax", "scripts")
    files = [file for folder in folders for file in (REPO / folder).iterdir() if file.suffix in (".py", ".sh")]
    unnamed = sorted(str(file.relative_to(REPO)) for file in files if file.stem not in {*words, "__init__"})
    assert not unnamed, f"docs/architecture.md does not name {unnamed}: add a line to its tree"


def test_the_scripts_of_pages_are_short_and_typed() -> None:
    scripts = sorted((REPO / "radvqa_jax").glob("*/templates/*.js"))
    assert len(scripts) > 5 and "checkJs" in (REPO / "jsconfig.json").read_text(encoding="utf-8")
    texts = {path.name: path.read_text(encoding="utf-8") for path in scripts}
    assert not {name: count for name, text in texts.items() if (count := len(text.splitlines())) > 300}
    unchecked = [name for name, text in texts.items() if re.search(r"@ts-(ignore|nocheck|expect-error)", text)]
    assert not unchecked, f"the types of {unchecked} are not checked"


def test_links_between_pages_lead_somewhere() -> None:
    pages = [REPO / "README.md", REPO / "CONTRIBUTING.md", *sorted((REPO / "docs").glob("**/*.md"))]
    links = [(p, link) for p in pages for link in re.findall(r"\]\(([^)#\s]+)", p.read_text(encoding="utf-8"))]
    assert len(links) > 10
    absent = [f"{p.name}: {link}" for p, link in links if "://" not in link and not (p.parent / link).exists()]
    assert not absent, "\n".join(absent)


def test_tests_run_under_the_rules_of_conftest() -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        is_trained(7)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="rank_promotion"):
        jnp.ones((2, 1)) + jnp.ones(2)
    assert os.environ.get("RADVQA_GPU") == "1" or jax.default_backend() == "cpu"
