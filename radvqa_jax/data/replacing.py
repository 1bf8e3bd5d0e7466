"""Replaces a prepared folder only when the new one is complete; clears or undoes the remains of a killed run.

Only the process that holds the lock of the parent folder may call these functions; `put_back` takes it itself.
"""

import contextlib
import shutil
from pathlib import Path

from radvqa_jax import locks

INCOMPLETE = "incomplete."  # prefix of a folder that TFDS is still writing


def place_beside(place: Path) -> Path:
    """The path at which the successor of a prepared folder is made."""
    return place.parent / f".rebuild-{place.name}"


def _replaced(place: Path) -> Path:
    """The path of a prepared folder while another one takes its place."""
    return place.parent / f".replaced-{place.name}"


def replace(place: Path, new: Path) -> None:
    """Replaces a prepared folder with a new one, and deletes the old one with everything in it."""
    old = _replaced(place)
    if place.exists():
        place.rename(old)
    new.rename(place)
    remove_leftovers(place)


def put_back(place: Path) -> bool:
    """Undoes a replacement that was killed halfway; returns whether the folder is there.

    If another process is replacing it, this one waits: the old folder is aside only at the end of a replacement.
    """
    old = _replaced(place)
    if old.exists() and not place.exists():
        with contextlib.suppress(OSError), locks.hold(place.parent, doing=f"putting {place.name} back", wait=True):
            if old.exists() and not place.exists():
                old.rename(place)
    return place.exists()


def leftovers(place: Path) -> list[Path]:
    """The remains of killed runs next to a prepared folder."""
    possible = [_replaced(place), place_beside(place), *place.parent.glob(f"{INCOMPLETE}*")]
    return [path for path in possible if path.exists()]


def remove_leftovers(place: Path) -> None:
    """Removes the remains of killed runs next to a prepared folder.

    A folder that was moved aside for a new one that was never completed is put back.
    """
    old = _replaced(place)
    if old.exists() and not place.exists():
        old.rename(place)
    for left in leftovers(place):
        shutil.rmtree(left, ignore_errors=True)
