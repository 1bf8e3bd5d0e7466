"""Turns another system's answers into predictions.jsonl, which --config.mode=score reads.

    python scripts/to_predictions.py answers.csv predictions.jsonl --run llava_med --column reference=gold
    python scripts/to_predictions.py results/lingshu/SLAKE/results.json lingshu.jsonl --format medevalkit

It reads CSV, JSON, and the result files of MedEvalKit, VLMEvalKit and lmms-eval; radvqa_jax/evaluation/readers/
describes each. mode=score reads them directly, too. Use this script to rename columns, or to look at the records.
"""

import argparse
from pathlib import Path

from radvqa_jax.command_line.script import run_script
from radvqa_jax.evaluation.convert import FORMATS, convert, describe_file
from radvqa_jax.shell import command


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--format", choices=FORMATS, help="format of the file; detected if not given")
    parser.add_argument("--run", default="", help="name of the system; the file's name if not given")
    parser.add_argument("--column", action="append", default=[], metavar="OURS=THEIRS", help="rename a column")
    parser.add_argument("--ignore", action="append", default=[], metavar="COLUMN", help="leave a column out")
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave unreadable rows out, listed in OUT.rejects.jsonl"
    )
    options = parser.parse_args()
    if wrong := [text for text in options.column if "=" not in text]:
        parser.error(f"--column needs OURS=THEIRS, such as reference=gold; got {wrong[0]!r}")
    pairs = [text.split("=", 1) for text in options.column]
    renamed = dict(pairs)
    if len(renamed) < len(pairs):
        parser.error(f"--column names a column of ours twice; got {' '.join(options.column)}")
    found = convert(
        options.file,
        options.out,
        run=options.run,
        renamed=renamed,
        ignored=options.ignore,
        kind=options.format,
        skip_bad=options.skip_bad,
    )
    if found.bad:
        print(describe_file(options.file, found.bad))
    score = command("--config", "configs/score.py", "--workdir", "DIR", f"--config.eval.predictions={options.out}")
    print(f"{len(found.records)} answers are in {options.out}; score them: {score}")


if __name__ == "__main__":
    run_script(main)
