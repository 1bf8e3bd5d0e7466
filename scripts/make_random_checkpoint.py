"""Writes a random checkpoint of any size in the native layout: the real shapes, names and bytes, without the weights.

    python scripts/make_random_checkpoint.py /tmp/random_3b.npz --variant paligemma-3b-224

Use it to try everything that depends on size without the released weights: whether a model loads, fits and trains, and
how long that takes. Its answers mean nothing. PaliGemma-3B in bfloat16 has 5.5 GiB.
"""

import argparse
import math
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from full_size import stddev

from radvqa_jax.backbones import abstract_params
from radvqa_jax.checkpoints.big_vision import PREFIX
from radvqa_jax.checkpoints.npz import BFLOAT16, write_npz
from radvqa_jax.command_line.script import run_script
from radvqa_jax.models.variants import VARIANTS, get_variant

BLOCK = 1 << 24  # values drawn at a time; drawn at once in float32, the largest leaf would take twice its memory


def draw(name: str, shape: tuple[int, ...], *, dtype: np.dtype, seed: int) -> np.ndarray:
    """A leaf; its values depend on its name and the seed alone."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    leaf = np.empty(math.prod(shape), dtype)
    scale = np.float32(stddev(name, shape))
    for start in range(0, leaf.size, BLOCK):
        part = leaf[start : start + BLOCK]
        part[:] = rng.standard_normal(part.size, dtype=np.float32) * scale
    return leaf.reshape(shape)


def write(path: Path, *, variant: str, dtype: str, seed: int) -> int:
    """Writes the checkpoint and returns how many weights it has."""
    shapes = abstract_params(get_variant(variant))
    kind = BFLOAT16 if dtype == "bfloat16" else np.dtype(dtype)

    def leaves() -> Iterator[tuple[str, np.ndarray]]:
        for name in sorted(shapes):
            yield f"{PREFIX}{name}", draw(name, shapes[name].shape, dtype=kind, seed=seed)

    write_npz(path, leaves())
    return sum(math.prod(leaf.shape) for leaf in shapes.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="the .npz file to write")
    parser.add_argument("--variant", default="paligemma-3b-448", choices=VARIANTS, metavar="NAME")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16", "float32"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.path.suffix != ".npz":
        parser.error(f"{args.path} must end in .npz, by which big_vision recognises native checkpoints.")
    if args.path.exists():
        parser.error(f"{args.path} is there already and may be a checkpoint that somebody needs. Give another path.")
    if args.seed < 0:
        parser.error(f"--seed={args.seed} must be at least 0.")
    weights = write(args.path, variant=args.variant, dtype=args.dtype, seed=args.seed)
    print(f"{args.path}: {args.variant}, {weights:,} random weights, {args.path.stat().st_size / 2**30:.2f} GiB")


if __name__ == "__main__":
    run_script(main)
