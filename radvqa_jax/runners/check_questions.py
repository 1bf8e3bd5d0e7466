"""Checks written pairs and prepares them as a data set: the second half of mode=write_questions."""

import dataclasses
import datetime
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from radvqa_jax import __version__
from radvqa_jax.chat_client import ChatClient
from radvqa_jax.config import Config, JudgeConfig, SourceConfig
from radvqa_jax.data.sources import find_prepared
from radvqa_jax.data.written import DATASET as WRITTEN
from radvqa_jax.data.written import prepare_written, written_builder
from radvqa_jax.files import write_jsonl
from radvqa_jax.synthesis import balance, planted, suite
from radvqa_jax.synthesis.candidates import Candidate
from radvqa_jax.synthesis.card import write_card
from radvqa_jax.synthesis.chat_checks import chat_checks
from radvqa_jax.synthesis.checks import Check, Checked, Result, check_names, run_checks
from radvqa_jax.synthesis.evidence import Evidences, evaluated_questions, make_items
from radvqa_jax.synthesis.prepared_rows import rows_by_split
from radvqa_jax.synthesis.report import build_report, format_funnel, write_report
from radvqa_jax.synthesis.review import apply_review, describe_left_out, read_reviews, score_review, write_review

# Of the checks of single pairs and of repeated ones; the others look at whole sets.
NOT_MEASURED = ("blind_lookup", "balance")
UNCHECKED = "_unchecked"


class Origin(NamedTuple):
    """The results of writing, apart from the pairs."""

    cost: Mapping[str, Any]  # replies and tokens of the whole set; what says "by this run" is of one run
    malformed: Mapping[str, int]  # reason -> images without a pair (report.py says which)
    used: tuple[int, int] = (0, 0)  # requests that this run sent, and their tokens


class Outcome(NamedTuple):
    """The results of the checks."""

    checked: list[Checked]
    checks: list[Check]
    planted: dict[str, str]  # candidate_id -> the kind of its deliberate error
    measured: dict[str, Any] | None
    review: dict[str, Any] | None
    cost: dict[str, Any]

    @property
    def sha256(self) -> str:
        """The hash of the names and versions of all checks."""
        named = [[check.name, check.version] for check in self.checks]
        return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def check_settings(config: Config) -> None:
    """Raises ValueError for an invalid name of a set, an unknown check, an unreadable sheet, or an evaluated set that
    is not prepared."""
    written_builder(config.synthesis.name, config.data.data_dir)
    settings = config.synthesis.checks
    check_names(suite.all_checks(settings, known=[], chat=chat_checks(settings, None)), settings.off)
    read_reviews(config.synthesis.review_sheets)
    for source in compared_sets(config):
        find_prepared(source, config.data)


def compared_sets(config: Config) -> list[SourceConfig]:
    """The sets, apart from all prepared validation and test splits, whose questions no written pair may repeat."""
    own = {config.synthesis.name, config.synthesis.name + UNCHECKED}  # of an earlier run, which this one replaces
    named = (config.eval.source, *config.audit.also_evaluate)
    asked = [source for source in named if source.dataset and source.task == "vqa"]
    others = [source for source in asked if source.dataset != WRITTEN or source.builder_config not in own]
    return [*others, *config.synthesis.checks.against]


def make_client(config: Config, workdir: Path, *, used: tuple[int, int]) -> ChatClient | None:
    """The client of the chat model that checks; None if the configuration names none.

    `used`: requests and tokens of writing. The limits are those of the whole run.
    """
    chat = config.synthesis.chat
    if not chat.base_url and not chat.offline:
        return None
    cache = Path(chat.cache).expanduser() if chat.cache else workdir / "chat_cache.jsonl"
    return ChatClient(JudgeConfig(**dataclasses.asdict(chat)), cache=cache, group="synthesis.chat", used=used)


