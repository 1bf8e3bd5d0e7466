"""questions.html and questions.json: written pairs, the catch of each check, and accepted pairs."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from radvqa_jax import files
from radvqa_jax.evaluation.tables import align
from radvqa_jax.pages import flat_lines, render_page
from radvqa_jax.synthesis.checks import Check, Checked, funnel

_TEMPLATES = Path(__file__).parent / "templates"
REPORT, PAGE = "questions.json", "questions.html"
ACCEPTED_SHOWN = 10
REJECTED_SHOWN = 3  # of each check
CAPTION_SHOWN = 300  # characters


def _sources(checked: Sequence[Checked]) -> list[dict[str, Any]]:
    """The numbers of written and accepted pairs for each set, writer and split."""
    groups: defaultdict[tuple[str, str, str], list[Checked]] = defaultdict(list)
    for pair in checked:
        candidate = pair.item.candidate
        name = "/".join(filter(None, (candidate.dataset, candidate.builder_config)))
        groups[name, candidate.writer, candidate.split].append(pair)
    rows = []
    for (dataset, writer, split), pairs in sorted(groups.items()):
        reasons = Counter(pair.failed[0] for pair in pairs if not pair.accepted)
        rows.append(
            {
                "dataset": dataset,
                "writer": writer,
                "split": split,
                "written": len(pairs),
                "accepted": sum(pair.accepted for pair in pairs),
                "images": len({(c.builder_config, c.image_id) for c in (pair.item.candidate for pair in pairs)}),
                "reason": "{}: {}".format(*reasons.most_common(1)[0]) if reasons else "",
            }
        )
    return rows


def _example(pair: Checked, reason: str) -> dict[str, str]:
    candidate, caption = pair.item.candidate, " ".join(pair.item.evidence.caption.split())
    options = f" ({' | '.join(candidate.choices)})" if candidate.choices else ""
    shown = caption if len(caption) <= CAPTION_SHOWN else caption[: CAPTION_SHOWN - 1] + "…"
    return {"question": candidate.question + options, "answer": candidate.answer, "caption": shown, "reason": reason}


def _examples(checked: Sequence[Checked], checks: Sequence[Check]) -> dict[str, list[dict[str, str]]]:
    """{title: rows}: accepted pairs from the whole range, and some pairs that each check rejects."""
    accepted = [pair for pair in checked if pair.accepted]
    step = max(1, len(accepted) // ACCEPTED_SHOWN)
    found = {"Accepted": [_example(pair, ", ".join(pair.tags)) for pair in accepted[::step][:ACCEPTED_SHOWN]]}
    for check in checks:
        rejected = [pair for pair in checked if check.name in pair.failed]
        # Different wordings show more than the first ones.
        distinct = list({pair.item.candidate.question: pair for pair in reversed(rejected)}.values())[::-1]
        if distinct:
            rows = [_example(pair, pair.results[check.name].reason) for pair in distinct[:REJECTED_SHOWN]]
            found[f"Rejected by {check.name}"] = rows
    return found


def build_report(
    checked: Sequence[Checked],
    checks: Sequence[Check],
    *,
    title: str,
    synthetic: bool,
    balance: tuple[Mapping[str, Any], Mapping[str, Any]],
    measured: Mapping[str, Any] | None,
    review: Mapping[str, Any] | None,
    cost: Mapping[str, Any],
    settings: Mapping[str, Any],
    malformed: Mapping[str, int],
) -> dict[str, Any]:
    """The whole content of the page, as JSON values.

    Args:
        checked: every pair with its results.
        checks: in their order.
        title: of the page.
        synthetic: whether every image is drawn by a program.
        balance: the composition of pairs, before and after (balance.describe_balance).
        measured: recall and precision on planted pairs; None if they were not measured.
        review: the readers' findings; None if nobody read.
        cost: of writing and checking; figures of one run say "by this run".
        settings: of writers, model and checks.
        malformed: writer and reason -> number of images about which no reply of any run gave a pair; `no reply` and
            reason -> those about which the last run got none.
    """
    return {
        "title": title,
        "synthetic": synthetic,
        "candidates": len(checked),
        "accepted": sum(pair.accepted for pair in checked),
        "funnel": funnel(checked, checks),
        "measured": measured,
        "sources": _sources(checked),
        "malformed": dict(malformed),
        "examples": _examples(checked, checks),
        "balance_before": balance[0],
        "balance_after": balance[1],
        "review": review,
        "cost": flat_lines(cost),
        "settings": flat_lines(settings),
    }


def format_funnel(report: Mapping[str, Any]) -> str:
    """The first table of the page for the terminal: what each check caught."""
    rows = [["check", "rejected", "alone", "left", "planted caught", "precision on planted pairs"]]
    planted = report["measured"]
    rows.append(["written", "", "", str(report["candidates"]), f"of {planted['false']}" if planted else "", ""])
    for row in report["funnel"]:
        measured = (planted or {}).get("checks", {}).get(row["check"], {})
        own, caught = measured.get("precision"), sum(measured.get("caught", {}).values())
        if row["off"]:
            note = "off"
        elif row["not_run"] == report["candidates"]:
            note = "not run"
        else:
            note = f"{own['value']:.3f} (n={own['n']})" if own else ""
        rows.append([row["check"], str(row["failed"]), str(row["alone"]), str(row["left"]), str(caught or ""), note])
    share = report["accepted"] / max(report["candidates"], 1)
    return "\n".join(
        [*align(rows), f"{report['accepted']} of {report['candidates']} pairs are accepted ({share:.1%})."]
    )


def write_report(folder: Path, report: Mapping[str, Any]) -> Path:
    """Writes questions.json and questions.html, each whole or not at all; returns the path of the page."""
    files.write_json(folder / REPORT, dict(report))
    path = folder / PAGE
    files.write_text(path, render_page(_TEMPLATES, "questions", report=report))
    return path
