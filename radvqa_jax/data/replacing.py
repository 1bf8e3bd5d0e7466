"""Replaces a prepared folder only when the new one is complete; clears or undoes what a killed run left.

Only the process that holds the lock of the parent folder may call these functions.
"""

import shutil
from pathlib import Path

INCOMPLETE = "incomplete."  # what TFDS begins the name of a folder with that it is writing


def place_beside(place: Path) -> Path:
    """Where the successor of a prepared folder is made."""
    return place.parent / f".rebuild-{place.name}"


def _replaced(place: Path) -> Path:
    """Where a prepared folder waits while another takes its place."""
    return place.parent / f".replaced-{place.name}"


def replace(place: Path, new: Path) -> None:
    """Puts a new folder into the place of a prepared one, which is deleted with everything in it."""
    old = _replaced(place)
    if place.exists():
        place.rename(old)
    new.rename(place)
    remove_leftovers(place)


def leftovers(place: Path) -> list[Path]:
    """What killed runs left next to a prepared folder."""
    possible = [_replaced(place), place_beside(place), *place.parent.glob(f"{INCOMPLETE}*")]
    return [path for path in possible if path.exists()]


def remove_leftovers(place: Path) -> None:
    """Removes what killed runs left next to a prepared folder.

    A folder that was moved aside for a new one that never came is put back.
    """
    old = _replaced(place)
    if old.exists() and not place.exists():
        old.rename(place)
    for left in leftovers(place):
        shutil.rmtree(left, ignore_errors=True)
