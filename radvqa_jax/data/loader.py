"""Rows -> training batches: a shuffled, mixed, restartable stream with Grain."""

import contextlib
import functools
import multiprocessing
import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing import resource_tracker
from typing import Any, Literal, NamedTuple

import grain
import numpy as np
from absl import flags

from radvqa_jax.config import DataConfig
from radvqa_jax.data.history import with_references
from radvqa_jax.data.image import to_unit
from radvqa_jax.data.mixture import Mixture, plan_mixture, realised
from radvqa_jax.data.packing import pack
from radvqa_jax.data.row_images import RowImages, make_row_images
from radvqa_jax.data.rows import RowSource
from radvqa_jax.data.sifting import sift
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.schema import Batch

# A batch is one element of the stream, so these are batches made at a time and kept ready.
READERS = 4  # threads
WORKERS_PER_CORE = 4  # more would only cost memory
PREFETCH = grain.ReadOptions(num_threads=READERS, prefetch_buffer_size=4)


@functools.cache
def _end_with_parent() -> None:
    """Ends a worker process together with its parent, even if the parent is killed and cannot stop it."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


class _TrainBatch(NamedTuple):
    """Makes this process's part of batch b; a tuple, so that it can be sent to worker processes.

    Row n of the whole stage is the `position[n]`-th of source `source[n]`, in the shuffled order of that source.
    """

    mixture: Mixture
    orders: list[grain.MapDataset]  # of each source: an endless, shuffled stream of its row numbers
    sources: list[RowSource]
    data: DataConfig
    tokenizer: Tokenizer
    images: RowImages
    seed: int
    batch_size: int  # of all processes together
    part: tuple[int, int]  # the rows of a batch that are made here, from and to

    def __call__(self, batch: int) -> Batch:
        if self.data.workers:
            _end_with_parent()
        begin, end = (batch * self.batch_size + edge for edge in self.part)
        size = self.images.resolution
        image = np.empty((end - begin, size, size, 3), np.float32)
        packed = []
        for place, number in enumerate(range(begin, end)):
            rows = self.sources[self.mixture.source[number]]
            index = self.orders[self.mixture.source[number]][int(self.mixture.position[number])]
            packed.append(self._row(rows, index, number=number, out=image[place]))
        leaves = {name: np.stack([row[name] for row in packed]) for name in packed[0]}
        return Batch(image=image, mask_example=np.ones(end - begin, np.bool_), **leaves)

    def _row(self, rows: RowSource, index: int, *, number: int, out: np.ndarray) -> dict[str, np.ndarray]:
        """Gives the packed text of a row, and writes its image into `out`."""
        row = rows[index]
        prefix, suffix = rows.text(row, template=self.data.prompt)
        # The row's number in the stage decides its augmentation: the same in any process and at any time.
        to_unit(self.images(row, name=rows.name, rng=np.random.default_rng([self.seed, number])), out)
        return pack(self.tokenizer, prefix, suffix=suffix, seq_len=self.data.seq_len, overlong=self.data.overlong)


@contextlib.contextmanager
def _without_interrupts(*, starting: bool) -> Iterator[None]:
    """Blocks Ctrl-C while worker processes start: they inherit this, and only the main process decides when to stop.

    A terminal sends Ctrl-C to all processes of a run. A signal that arrives meanwhile is delivered afterwards.
    """
    if not starting or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # otherwise it starts with the first worker and unblocks signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _close_all(iterators: list[Any]) -> None:
    while iterators:
        iterators.pop().close()


class LoaderError(ValueError):
    """The stream of batches ended for a reason outside the data, such as a killed worker process."""


class TrainLoader(Iterator[Batch]):
    """The stream of a stage's training batches, the same for the same seed, from any step on.

    Every source is shuffled again in each of its epochs; the mixture decides the source of each row. The state is the
    number of batches drawn, whatever the number of workers and processes, so a run may continue on another machine.

    Attributes:
        report: kept and rejected rows, for each source.
        rows_per_epoch: rows that can be trained on, over all sources. With one source, an epoch shows each once.
        text_tokens_per_epoch: tokens of their prompts and answers, without padding.
        mixture: the source of each row of the stage.
    """

    def __init__(
        self,
        batches: grain.MapDataset,
        *,
        mixture: Mixture,
        batch_size: int,
        workers: int,
        report: list[dict[str, Any]],
        orders: Sequence[grain.MapDataset],
        text_tokens: Sequence[dict[int, int]],
    ) -> None:
        self._batches = batches
        self._batch_size = batch_size
        self._workers = workers
        self.mixture = mixture
        self.report = report
        self._orders = orders
        self._text_tokens = text_tokens
        self.text_tokens_per_epoch = sum(sum(lengths.values()) for lengths in text_tokens)
        self.rows_per_epoch: int = sum(entry["kept"] for entry in report)
        self._iterators: list[Any] = []  # one, or none once closed
        # Also at the interpreter's end: Grain's own clean-up then comes too late and complains.
        weakref.finalize(self, _close_all, self._iterators)
        self._start(0)

    def _start(self, drawn: int) -> None:
        self.close()
        stream = self._batches.slice(slice(drawn, None)).to_iter_dataset(PREFETCH)
        if self._workers:
            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()  # Grain reads its flags to start workers; in a notebook nobody parsed them
            stream = stream.mp_prefetch(grain.MultiprocessingOptions(num_workers=self._workers))
        self._iterators.append(iter(stream))
        self._drawn, self._started = drawn, False  # worker processes are made when the first batch is drawn

    def __next__(self) -> Batch:
        if not self._iterators:
            raise ValueError("This loader is closed. Use set_state to continue, or make a new one.")
        try:
            with _without_interrupts(starting=self._workers > 0 and not self._started):
                batch = next(self._iterators[0])
        except RuntimeError as error:
            raise LoaderError(
                f"Training data end after batch {self._drawn}: {' '.join(str(error).split())[:300]}. A worker process "
                "ended, as it does when memory runs out; give fewer of them (--config.data.workers) or none (0). The "
                "same command continues from the last save."
            ) from error
        self._drawn, self._started = self._drawn + 1, True
        return batch

    def realised(self) -> list[dict[str, Any]]:
        """The number and share of the rows drawn so far that came from each source (see mixture.realised)."""
        return realised(self.mixture, rows=self._drawn * self._batch_size, sources=len(self.report))

    def text_tokens(self, batches: Sequence[int]) -> list[int]:
        """The text tokens, without padding, of the first n batches, for each n in ascending order."""
        counts, total, begin = [], 0, 0
        for number in batches:
            end = number * self._batch_size
            total += sum(self._lengths(range(begin, end)))
            begin = end
            counts.append(total)
        return counts

    @property
    def longest_row(self) -> int:
        """Text tokens of the longest row that can be drawn, without padding."""
        return max(max(lengths.values()) for lengths in self._text_tokens)

    def longest_rows(self, parts: int, *, batches: int = 64) -> list[int]:
        """The text tokens, without padding, of the longest row of each part of batches spread over the stage.

        It is the same in every process and after every interruption, since each process knows the lengths of all rows.

        Args:
            parts: of a batch; part i has the rows i, i + parts, ….
            batches: the number of batches to examine; all, if the stage has fewer.
        """
        total = len(self._batches)
        chosen = np.unique(np.linspace(0, total - 1, min(batches, total)).round().astype(int))
        found = []
        for batch in chosen.tolist():
            lengths = np.array(self._lengths(range(batch * self._batch_size, (batch + 1) * self._batch_size)))
            found.extend(lengths.reshape(-1, parts).max(axis=0).tolist())
        return found

    def _lengths(self, rows: Iterable[int]) -> list[int]:
        """The text tokens of the stage's rows with these numbers."""
        sources = ((self.mixture.source[row], int(self.mixture.position[row])) for row in rows)
        return [self._text_tokens[source][self._orders[source][position]] for source, position in sources]

    def close(self) -> None:
        """Ends the threads and workers that prepare batches."""
        _close_all(self._iterators)

    def get_state(self) -> dict[str, int]:
        """The state with which `set_state` continues after the last batch drawn; it can be written as JSON."""
        return {"batches_drawn": self._drawn}

    def set_state(self, state: dict[str, int]) -> None:
        """Continues from a state of a loader that was made with the same arguments."""
        drawn = state.get("batches_drawn")
        if not isinstance(drawn, int) or not 0 <= drawn <= len(self._batches) or len(state) != 1:
            most = len(self._batches)
            raise ValueError(f"A loader's state is {{'batches_drawn': n}} with n from 0 to {most}; got {state!r}.")
        self._start(drawn)


