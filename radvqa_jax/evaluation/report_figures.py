"""Plots of the report: each is an SVG as a data URL, and the same in words."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from radvqa_jax.evaluation.judge_file import judge_labels
from radvqa_jax.evaluation.report import run_label
from radvqa_jax.pages import SERIES, SOFT, figure_settings, figure_url

Image = dict[str, str]  # src, words
_COLOURS = SERIES
_SHAPES = "osD^v"
LONGEST_NAME = 40  # characters of a name next to a figure; the table shows the whole name


def _figure(width: float, height: float, panels: int = 1) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(1, panels, squeeze=False)[0])


def _image(figure: Figure, words: str) -> Image:
    return {"src": figure_url(figure), "words": words}


def _settings() -> Any:
    return figure_settings(**{"font.size": 9})


def _errors(cells: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """[2 n]: the distances of each interval's ends below and above its value; 0 if there is no interval."""
    ends = [cell["interval"] or (cell["value"], cell["value"]) for cell in cells]
    return np.abs(
        np.array([[low - c["value"], high - c["value"]] for (low, high), c in zip(ends, cells, strict=True)])
    ).T


def _cell_words(cell: Mapping[str, Any]) -> str:
    ends = f" [{cell['interval'][0]:.2f}, {cell['interval'][1]:.2f}]" if cell["interval"] else ""
    return f"{cell['value']:.2f}{ends}, n={cell['n']}"


def loss_figure(losses: Mapping[str, Sequence[Mapping[str, Any]]]) -> Image | None:
    """The loss curves, one panel a stage; None if there is no loss."""
    curves = {
        stage: {
            key: np.array([[row["step"], row[key]] for row in rows if key in row], dtype=np.float64)
            for key in sorted({key for row in rows for key in row if "loss" in key})
        }
        for stage, rows in losses.items()
    }
    curves = {stage: lines for stage, lines in curves.items() if lines}
    if not curves:
        return None
    words = []
    with _settings():
        figure, axes = _figure(4.2 * len(curves), 2.8, len(curves))
        for axis, (stage, lines) in zip(axes, curves.items(), strict=True):
            title = run_label(stage).removeprefix("after ")
            for style, (key, points) in zip(("-", "--", ":", "-.") * len(lines), lines.items(), strict=False):
                marker = "." if len(points) < 30 else ""  # a single point draws no line
                axis.plot(points[:, 0], points[:, 1], style, marker=marker, label=key, linewidth=1.3)
                (first, start), (last, end) = points[0], points[-1]
                words.append(f"{title}, {key}: {start:.3f} at step {first:.0f}, {end:.3f} at step {last:.0f}")
            axis.set(title=title, xlabel="step", ylabel="loss")
            axis.grid(alpha=0.3)
            if len(lines) > 1:
                axis.legend(frameon=False)
        return _image(figure, "; ".join(words))


