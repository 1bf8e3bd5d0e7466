"""The record of finished work: candidates.jsonl, and written.jsonl with a line for each task.

Pairs are on the disk before the line that marks their piece of work as done. A run after a kill in between repeats that
piece from the cache of replies, gets the same pairs with the same ids, and keeps each pair once.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from radvqa_jax import typed_json
from radvqa_jax.files import append_jsonl, write_json
from radvqa_jax.synthesis.candidates import FILE_NAME, Candidate, append_candidates, read_candidates

LEDGER, SETTINGS = "written.jsonl", "writing.json"


class Done(NamedTuple):
    """One finished piece of work: the result of one writer for one image."""

    work_id: str
    dataset: str
    builder_config: str
    split: str
    image_id: str
    writer: str
    state: Literal["written", "rejected"]  # rejected: no reply was usable
    why: str = ""  # rejected: malformed, refused, truncated, empty or off schema, of the last reply
    replies: int = 0  # that were read
    pairs: int = 0  # in the reply that was used
    tokens: int = 0  # of all replies
    model: str = ""  # as the endpoint calls itself
    distinct: int = 0  # distinct pairs among them, each a line of candidates.jsonl
    estimated: bool = False  # whether `tokens` includes estimates; earlier releases did not write it


class Totals(NamedTuple):
    """The sums over a ledger, whatever runs wrote it."""

    rejected: dict[str, int]  # "writer: reason" -> pieces of work without a usable reply, the most frequent first
    replies: int  # that were read
    tokens: int
    estimated: bool  # whether the number of tokens is estimated


def total(done: Sequence[Done]) -> Totals:
    """The sums over the lines of a ledger. They do not depend on the order of the lines."""
    rejected = Counter(f"{line.writer}: {line.why}" for line in done if line.state == "rejected")
    return Totals(
        dict(sorted(rejected.items(), key=lambda item: (-item[1], item[0]))),
        sum(line.replies for line in done),
        sum(line.tokens for line in done),
        any(line.estimated for line in done),
    )


def read_ledger(path: Path) -> list[Done]:
    """The lines of a ledger, the last one for each piece of work; no lines if there is no file.

    Raises:
        ValueError: naming the line and the field, if a line is not valid.
    """
    found: dict[str, Done] = {}
    for line in typed_json.iter_lines(path, Done) if path.is_file() else ():
        if line.error is not None:
            if not line.text.endswith(b"\n"):
                break
            raise line.error
        assert line.value is not None
        found[line.value.work_id] = line.value
    return list(found.values())


def _check_kept(done: Sequence[Done], pairs: Sequence[Candidate], path: Path) -> None:
    """Raises ValueError if an image has fewer pairs than were written about it."""
    kept = Counter((pair.dataset, pair.builder_config, pair.image_id, pair.writer) for pair in pairs)
    for line in done:
        if (there := kept[line.dataset, line.builder_config, line.image_id, line.writer]) < line.distinct:
            raise ValueError(
                f"{path} has {there} of the {line.distinct} pairs that {line.writer} wrote about image "
                f"{line.image_id!r}: lines were removed. Put them back, or write the questions in a new workdir."
            )


class Ledger:
    """The files of one workdir. Not for several threads."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        """Reads the files of the workdir, if there are any.

        Args:
            folder: the workdir.
            settings: the settings that the pairs depend on; the same for all pairs of a workdir.

        Raises:
            ValueError: if the workdir holds pairs of other settings, with their names, or lacks pairs that were
                written.
        """
        self.candidates, self._path = folder / FILE_NAME, folder / LEDGER
        self._settings = folder / SETTINGS, settings
        self._check(*self._settings)
        pairs = read_candidates(self.candidates) if self.candidates.is_file() else []
        self._ids = {pair.candidate_id for pair in pairs}
        done = read_ledger(self._path)
        _check_kept(done, pairs, self.candidates)
        self._done = {line.work_id for line in done}

    @staticmethod
    def _check(path: Path, settings: dict[str, Any]) -> None:
        if path.is_file():
            before = typed_json.read(path, dict[str, Any])
            names = sorted(set(before) | set(settings))
            if other := [name for name in names if before.get(name) != settings.get(name)]:
                shown = "; ".join(f"{name}: {before.get(name)!r} then, {settings.get(name)!r} now" for name in other)
                raise ValueError(
                    f"{path.parent} holds pairs that were written with other settings ({shown}). Give another "
                    "--workdir, or go back to those settings."
                )

    def __contains__(self, work_id: str) -> bool:
        return work_id in self._done

    @property
    def n_pairs(self) -> int:
        """The number of distinct pairs."""
        return len(self._ids)

    def add(self, finished: Sequence[tuple[Done, Sequence[Candidate]]]) -> int:
        """Saves finished pieces of work; returns the number of new pairs. Everything is on the disk on return."""
        new: dict[str, Candidate] = {}
        for _, pairs in finished:
            new |= {pair.candidate_id: pair for pair in pairs if pair.candidate_id not in self._ids}
        path, settings = self._settings
        if finished and not path.is_file():
            write_json(path, settings)
        if new:
            append_candidates(self.candidates, new.values())
            self._ids |= new.keys()
        if finished:
            counted = [line._replace(distinct=len({pair.candidate_id for pair in pairs})) for line, pairs in finished]
            append_jsonl(self._path, [line._asdict() for line in counted])
            self._done |= {line.work_id for line, _ in finished}
        return len(new)
