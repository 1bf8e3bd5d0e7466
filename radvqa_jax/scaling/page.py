"""scaling.json, scaling.txt and scaling.html: the fits as values, as text and as a page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from radvqa_jax import files
from radvqa_jax.pages import figure_settings, figure_url, flat_lines, render_page
from radvqa_jax.scaling.fit import ScalingFit

_TEMPLATES = Path(__file__).parent / "templates"
_CURVE = 80  # points of a curve
KIND = {"": "all questions"}


class Fitted(NamedTuple):
    """A fit, or the reason why there is none.

    Attributes:
        name: law, kind of questions and, for a law without X, size.
        fit: the fit; None if the law was not fitted.
        refused: the reason why it was not.
    """

    name: str
    fit: ScalingFit | None
    refused: str = ""


def _number(value: float) -> str:
    return f"{value:.4g}"


def _parameters(fit: ScalingFit) -> str:
    parts = []
    for name, value in fit.values().items():
        ends = fit.intervals.get(name)
        parts.append(f"{name} {_number(value)}" + (f" [{_number(ends[0])}, {_number(ends[1])}]" if ends else ""))
    return ", ".join(parts)


def _held_out(fit: ScalingFit) -> str:
    held = fit.data.held_out
    if not len(held.loss):
        return "nothing held out"
    return (
        f"{len(held.loss)} held out at {_number(float(held.d.min()))} tokens and more: "
        f"log error {fit.rmsd(held):.3f}, fitted points {fit.rmsd(fit.data.points):.3f}"
    )


def format_fits(fits: Sequence[Fitted]) -> str:
    """The fits as text; the warnings of a fit come before its numbers."""
    blocks = []
    for item in fits:
        if item.fit is None:
            blocks.append(f"{item.name}: refused. {item.refused}")
            continue
        fit, n = item.fit, len(item.fit.data.points.loss)
        runs = len(set(fit.data.runs.tolist()))
        lines = [f"{item.name}: {fit.law.formula}", *(f"  ! {text}" for text in fit.said)]
        lines += [f"  {_parameters(fit)}", f"  n={n} losses of {runs} runs; {_held_out(fit)}"]
        blocks.append("\n".join(lines))
    return "\n".join(blocks)


def draw(fit: ScalingFit, *, title: str) -> Figure:
    """Loss against tokens on logarithmic axes: points, law and 95 % band of each size; held-out points are hollow."""
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    axes = figure.subplots()
    data, held = fit.data.points, fit.data.held_out
    sizes = np.unique(np.concatenate([data.x, held.x]))
    last = max(data.d.max(), held.d.max() if len(held.d) else 0)
    curve = np.geomspace(data.d.min(), last, _CURVE)
    for number, size in enumerate(sizes):
        colour = f"C{number % 10}"
        x = np.full(_CURVE, size)
        axes.plot(curve, fit.predict(x, curve), color=colour, linewidth=1)
        if (band := fit.band(x, curve)) is not None:
            axes.fill_between(curve, *band, color=colour, alpha=0.15, linewidth=0)
        for points, filled in ((data, True), (held, False)):
            here = points.x == size
            label = f"X = {size:.3g}" if filled else None
            axes.plot(points.d[here], points.loss[here], "o", color=colour, label=label, markersize=4,
                      markerfacecolor=colour if filled else "none")  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="training tokens D", ylabel="validation loss, nats", title=title)
    axes.legend(fontsize=8, title="hollow: held out" if len(held.d) else None, title_fontsize=8)
    axes.grid(which="both", alpha=0.2)
    return figure


def write_fits(folder: Path, fits: Sequence[Fitted], *, provenance: Mapping[str, Any]) -> str:
    """Writes scaling.json, scaling.txt and scaling.html, each whole or not at all. Returns the text.

    Args:
        folder: created if it is missing.
        fits: in the order to show them.
        provenance: the inputs of the fits, as JSON values.
    """
    text = format_fits(fits)
    shown = []
    for item in fits:
        entry: dict[str, Any] = {"name": item.name, "refused": item.refused, "fit": None}
        if item.fit is not None:
            with figure_settings():
                src = figure_url(draw(item.fit, title=item.name))
            entry |= {"fit": item.fit.to_json(), "src": src, "held_out": _held_out(item.fit)}
        shown.append(entry)
    page = render_page(_TEMPLATES, "scaling", fits=shown, number=_number, provenance=flat_lines(provenance))
    kept = [{name: value for name, value in entry.items() if name != "src"} for entry in shown]
    files.write_json(folder / "scaling.json", {"fits": kept, "provenance": dict(provenance)}, private=False)
    files.write_text(folder / "scaling.txt", text + "\n")
    files.write_text(folder / "scaling.html", page)
    return text