def dots(rows: Mapping[str, Mapping[str, Mapping[str, Any]]], *, xlabel: str, low: float) -> Image:
    """Values with their intervals, one line a row, one shape a series. `rows`: row -> series -> cell."""
    series = list(dict.fromkeys(name for cells in rows.values() for name in cells))
    with _settings():
        figure, (axis,) = _figure(7.2, 1.1 + 0.3 * len(rows) * max(1.0, 0.55 * len(series)))
        for number, name in enumerate(series):
            found = [(index, cells[name]) for index, cells in enumerate(rows.values()) if name in cells]
            shift = (number - (len(series) - 1) / 2) * 0.7 / len(series)
            axis.errorbar(
                [cell["value"] for _, cell in found],
                [index + shift for index, _ in found],
                xerr=_errors([cell for _, cell in found]),
                fmt=_SHAPES[number % len(_SHAPES)],
                color=_COLOURS[number % len(_COLOURS)],
                label=name,
                markersize=5,
                capsize=2,
            )
        # A name may have any length, and may contain a `$`, which would begin a formula.
        names = [name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…" for name in rows]
        axis.set_yticks(range(len(rows)), names, parse_math=False)
        axis.set(xlabel=xlabel, xlim=(low, 1.02), ylim=(len(rows) - 0.5, -0.5))
        axis.grid(axis="x", alpha=0.3)
        if low < 0:
            axis.axvline(0, color=SOFT, linewidth=0.8)
        if len(series) > 1:
            figure.legend(frameon=False, loc="outside lower center", ncols=len(series))
        words = "; ".join(
            f"{row}, {name}: {_cell_words(cell)}" for row, cells in rows.items() for name, cell in cells.items()
        )
        return _image(figure, words)


def group_figure(scores: Mapping[str, Any], group: str) -> Image | None:
    """Accuracy by the values of a group (organ), of the last run and of the question alone; None if none."""
    name, run = list(scores["runs"].items())[-1]
    compared = {run_label(name): run}
    if "question_only" in scores["baselines"]:
        compared["question only (no image)"] = scores["baselines"]["question_only"]
    values = sorted({value for cells in compared.values() for value in cells["by"].get(group, {})})
    rows = {
        value: {label: cell for label, cells in compared.items() if (cell := cells["by"].get(group, {}).get(value))}
        for value in values
    }
    return dots({f"{value} ": cells for value, cells in rows.items()}, xlabel="accuracy", low=-0.02) if rows else None


def calibration_figure(scores: Mapping[str, Any]) -> Image | None:
    """Accuracy against the probability of the answer, a panel a run; None without log-probabilities."""
    runs = {name: run["calibration"] for name, run in scores["runs"].items() if "calibration" in run}
    if not runs:
        return None
    words = []
    with _settings():
        figure, axes = _figure(2.9 * len(runs) + 0.3, 3.1, len(runs))
        for axis, (name, found) in zip(axes, runs.items(), strict=True):
            cells = [each["accuracy"] for each in found["bins"]]
            axis.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle=":")
            axis.errorbar(
                [each["confidence"] for each in found["bins"]],
                [cell["value"] for cell in cells],
                yerr=_errors(cells),
                fmt="o-",
                color=_COLOURS[0],
                markersize=4,
                capsize=2,
            )
            for each, cell in zip(found["bins"], cells, strict=True):  # in a strip of their own, below the curve
                n: Any = {"rotation": 90, "ha": "center", "va": "center", "fontsize": 6, "color": SOFT}
                axis.text(each["confidence"], -0.12, f"n={cell['n']}", **n)
            label = run_label(name)
            axis.set(
                title=label,
                xlabel="probability of the answer",
                ylabel="accuracy",
                xlim=(-0.03, 1.03),
                ylim=(-0.24, 1.03),
            )
            axis.set_yticks(np.linspace(0, 1, 6))
            axis.grid(alpha=0.3)
            bins = ", ".join(f"{each['confidence']:.2f}: {_cell_words(each['accuracy'])}" for each in found["bins"])
            words.append(
                f"{label}: expected calibration error {found['ece']:.3f} (n={found['n']}), Brier score "
                f"{_cell_words(found['brier'])}; accuracy by probability {bins}"
            )
        return _image(figure, ". ".join(words))


def agreement_figure(scores: Mapping[str, Any]) -> Image | None:
    """Cohen's kappa of judges, readers and rules; None if only the rules judged."""
    rows: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name, run in scores["runs"].items():
        judged = run.get("judged", {})
        labels = judge_labels({judge: found["about"] for judge, found in judged.items()})
        pairs = [(f"judge {labels[judge]}, rules", found["agreement_with_rules"]) for judge, found in judged.items()]
        pairs += [(f"{pair['a']}, {pair['b']}", pair) for pair in run.get("review", {}).get("agreement", [])]
        for label, pair in pairs:
            if pair is not None and pair["kappa"] is not None:
                rows[f"{run_label(name)}: {label}"] = {"kappa": pair | {"value": pair["kappa"]}}
    return dots(rows, xlabel="Cohen's kappa", low=-1.02) if rows else None
