"""Rows of measured cases -> every number of the quality report, with intervals over images and a verdict.

The figure that decides was chosen beforehand: the area under the ROC curve of a case's pixels, inside against outside
of the mask. Chance is 0.5 whatever the mask's size. Next to it are the pointing game, the mass inside the mask and
the average precision, each with its own chance level, and maps that are blind to the question.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from radvqa_jax.evaluation.intervals import METHOD, Estimate, mean_interval, paired_difference
from radvqa_jax.saliency.faithfulness import area
from radvqa_jax.saliency.quality_cases import BLIND
from radvqa_jax.saliency.sinks import list_sinks

DECIDES = "roc_auc"
FIGURES = ("roc_auc", "pr_auc", "mass", "hit")
CHANCE = {"pr_auc": "area", "mass": "area", "hit": "hit_chance"}  # figure -> the field that holds its chance level
TOP_HEADS = 5
Rows = Sequence[dict[str, Any]]


class Bootstrap:
    """Means over rows with their intervals, always drawn alike."""

    def __init__(self, *, resamples: int, seed: int) -> None:
        self._arguments: dict[str, Any] = {"resamples": resamples, "seed": seed}

    def mean(self, rows: Rows, value: Callable[[Any], float | None], *, low: float = 0.0, high: float = 1.0) -> Any:
        """The mean of `value(row)` over the rows that have one; None if none has."""
        found = [(number, row["image_id"]) for row in rows if (number := value(row)) is not None]
        if not found:
            return None
        numbers, images = zip(*found, strict=True)
        return cell(mean_interval(np.array(numbers, float), images, bounds=(low, high), **self._arguments))

    def unbounded(self, rows: Rows, value: Callable[[Any], float | None]) -> Any:
        """The same of values without known bounds; there is no interval if all images are alike."""
        found = self.mean(rows, value, low=-np.inf, high=np.inf)
        if found and found["interval"] and not np.isfinite(found["interval"]).all():
            found["interval"] = None
        return found

    def difference(self, rows: Rows, a: Callable[[Any], float | None], b: Callable[[Any], float | None]) -> Any:
        """The paired mean of a(row) - b(row), both in [0, 1], over the rows that have both, or None."""
        found = [(x, y, row["image_id"]) for row in rows if (x := a(row)) is not None and (y := b(row)) is not None]
        if not found:
            return None
        first, second, images = zip(*found, strict=True)
        return cell(paired_difference(np.array(first, float), np.array(second, float), images, **self._arguments))


def cell(estimate: Estimate) -> dict[str, Any]:
    """An estimate as JSON values."""
    return estimate._asdict() | {"interval": list(estimate.interval) if estimate.interval else None}


def figure_of(name: str, figure: str) -> Callable[[Any], float | None]:
    """A function from a row to one figure of one map, None where there is none."""
    return lambda row: row["quality"].get(name, {}).get(figure)


def _names(rows: Rows) -> list[str]:
    """The names of the maps, methods first, then the blind ones."""
    names = list(dict.fromkeys(name for row in rows for name in row["quality"]))
    return [name for name in names if name not in BLIND] + [name for name in BLIND if name in names]


def _localisation(rows: Rows, boot: Bootstrap) -> dict[str, Any]:
    """Map -> figure -> cell, each with what it is over chance and over the blind maps."""
    out = {}
    for name in _names(rows):
        figures: dict[str, Any] = {figure: boot.mean(rows, figure_of(name, figure)) for figure in FIGURES}
        figures["over_chance"] = {DECIDES: boot.difference(rows, figure_of(name, DECIDES), lambda row: 0.5)} | {
            figure: boot.difference(rows, figure_of(name, figure), figure_of(name, chance))
            for figure, chance in CHANCE.items()
        }
        figures["over_blind"] = {
            blind: boot.difference(rows, figure_of(name, DECIDES), figure_of(blind, DECIDES))
            for blind in BLIND
            if name not in BLIND
        }
        out[name] = figures
    return out


def _faithfulness(rows: Rows, boot: Bootstrap) -> dict[str, Any]:
    """Map -> areas under deletion and insertion, mean curves, and the paired difference to random order."""
    rows = [row for row in rows if row["curves"]]
    out: dict[str, Any] = {}
    for name in dict.fromkeys(name for row in rows for name in row["curves"]):
        out[name] = {}
        for kind in ("deletion", "insertion"):

            def under(row: Any, name: str = name, kind: str = kind) -> float:
                return float(area(np.array(row["curves"][name][kind])[None])[0])

            def random(row: Any, kind: str = kind) -> float:
                return under(row, "random", kind)

            curves = np.array([row["curves"][name][kind] for row in rows])
            out[name][kind] = {
                "area": boot.mean(rows, under),
                "over_random": None if name == "random" else boot.difference(rows, under, random),
                "curve": curves.mean(axis=0).tolist(),
            }
    return out


def _compared(rows: Rows, boot: Bootstrap) -> dict[str, Any]:
    """Other model -> map -> how alike the maps are, and how well the other's finds the mask."""
    others = list(dict.fromkeys(other for row in rows for other in row["compared"]))
    return {
        other: {
            name: {
                "similarity": boot.mean(
                    rows, lambda row, n=name, o=other: row["compared"][o][n]["similarity"], low=-1.0
                ),
                DECIDES: boot.mean(rows, lambda row, n=name, o=other: row["compared"][o][n]["roc_auc"]),
                "trained_over_it": boot.difference(
                    rows, figure_of(name, DECIDES), lambda row, n=name, o=other: row["compared"][o][n]["roc_auc"]
                ),
            }
            for name in rows[0]["compared"][other]
        }
        for other in others
    }


