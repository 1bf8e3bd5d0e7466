"""Times the parts of written questions on this machine.

    python scripts/benchmark_synthesis.py checks [--pairs 100000]

`checks` runs every check that asks no model (rules, duplicates, contamination, support by words, blind lookup, balance)
over pairs about planned phantoms, on one core, and prints processor time a pair; the aim is 2 ms at 100,000 pairs, with
the MinHash index. Half of the pairs are made distinct by a word, as a language model's would be, so that caches of
equal texts do not flatter the figure.
"""

import argparse
import resource
import time

from radvqa_jax.config import ChecksConfig
from radvqa_jax.synthesis import suite
from radvqa_jax.synthesis.checks import Item, run_checks
from radvqa_jax.synthesis.duplicates import Known
from radvqa_jax.synthesis.planted import make_candidate, phantom_evidence
from radvqa_jax.synthesis.planted_pairs import right_pairs
from tfds_builders.phantom_rad.plan import plan_split

WORDS = "apical basal central peripheral diffuse focal patchy subtle prominent rounded irregular smooth".split()
EVALUATED = 10_000  # questions of evaluated sets that pairs are compared with


def make_items(pairs: int) -> list[Item]:
    """Returns so many pairs; every second one is a longer sentence of its own."""
    items: list[Item] = []
    number = 0
    for image in plan_split("train", pairs // 8 + 100):
        evidence = phantom_evidence(image)
        for question, answer in right_pairs(image)[:16]:
            if len(items) == pairs:
                return items
            if number % 2:
                word, other = WORDS[number % len(WORDS)], WORDS[(number // len(WORDS)) % len(WORDS)]
                question = f"{question} Consider the {word} and {other} part of area {number} as well."
            items.append(Item(make_candidate(image, (question, answer)), evidence))
            number += 1
    return items


def time_checks(pairs: int) -> None:
    """Prints how long each check takes a pair."""
    items = make_items(pairs)
    known = [
        Known(
            "evaluated",
            str(n),
            f"Which {WORDS[n % 12]} abnormality of region {n} is seen next to the {WORDS[n % 7]} border?",
            "none",
        )
        for n in range(EVALUATED)
    ]
    total = 0.0
    for check in suite.all_checks(ChecksConfig(), known=known):
        start = time.process_time()
        found = run_checks(items, [check])
        seconds = time.process_time() - start
        total += seconds
        failed = sum(not pair.accepted for pair in found)
        print(f"{check.name:16} {1e3 * seconds / len(items):8.4f} ms a pair   {failed} rejected", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{'all':16} {1e3 * total / len(items):8.4f} ms a pair, {len(items)} pairs, peak memory {peak:.0f} MiB")


def main() -> None:
    """Runs one of the benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    checks = commands.add_parser("checks", help="checks that ask no model")
    checks.add_argument("--pairs", type=int, default=100_000)
    given = parser.parse_args()
    if given.command == "checks":
        time_checks(given.pairs)


if __name__ == "__main__":
    main()
