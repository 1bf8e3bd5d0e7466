"""The mode in which a language model judges answers."""

from collections.abc import Sequence
from pathlib import Path

from radvqa_jax import locks
from radvqa_jax.config import Config
from radvqa_jax.evaluation.convert import one_file
from radvqa_jax.evaluation.judge import format_summary, judge, verdicts_path
from radvqa_jax.evaluation.judge_scores import describe_agreement, human_agreement
from radvqa_jax.evaluation.line_scores import problem
from radvqa_jax.evaluation.predict import read_records
from radvqa_jax.evaluation.review import match_readings, read_sheets
from radvqa_jax.schema import Record

REMEDY = "Two runs would ask and pay for the same verdicts. Wait until it is done; then mode=judge asks what is left."


def judge_mode(config: Config, workdir: Path) -> None:
    """Judges the answers of config.eval.predictions and writes the verdicts next to them; mode=score then shows them.

    Prints the agreement with people if a filled review sheet is configured or in the folder of the predictions.
    """
    path = one_file(config.eval.predictions, "eval.predictions", needs="mode=judge takes one: run it once for each")
    records = read_records(path)
    readings = read_sheets(find_sheets(config, path))
    cache = Path(config.judge.cache).expanduser() if config.judge.cache else workdir / "chat_cache.jsonl"
    verdicts = verdicts_path(path, config.judge)
    with locks.hold_file(verdicts, remedy=REMEDY):
        judged = judge(_scorable(records), predictions=path, config=config.judge, cache=cache, seed=config.seed)
    print(format_summary(judged))
    matched = match_readings(readings, records)
    found = human_agreement(judged, matched.read, resamples=config.eval.bootstrap, seed=config.seed)
    for reader, agreement in found.items():
        print(describe_agreement(reader, agreement))
    for count, what in ((matched.stale, "answers"), (matched.unknown, "questions")):
        if count:
            print(f"  {count} of {len(readings)} rows of review sheets are about {what} that {path.name} does not hold")
    print(f"The verdicts are in {verdicts}; mode=score shows them.")


def _scorable(records: Sequence[Record]) -> list[Record]:
    """The records that mode=score takes; prints the number of the others, and the first with its reason."""
    found = [(record, problem(record)) for record in records]
    wrong = [(record.question_id, *reason) for record, reason in found if reason]
    if wrong:
        name, field, reason = wrong[0]
        print(
            f"{len(wrong)} of {len(records)} lines are not judged, as mode=score does not score them. The first: "
            f"question {name!r}, field `{field}` {reason}.",
            flush=True,
        )
    return [record for record, reason in found if not reason]


def find_sheets(config: Config, predictions: Path) -> list[Path]:
    """The configured review sheets, and those that a report wrote to the folder of the predictions."""
    given = [Path(sheet).expanduser() for sheet in config.report.review_sheets]
    beside = [folder / "review_sheet.csv" for folder in (predictions.parent, predictions.parent.parent)]
    found = given + [sheet for sheet in beside if sheet.is_file()]
    return list({sheet.resolve(): sheet for sheet in found}.values())
