"""The mode that scores predictions files, of this package or of other tools, without a model."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from radvqa_jax import typed_json
from radvqa_jax.config import Config, SourceConfig
from radvqa_jax.data.rows import RowSource
from radvqa_jax.data.sources import load_rows, make_builder
from radvqa_jax.evaluation import published, reliance, report, score_tables
from radvqa_jax.evaluation.convert import Predictions, find_files, name_runs, names_run, propose_run, to_predictions
from radvqa_jax.evaluation.judge_file import JudgeFile, find_judges
from radvqa_jax.evaluation.line_scores import OTHER_IMAGES, dataset_of, run_of
from radvqa_jax.evaluation.scan import Scan, scan
from radvqa_jax.evaluation.scorable import check_not_asked
from radvqa_jax.evaluation.score_types import UNSEEN
from radvqa_jax.evaluation.scoring import pair
from radvqa_jax.files import file_name, sha256, write_json
from radvqa_jax.runners.answered_rows import check_answered, check_data
from radvqa_jax.runners.evaluate import (
    blind_guesses,
    image_of,
    is_synthetic,
    read_sheets,
    write_scores,
)
from radvqa_jax.runners.score_files import only_answers
from radvqa_jax.schema import Record

STEMS: dict[str, str] = dict(
    zip(OTHER_IMAGES, ("_swapped", "_blank"), strict=True)
)  # ends of the names of a job's files
# kind of UNSEEN -> end of the name of a run that was shown such images, as `_run_names` gives it.
ENDS: dict[str, str] = {kind: OTHER_IMAGES[kind == "blank"] for kind in UNSEEN}
ENDS["swapped_any"] = f"_swapped_any{ENDS['swapped_any']}"  # a job answers for two kinds of other cases' images
Answers = dict[str, dict[str, tuple[Path, list[Record]]]]  # data set -> run -> its file, its records


def score_mode(config: Config, workdir: Path) -> None:
    """Scores predictions files: one table a data set, verdicts on every answer, and a report where they fit in memory.

    Answers to another case's image, or to a blank one, count as a separate run. A line that cannot be scored is in
    unscored.jsonl with its reason; a file with more of them than score.max_unscored is refused.
    """
    published.check_installed(config.score)
    files = only_answers(find_files(config.eval.predictions))
    _refuse_outputs(files, workdir)
    read_sheets(config)  # mistakes in these are found before the answers are scored
    rows = check_data(config)
    proposed = [propose_run(path) for path in files]
    runs = _run_names(files, proposed, config.eval.names)
    written = [f"{run}{_ending(own)}" if run else own for run, own in zip(runs, proposed, strict=True)]
    if same := [name for name in written if [other.casefold() for other in written].count(name.casefold()) > 1]:
        raise ValueError(
            f"The runs {same} would share a file. Give names that differ in more than capitals: eval.names. Only "
            "a run's answers to its own and to other images have one name."
        )
    for path, run in zip(files, runs, strict=True):
        if run:
            print(f"run {run}: {path}")
    given = [to_predictions(path, workdir / "predictions", run=run) for path, run in zip(files, written, strict=True)]
    for note in () if rows is None else check_answered(rows, [file.path for file in given]):
        print(note)
    found = scan(
        [file.path for file in given],
        workdir,
        runs=runs,
        bad={str(file.path): (str(file.original), file.bad) for file in given},
        published=config.score.published,
        max_unscored=config.score.max_unscored,
        workers=config.score.workers,
    )
    tables = score_tables.build_tables(found, resamples=config.eval.bootstrap, seed=config.seed)
    relied = reliance.of_scan(found, resamples=config.eval.bootstrap, seed=config.seed)
    score_tables.write_tables(workdir, tables, relied)
    provenance = [{"name": path.name, "sha256": sha256(path)} for path in files]
    summary = {
        "unscored": {"lines": sum(map(len, found.unscored.values())), "reasons": found.reasons},
        "tables": tables,
    }
    _write_reports(config, workdir, found, given, runs, summary | {"predictions": provenance})
    print(score_tables.format_tables(tables, relied))
    print(_closing(found, workdir))


def _refuse_outputs(files: Sequence[Path], workdir: Path) -> None:
    """Raises ValueError for a file that would be replaced, or a workdir of a run that answered questions."""
    # A description exists with the answers of a model, and with a judge's verdicts; this mode writes none.
    described = sorted(path for path in (workdir / "predictions").glob("*.json") if ".judge-" not in path.name)
    if described:
        raise ValueError(
            f"{workdir} is the folder of a run that answered questions ({described[0].stem}), and its answers and "
            "report would be replaced. Give another --workdir."
        )
    written = {(workdir / name).resolve() for name in ("verdicts.jsonl", "verdicts.csv", "unscored.jsonl", "table.csv")}
    for path in files:
        if path.resolve() in written or path.resolve().parent == (workdir / "predictions").resolve():
            raise ValueError(
                f"eval.predictions names {path}, and tables, verdicts and the report in {workdir} would be replaced. "
                "Give another --workdir."
            )


def _run_names(files: Sequence[Path], proposed: Sequence[str], names: Sequence[str]) -> list[str]:
    """The run of each file: as configured, empty to keep its own, or a new name if two files have the same or none.

    Answers to other images take the run of the file in their folder that has its answers to the own images: they are
    compared with these. If a job answered for two kinds of other cases' images, that holds for `<run>_swapped`.
    """
    if names:
        return name_runs(files, names)
    labels = name_runs(files, [])
    without = [len(files) > 1 and not names_run(path) for path in files]  # as one run, each would repeat the other
    found = [labels[i] if proposed.count(run) > 1 else run * without[i] for i, run in enumerate(proposed)]
    at = {(path.parent, run): number for number, (path, run) in enumerate(zip(files, proposed, strict=True))}
    for number, (path, run) in enumerate(zip(files, proposed, strict=True)):
        ending = _ending(run)
        own = at.get((path.parent, run.removesuffix(ending))) if ending else None
        same = [
            other.stem
            for other, name in zip(files, proposed, strict=True)
            if (other.parent, name) == (path.parent, run)
        ]
        if own is not None and (len(same) == 1 or path.stem == run.removesuffix(ending) + STEMS[ending]):
            found[number] = found[own]
    return found


def _ending(run: str) -> str:
    """The end of the name of a run that was shown other images; empty for the own images."""
    return next((ending for ending in OTHER_IMAGES if run.endswith(ending)), "")


def _closing(found: Scan, workdir: Path) -> str:
    """The closing message: the numbers of scored and unscored lines, and the paths of the results."""
    lines, bad = sum(found.lines.values()), sum(map(len, found.unscored.values()))
    text = [
        f"{lines - bad} of {lines} lines are scored; verdicts.jsonl and verdicts.csv in {workdir} have each of them,"
    ]
    text.append("table.csv, table.md and table.tex every cell.")
    if bad:
        text.append(f"{bad} lines are not scored, and counted nowhere; unscored.jsonl has each with its reason:")
        text += [f"  {count} x {reason}" for reason, count in list(found.reasons.items())[:5]]
    return "\n".join(text)


def _read(found: Scan, given: Sequence[Predictions], runs: Sequence[str]) -> Answers:
    """The records that were scored."""
    answers: Answers = {}
    for file, run in zip(given, runs, strict=True):
        skipped = set(found.unscored.get(str(file.path), ()))
        for line in typed_json.iter_lines(file.path, Record):
            if line.number in skipped or line.value is None:
                continue
            record = line.value._replace(run=run) if run else line.value
            by_run = answers.setdefault(dataset_of(record.source), {})
            by_run.setdefault(run_of(record), (file.path, []))[1].append(record)
    return answers


def _write_reports(
    config: Config,
    workdir: Path,
    found: Scan,
    given: Sequence[Predictions],
    runs: Sequence[str],
    summary: Mapping[str, Any],
) -> None:
    """Writes scores.json, and a report for each data set whose runs answer the same questions, if they fit in memory.

    With one data set the report is in `workdir`, with several each is in a folder of its own below. Reports of an
    earlier run in `workdir` are removed: they are of other answers.
    """
    _remove_reports(workdir)
    lines = sum(found.lines.values())
    if lines > config.score.report_lines:
        print(
            f"No report.html: {lines} lines are more than score.report_lines={config.score.report_lines}. It needs all "
            "answers in memory; the tables are complete."
        )
        write_json(workdir / "scores.json", dict(summary))
        return
    answers = _read(found, given, runs)
    otherwise = {dataset: _asked_otherwise(by_run) for dataset, by_run in answers.items()}
    if len(answers) > 1:
        folders = [dataset for dataset, why in otherwise.items() if not why]
        write_json(workdir / "scores.json", {**summary, "folders": folders})
    for dataset, by_run in answers.items():
        if why := otherwise[dataset]:
            print(f"No report.html for {dataset}: {why}")
            if len(answers) == 1:
                write_json(workdir / "scores.json", dict(summary))
            continue
        folder = workdir if len(answers) == 1 else workdir / file_name(dataset)
        write_scores(config, folder, _experiment(config, dataset, by_run), extra=summary if len(answers) == 1 else {})


class _Earlier(NamedTuple):
    """The field of scores.json that says which data sets have a report in a folder of their own."""

    folders: list[str]


def _remove_reports(workdir: Path) -> None:
    """Removes the reports that an earlier run of this mode wrote to `workdir` and to its data sets' folders."""
    folders = [workdir]
    with contextlib.suppress(OSError, ValueError):  # no earlier run, or a damaged scores.json, which is replaced
        earlier = typed_json.read(workdir / "scores.json", dict[str, Any])
        datasets = typed_json.check_part(earlier, _Earlier, where="scores.json").folders
        folders += [workdir / file_name(dataset) for dataset in datasets]
    for folder in folders:
        for name in ("report.html", "table.txt", "scores.json"):
            (folder / name).unlink(missing_ok=True)


