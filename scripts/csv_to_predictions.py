"""Turns another system's answers in CSV into predictions.jsonl, which --config.mode=score reads.

    python scripts/csv_to_predictions.py answers.csv predictions.jsonl --run llava_med --column reference=gold

The columns are described in radvqa_jax/evaluation/convert.py.
"""

import argparse
import sys
from pathlib import Path

from radvqa_jax.evaluation.convert import convert


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--run", default="", help="which system this is; the file's name if not given")
    parser.add_argument("--column", action="append", default=[], metavar="OURS=THEIRS", help="rename a column")
    parser.add_argument("--ignore", action="append", default=[], metavar="COLUMN", help="leave a column out")
    options = parser.parse_args()
    if wrong := [text for text in options.column if "=" not in text]:
        parser.error(f"--column needs OURS=THEIRS, such as reference=gold; got {wrong[0]!r}")
    renamed = dict(text.split("=", 1) for text in options.column)
    try:
        n = convert(options.csv, options.out, run=options.run, renamed=renamed, ignored=options.ignore)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"{n} answers are in {options.out}; score them: python -m radvqa_jax.main --config configs/score.py "
          f"--workdir DIR --config.eval.predictions={options.out}")  # fmt: skip


if __name__ == "__main__":
    main()
