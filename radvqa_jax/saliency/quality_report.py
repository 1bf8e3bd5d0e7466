"""saliency_quality.json and saliency_quality.html: every number, and a page for people that says first what failed.

The page is one file that loads nothing and has no script (see radvqa_jax/pages.py).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from radvqa_jax import files
from radvqa_jax.evaluation.tables import align, format_cell
from radvqa_jax.pages import INK, SERIES, SOFT, figure_settings, figure_url, render_page
from radvqa_jax.saliency.methods import plain
from radvqa_jax.saliency.quality_cases import BLIND
from radvqa_jax.saliency.quality_scores import CHANCE, DECIDES, FIGURES
from radvqa_jax.saliency.sinks import HOT

TITLES = {
    "roc_auc": "area under ROC",
    "pr_auc": "average precision",
    "mass": "mass inside",
    "hit": "pointing game",
}
_TEMPLATES = Path(__file__).parent / "templates"
_DOTS, _BLIND = SERIES[:2]
# Curves of one family of maps share a colour; maps that are blind to the question are grey.
_FAMILIES: dict[str, str] = dict(zip(("raw", "rollout", "relevancy", "value_norm"), SERIES, strict=False))
_OTHER = SERIES[4]  # of a family without a colour of its own
_BLIND_LINES = ("--", ":", "-.", (0, (1, 3)))


def _dots(axis: Any, cells: Mapping[str, Any]) -> None:
    """Draws value and interval of each cell, first at the top; blind maps in another colour and with another mark."""
    for place, (name, cell) in enumerate(cells.items()):
        if cell is None:
            continue
        low, high = cell["interval"] or (cell["value"], cell["value"])
        style = {"color": _BLIND, "marker": "s"} if name in (*BLIND, "random") else {"color": _DOTS, "marker": "o"}
        axis.plot([low, high], [place, place], color=style["color"], linewidth=1.5)
        axis.plot(cell["value"], place, linestyle="", **style)
    axis.set_yticks(range(len(cells)), list(cells))
    axis.invert_yaxis()
    axis.grid(axis="x", alpha=0.3)


def localisation_figure(scores: Mapping[str, Any]) -> Figure:
    """The deciding figure of every map with its interval and chance level."""
    cells = {name: figures[DECIDES] for name, figures in scores["localisation"].items()}
    figure = Figure((7, 0.32 * len(cells) + 1), layout="constrained")
    axis = figure.subplots()
    _dots(axis, cells)
    axis.axvline(0.5, color=INK, linewidth=1, linestyle="--")
    axis.set(xlabel=f"{TITLES[DECIDES]}, inside against outside of the mask (dashed: chance)")
    return figure


def heads_figure(scores: Mapping[str, Any]) -> Figure:
    """The deciding figure by layer and head, one panel a method; 0.5 is the middle of the scale."""
    tables = {name: np.array(found["layer_head"][DECIDES], float) for name, found in scores["heads"].items()}
    depth, count = next(iter(tables.values())).shape
    figure = Figure((3.2 * len(tables) + 1, 0.32 * depth + 1.4), layout="constrained")
    far = max(np.nanmax(np.abs(np.stack(list(tables.values())) - 0.5)), 0.01)
    picture = None
    for axis, (name, table) in zip(figure.subplots(1, len(tables), squeeze=False)[0], tables.items(), strict=True):
        picture = axis.imshow(table, cmap="cividis", vmin=0.5 - far, vmax=0.5 + far, aspect="auto")
        axis.set(title=name, xlabel="head", xticks=range(count), yticks=range(depth))
        if depth * count <= 64:
            for (layer, head), value in np.ndenumerate(table):
                colour = "white" if value < 0.5 else "black"
                axis.text(head, layer, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
    figure.axes[0].set_ylabel("layer")
    assert picture is not None
    figure.colorbar(picture, ax=figure.axes, label=TITLES[DECIDES])
    return figure


def _line_styles(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The line of each curve: a colour for a family, solid for the map itself, broken for what is made of it."""
    blind = [name for name in names if name in BLIND]
    styles: dict[str, dict[str, Any]] = {}
    for name in names:
        if name == "random":
            styles[name] = {"color": INK, "linestyle": "-", "linewidth": 2.2}
        elif name in blind:
            styles[name] = {"color": SOFT, "linestyle": _BLIND_LINES[blind.index(name) % len(_BLIND_LINES)]}
        else:
            family = next((family for family in _FAMILIES if name.startswith(family)), None)
            line = ":" if plain(name).endswith("_centred") else "-" if plain(name) == name else "--"
            styles[name] = {"color": _FAMILIES[family] if family else _OTHER, "linestyle": line}
    return styles


