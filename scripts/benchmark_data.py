r"""Images per second of the input pipeline, of a plain PIL loop and of tf.data, on real files, in one run.

    python scripts/benchmark_data.py --images "VQA_RAD Image Folder" --images MedPix-2-0/images \
        --tf-python venv-tf/bin/python

Every program reads the same JPEG and PNG files, each `--asked` times and shuffled (data sets ask several questions
about an image), decodes, resizes to --size with antialiased bilinear filtering, and yields batches of float32 in
[-1, 1]. Programs take turns for --rounds rounds, so that all see the same load of the machine; ratios are taken within
a round. `waits` is the share of time that training steps wait for data; a step is a pause of --step-ms, as if a device
computed it. tf.data runs in a separate environment (requirements-tf.lock); without --tf-python it is left out.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from radvqa_jax.command_line.script import run_script

BATCH = 16


def find_images(folders: list[Path]) -> list[Path]:
    found = [path for folder in folders for path in sorted(folder.iterdir()) if path.suffix in (".jpg", ".png")]
    if not found:
        raise SystemExit(
            f"No .jpg or .png file in {', '.join(map(str, folders))}. Give a folder of images as --images."
        )
    return found


def ours(paths: list[Path], size: int, *, cache_mb: int) -> Iterator[Any]:
    """Yields batches of the real training loader; `cache_mb` as data.image_cache_mb."""
    from radvqa_jax.config import EMBEDDED, DataConfig, SourceConfig
    from radvqa_jax.data.loader import make_train_loader
    from radvqa_jax.data.rows import RowSource
    from radvqa_jax.data.tokenizer import Tokenizer
    from tfds_builders.features import common_row

    class Files:
        """Rows as a prepared data set gives them; the file is read when the row is."""

        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, index: int) -> dict[str, Any]:
            ids = {"image_id": paths[index].stem, "question_id": str(index)}
            return common_row(paths[index].read_bytes(), question="Is it normal?", answer="no", **ids)

    rows = RowSource(
        Files(),  # pyright: ignore[reportArgumentType] it has the methods that RowSource calls
        indices=range(len(paths)),
        source=SourceConfig(dataset="files"),
        fingerprint={"dataset": "files", "builder_config": ""},
    )
    loader = make_train_loader(
        [rows],
        data=DataConfig(seq_len=32, image_cache_mb=cache_mb),
        tokenizer=Tokenizer(EMBEDDED / "tokenizer.model"),
        resolution=size,
        batch_size=BATCH,
        seed=0,
        total_batches=lambda n: n // BATCH,
    )
    try:
        yield from (batch.image for batch in loader)
    finally:
        loader.close()


def pil(paths: list[Path], size: int) -> Iterator[Any]:
    """Yields batches of a plain loop, as in a notebook: one thread, the same decoding and resizing."""
    import numpy as np

    from radvqa_jax.data.image import decode_image, resize_image

    for begin in range(0, len(paths) // BATCH * BATCH, BATCH):
        part = paths[begin : begin + BATCH]
        yield np.stack([resize_image(decode_image(path.read_bytes()), size) for path in part])


def tf_data(paths: list[Path], size: int) -> Iterator[Any]:
    """Yields batches of tf.data with the same work: parallel map and prefetch tuned by TensorFlow."""
    import tensorflow as tf  # its own environment; the package never loads it

    def load(path: Any) -> Any:
        image = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
        image = tf.image.resize(image, (size, size), method="bilinear", antialias=True)
        return tf.floor(tf.clip_by_value(image, 0, 255)) / 127.5 - 1

    data = tf.data.Dataset.from_tensor_slices([str(path) for path in paths])
    data = data.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    yield from data.batch(BATCH, drop_remainder=True).prefetch(tf.data.AUTOTUNE).as_numpy_iterator()


def measure(batches: Iterable[Any], *, step_s: float = 0.0) -> dict[str, float]:
    """Images per second, and the share of time that steps of `step_s` seconds wait.

    The first batch is not counted, because it includes the start of the program.
    """
    iterator = iter(batches)
    next(iterator)
    images, waited, begin = 0, 0.0, time.perf_counter()
    while True:
        before = time.perf_counter()
        batch = next(iterator, None)
        waited += time.perf_counter() - before
        if batch is None:
            break
        images += len(batch)
        time.sleep(step_s)
    passed = time.perf_counter() - begin
    return {"images_per_s": images / passed, "data_wait_share": waited / passed}


PROGRAMS: dict[str, Callable[[list[Path], int], Iterator[Any]]] = {
    "ours": lambda paths, size: ours(paths, size, cache_mb=512),
    "ours, no image kept": lambda paths, size: ours(paths, size, cache_mb=0),
    "PIL loop": pil,
    "tf.data": tf_data,
}


def run_elsewhere(name: str, args: argparse.Namespace, *, seed: int, step_ms: float) -> dict[str, float]:
    """The measurements of one program in a separate process."""
    python = args.tf_python if name == "tf.data" else sys.executable
    flags = [f"--images={folder}" for folder in args.images]
    given = {"size": args.size, "asked": args.asked, "limit": args.limit, "seed": seed, "step-ms": step_ms}
    command = [python, __file__, "--program", name, *flags, *(f"--{key}={value}" for key, value in given.items())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} ended with an error:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):8.2f} [{min(values):.2f}, {max(values):.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, action="append", required=True, help="a folder of JPEG and PNG files")
    parser.add_argument("--tf-python", default="", help="python of an environment with TensorFlow")
    parser.add_argument("--size", type=int, default=448)
    parser.add_argument("--asked", type=int, default=4, help="how many times each image is read")
    parser.add_argument("--limit", type=int, default=0, help="number of images to use; 0 = all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--step-ms", type=float, default=600.0, help="length of a simulated step")
    parser.add_argument("--program", choices=PROGRAMS, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.program:
        paths = find_images(args.images)
        random.Random(0).shuffle(paths)
        paths = paths[: args.limit or None] * args.asked
        random.Random(args.seed).shuffle(paths)
        print(json.dumps(measure(PROGRAMS[args.program](paths, args.size), step_s=args.step_ms / 1000)))
        return
    names = [name for name in PROGRAMS if name != "tf.data" or args.tf_python]
    rates: dict[str, list[float]] = {name: [] for name in names}
    waits: dict[str, list[float]] = {name: [] for name in names}
    for seed in range(args.rounds):
        for name in names:
            rates[name].append(run_elsewhere(name, args, seed=seed, step_ms=0)["images_per_s"])
            waits[name].append(run_elsewhere(name, args, seed=seed, step_ms=args.step_ms)["data_wait_share"])
    print(f"{args.size} px, batches of {BATCH}, {args.rounds} rounds: median [least, most]")
    print(f"{'':22}{'images per second':26}{'of the PIL loop':26}waits, steps of {args.step_ms:.0f} ms")
    for name in names:
        ratio = [a / b for a, b in zip(rates[name], rates["PIL loop"], strict=True)]
        print(f"{name:22}{spread(rates[name]):26}{spread(ratio):26}{spread(waits[name])}")
    if args.tf_python:
        for name in names[:2]:
            ratio = [a / b for a, b in zip(rates[name], rates["tf.data"], strict=True)]
            print(f"{name} / tf.data: {spread(ratio).strip()}")


if __name__ == "__main__":
    run_script(main)