def _measure(config: Config, checks: Sequence[Check]) -> dict[str, Any] | None:
    """Recall and precision, on planted pairs, of the checks that do not ask a model."""
    if not config.synthesis.measure:
        return None
    pairs = planted.plant(config.synthesis.measure, seed=config.seed)
    off = [check.name for check in checks if check.name in (*NOT_MEASURED, *config.synthesis.checks.off)]
    return planted.measure(pairs, run_checks([pair.item for pair in pairs], checks, off=off), seed=config.seed)


def _spoiled(config: Config, candidates: Sequence[Candidate], evidences: Evidences) -> list[tuple[Candidate, str]]:
    share = config.synthesis.plant
    if not share:
        return []
    return planted.spoil(evidences.rows(), round(len(candidates) * share / (1 - share)), seed=config.seed)


def check_pairs(
    config: Config,
    workdir: Path,
    candidates: Sequence[Candidate],
    evidences: Evidences,
    *,
    used: tuple[int, int] = (0, 0),
) -> Outcome:
    """Runs every check over the pairs, and applies the readers' verdicts. `used`: requests and tokens of writing.

    Raises:
        ValueError: for an unknown check, changed evidence, or a chat model that does not answer; its answers so far are
            kept, and the next run continues from there.
    """
    settings = config.synthesis.checks
    readings = read_reviews(config.synthesis.review_sheets)
    spoiled = _spoiled(config, candidates, evidences)
    known = evaluated_questions(compared_sets(config), config.data)
    client = make_client(config, workdir, used=used)
    checks = suite.all_checks(settings, known=known, chat=chat_checks(settings, client), seed=config.seed)
    plain = [check for check in checks if check.name not in {check.name for check in chat_checks(settings, None)}]
    measured = _measure(config, plain)
    start = time.monotonic()
    try:
        checked = run_checks(
            make_items([*candidates, *(candidate for candidate, _ in spoiled)], evidences), checks, off=settings.off
        )
    finally:
        if client is not None:
            client.close()
    seconds = time.monotonic() - start
    cost: dict[str, Any] = {
        "seconds taken by this run": round(seconds, 1),
        "pairs per second by this run": round(len(checked) / max(seconds, 1e-9)),
    }
    if client is not None:  # no file names the replies that a set's checks read
        cost |= {"requests sent by this run": client.calls, "tokens used by this run": client.tokens}
    review = None
    if readings:
        review = score_review(readings, checked, workdir, seed=config.seed)
        for line in describe_left_out(review, workdir):
            print(line, flush=True)
        checked = apply_review(checked, readings, use=config.synthesis.review)
        checks = [*checks, Check("review", "1", "review", "A person discarded it.", lambda items: [Result("passed")])]
    return Outcome(checked, checks, {c.candidate_id: kind for c, kind in spoiled}, measured, review, cost)


def _prepare(
    config: Config, outcome: Outcome, evidences: Evidences, about: dict[str, Any], report: Mapping[str, Any]
) -> dict[str, Path]:
    """Prepares the accepted pairs, and on request also all pairs; returns {name: folder}."""

    def finish(folder: Path, rows: Callable[[], Iterator[dict[str, Any]]], about: Mapping[str, Any]) -> None:
        now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        write_card(folder, about, rows=rows(), date=now)
        write_report(folder, report)  # so that reports of training on the set can show the catch of each check

    accepted = [pair for pair in outcome.checked if pair.accepted]
    if not accepted:
        raise ValueError(
            f"None of {len(outcome.checked)} pairs passed the checks; questions.html says why. Nothing was prepared."
        )
    sets = {config.synthesis.name: accepted}
    if config.synthesis.unchecked:
        sets[config.synthesis.name + UNCHECKED] = outcome.checked
    folders = {}
    for name, pairs in sets.items():
        orders = balance.letter_orders([pair.item.candidate for pair in pairs if pair.accepted], seed=config.seed)
        give = rows_by_split(pairs, evidences, choices=orders, planted=outcome.planted, checks_sha256=outcome.sha256)
        folders[name] = prepare_written(
            name, data_dir=config.data.data_dir, rows=give, about=about | {"name": name}, finish=finish
        )
    return folders


