"""Measures whether the patches that a map marks matter to the answer: deletion and insertion, and one-pixel shifts.

Deletion covers patches in the order of the map, hottest first, and measures the fall of the answer's probability;
insertion starts with everything covered and uncovers patches. Covered patches have the image's own mean colour. A map
that marks the relevant patches has a small area under deletion and a large one under insertion, compared with a random
order on the same image. The model was not trained on covered images, so these figures serve for comparison only.

Source: Petsiuk, Das & Saenko 2018, "RISE", section 4 (deletion and insertion games).
"""

from collections.abc import Callable

import numpy as np
from einops import rearrange
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata

Logprob = Callable[[Float[np.ndarray, "b h w 3"]], Float[np.ndarray, " b"]]  # images -> mean log p of the answer


def order(saliency: Float[np.ndarray, "*m grid grid"]) -> Int[np.ndarray, "*m P"]:
    """The patches of each map, hottest first; ties in reading order."""
    flat = saliency.reshape(*saliency.shape[:-2], -1)
    return np.argsort(-flat, axis=-1, kind="stable")


def random_orders(count: int, patches: int, *, seed: int) -> Int[np.ndarray, "count P"]:
    """Random orders of the patches."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(patches) for _ in range(count)])


def cover(images: Float[np.ndarray, "b h w 3"], covered: Bool[np.ndarray, "b P"]) -> Float[np.ndarray, "b h w 3"]:
    """The images with these patches in the image's mean colour."""
    grid = round(covered.shape[1] ** 0.5)
    patch = images.shape[1] // grid
    mask = covered.reshape(-1, grid, 1, grid, 1, 1)
    blocks = rearrange(images, "b (i p) (j q) C -> b i p j q C", p=patch, q=patch)
    mean = images.mean(axis=(1, 2))[:, None, None, None, None]
    filled = np.where(mask, mean, blocks)
    return rearrange(filled, "b i p j q C -> b (i p) (j q) C").astype(np.float32)


class Curves:
    """Probabilities of the answers of a batch while patches are covered or uncovered."""

    def __init__(self, images: Float[np.ndarray, "b h w 3"], logprob: Logprob, *, steps: int) -> None:
        """Takes the images and the likelihood of their answers; `steps` points follow the unchanged image."""
        self._images, self._logprob, self.steps = images, logprob, steps

    def _probability(self, covered: Bool[np.ndarray, "b P"]) -> Float[np.ndarray, " b"]:
        return np.exp(np.asarray(self._logprob(cover(self._images, covered)), np.float64))

    def of(self, orders: Int[np.ndarray, "b P"]) -> tuple[Float[np.ndarray, "b K"], Float[np.ndarray, "b K"]]:
        """(deletion, insertion): p of the answer with the first k / (K - 1) of the patches covered, uncovered.

        p is the geometric mean over the answer's tokens. Each curve ends where the other begins: everything or nothing
        covered.
        """
        batch, patches = orders.shape
        counts = np.round(np.linspace(0, patches, self.steps + 1)).astype(int)
        rank = np.empty_like(orders)
        np.put_along_axis(rank, orders, np.broadcast_to(np.arange(patches), (batch, patches)), axis=1)
        deletion = [self._probability(rank < count) for count in counts]
        insertion = [self._probability(rank >= count) for count in counts[1:-1]]
        return np.stack(deletion, axis=1), np.stack([deletion[-1], *insertion, deletion[0]], axis=1)


def area(curve: Float[np.ndarray, "b K"]) -> Float[np.ndarray, " b"]:
    """The mean height of each curve over [0, 1], by trapezoids."""
    return np.trapezoid(curve, dx=1 / (curve.shape[1] - 1), axis=1)


def shifts(images: Float[np.ndarray, "b h w 3"]) -> list[Float[np.ndarray, "b h w 3"]]:
    """The images moved by one pixel up, down, left and right; the edge is repeated."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    height, width = images.shape[1:3]
    corners = ((2, 1), (0, 1), (1, 2), (1, 0))
    return [padded[:, top : top + height, left : left + width] for top, left in corners]


def similarity(a: Float[np.ndarray, "b grid grid"], b: Float[np.ndarray, "b grid grid"]) -> Float[np.ndarray, " b"]:
    """Spearman's rank correlation of each pair of maps; 0 where one of them is the same everywhere."""
    ranks = [rankdata(maps.reshape(len(maps), -1), axis=1) for maps in (a, b)]
    x, y = (rank - rank.mean(axis=1, keepdims=True) for rank in ranks)
    scale = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    return np.divide((x * y).sum(axis=1), scale, out=np.zeros(len(x)), where=scale > 0)
