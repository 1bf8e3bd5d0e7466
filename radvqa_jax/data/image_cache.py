"""Resized images in memory, for data sets that ask several questions about each image."""

import collections
import hashlib
import threading
from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8

Levels = UInt8[np.ndarray, "size size 3"]


def image_key(encoded: bytes) -> bytes:
    """A hash of an encoded image: equal bytes have equal keys."""
    return hashlib.blake2b(encoded, digest_size=16).digest()


class ImageCache:
    """Keeps the most recently used images, up to a number of bytes. Threads may share it; a pickled one is empty."""

    def __init__(self, max_bytes: int) -> None:
        """Takes the limit on kept pixels in bytes; 0 keeps nothing."""
        self.max_bytes = max_bytes
        self._kept: collections.OrderedDict[bytes, np.ndarray] = collections.OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type["ImageCache"], tuple[int]]:
        return ImageCache, (self.max_bytes,)

    def get(self, encoded: bytes, make: Callable[[bytes], Levels]) -> Levels:
        """`make(encoded)`, or its kept result for the same bytes; callers must not change it."""
        if not self.max_bytes:
            return make(encoded)
        key = image_key(encoded)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make(encoded)  # outside the lock: two threads may both make it, which is wasteful but correct
        with self._lock:
            if key not in self._kept:
                self._kept[key] = made
                self._bytes += made.nbytes
            while self._bytes > self.max_bytes:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return made
