"""Pages of reports: one HTML file that loads nothing, every text escaped.

A page is a template that extends templates/page.html. Its Content-Security-Policy forbids every load but the images
inside it, and every script but the one that is named by its hash.
"""

import base64
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

_SHARED = Path(__file__).parent / "templates"


def render_page(folder: Path, name: str, **values: Any) -> str:
    """Returns the page that `folder/<name>.html` makes of `values`.

    Its style is templates/page.css and, where there is one, `folder/<name>.css`; its script is `folder/<name>.js`.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, _SHARED]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def read(path: Path) -> str:
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    script = read(folder / f"{name}.js")
    return environment.get_template(f"{name}.html").render(
        style=Markup(read(_SHARED / "page.css") + read(folder / f"{name}.css")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        **values,
    )


def flat_lines(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Returns (dotted name, text) for each leaf of nested mappings.

    >>> flat_lines({"model": {"name": "tiny", "sizes": [1, 2]}})
    [('model.name', 'tiny'), ('model.sizes', '1, 2')]
    """
    if isinstance(value, Mapping):
        items = value.items()
        return [pair for key, item in items for pair in flat_lines(item, f"{name}.{key}" if name else str(key))]
    return [(name, ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value))]


def data_url(data: bytes, *, kind: str) -> str:
    """Returns bytes as the address of an image inside the page."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def figure_settings(**settings: Any) -> Any:
    """Returns a context for drawing: the same numbers give the same file, and a dollar sign in a name is no formula."""
    fixed: Any = {"svg.hashsalt": "radvqa", "text.parse_math": False} | settings
    return matplotlib.rc_context(fixed)


def figure_url(figure: Figure) -> str:
    """Returns a figure, drawn within `figure_settings`, as the address of an SVG inside the page."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return data_url(buffer.getvalue(), kind="svg+xml")