def _asked_otherwise(by_run: Mapping[str, tuple[Path, list[Record]]]) -> str:
    """The reason why the runs do not answer the same questions; empty if they do."""
    (first, (_, records)), *others = by_run.items()
    for name, (_, other) in others:
        try:
            pair(records, other)
        except ValueError as error:
            return f"its runs {first!r} and {name!r} do not answer the same questions. {error}"
    return ""


def _unseen(runs: Mapping[str, list[Record]]) -> dict[str, dict[str, list[Record]]]:
    """kind of UNSEEN -> run -> its answers to such images, for the runs whose answers to the own images are there."""
    own = [run for run in runs if not _ending(run)]
    return {kind: {run: runs[run + end] for run in own if run + end in runs} for kind, end in ENDS.items()}


def _experiment(config: Config, dataset: str, by_run: Mapping[str, tuple[Path, list[Record]]]) -> report.Experiment:
    """The inputs of one data set's report."""
    answered = {run: records for run, (_, records) in by_run.items()}
    unseen, readings = _unseen(answered), read_sheets(config)
    paths = dict.fromkeys(path for path, _ in by_run.values())
    judged: dict[str, list[JudgeFile]] = {run: find_judges(path) for run, (path, _) in by_run.items()}
    below = {run + ENDS[kind] for kind, found in unseen.items() for run in found}  # rows of another run
    below -= {run for run in answered if judged[run]} | {reading.run for reading in readings}
    # Answers to other images come first: the last run is that of the summary.
    runs = {run: answered[run] for run in sorted(answered, key=lambda run: not _ending(run)) if run not in below}
    rows = _asked_rows(config, next(iter(answered.values())))
    train_rows = None if rows is None else _train_rows(config, asked=rows)
    described = [{"name": path.name, "sha256": sha256(path)} for path in paths]
    return report.Experiment(
        f"Scores of {next(iter(paths)).name}" if len(paths) == 1 else f"Scores on {dataset}",
        runs,
        unseen=unseen,
        **({} if rows is None or train_rows is None else blind_guesses(train_rows, rows)),
        judged=judged,
        readings=readings,
        image=None if rows is None else image_of(rows),
        provenance={
            "synthetic": is_synthetic(answered),
            "predictions": described[0] if len(described) == 1 else described,
        },
    )


