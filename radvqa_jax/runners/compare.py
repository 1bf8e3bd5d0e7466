"""The mode that compares two systems' answers to the same questions."""

from pathlib import Path

from radvqa_jax.config import Config
from radvqa_jax.evaluation.comparison import compare_runs, format_comparison, say_same
from radvqa_jax.evaluation.convert import one_file
from radvqa_jax.evaluation.line_scores import problem
from radvqa_jax.evaluation.predict import read_records
from radvqa_jax.evaluation.scoring import check_once
from radvqa_jax.files import sha256, write_json, write_text
from radvqa_jax.schema import Record
from radvqa_jax.untrusted import visible

_NEEDS = (
    "mode=compare takes one run of each of two systems: name one file as eval.predictions, one as eval.compare_with"
)


def _one_run(path: Path) -> list[Record]:
    """The records of a predictions file that holds one run."""
    records = read_records(path)
    if not records:
        raise ValueError(f"{path} holds no answers. Give the predictions of a run.")
    if len(runs := sorted({record.run for record in records})) != 1:
        raise ValueError(
            f"{path} holds the runs {runs}; a comparison needs exactly one a file. Split the file by `run`."
        )
    try:
        check_once(records)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    for record in records:
        if wrong := problem(record):
            raise ValueError(
                f"{path}: question {record.question_id!r}: field `{wrong[0]}` {wrong[1]}. It has no score. Correct the "
                "line, or remove the question from both files."
            )
    return records


def compare_mode(config: Config, workdir: Path) -> None:
    """Writes compare.json and compare.txt: eval.predictions (A) against eval.compare_with (B); needs no model."""
    fields = ("predictions", "compare_with")
    paths = [one_file(getattr(config.eval, field), f"eval.{field}", needs=_NEEDS) for field in fields]
    if paths[0].samefile(paths[1]):
        raise ValueError(
            f"eval.predictions and eval.compare_with name the same file, {paths[0]}: its difference from itself is 0. "
            "Name the predictions of another system as eval.compare_with."
        )
    a, b = map(_one_run, paths)
    names = [f"{records[0].run or 'answers'} ({path})" for records, path in zip((a, b), paths, strict=True)]
    try:
        found = compare_runs(a, b, resamples=config.eval.bootstrap, seed=config.seed)
    except ValueError as error:  # of two records: it calls the files A and B
        raise ValueError(f"{error} A is {paths[0]}, B is {paths[1]}.") from error
    described = [
        {"name": path.name, "run": records[0].run, "sha256": sha256(path)}
        for path, records in zip(paths, (a, b), strict=True)
    ]
    copied = ["A and B are the same file, byte for byte: a copy tells nothing about two systems."]
    found["said"] = (copied if described[0]["sha256"] == described[1]["sha256"] else say_same(a, b)) + found["said"]
    method = {"resamples": config.eval.bootstrap, "seed": config.seed, "level": 0.95}
    write_json(workdir / "compare.json", {"a": described[0], "b": described[1], "method": method} | found)
    table = visible(format_comparison(found, a=names[0], b=names[1]))  # names come from anyone
    write_text(workdir / "compare.txt", table + "\n")
    print(table)
