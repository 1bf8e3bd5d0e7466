"""Measures time and memory of a large data set: preparing it, its texts, filters and the audit. All rows are made up.

    python scripts/benchmark_rows.py --rows 20000 --images 10000

Writes PMC-VQA's official layout (version 2: two tables and an archive of JPEG files) with made-up questions and images
into a temporary folder, and runs each step of the package in a separate process. `MB` is the peak memory of the
process; `imports` is its memory before any work. `texts, without index` removes the index of texts and makes it again,
which reads every record once; all other steps after preparing read texts from the index. `audit` hashes every image
once, `audit again` none.
"""

import argparse
import csv
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from radvqa_jax.command_line.script import run_script

SIZE = 384  # pixels
WORDS = ("mass", "nodule", "effusion", "fracture", "cyst", "edema", "lesion", "stone")
TEST_SHARE = 10  # one row in ten is a test row
COLUMNS: tuple[str, ...] = (
    "index",
    "Figure_path",
    "Caption",
    "Question",
    "Choice A",
    "Choice B",
    "Choice C",
    "Choice D",
    "Answer",
    "split",
)


def write_files(folder: Path, *, rows: int, images: int) -> None:
    """Writes the tables and the archive; the two splits share no image."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    with zipfile.ZipFile(folder / "images_2.zip", "w") as archive:
        for number in range(images):
            noise = Image.fromarray(rng.integers(0, 256, (24, 24, 3), np.uint8)).resize((SIZE, SIZE))
            file = io.BytesIO()
            noise.save(file, "JPEG", quality=90)
            archive.writestr(f"figures/PMC{number}_Fig1.jpg", file.getvalue())
    tested = images // TEST_SHARE
    for name, first, last, n in (("test_2", 0, tested, rows // TEST_SHARE), ("train_2", tested, images, rows)):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            table: csv.DictWriter[str] = csv.DictWriter(file, COLUMNS)
            table.writeheader()
            for number in range(n):
                image = first + number % (last - first)
                word = WORDS[number % len(WORDS)]
                table.writerow(
                    {
                        **{"index": number, "Figure_path": f"PMC{image}_Fig1.jpg", "split": name[:-2]},
                        **{"Caption": f"Axial CT with a {word}, number {number}. " * 4},
                        **{"Question": f" Which finding has number {number}?", "Answer": "ABCD"[number % 4]},
                        **{f"Choice {letter}": f" {letter}: {word} {letter}{number}" for letter in "ABCD"},
                    }
                )


def build(folder: Path) -> str:
    from radvqa_jax.config import DataConfig
    from radvqa_jax.data.preparing import prepare

    data = DataConfig(data_dir=str(folder / "prepared"), manual_dir=str(folder / "official"), allow_count_mismatch=True)
    built = prepare("pmc_vqa", builder_config="v2", data=data)
    stored = sum(path.stat().st_size for path in Path(built["path"]).glob("*array_record*"))
    return f"{built['splits']}, {stored / 2**20:.0f} MB of records"


def load(folder: Path, split: str, **fields: Any) -> Any:
    from radvqa_jax.config import DataConfig, SourceConfig
    from radvqa_jax.data.sources import load_rows

    source = SourceConfig(dataset="pmc_vqa", builder_config="v2", split=split, **fields)
    return load_rows(source, DataConfig(data_dir=str(folder / "prepared")))


def index(folder: Path) -> str:
    for path in folder.rglob("text_index-*.parquet"):
        path.unlink()
    rows = load(folder, "train")
    (path,) = folder.rglob("text_index-train.parquet")
    return f"{len(set(rows.column('question')))} questions; the index has {path.stat().st_size / 2**20:.1f} MB"


def select(folder: Path) -> str:
    """Filters, and then tokenises every text, as a training run does before its first step."""
    from radvqa_jax.config import EMBEDDED, DataConfig, FilterConfig
    from radvqa_jax.data.sifting import sift
    from radvqa_jax.data.tokenizer import Tokenizer

    where = (FilterConfig("answer", max_words=3), FilterConfig("question", min_words=3))
    rows = load(folder, "train", where=where)
    kept, _, report = sift(rows, data=DataConfig(), tokenizer=Tokenizer(EMBEDDED / "tokenizer.model"))
    return f"{len(kept)} rows, rejected {report['rejected']}"


def audit(folder: Path) -> str:
    from radvqa_jax.config import AuditConfig
    from radvqa_jax.data import audit as audit_lib

    sets = {split: load(folder, split) for split in ("train", "test")}
    report = audit_lib.audit(sets, trained=["train"], evaluated=["test"], near_bits=AuditConfig().near_bits)
    (pair,) = report["shared"]
    images = {name: split["images"] for name, split in report["splits"].items()}
    return f"{images} images, {pair['images']} shared, {pair['near_images']} nearly identical"


def nothing(folder: Path) -> str:
    import radvqa_jax.data.audit
    import radvqa_jax.data.loader

    return radvqa_jax.data.audit.__name__ and radvqa_jax.data.loader.__name__ and ""


STEPS: dict[str, Callable[[Path], str]] = {
    "imports": nothing,
    "prepare": build,
    "texts, without index": index,
    "filters, every text tokenised": select,
    "audit": audit,
    "audit again": audit,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000, help="rows of train; test has a tenth of them")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        begin = time.perf_counter()
        said = STEPS[args.step](args.folder)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps([time.perf_counter() - begin, peak, said]))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "official").mkdir()
        write_files(folder / "official", rows=args.rows, images=args.images)
        print(f"{args.rows} rows of train, {args.images} images of {SIZE} px")
        for step in STEPS:
            command = [sys.executable, __file__, "--step", step, "--folder", temporary]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{step} ended with an error:\n{done.stderr[-2000:]}")
            seconds, peak, said = json.loads(done.stdout.splitlines()[-1])
            print(f"{step:30} {seconds:7.1f} s {peak:7.0f} MB  {said}", flush=True)


if __name__ == "__main__":
    run_script(main)