def _prepared(config: Config, field: str) -> SourceConfig | None:
    """The source in a field of `config.eval` if its data set is named and prepared; else None, and prints the reason.

    Raises:
        ValueError: if the configuration names data that cannot exist.
    """
    source: SourceConfig = getattr(config.eval, field)
    if not source.dataset:
        print(f"No blind baselines: eval.{field}.dataset is empty.")
        return None
    builder = make_builder(source.dataset, builder_config=source.builder_config, data=config.data)
    if not builder.is_prepared():
        print(f"No blind baselines: {source.dataset} is not prepared in {config.data.data_dir}.")
        return None
    return source


def _asked_rows(config: Config, records: list[Record]) -> RowSource | None:
    """The rows that the records answer; None if the data do not hold them all, and prints the reason."""
    if (source := _prepared(config, "source")) is None:
        return None
    asked = {(record.source, record.question_id) for record in records}
    rows = load_rows(dataclasses.replace(source, limit=0), config.data)
    rows = rows.select([i for i, row in enumerate(rows.texts()) if (row["source"], row["question_id"]) in asked])
    if len(rows) != len(asked):
        print(f"No blind baselines: {rows.name} holds {len(rows)} of the {len(asked)} questions that were answered.")
        return None
    return rows


def _train_rows(config: Config, *, asked: RowSource) -> RowSource | None:
    """The training rows of the baselines; None, and prints the reason, if none are prepared or they were asked."""
    if asked.source.task == "caption":
        print("No blind baselines: they answer questions, and captions were asked for.")
        return None
    source = _prepared(config, "train_source")
    if source is None:
        return None
    rows = load_rows(source, config.data, seed=config.seed)
    try:
        check_not_asked(rows, asked)
    except ValueError as error:
        print(f"No blind baselines: {error}")
        return None
    return rows
