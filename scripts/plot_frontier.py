"""Draws memory against arithmetic from reports of mode=fit.

    python scripts/plot_frontier.py runs/fit/fit.json --out docs/images/frontier.svg

A point is one way of computing a step; a ring marks the one that is chosen for the report's device. Dotted lines mark
the memory of common cards, less the reserve.
"""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt

from radvqa_jax import typed_json
from radvqa_jax.command_line.script import run_script
from radvqa_jax.config import ModelConfig
from radvqa_jax.planning.devices import GIB

CARDS = (8, 12, 16, 24)  # GiB


class Point(NamedTuple):
    """The drawn figures of a way of computing a step."""

    remat: str
    remat_img: str
    batch_size: int
    peak: int  # bytes
    flops_over_minimum: float

    def label(self) -> str:
        """The words next to it."""
        tower = "" if self.remat_img == self.remat else ", vision again"
        return f"{self.remat}{tower}, {self.batch_size} at a time"


class Frontier(NamedTuple):
    """The ways of one stage, by memory."""

    stage: str
    points: list[dict[str, Any]]  # each with the fields of Point, those of `chosen`, and others
    chosen: dict[str, Any]


def read_frontiers(path: Path) -> list[tuple[Frontier, list[Point]]]:
    """The frontiers of a report of mode=fit; a ValueError names the file and the field if one is not valid."""
    report = typed_json.read(path, dict[str, Any])
    if not report.get("frontiers"):
        raise ValueError(
            f"{path} has no `frontiers`, as a report of mode=fit with model.remat=auto and fit.frontier=True has."
        )
    found = []
    for number, each in enumerate(typed_json.check(report["frontiers"], list[Any], where=f"{path}: frontiers"), 1):
        frontier = typed_json.check_part(each, Frontier, where=f"{path}: frontier {number}")
        where = f"{path}: stage {frontier.stage}, point"
        points = [
            typed_json.check_part(point, Point, where=f"{where} {at}") for at, point in enumerate(frontier.points, 1)
        ]
        found.append((frontier, points))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, help="fit.json of a run with model.remat=auto")
    parser.add_argument("--out", type=Path, required=True, help="SVG or PNG")
    args = parser.parse_args()
    found = read_frontiers(args.report)
    plt.rcParams["svg.hashsalt"] = "frontier"  # the same file from the same report
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for frontier, points in found:
        memory, over = [point.peak / GIB for point in points], [point.flops_over_minimum for point in points]
        axes.plot(memory, over, "o-", drawstyle="steps-post", label=frontier.stage)
        for x, y, point, all_of_it in zip(memory, over, points, frontier.points, strict=True):
            axes.annotate(point.label(), (x, y), (4, 5), textcoords="offset points", fontsize=7, rotation=30)
            if all(all_of_it.get(field) == value for field, value in frontier.chosen.items()):
                axes.plot(x, y, "o", markersize=13, fillstyle="none", color="black")
    for card in CARDS:
        room = card * (1 - ModelConfig().memory_reserve)
        axes.axvline(room, color="grey", linewidth=0.8, linestyle=":")
        axes.annotate(f"{card} GiB card", (room, 1.25), (3, 0), textcoords="offset points", fontsize=7, rotation=90)
    axes.set_ylim(top=axes.get_ylim()[1] + 0.09)
    axes.margins(x=0.1)
    axes.set(xlabel="memory of the device, GiB", ylabel="arithmetic over the minimum")
    axes.legend(loc="upper right")
    figure.savefig(args.out, metadata={"Date": None} if args.out.suffix == ".svg" else None)


if __name__ == "__main__":
    run_script(main)
