"""Builds the documentation as a site from the Markdown of the repository. A page may load nothing from elsewhere.

    bash scripts/docs.sh [FOLDER]       makes the environment, then runs this; FOLDER is build/site if not given

Markdown files keep their places relative to each other, so that a link works in the clone and in the site. These pages
are generated at each build: the front page (README.md with the table of contents), the configuration reference (from
the dataclasses that `--helpfull` reads), the Python reference (from docstrings, by Sphinx's autodoc), the list of
modules, and one page a data set (from the builder's README.md).
"""

import ast
import html.parser
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import radvqa_jax
from radvqa_jax.command_line.help_text import Field, Group, groups
from radvqa_jax.command_line.script import run_script
from tfds_builders import catalogue

REPO = Path(__file__).resolve().parent.parent

# The table of contents: captions, and pages by their path without suffix.
CONTENTS: dict[str, tuple[str, ...]] = {
    "Start": ("docs/getting_started", "docs/api", "docs/troubleshooting"),
    "Data": ("docs/data", "docs/own_data", "docs/mixtures", "docs/datasets", "docs/synthesis"),
    "Train": ("docs/training", "docs/reproduce", "docs/planning", "docs/ablations", "docs/scaling"),
    "Evaluate": ("docs/scoring", "docs/judge", "docs/saliency", "docs/correctness"),
    "Weights": ("docs/weights", "docs/export"),
    "Reference": ("reference/configuration", "reference/python", "reference/modules"),
    "Design": ("docs/architecture", "docs/add_a_backbone", "docs/performance", "docs/security", "docs/style"),
    "Project": ("CHANGELOG", "CONTRIBUTING", "SECURITY"),
}


def toctree(pages: tuple[str, ...], *, caption: str = "", hidden: bool = True) -> str:
    """A table of contents as MyST reads it."""
    options = [":hidden:"] * hidden + [f":caption: {caption}"] * bool(caption) + [":maxdepth: 1"]
    return "\n".join(["```{toctree}", *options, "", *(f"/{page}" for page in pages), "```", ""])


def front_page() -> str:
    """README.md, and below it the table of contents of the whole site."""
    readme = (REPO / "README.md").read_text(encoding="utf-8")
    return "\n".join([readme, *(toctree(pages, caption=caption) for caption, pages in CONTENTS.items())])


def datasets_page() -> str:
    """The list of the builders' pages."""
    pages = tuple(f"tfds_builders/{name}/README" for name in catalogue.folders())
    about = (
        "What each data set holds, where its official files come from, and what its builder does about their defects."
    )
    return f"# Data sets one by one\n\n{about}\n\n{toctree(pages, hidden=False)}"


def escape(text: str) -> str:
    """Escapes what Markdown would read as markup, outside of `code`.

    >>> escape("<weight>/lora_a, *all*: `a_*`")
    '\\\\<weight>/lora\\\\_a, \\\\*all\\\\*: `a_*`'
    """
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([\\*_<\[\]$])", r"\\\1", part) for part in parts)


def field_entry(path: str, field: Field) -> str:
    """One field of the configuration, with a target of its own."""
    starts_with_name = "=" in field.about.split(" ")[0]  # mode=predict: …
    meaning = escape(field.about if starts_with_name else field.about[:1].upper() + field.about[1:]).rstrip(".")
    bounds = f" It {field.bounds}." if field.bounds else ""
    name = f"{path}.{field.name}" if path else field.name
    options = f":type: `{field.kind}`\n:default: ``{field.default}``"
    return f"```{{confval}} {name}\n{options}\n\n{meaning}.{escape(bounds)}\n```\n"


def group_section(group: Group) -> str:
    """A section of the reference: a dataclass, the paths at which it occurs, and its fields."""
    title = f"`{group.paths[0]}`" if group.paths[0] else "At the top"
    others = ", ".join(f"`{path}`" for path in group.paths[1:])
    also = f"The same fields: {others}.\n\n" if others else ""
    entries = "\n".join(field_entry(group.paths[0], field) for field in group.fields)
    return f"## {title}\n\n{escape(' '.join(group.about.split()))}\n\n{also}{entries}"


def configuration_page() -> str:
    """Every field of the configuration with type, default, bounds and meaning, as `--helpfull` prints them."""
    intro = (
        "Every field can be given as `--config.GROUP.FIELD=value` on the command line, in a file of `configs/`, or in "
        '`settings={"GROUP.FIELD": value}` from Python. `[0]` stands for the number of an item in a tuple. '
        "This page is generated from `radvqa_jax/config/`; `--helpfull` prints the same."
    )
    return f"# Configuration\n\n{intro}\n\n" + "\n".join(map(group_section, groups()))


def python_page() -> str:
    """The reference of the public API, by autodoc."""
    parts = [
        "# Python",
        "",
        "The public names of `import radvqa_jax`. [Five lines of Python](/docs/api.md) shows them in use.",
        "",
    ]
    for name in ("load", "read_rows", "mask_of"):
        parts += ["```{eval-rst}", f".. autofunction:: radvqa_jax.{name}", "```", ""]
    for name in sorted(set(radvqa_jax.__all__) - {"load", "read_rows", "mask_of"}):
        parts += ["```{eval-rst}", f".. autoclass:: radvqa_jax.{name}", "   :members:", "```", ""]
    return "\n".join(parts)


