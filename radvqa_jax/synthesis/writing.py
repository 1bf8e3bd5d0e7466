"""Writes candidate pairs: every piece of work once, several requests at a time, from where a run stopped."""

import contextlib
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from radvqa_jax import progress
from radvqa_jax.chat_client import BudgetSpent, ChatClient, EndpointError
from radvqa_jax.config import SynthesisConfig
from radvqa_jax.synthesis.images import Images
from radvqa_jax.synthesis.ledger import Ledger, Totals
from radvqa_jax.synthesis.work import Work, plan
from radvqa_jax.synthesis.writers import Finished, ask_writer, fill_templates, settings_of, vocabularies

BATCH = 512  # finished pieces of work that are written to the disk at a time, at most
PAUSE = 0.25  # seconds after which finished work is written; until then a kill costs work, but no reply
SWITCH = 0.0002  # seconds; Python's 0.005 let a thread with a long reply hold up all whose replies are there


class WritingStopped(ValueError):
    """Writing stopped before it finished; the pairs so far are kept."""


class Written(NamedTuple):
    """The results of a run of writing."""

    pairs: int  # in candidates.jsonl
    new: int  # of these, written by this run
    outcomes: Mapping[tuple[str, str], int]  # (writer, written or the reason why not) -> pieces of work of this run
    kinds: Mapping[tuple[str, str], int]  # (writer, kind) -> pairs of this run
    failed: Mapping[str, int]  # why no reply came -> pieces of work that the next run asks about again
    seconds: float
    calls: int  # requests sent
    tokens: int
    estimated: bool  # whether the number of tokens is estimated


