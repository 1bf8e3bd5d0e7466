"""Sphinx's settings for the site; scripts/docs_site.py stages the pages and runs it."""

from typing import Any

from pygments.lexers.special import TextLexer

import radvqa_jax

project = "radvqa_jax"
author = copyright = "The radvqa_jax maintainers"
version = release = radvqa_jax.__version__
root_doc = "index"
html_theme = "furo"
html_title = "radvqa_jax"
html_static_path = ["."]
html_css_files = ["site.css"]
exclude_patterns = ["conf.py"]
html_copy_source = html_show_sourcelink = False
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

myst_heading_anchors = 4  # links to headings, as GitHub makes them
default_role = "code"  # docstrings write `name`
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False


def setup(app: Any) -> None:
    """Blocks of file trees are plain text."""
    app.add_lexer("tree", TextLexer)