def _marked(rows: Rows, boot: Bootstrap) -> dict[str, Any]:
    """Intervention -> log p that answers lose with the marked patches, with as many elsewhere, and the paired
    difference; the mean over an answer's tokens."""
    rows = [row for row in rows if row["marked"]]

    def difference(loss: dict[str, Any]) -> float | None:
        return None if loss["elsewhere"] is None else loss["chosen"] - loss["elsewhere"]

    return {
        name: {
            "marked": boot.unbounded(rows, lambda row, n=name: row["marked"][n]["chosen"]),
            "elsewhere": boot.unbounded(rows, lambda row, n=name: row["marked"][n]["elsewhere"]),
            "over_elsewhere": boot.unbounded(rows, lambda row, n=name: difference(row["marked"][n])),
            "patches": boot.unbounded(rows, lambda row, n=name: row["marked"][n]["patches"]),
        }
        for name in dict.fromkeys(name for row in rows for name in row["marked"])
    }


def _by_name(rows: Rows, boot: Bootstrap, field: str, *, low: float = 0.0) -> dict[str, Any]:
    names = dict.fromkeys(name for row in rows for name in row[field])
    return {name: boot.mean(rows, lambda row, n=name: row[field].get(n), low=low) for name in names}


def halves(rows: Rows, *, seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of one half of the images and of the other; all rows of an image are on one side."""
    images = sorted({row["image_id"] for row in rows})
    order = np.random.default_rng(seed).permutation(len(images))
    first = {images[i] for i in order[: len(images) // 2]}
    return [row for row in rows if row["image_id"] in first], [row for row in rows if row["image_id"] not in first]


def _head_means(rows: Rows, method: str, figure: str) -> np.ndarray:
    """[L N] means over the rows; NaN where a head never had a map."""
    stacked = np.array([row["heads"][method][figure] for row in rows], float)  # None becomes NaN
    counts = np.isfinite(stacked).sum(axis=0)
    return np.divide(np.nansum(stacked, axis=0), counts, out=np.full(counts.shape, np.nan), where=counts > 0)


def _heads(rows: Rows, boot: Bootstrap, *, seed: int) -> dict[str, Any]:
    """Method -> means by layer and head, and the best heads: chosen on half of the images, reported on the rest."""
    chosen_on, told_on = halves(rows, seed=seed)
    out = {}
    for method in rows[0]["heads"]:
        means = _head_means(rows, method, DECIDES)
        out[method] = {
            "layer_head": {figure: _listed(_head_means(rows, method, figure)) for figure in (DECIDES, "mass", "hit")},
            "best": [],
        }
        if not chosen_on or not told_on:
            continue
        seen = np.nan_to_num(_head_means(chosen_on, method, DECIDES), nan=-1.0)
        for flat in np.argsort(-seen, axis=None, kind="stable")[:TOP_HEADS]:
            layer, head = (int(index) for index in np.unravel_index(flat, means.shape))
            out[method]["best"].append(
                {
                    "layer": layer,
                    "head": head,
                    "on_the_half_it_was_chosen_on": float(seen[layer, head]),
                    "on_the_other_half": boot.mean(
                        told_on, lambda row, m=method, i=layer, j=head: row["heads"][m][DECIDES][i][j]
                    ),
                }
            )
    return out


def _listed(values: np.ndarray) -> list[list[float | None]]:
    return [[None if np.isnan(value) else float(value) for value in line] for line in values]


def verdicts(localisation: dict[str, Any]) -> dict[str, list[str]]:
    """The maps that find the mask, in words that also name what they were compared with.

    A map is above another if the whole 95 % interval of the paired difference of DECIDES is above zero.
    """
    out: dict[str, list[str]] = {"not_above_chance": [], "above_chance_but_not_above_blind": [], "above_blind": []}
    for name, figures in localisation.items():
        if name in BLIND:
            continue
        above = _above(figures["over_chance"][DECIDES])
        blind = all(_above(difference) for difference in figures["over_blind"].values())
        out["not_above_chance" if not above else "above_blind" if blind else "above_chance_but_not_above_blind"].append(
            name
        )
    return out


def _above(difference: dict[str, Any] | None) -> bool:
    return difference is not None and difference["interval"] is not None and difference["interval"][0] > 0


def headline(verdict: dict[str, list[str]]) -> list[str]:
    """The sentences that a reader must see first; what failed comes first."""
    lines = []
    if names := verdict["not_above_chance"]:
        lines.append(f"No better than chance at finding what is marked: {', '.join(names)}.")
    if names := verdict["above_chance_but_not_above_blind"]:
        lines.append(
            f"Better than chance, but not better than every map that is blind to the question ({', '.join(BLIND)}): "
            f"{', '.join(names)}."
        )
    if names := verdict["above_blind"]:
        lines.append(f"Better than chance and than every map that is blind to the question: {', '.join(names)}.")
    return lines


def quality_scores(rows: Rows, *, resamples: int, seed: int, provenance: dict[str, Any]) -> dict[str, Any]:
    """Every number of the report as JSON values.

    Args:
        rows: of `measure_cases`.
        resamples: for intervals, over images.
        seed: of the resamples, and of the halves that heads are chosen and reported on.
        provenance: what was measured: model, data, settings, rows that were left out and why.

    Raises:
        ValueError: if there are no rows.
    """
    if not rows:
        raise ValueError("No case was measured, so there is nothing to report.")
    boot = Bootstrap(resamples=resamples, seed=seed)
    localisation = _localisation(rows, boot)
    verdict = verdicts(localisation)
    return {
        "headline": headline(verdict),
        "verdict": verdict,
        "decides": DECIDES,
        "n": len(rows),
        "n_images": len({row["image_id"] for row in rows}),
        "interval": f"{METHOD}; no correction for the number of maps",
        "area": boot.mean(rows, figure_of(_names(rows)[0], "area")),
        "localisation": localisation,
        "faithfulness": _faithfulness(rows, boot),
        "compared": _compared(rows, boot),
        "stability": _by_name(rows, boot, "stability", low=-1.0),
        "like_another_image": _by_name(rows, boot, "like_another_image", low=-1.0),
        "entropy": _by_name(rows, boot, "entropy"),
        "top_patch": _by_name(rows, boot, "top_patch"),
        "attention_on": {
            name: boot.mean(rows, lambda row, n=name: float(np.mean(row[n]))) for name in ("on_image", "on_bos")
        },
        "on_bos_by_head": _listed(np.mean([row["on_bos"] for row in rows], axis=0)),
        "on_image_by_head": _listed(np.mean([row["on_image"] for row in rows], axis=0)),
        "marked": _marked(rows, boot),
        "sinks": list_sinks(rows, lambda value: boot.mean(rows, value)),
        "heads": _heads(rows, boot, seed=seed),
        "provenance": provenance,
    }