@contextlib.contextmanager
def _switching(seconds: float) -> Iterator[None]:
    """Inside, a thread that waits for Python gets it after `seconds`."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(seconds)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


class _Hands:
    """Threads that take the next piece of work and do it. Nobody waits for another, so few switches cost time."""

    def __init__(self, works: Iterable[Work], do: Callable[[Work], Finished]) -> None:
        self._works, self._do = iter(works), do
        self._planning = threading.Lock()
        self._room = threading.Condition()
        self._ready: list[Finished] = []
        self._errors: list[BaseException] = []
        self._at_work = 0
        self._stopped = False

    def batches(
        self, n: int, threads: contextlib.AbstractContextManager[ThreadPoolExecutor]
    ) -> Generator[list[Finished], None, None]:
        """Yields what the `n` threads finish; before an error is raised, what was in flight is yielded."""
        self._at_work = n
        with _switching(SWITCH), threads as pool:
            for _ in range(n):
                pool.submit(self._work)
            try:
                while self._at_work:
                    with self._room:
                        self._room.wait_for(lambda: len(self._ready) >= BATCH or not self._at_work, PAUSE)
                        batch, self._ready = self._ready, []
                        self._room.notify_all()
                    if batch:
                        yield batch
            finally:
                self._stop()  # pending work is cancelled
        if self._ready:
            yield self._ready
        if self._errors:
            raise self._errors[0]

    def _work(self) -> None:
        try:
            while (work := self._next()) is not None:
                self._keep(self._do(work))
        except BaseException as error:  # `batches` raises it
            self._errors.append(error)
            self._stop()
        finally:
            with self._room:
                self._at_work -= 1
                self._room.notify_all()

    def _next(self) -> Work | None:
        with self._planning:
            return None if self._stopped else next(self._works, None)

    def _keep(self, one: Finished) -> None:
        with self._room:
            self._ready.append(one)
            if len(self._ready) >= BATCH:
                self._room.notify_all()
                self._room.wait_for(lambda: len(self._ready) < BATCH or self._stopped)

    def _stop(self) -> None:
        with self._room:
            self._stopped = True
            self._room.notify_all()


def _finish(
    works: Iterable[Work], client: ChatClient | None, config: SynthesisConfig, images: Images, *, seed: int
) -> Generator[list[Finished], None, None]:
    """Yields finished work in batches, holding few pieces."""
    values = vocabularies(images)

    def do(work: Work) -> Finished:
        if work.writer == "templates":
            return fill_templates(work, config, values[work.image.dataset], seed=seed)
        assert client is not None
        return ask_writer(client, work, config)

    hands = _Hands(works, do)
    if client is None:
        return hands.batches(1, ThreadPoolExecutor(1))
    return hands.batches(client.config.concurrency, client.threads())


def write(
    images: Images, client: ChatClient | None, config: SynthesisConfig, folder: Path, *, seed: int, left: int
) -> Written:
    """Writes the pairs that are still missing into candidates.jsonl and written.jsonl of `folder`.

    Args:
        images: to write about.
        client: asks the chat model; None if only templates write.
        config: writers, their shares and limits.
        folder: the workdir.
        seed: of every draw.
        left: number of remaining pieces of work, for the progress bar.

    Raises:
        WritingStopped: at the end of the budget, or if the endpoint fails (too often in a row); the next run continues.
        ValueError: if the folder holds pairs of other settings.
    """
    ledger = Ledger(folder, settings_of(config, seed=seed))
    start, first = time.monotonic(), ledger.n_pairs
    outcomes: Counter[tuple[str, str]] = Counter()
    kinds: Counter[tuple[str, str]] = Counter()
    failed: Counter[str] = Counter()
    failures = 0
    works = _once(plan(images, config, seed=seed), ledger)
    batches = _finish(works, client, config, images, seed=seed)
    bar = progress.bar(name="questions written", total=left, unit="reply")
    try:
        for batch in batches:
            kept = [(one.done, one.pairs) for one in batch if one.done is not None]
            if client:
                client.sync()  # no pair is on the disk before its reply
            ledger.add(kept)
            outcomes.update((done.writer, done.why or done.state) for done, _ in kept)
            kinds.update((pair.writer, pair.kind) for _, pairs in kept for pair in pairs)
            failed.update(one.failure for one in batch if one.failure)
            rates = _rates(ledger.n_pairs - first, outcomes, failed, client, time.monotonic() - start)
            bar.set_postfix_str(rates, refresh=False)
            bar.update(len(batch))
            for one in batch:
                if one.failure and not config.chat.offline:
                    failures += 1
                elif one.answered:  # what no server wrote does not show that it works
                    failures = 0
                if failures == config.writing.max_failures:
                    raise WritingStopped(f"{config.chat.base_url} failed {failures} times in a row ({one.failure}).")
    except (BudgetSpent, EndpointError, WritingStopped) as error:
        raise WritingStopped(
            f"{error} {ledger.n_pairs} pairs are kept in {ledger.candidates.name}; start again to continue."
        ) from error
    finally:
        batches.close()
        bar.close()
    return Written(
        pairs=ledger.n_pairs,
        new=ledger.n_pairs - first,
        outcomes=outcomes,
        kinds=kinds,
        failed=failed,
        seconds=time.monotonic() - start,
        calls=client.calls if client else 0,
        tokens=client.tokens if client else 0,
        estimated=bool(client and client.estimated),
    )


def _once(works: Iterable[Work], ledger: Ledger) -> Iterator[Work]:
    """Yields the remaining work; an image that two sources name is written about once."""
    begun: set[str] = set()
    for work in works:
        if work.work_id not in ledger and work.work_id not in begun:
            begun.add(work.work_id)
            yield work


def _rates(
    new: int,
    outcomes: Mapping[tuple[str, str], int],
    failed: Mapping[str, int],
    client: ChatClient | None,
    seconds: float,
) -> str:
    done = sum(outcomes.values())
    accepted = sum(n for (_, outcome), n in outcomes.items() if outcome == "written") / max(done, 1)
    tokens = client.tokens if client else 0
    without = f", {sum(failed.values())} without a reply" if failed else ""
    speed = f"{new / seconds:.1f} pairs/s, {tokens / seconds:.0f} tokens/s"
    return f"{new} pairs, {accepted:.0%} of replies used{without}, {speed}"


def describe_work(written: Written, totals: Totals) -> str:
    """Summarises the results of a run of writing, and the totals of all runs of its workdir, for the terminal."""
    about = "about " if written.estimated else ""
    lines = [
        f"This run: {written.new} new pairs in {written.seconds:.1f} s; {written.calls} requests were sent, repeated "
        f"ones included, and took {about}{written.tokens} tokens."
    ]
    for writer in dict.fromkeys(writer for writer, _ in written.outcomes):
        found = {why: n for (name, why), n in written.outcomes.items() if name == writer}
        kinds = {kind: n for (name, kind), n in written.kinds.items() if name == writer}
        shares = ", ".join(f"{n} {kind} ({n / sum(kinds.values()):.0%})" for kind, n in sorted(kinds.items()))
        lines.append(f"  {writer}: {found.pop('written', 0)} images written about; pairs: {shares or 'none'}")
        lines += [f"    {n} rejected: {why}" for why, n in sorted(found.items(), key=lambda item: -item[1])]
    for why, n in written.failed.items():
        lines.append(f"  images without a reply: {n} ({why}). Run the same command again to ask about them.")
    about = "about " if totals.estimated else ""
    lines.append(
        f"All runs: {written.pairs} pairs; {totals.replies} replies were read, of {about}{totals.tokens} tokens; "
        f"{sum(totals.rejected.values())} images without a usable reply."
    )
    lines += [f"    {n} rejected by {why}" for why, n in totals.rejected.items()]
    return "\n".join(lines)