def check_questions(config: Config, workdir: Path, candidates: Sequence[Candidate], written: Origin) -> Path:
    """Checks the pairs, prepares those that pass, and writes lists, report and card; returns the path of the report.

    accepted.jsonl and rejected.jsonl hold every pair with the result of every check.
    """
    evidences = Evidences(candidates, config.data)
    outcome = check_pairs(config, workdir, candidates, evidences, used=written.used)
    versions = {check.name: check.version for check in outcome.checks}
    for name, wanted in (("accepted.jsonl", True), ("rejected.jsonl", False)):
        lines = (
            pair.to_json(versions) | {"planted": outcome.planted.get(pair.item.candidate.candidate_id, "")}
            for pair in outcome.checked
            if pair.accepted == wanted
        )
        write_jsonl(workdir / name, lines)
    _draw_sheet(config, workdir, outcome, evidences)
    report = _report(config, outcome, evidences, written)
    path = write_report(workdir, report)
    print(format_funnel(report), flush=True)
    about = {
        "radvqa_jax": __version__,
        "name": config.synthesis.name,
        "sources": evidences.fingerprints(),
        "settings": dataclasses.asdict(config.synthesis),
        "seed": config.seed,
        "checks": versions,
        "checks_sha256": outcome.sha256,
        "written": len(outcome.checked),
        "accepted": report["accepted"],
        "planted": len(outcome.planted),
        "measured": outcome.measured,
        "review": outcome.review,
        "balance": report["balance_after"],
        "models": sorted({pair.item.candidate.model for pair in outcome.checked} - {""}),
        "writers": sorted({pair.item.candidate.writer for pair in outcome.checked}),
        "prompts_sha256": sorted({pair.item.candidate.prompt_sha256 for pair in outcome.checked} - {""}),
        "synthetic": report["synthetic"],
        "funnel": report["funnel"],
    }
    for name, folder in _prepare(config, outcome, evidences, about, report).items():
        print(f"written/{name} is prepared in {folder}", flush=True)
    print(f"The report is {path}", flush=True)
    return path


def _draw_sheet(config: Config, workdir: Path, outcome: Outcome, evidences: Evidences) -> None:
    """Writes the sheet of pairs to be read, if the configuration asks for one."""
    if not config.synthesis.review_rows:
        return
    if config.synthesis.review_sheets:  # their weights are in the draw, and their verdicts in the results
        print("synthesis.review_sheets is given, so no sheet is drawn. For another sheet, leave it out.", flush=True)
        return
    rows = write_review(
        workdir,
        outcome.checked,
        rows=config.synthesis.review_rows,
        seed=config.seed,
        image=(lambda pair: evidences.image(pair.item.candidate)) if config.synthesis.review_images else None,
    )
    if rows:
        print(f"{rows} pairs to be read are in {workdir / 'review_pairs.csv'}", flush=True)


def _report(config: Config, outcome: Outcome, evidences: Evidences, written: Origin) -> dict[str, Any]:
    candidates = [pair.item.candidate for pair in outcome.checked]
    accepted = [pair.item.candidate for pair in outcome.checked if pair.accepted]
    orders = balance.letter_orders(accepted, seed=config.seed)
    settings = dataclasses.asdict(config.synthesis) | {"seed": config.seed}
    return build_report(
        outcome.checked,
        outcome.checks,
        title=f"Written questions: {config.synthesis.name}",
        synthetic=all("synthetic" in str(row["source"]).split() for row in evidences.rows()),
        balance=(balance.describe_balance(candidates), balance.describe_balance(accepted, orders)),
        measured=outcome.measured,
        review=outcome.review,
        cost={"writing": dict(written.cost), "checking": outcome.cost},
        settings=settings | {"planted_pairs": len(outcome.planted)},
        malformed=written.malformed,
    )
