"""Register sinks: patches that every word reads, whatever the word, because the model keeps internal state there.

A patch is hot in a map if its value is more than HOT standard deviations above the map's mean. A sink of a case is hot
in the raw attention (mean over layers and heads) of every word of question and answer. A lesion is hot for the words
about it; a sink is hot for all words, and a map with a sink shows mostly the sink.

Source of the name: Darcet et al. 2024, "Vision Transformers Need Registers"; the criterion here is this project's.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

HOT = 3.0
FEW = 1.5  # of maps with fewer than 16 patches, where no value can be 3 deviations above the mean
LISTED = 20  # sinks in a report, the most frequent ones


def hot(maps: Float[np.ndarray, "*m P"]) -> Bool[np.ndarray, "*m P"]:
    """A mask of the hot patches of each map; no patch is hot if all values are equal."""
    spread = maps.std(axis=-1, keepdims=True)
    least = HOT if maps.shape[-1] >= 16 else FEW
    return (maps > maps.mean(axis=-1, keepdims=True) + least * spread) & (spread > 0)


def find_sinks(words_raw: Float[np.ndarray, "L T P"], words: Bool[np.ndarray, " T"]) -> list[int]:
    """The patches that are hot in the raw attention of every word, mean over layers; empty for a single word."""
    of_words = words_raw.mean(axis=0)[words]
    return np.flatnonzero(hot(of_words).all(axis=0)).tolist() if len(of_words) > 1 else []


def describe_case(
    words_raw: Float[np.ndarray, "L T P"],
    words: Bool[np.ndarray, " T"],
    maps: Mapping[str, Float[np.ndarray, "grid grid"]],
) -> dict[str, Any]:
    """The record of a case: its sinks, their share of the words' attention to the image, and the hot patches of each
    method's map of the whole answer."""
    sinks = find_sinks(words_raw, words)
    read = words_raw.mean(axis=0)[words].mean(axis=0)
    return {
        "patches": sinks,
        "mass": float(read[sinks].sum() / read.sum()) if read.sum() > 0 else 0.0,
        "hot": {name: np.flatnonzero(hot(values.reshape(-1))).tolist() for name, values in maps.items()},
    }


def list_sinks(
    rows: Sequence[Mapping[str, Any]], mean: Callable[[Callable[[Any], float | None]], Any]
) -> dict[str, Any]:
    """The sinks of all cases, the most frequent first, as JSON values.

    Args:
        rows: with `sinks` of `describe_case` and `grid`.
        mean: gives the mean of a number of each row with its interval.
    """
    counts: dict[int, int] = {}
    for row in rows:
        for patch in row["sinks"]["patches"]:
            counts[patch] = counts.get(patch, 0) + 1
    grid = rows[0]["grid"]
    listed = []
    for patch in sorted(counts, key=lambda patch: (-counts[patch], patch))[:LISTED]:
        listed.append(
            {
                "row": patch // grid + 1,  # counted from 1, as in the viewer
                "column": patch % grid + 1,
                "cases": mean(lambda row, p=patch: float(p in row["sinks"]["patches"])),
                "hot_in": {
                    name: float(np.mean([patch in row["sinks"]["hot"].get(name, ()) for row in rows]))
                    for name in rows[0]["sinks"]["hot"]
                },
            }
        )
    return {
        "patches": listed,
        "left_out": max(0, len(counts) - LISTED),
        "cases_with": mean(lambda row: float(bool(row["sinks"]["patches"]))),
        "mass": mean(lambda row: row["sinks"]["mass"]),
    }