def module_section(path: Path) -> str:
    """One module: its docstring, and the first line of every public function and class. Nothing is imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    name = ".".join(path.relative_to(REPO).with_suffix("").parts).removesuffix(".__init__")
    lines = [f"### {name}", "", _paragraphs(ast.get_docstring(tree) or ""), ""]
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            about = (ast.get_docstring(node) or "").partition("\n\n")[0]
            arguments = ", ".join(_argument_names(node.args)) if isinstance(node, ast.FunctionDef) else ""
            called = f"{node.name}({arguments})" if isinstance(node, ast.FunctionDef) else f"class {node.name}"
            lines.append(f"- `{called}`: {escape(' '.join(about.split()))}")
    return "\n".join([*lines, ""])


def _argument_names(arguments: ast.arguments) -> Iterator[str]:
    yield from (argument.arg for argument in [*arguments.posonlyargs, *arguments.args])
    if arguments.vararg or arguments.kwonlyargs:
        yield f"*{arguments.vararg.arg}" if arguments.vararg else "*"
    yield from (argument.arg for argument in arguments.kwonlyargs)
    if arguments.kwarg:
        yield f"**{arguments.kwarg.arg}"


def _paragraphs(docstring: str) -> str:
    """A docstring as Markdown: paragraphs are escaped; lists, tables and code become code blocks."""
    parts: list[str] = []
    for part in docstring.split("\n\n"):
        if not re.search(r"^( |- |>>>|\|)", part, re.MULTILINE):
            parts.append(escape(part))
        elif parts and parts[-1].startswith("```"):
            parts[-1] = parts[-1].removesuffix("```") + f"\n{part}\n```"
        else:
            parts.append(f"```text\n{part}\n```")
    return "\n\n".join(parts)


def modules_page() -> str:
    """Every module of the package with its docstring and its public functions and classes."""
    about = "[Architecture](/docs/architecture.md) says who may import whom. This page is generated from docstrings."
    parts = ["# Modules", "", about, ""]
    packages: dict[str, list[Path]] = {}
    for path in sorted((REPO / "radvqa_jax").rglob("*.py")):
        inner = path.relative_to(REPO / "radvqa_jax").parts
        packages.setdefault(inner[0] if len(inner) > 1 else "", []).append(path)
    for package, paths in packages.items():
        parts += [f"## {f'radvqa_jax.{package}' if package else 'radvqa_jax'}", "", *map(module_section, paths)]
    return "\n".join(parts)


def stage(source: Path) -> None:
    """Writes the site's sources: the repository's pages at the same paths, and the generated pages."""
    for pattern in ("*.md", "LICENSE", "CITATION.cff", "docs/*.md", "docs/images/*", "tfds_builders/*/README.md"):
        for path in REPO.glob(pattern):
            target = source / path.relative_to(REPO)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    for path in source.glob("tfds_builders/*/README.md"):
        text = path.read_text(encoding="utf-8")
        if not text.startswith("# "):  # TFDS shows the file as a description below its own heading
            path.write_text(f"# {path.parent.name}\n\n{text}", encoding="utf-8")
    (source / "README.md").unlink()  # the front page
    pages = {
        "index.md": front_page(),
        "docs/datasets.md": datasets_page(),
        "reference/configuration.md": configuration_page(),
        "reference/python.md": python_page(),
        "reference/modules.md": modules_page(),
    }
    for name, text in pages.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text, encoding="utf-8")


class _Loads(html.parser.HTMLParser):
    """Collects the addresses that a page loads by itself, without the links that a reader may follow."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        names = ("src", "srcset", "poster", "data") if tag != "link" else ("href",)
        self.found += [given[name] for name in names if name in given]
        self.found += re.findall(r"url\(([^)]*)\)", given.get("style", ""))


def outside_loads(site: Path) -> list[str]:
    """The addresses that the pages, styles and scripts of a folder load from elsewhere, as `file: address`."""
    found = []
    for path in sorted(p for p in site.rglob("*") if p.suffix in (".html", ".css", ".js")):
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".html":
            parser = _Loads()
            parser.feed(text)
            loads = parser.found
        elif path.suffix == ".css":
            loads = re.findall(r"""(?:url\(|@import)\s*["']?([^"')\s;]+)""", text)
        else:
            loads = re.findall(
                r"""(?:fetch|import|open|importScripts)\(\s*["'`]([^"'`]+)|\.src\s*=\s*["'`]([^"'`]+)""", text
            )
            loads = [part for pair in loads for part in pair]
        outside = [load for load in loads if re.match(r"\s*[\"']?(?:[a-z]+:)?//", load)]
        found += [f"{path.relative_to(site)}: {load}" for load in outside]
    return found


def build(source: Path, site: Path) -> None:
    """Runs Sphinx; every warning (a dead link, a page in no table of contents, bad markup) is an error."""
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-b",
        "html",
        "-c",
        str(REPO / "docs" / "site"),
    ]
    subprocess.run([*command, "-d", str(source.parent / "doctrees"), str(source), str(site)], check=True)


def main() -> None:
    """Builds the site into the given folder."""
    site = Path(sys.argv[1] if len(sys.argv) > 1 else REPO / "build" / "site").resolve()
    source = REPO / "build" / "site_source" / "pages"
    shutil.rmtree(source, ignore_errors=True)
    stage(source)
    build(source, site)
    if loads := outside_loads(site):
        sys.exit("docs: these pages load something from elsewhere:\n" + "\n".join(loads))
    print(f"docs: {site / 'index.html'}")


if __name__ == "__main__":
    run_script(main)