def make_train_loader(
    sources: Sequence[RowSource],
    *,
    data: DataConfig,
    tokenizer: Tokenizer,
    resolution: int,
    batch_size: int,
    seed: int,
    total_batches: Callable[[int], int],
    weight_by: Literal["source", "row"] = "source",
    process_index: int = 0,
    process_count: int = 1,
) -> TrainLoader:
    """The training stream over one or several sources, mixed by their weights, counts and schedules.

    Args:
        sources: rows of each source.
        data: prompt, length and policy for over-long answers, augmentation, worker processes.
        tokenizer: of the checkpoint.
        resolution: image height and width in pixels.
        batch_size: rows in a batch of all processes together; batches extend across epochs, so all are full.
        seed: of the order.
        total_batches: gives the number of batches in the whole stage from the number of rows in an epoch.
        weight_by: whether weights belong to sources or to their rows.
        process_index: the number of this process; it makes its own slice of the rows of every batch.
        process_count: how many processes share a batch. The order of all rows does not depend on it.

    Raises:
        ValueError: if there is no source or no row to train on, counts do not fit, or processes cannot share a batch.
    """
    cores = os.cpu_count() or 1
    if data.workers > WORKERS_PER_CORE * cores:
        raise ValueError(
            f"data.workers={data.workers}, but this machine has {cores} cores, and each worker is a process: "
            f"give at most {WORKERS_PER_CORE * cores}."
        )
    if not sources:
        raise ValueError("The training loader needs at least one source; stage.sources is empty.")
    part = part_of_batch(batch_size, process_index, process_count)
    sources = [with_references(rows, data=data, tokenizer=tokenizer, answers=True) for rows in sources]
    orders: list[grain.MapDataset] = []
    report = []
    text_tokens = []
    for number, rows in enumerate(sources):
        kept, lengths, entry = sift(rows, data=data, tokenizer=tokenizer)
        report.append(entry)
        text_tokens.append(dict(zip(kept, lengths, strict=True)))
        # Grain shuffles epoch e by seed + e: neighbouring seeds would give the same orders, one epoch apart.
        order = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        orders.append(grain.MapDataset.source(kept).shuffle(seed=order).repeat())
    sizes = [entry["kept"] for entry in report]
    batches = total_batches(sum(sizes))
    settings = [rows.source for rows in sources]
    mixture = plan_mixture(settings, sizes=sizes, total=batches * batch_size, weight_by=weight_by)
    make = _TrainBatch(
        mixture,
        orders,
        sources,
        data,
        tokenizer,
        make_row_images(sources, data, resolution),
        seed,
        batch_size,
        part,
    )
    stream = grain.MapDataset.range(batches).map(make)
    return TrainLoader(
        stream,
        mixture=mixture,
        batch_size=batch_size,
        workers=data.workers,
        report=report,
        orders=orders,
        text_tokens=text_tokens,
    )


def part_of_batch(batch_size: int, process_index: int, process_count: int) -> tuple[int, int]:
    """The first row of every batch that a process makes, and the one after its last."""
    if not 0 <= process_index < process_count:
        raise ValueError(f"process_index={process_index} must be at least 0 and below process_count={process_count}.")
    if batch_size % process_count:
        raise ValueError(
            f"batch_size={batch_size} cannot be shared by process_count={process_count} processes. "
            "Give a multiple of their number."
        )
    size = batch_size // process_count
    return process_index * size, (process_index + 1) * size
