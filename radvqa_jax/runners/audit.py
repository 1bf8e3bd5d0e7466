"""The content of training and evaluation sets, and what they share: the mode `audit`, and the check before a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from radvqa_jax.config import Config, SourceConfig
from radvqa_jax.data.audit import audit, format_report, say
from radvqa_jax.data.audit_report import write_audit
from radvqa_jax.data.rows import RowSource
from radvqa_jax.data.sources import default_config_name, load_rows
from radvqa_jax.evaluation import baselines, scoring
from radvqa_jax.evaluation.scorable import check_not_asked
from radvqa_jax.runners.data import stage_sources


def _whole(source: SourceConfig) -> SourceConfig:
    """The source without the settings that concern only a part of training or evaluation; its filters stay."""
    return SourceConfig(source.dataset, source.builder_config, source.split, source.task, source.where)


def _load(config: Config, sources: list[SourceConfig]) -> dict[str, RowSource]:
    """The rows of each source, by a descriptive name: data set, split, task and filters."""
    found = {}
    for source in dict.fromkeys(map(_whole, sources)):
        rows = load_rows(source, config.data)
        filters = [entry["filter"] for entry in rows.fingerprint.get("filters", [])]
        parts = [*(["captions"] if source.task == "caption" else []), *filters]
        found[rows.name + (f" ({'; '.join(parts)})" if parts else "")] = rows
    return found


def evaluated_sources(config: Config) -> list[SourceConfig]:
    """The sets that are evaluated."""
    validated = [config.stages[name].eval_source for name in config.stage_names]
    named = [config.eval.source, *config.audit.also_evaluate, *validated]
    return [source for source in named if source.dataset]


def _is_side(side: str, rows: RowSource) -> bool:
    """Whether a name means these rows: `slake/en:train`, or `slake:train` for the default builder config."""
    plain = f"{rows.source.dataset}:{rows.source.split}"
    default = default_config_name(rows.source.dataset)
    return side.strip() == rows.name or (side.strip() == plain and str(rows.fingerprint["builder_config"]) == default)


def _accepts(entry: str, first: RowSource, second: RowSource) -> bool:
    one, _, other = entry.partition("~")
    return any(_is_side(one, a) and _is_side(other, b) for a, b in ((first, second), (second, first)))


def unaccepted(config: Config, report: Mapping[str, Any], sets: Mapping[str, RowSource]) -> list[dict[str, Any]]:
    """The leaks of a report that `audit.accept` does not name; prints the entries that do not name a leak."""
    leaks = [pair for pair in report["shared"] if pair["leak"]]
    accept = config.audit.accept
    accepted = [[e for e in accept if _accepts(e, sets[pair["first"]], sets[pair["second"]])] for pair in leaks]
    for entry in sorted(set(accept) - {e for entries in accepted for e in entries}):
        print(f"audit.accept names {entry!r}, but there is no such leak.", flush=True)
    return [pair for pair, entries in zip(leaks, accepted, strict=True) if not entries]


def _refusal(leaks: list[dict[str, Any]], sets: Mapping[str, RowSource]) -> str:
    """The reason why a run may not start, and the ways out."""
    lines, sides = [], []
    for pair in leaks:
        shared = ", ".join(say(pair, kind) for kind in pair["leak"])
        lines.append(f"{pair['second']} is evaluated and shares {shared} with {pair['first']}, which is trained on.")
        sides.append("~".join(sets[pair[side]].name for side in ("first", "second")))
    accept = ", ".join(map(repr, dict.fromkeys(sides)))
    return (
        " ".join(lines) + " Train or evaluate on other data, leave rows out (source.where, another builder_config), or "
        f'accept it by name and say so with every score: --config.audit.accept="({accept},)".'
    )


def audit_all(config: Config) -> tuple[dict[str, Any], dict[str, RowSource]]:
    """Compares training with evaluation sets, and prints what they share.

    Returns (the report, {name: rows} of the sets).
    """
    trained = _load(config, stage_sources(config))
    evaluated = _load(config, evaluated_sources(config))
    sets = trained | evaluated
    report = audit(sets, trained=list(trained), evaluated=list(evaluated), near_bits=config.audit.near_bits)
    print(format_report(report), flush=True)
    return report, sets


class LeakError(ValueError):
    """Training and evaluation sets share something that they must not share."""


def refuse_leaks(config: Config, workdir: Path) -> dict[str, Any]:
    """Audits the sets of a run and returns the report.

    Raises:
        LeakError: naming what is shared, if there is a leak that `audit.accept` does not name.
    """
    if not evaluated_sources(config):
        print("No audit: eval.source.dataset is empty, so nothing is evaluated that training could have seen.")
        return {"splits": {}, "shared": [], "clean": True}
    report, sets = audit_all(config)
    _write_page(config, workdir, report, sets)
    if leaks := unaccepted(config, report, sets):
        raise LeakError(_refusal(leaks, sets))
    return report


def _blind(config: Config, sets: Mapping[str, RowSource]) -> dict[str, Any]:
    """{evaluated set: {question_only, majority: accuracy by column}} from the answers of eval.train_source."""
    source = config.eval.train_source
    asked = [evaluated for evaluated in evaluated_sources(config) if evaluated.task == "vqa"]
    if not source.dataset or source.task != "vqa" or not asked:
        return {}
    rows = load_rows(source, config.data, seed=config.seed)
    train = list(rows.texts())
    found: dict[str, Any] = {}
    for evaluated in asked:
        (name,) = _load(config, [evaluated])
        try:
            check_not_asked(rows, sets[name])
        except ValueError as error:
            print(f"No blind baselines: {error}")
            continue
        test = list(sets[name].texts())
        answered = {"question_only": baselines.question_only(train, test), "majority": baselines.majority(train, test)}
        found[name] = {
            kind: scoring.score(records, resamples=config.eval.bootstrap, seed=config.seed).to_json()
            for kind, records in answered.items()
        }
    return found


def _write_page(config: Config, workdir: Path, report: dict[str, Any], sets: Mapping[str, RowSource]) -> Path:
    """Writes audit.json and audit.html; the page shows images only if `report.images` allows them."""
    about = {"accepted": list(config.audit.accept), "near_bits": config.audit.near_bits}
    return write_audit(workdir, report | about, sets=sets if config.report.images else None)


def audit_mode(config: Config, workdir: Path) -> None:
    """Writes audit.json and audit.html; ends with an error if a run with this configuration would be refused."""
    report, sets = audit_all(config)
    path = _write_page(config, workdir, report | {"blind": _blind(config, sets)}, sets)
    print(f"The report is {path}", flush=True)
    if leaks := unaccepted(config, report, sets):
        raise ValueError("Training would not start. " + _refusal(leaks, sets))