def curves_figure(scores: Mapping[str, Any]) -> Figure | None:
    """Draws the mean deletion and insertion curves, grouped by colour; None if there are none."""
    found = scores["faithfulness"]
    if not found:
        return None
    figure = Figure((9, 3.6), layout="constrained")
    styles = _line_styles(list(found))
    for axis, kind in zip(figure.subplots(1, 2, sharey=True), ("deletion", "insertion"), strict=True):
        for name, kinds in found.items():
            curve = kinds[kind]["curve"]
            axis.plot(np.linspace(0, 1, len(curve)), curve, label=name, **({"linewidth": 1.3} | styles[name]))
        done = "covered" if kind == "deletion" else "uncovered"
        axis.set(title=kind, xlabel=f"share of patches {done}, hottest first")
        axis.grid(alpha=0.3)
    figure.axes[0].set_ylabel("p of the answer, mean over cases")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=8, frameon=False)
    return figure


def compared_figure(scores: Mapping[str, Any]) -> Figure | None:
    """The similarity of other models' maps, one panel for each model; None if there is no other."""
    found = scores["compared"]
    if not found:
        return None
    names = next(iter(found.values()))
    figure = Figure((2.4 * len(found) + 1.6, 0.3 * len(names) + 1.1), layout="constrained")
    for axis, (other, cells) in zip(figure.subplots(1, len(found), sharey=True, squeeze=False)[0], found.items(),
                                    strict=True):  # fmt: skip
        axis.set_title(other, fontsize=9)
        for place, cell in enumerate(cells.values()):
            low, high = cell["similarity"]["interval"] or (cell["similarity"]["value"],) * 2
            axis.plot([low, high], [place, place], color=_DOTS, linewidth=1.5)
            axis.plot(cell["similarity"]["value"], place, "o", color=_DOTS)
        axis.set_xlim(-1.05, 1.05)
        axis.set_yticks(range(len(cells)), list(cells))
        axis.grid(axis="x", alpha=0.3)
    figure.axes[0].invert_yaxis()
    figure.supxlabel("rank correlation with the map of the model that is looked at", fontsize=9)
    return figure


def write_quality_report(folder: Path, scores: Mapping[str, Any]) -> Path:
    """Writes saliency_quality.json and saliency_quality.html, each whole or not at all; returns the page's path."""
    with figure_settings():
        drawn = {
            "localisation": localisation_figure(scores),
            "heads": heads_figure(scores),
            "curves": curves_figure(scores),
            "compared": compared_figure(scores),
        }
        urls = {name: figure_url(figure) for name, figure in drawn.items() if figure is not None}
    page = render_page(
        _TEMPLATES,
        "saliency_quality",
        scores=scores,
        format_cell=format_cell,
        figures=urls,
        figure_titles=TITLES,
        figure_names=FIGURES,
        chance=CHANCE,
        blind=BLIND,
        decides=DECIDES,
        hot=HOT,
    )
    files.write_json(folder / "saliency_quality.json", scores)
    files.write_text(folder / "saliency_quality.html", page)
    return folder / "saliency_quality.html"


def format_quality(scores: Mapping[str, Any]) -> str:
    """The headline and the table of every map for a terminal."""
    lines = [*scores["headline"], ""]
    head = ["map", *(TITLES[figure] for figure in FIGURES)]
    table = [
        [name, *(format_cell(f[figure], n=False) for figure in FIGURES)] for name, f in scores["localisation"].items()
    ]
    area = scores["area"]["value"] if scores["area"] else 0.0
    chance = [
        f["hit"] and f["hit"]["value"] - f["over_chance"]["hit"]["value"] for f in scores["localisation"].values()
    ]
    table.append(["chance", "0.500", f"{area:.3f}", f"{area:.3f}", f"{chance[0] or 0:.3f}"])
    text = align([head, *table])
    for method, found in scores["heads"].items():
        if found["best"]:
            best = found["best"][0]
            told = format_cell(best["on_the_other_half"])
            text.append(f"best head, {method}: layer {best['layer']} head {best['head']}, on the other half {told}")
    for name, found in scores["marked"].items():
        text.append(
            f"{name}: log p lost with the marked patches less with as many elsewhere "
            f"{format_cell(found['over_elsewhere'], signed=True)}"
        )
    text.append(f"{scores['n']} questions on {scores['n_images']} images. [{scores['interval']}]")
    return "\n".join(lines + text)
