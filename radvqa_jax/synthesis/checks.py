"""The checks of written pairs: their form, their results and their order.

Checks of a single pair's words run on every pair, so that a rejected pair has all their results. Checks that compare
pairs with each other, or that ask a chat model, run on the remaining pairs; for the others their result is that they
did not run.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from radvqa_jax.synthesis.candidates import Candidate
from radvqa_jax.synthesis.support import Evidence

Outcome = Literal["passed", "failed", "tagged", "not_applicable", "not_run", "off", "kept"]


class Item(NamedTuple):
    """A written pair and the evidence on its image."""

    candidate: Candidate
    evidence: Evidence


class Result(NamedTuple):
    """The result of one check for one pair."""

    outcome: Outcome
    reason: str = ""  # the reason why it failed, was tagged or did not run; empty if it passed
    other: str = ""  # the pair that it repeats: an id


PASSED = Result("passed")
REJECTED_BEFORE = Result("not_run", "rejected by an earlier check")


@dataclass(frozen=True)
class Check:
    """One check. Another version means that the same pair may get another result."""

    name: str
    version: str
    stage: Literal["rules", "support", "duplicates", "blind", "round_trip", "balance", "review"]
    about: str  # a description of the pairs that fail, in one sentence
    run: Callable[[Sequence[Item]], Sequence[Result]]
    on_all: bool = False  # also runs on pairs that an earlier check rejected


class Checked(NamedTuple):
    """A pair with the results of all checks, in the order in which they ran."""

    item: Item
    results: Mapping[str, Result]

    @property
    def failed(self) -> list[str]:
        """The names of the checks that it failed."""
        return [name for name, result in self.results.items() if result.outcome == "failed"]

    @property
    def tags(self) -> list[str]:
        """The names of the checks that tagged it."""
        return [name for name, result in self.results.items() if result.outcome == "tagged"]

    @property
    def accepted(self) -> bool:
        """Whether no check rejects it, or readers keep it in spite of the checks."""
        return not self.failed or any(result.outcome == "kept" for result in self.results.values())

    def to_json(self, versions: Mapping[str, str]) -> dict[str, Any]:
        """A line of accepted.jsonl or rejected.jsonl: the candidate and every check's result."""
        results = {
            name: {"version": versions[name], **{key: value for key, value in result._asdict().items() if value}}
            for name, result in self.results.items()
        }
        return self.item.candidate.to_json() | {"accepted": self.accepted, "checks": results}


def each(function: Callable[[Item], str]) -> Callable[[Sequence[Item]], list[Result]]:
    """Makes a check of single pairs from `function`, which gives the reason why a pair fails, or nothing."""

    def run(items: Sequence[Item]) -> list[Result]:
        return [Result("failed", why) if (why := function(item)) else PASSED for item in items]

    return run


def check_names(checks: Sequence[Check], off: Iterable[str]) -> None:
    """Raises ValueError, with the known names, if `off` names an unknown check or two checks share a name."""
    names = [check.name for check in checks]
    if repeated := [name for name, n in Counter(names).items() if n > 1]:
        raise ValueError(f"Checks share the names {repeated}.")
    if unknown := sorted(set(off) - set(names)):
        raise ValueError(f"synthesis.checks.off names {unknown}, which are not checks. Known: {', '.join(names)}.")


def run_checks(items: Sequence[Item], checks: Sequence[Check], *, off: Sequence[str] = ()) -> list[Checked]:
    """Every pair with the result of every check.

    Args:
        items: the pairs, each once.
        checks: in the order in which they run.
        off: names of checks that are left out; each pair says so.

    Raises:
        ValueError: for an unknown name in `off`, or a check that does not answer for every pair.
    """
    check_names(checks, off)
    results: list[dict[str, Result]] = [{} for _ in items]
    alive = [True] * len(items)
    for check in checks:
        if check.name in off:
            found: dict[int, Result] = dict.fromkeys(range(len(items)), Result("off"))
        else:
            asked = [index for index in range(len(items)) if check.on_all or alive[index]]
            said = list(check.run([items[index] for index in asked]))
            if len(said) != len(asked):
                raise ValueError(f"The check {check.name} gave {len(said)} results for {len(asked)} pairs.")
            found = dict(zip(asked, said, strict=True))
        for index in range(len(items)):
            result = found.get(index, REJECTED_BEFORE)
            results[index][check.name] = result
            alive[index] &= result.outcome != "failed"
    return [Checked(item, result) for item, result in zip(items, results, strict=True)]


def funnel(checked: Sequence[Checked], checks: Sequence[Check]) -> list[dict[str, Any]]:
    """The results of each check: a dict of name, version, stage, about, the number of each outcome, and `left`.

    `alone` counts the pairs that only this check rejects; `left` counts the pairs that remain after it, with those
    that readers keep in spite of earlier checks.
    """
    rows = []
    alive = [True] * len(checked)
    for check in checks:
        outcomes = Counter(pair.results[check.name].outcome for pair in checked)
        for number, pair in enumerate(checked):
            outcome = pair.results[check.name].outcome
            alive[number] = outcome == "kept" or (alive[number] and outcome != "failed")
        alone = sum(pair.failed == [check.name] for pair in checked)
        counted = {name: outcomes[name] for name in Outcome.__args__}  # pyright: ignore[reportAttributeAccessIssue]
        about = {"check": check.name, "version": check.version, "stage": check.stage, "about": check.about}
        rows.append(about | counted | {"alone": alone, "left": sum(alive)})
    return rows
