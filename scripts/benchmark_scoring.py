"""Times the radvqa rules on made-up records: verdicts, every cell, and 2000 resamples for each interval.

    python scripts/benchmark_scoring.py --records 100000

Prints the seconds and how many answers a second that is. No answer is repeated, so that no cache helps.
"""

import argparse
import time
from typing import Any

import numpy as np

from radvqa_jax.evaluation.scoring import score
from radvqa_jax.schema import Record

_WORDS = "left right lung heart mass effusion axial coronal pneumonia normal opacity lobe upper lower rib".split()


def make_records(count: int, *, seed: int = 0) -> list[Record]:
    """Returns records of a third each: yes/no, multiple choice, open; eight questions an image."""
    rng = np.random.default_rng(seed)
    records = []
    for index in range(count):
        words = [str(word) for word in rng.choice(_WORDS, 4, replace=False)]
        choices: list[str] = []
        if index % 3 == 0:
            reference = str(rng.choice(["yes", "no"]))
            said = str(rng.choice(["Yes.", f"No, it is normal {index}.", f"There is no {words[0]} ({index})."]))
        elif index % 3 == 1:
            choices, reference = words, words[index // 3 % 4]
            said = f"I count {index}. Answer: **{'ABCD'[rng.integers(4)]}**"
        else:
            reference, said = " ".join(words[:3]), f"{' '.join(rng.choice(_WORDS, 3))} {index} mm"
        groups: Any = {"organ": str(rng.choice(["lung", "brain"])), "modality": str(rng.choice(["CT", "MRI"]))}
        kind = "open" if index % 3 == 2 else "closed"
        records.append(
            Record(str(index), str(index // 8), "", reference, [said], [], answer_type=kind, choices=choices, **groups)
        )
    return records


def main() -> None:
    """Makes the records, scores them, prints the time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000)
    records = make_records(parser.parse_args().records)
    start, cpu = time.perf_counter(), time.process_time()
    overall = score(records).overall
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    assert overall is not None
    print(f"{overall.n} records on {overall.n_images} images scored in {wall:.1f} s ({cpu:.1f} s of processor time): ")
    print(f"accuracy {overall.value:.3f}, {overall.unparsed} unparsed, {overall.n / wall:.0f} answers a second.")


if __name__ == "__main__":
    main()
