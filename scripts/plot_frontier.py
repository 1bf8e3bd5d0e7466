"""Draws memory against arithmetic from reports of mode=fit.

    python scripts/plot_frontier.py runs/fit/fit.json --out docs/images/frontier.svg

A point is one way of computing a step; what is chosen for the report's device has a ring. Cards of common sizes are
marked with what the reserve leaves of them.
"""

import argparse
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from radvqa_jax import typed_json
from radvqa_jax.command_line.script import run_script
from radvqa_jax.config import ModelConfig
from radvqa_jax.planning.devices import GIB

_PARTS = {"stage", "points", "chosen"}
CARDS = (8, 12, 16, 24)  # GiB


def label(point: dict[str, Any]) -> str:
    """The words next to a point."""
    tower = "" if point["remat_img"] == point["remat"] else ", vision again"
    return f"{point['remat']}{tower}, {point['batch_size']} at a time"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, help="fit.json of a run with model.remat=auto")
    parser.add_argument("--out", type=Path, required=True, help="SVG or PNG")
    args = parser.parse_args()
    report = typed_json.read(args.report, dict[str, Any])
    found = report.get("frontiers")
    if not isinstance(found, list) or not all(isinstance(part, dict) and part.keys() >= _PARTS for part in found):
        parser.error(f"{args.report} is no report of mode=fit: it has no `frontiers` with {', '.join(sorted(_PARTS))}.")
    if not found:
        parser.error(f"{args.report} has no frontier: plan an experiment with model.remat=auto and fit.frontier=True.")
    plt.rcParams["svg.hashsalt"] = "frontier"  # the same file from the same report
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for frontier in found:
        points = frontier["points"]
        memory, over = [p["peak"] / GIB for p in points], [p["flops_over_minimum"] for p in points]
        axes.plot(memory, over, "o-", drawstyle="steps-post", label=frontier["stage"])
        for x, y, point in zip(memory, over, points, strict=True):
            axes.annotate(label(point), (x, y), (4, 5), textcoords="offset points", fontsize=7, rotation=30)
            if all(point[field] == value for field, value in frontier["chosen"].items()):
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
