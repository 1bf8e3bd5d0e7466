"""Times the scoring of a file by the code of mode=score: every rule, protocol and published metric, and all cells.

    python scripts/benchmark_scoring.py --records 100000 --chars 4000
    python scripts/benchmark_scoring.py --records 1000000 --chars 10 --published ""

Prints wall-clock time, processor time in total and per answer, and the peak memory of one process. No answer is
repeated, so that no cache helps.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from radvqa_jax.command_line.script import run_script
from radvqa_jax.evaluation.published import SYSTEMS
from radvqa_jax.evaluation.scan import scan
from radvqa_jax.evaluation.score_tables import build_tables

_WORDS = "left right lung heart mass effusion axial coronal pneumonia normal opacity lobe upper lower rib".split()


def write_records(path: Path, count: int, *, chars: int, seed: int = 0) -> None:
    """Writes answers of about `chars` characters: a third each yes/no, multiple choice, open; eight to an image."""
    rng = np.random.default_rng(seed)
    with path.open("w", encoding="utf-8") as file:
        for index in range(count):
            words = rng.choice(_WORDS, max(4, chars // 7)).tolist()
            words[9::12] = [f"{word}." for word in words[9::12]]
            options = rng.choice(_WORDS, 4, replace=False).tolist()
            kind = index % 3
            reference = [str(rng.choice(["yes", "no"])), options[index // 3 % 4], " ".join(words[:2])][kind]
            opening = ["Yes.", f"Answer: {'ABCD'[rng.integers(4)]}.", f"{' '.join(words[:2])}."][kind]
            row = {
                "question_id": str(index),
                "image_id": str(index // 8),
                "question": "What is seen?",
                "reference": reference,
                "predictions": [f"{opening} {index} {' '.join(words)}"],
                "choices": options if kind == 1 else [],
                "answer_type": "open" if kind == 2 else "closed",
                "organ": ["lung", "brain"][index % 2],
                "source": "made_up",
                "run": "benchmark",
            }
            file.write(json.dumps(row) + "\n")


def main() -> None:
    """Makes a file, scores it, prints the time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--chars", type=int, default=4000, help="characters of an answer")
    parser.add_argument("--published", default=",".join(SYSTEMS), help="systems whose metrics are computed")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0 = one for each core")
    options = parser.parse_args()
    if options.records < 1 or options.chars < 1:
        parser.error(f"--records={options.records} and --chars={options.chars} must be at least 1.")
    if unknown := set(filter(None, options.published.split(","))) - set(SYSTEMS):
        parser.error(f"--published: {', '.join(sorted(unknown))} is unknown. Known: {', '.join(SYSTEMS)}.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "predictions.jsonl"
        write_records(path, options.records, chars=options.chars)
        start = time.perf_counter()
        published = [name for name in options.published.split(",") if name]
        found = scan([path], Path(folder), published=published, workers=options.workers)
        scanned = time.perf_counter() - start
        (table,) = build_tables(found)
        wall = time.perf_counter() - start
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(use.ru_utime + use.ru_stime for use in usage)
    peak = max(use.ru_maxrss for use in usage) / 1024
    overall = table["cells"][0]["radvqa"]
    print(f"{overall['n']} answers of {options.chars} characters on {overall['n_images']} images: {wall:.0f} s by the "
          f"clock ({scanned:.0f} s of them reading and scoring), {cpu:.0f} s of processor time, "
          f"{1e3 * cpu / overall['n']:.2f} ms an answer; at most {peak:.0f} MB in a process.")  # fmt: skip


if __name__ == "__main__":
    run_script(main)
