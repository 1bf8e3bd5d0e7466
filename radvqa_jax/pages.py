"""HTML pages: each is one file that loads nothing and escapes every text. Only this module renders pages.

A page is a template that extends templates/page.html. Its Content-Security-Policy allows only images inside the page,
and only the scripts and style sheets that it names by their hashes.
"""

import base64
import hashlib
import io
import json
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
from markupsafe import Markup
from matplotlib import font_manager
from matplotlib.figure import Figure

_SHARED = Path(__file__).parent / "templates"
# Colours of figures on light and dark pages. Colour-blind readers can tell series apart; their shapes differ, too.
INK, SOFT, LINE, PANEL = "#1c2126", "#59636e", "#d5dade", "#eef1f3"
SERIES = ("#0b5cad", "#c25100", "#4d7a00", "#7a3fa0", "#5c6670")
_DARK = {
    INK: "#e6e9ec",
    SOFT: "#a3adb7",
    LINE: "#39424b",
    PANEL: "#1d2329",
    **dict(zip(SERIES, ("#7db8f5", "#ffab70", "#a6d35f", "#cfa4ee", "#aab4be"), strict=True)),
}
# Fonts with Chinese, Japanese and Korean glyphs; DejaVu, which comes with matplotlib, has none.
_CJK = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "PingFang SC",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "SimHei",
    "Droid Sans Fallback",
    "Arial Unicode MS",
)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _source(text: str) -> str:
    """The hash that names a text in a Content-Security-Policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def render_page(folder: Path, name: str, *, scripts: Sequence[str] = (), **values: Any) -> str:
    """Renders the template `folder/<name>.html` with `values`; returns the page.

    Its style is templates/page.css and, if it exists, `folder/<name>.css`.

    Args:
        folder: of the templates.
        name: of the page.
        scripts: files of the folder, joined in this order; empty = `<name>.js`, if it exists.
        **values: the values of the template; text is escaped unless it is `Markup`.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, _SHARED]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = "\n" + _read(_SHARED / "page.css") + _read(folder / f"{name}.css")
    script = "".join(_read(folder / file) for file in scripts or (f"{name}.js",))
    policy = f"default-src 'none'; img-src data:; style-src {_source(style)};"
    policy += f" script-src {_source(script)};" if script else ""
    return environment.get_template(f"{name}.html").render(
        style=Markup(style),
        script=Markup(script),
        policy=Markup(f"{policy} base-uri 'none'; form-action 'none'"),
        **values,
    )


def data_block(value: Any) -> Markup:
    """JSON for a script block; no text in it can end the block, or start a comment or a tag.

    >>> str(data_block({"question": "</script><!--"}))
    '{"question":"\\\\u003c/script\\\\u003e\\\\u003c!--"}'
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def flat_lines(value: Any, name: str = "") -> list[tuple[str, str]]:
    """(dotted name, text) for each leaf of nested mappings.

    >>> flat_lines({"model": {"name": "tiny", "sizes": [1, 2]}})
    [('model.name', 'tiny'), ('model.sizes', '1, 2')]
    """
    if isinstance(value, Mapping):
        items = value.items()
        return [pair for key, item in items for pair in flat_lines(item, f"{name}.{key}" if name else str(key))]
    return [(name, ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value))]


def data_url(data: bytes, *, kind: str) -> str:
    """The data URL of an image inside the page."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


@cache
def font_families() -> list[str]:
    """The fonts of figures: matplotlib's own, then this machine's fonts with Chinese, Japanese and Korean glyphs."""
    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(name for name in _CJK if name in installed)]


def figure_settings(**settings: Any) -> Any:
    """A context for drawing the figures of pages.

    In it, the same numbers give the same file, a dollar sign in a name starts no formula, and figures have no
    background, so that the page decides whether they are light or dark.
    """
    inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    bare = ("figure.facecolor", "axes.facecolor", "savefig.facecolor")
    fixed: Any = {
        "svg.hashsalt": "radvqa",
        "text.parse_math": False,
        "font.family": font_families(),
        "grid.color": LINE,
        **dict.fromkeys(inked, INK),
        **dict.fromkeys(bare, "none"),
    }
    return matplotlib.rc_context(fixed | settings)


def figure_url(figure: Figure) -> str:
    """A figure, drawn within `figure_settings`, as the data URL of an SVG that is dark on a dark page."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .*missing from")  # a font draws a box instead
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue().decode()
    names = {light: f"--c{number}" for number, light in enumerate(_DARK)}
    for light, name in names.items():
        text = text.replace(light, f"var({name})")
    light, dark = (
        ";".join(f"{names[key]}:{value}" for key, value in pairs) for pairs in ([(k, k) for k in _DARK], _DARK.items())
    )
    style = f":root{{{light}}}@media (prefers-color-scheme: dark){{:root{{{dark}}}}}"
    start = '<style type="text/css">'
    assert start in text
    return data_url(text.replace(start, start + style, 1).encode(), kind="svg+xml")
