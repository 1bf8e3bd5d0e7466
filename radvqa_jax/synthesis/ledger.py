"""The record of finished work: candidates.jsonl, and written.jsonl with a line for each task.

Pairs are on the disk before the line that says their piece of work is done. A run that was killed in between does that
piece again, from the cache of replies, gets the same pairs under the same ids, and keeps each once.
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
    """One finished piece of work: what one writer made of one image."""

    work_id: str
    dataset: str
    builder_config: str
    split: str
    image_id: str
    writer: str
    state: Literal["written", "rejected"]  # rejected: no reply could be used
    why: str = ""  # rejected: malformed, refused, truncated, empty or off schema, of the last reply
    replies: int = 0  # that were read
    pairs: int = 0  # in the reply that was used
    tokens: int = 0  # of all replies
    model: str = ""  # as the endpoint calls itself
    distinct: int = 0  # distinct pairs among them, each a line of candidates.jsonl


def read_ledger(path: Path) -> list[Done]:
    """The lines of a ledger, of each piece of work the last; none if there is no file.

    Raises:
        ValueError: naming the line and the field, if a line is something else.
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
    """Raises ValueError if fewer pairs of an image are there than were written about it."""
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
        """Reads what is there.

        Args:
            folder: the workdir.
            settings: what the pairs depend on; the same for all pairs of a workdir.

        Raises:
            ValueError: if the workdir holds pairs of other settings, naming them, or lacks pairs that were written.
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
                    "--workdir, or the settings of then."
                )

    def __contains__(self, work_id: str) -> bool:
        return work_id in self._done

    @property
    def n_pairs(self) -> int:
        """How many distinct pairs there are."""
        return len(self._ids)

    def add(self, finished: Sequence[tuple[Done, Sequence[Candidate]]]) -> int:
        """Keeps finished pieces of work; returns how many pairs are new. All is on the disk when this returns."""
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
