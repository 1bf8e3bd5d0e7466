"""Rows -> batches: an endless, restartable training stream with Grain, and evaluation in order."""

import itertools
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import grain
import numpy as np
from absl import flags

from radvqa_jax.config import AugmentConfig, DataConfig
from radvqa_jax.data.augment import augment
from radvqa_jax.data.image import decode_image, resize_levels, to_unit
from radvqa_jax.data.image_cache import ImageCache
from radvqa_jax.data.mixture import Mixture, plan_mixture, realised
from radvqa_jax.data.packing import Rejected, pack, pack_prompt
from radvqa_jax.data.rows import Row, RowSource
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.schema import Batch

# A batch is one element of the stream, so these are batches made at a time and kept ready.
PREFETCH = grain.ReadOptions(num_threads=4, prefetch_buffer_size=4)


class _Images(NamedTuple):
    """Encoded images -> resized grey levels; those that several rows share are kept in memory."""

    resolution: int
    cache: ImageCache
    augment: AugmentConfig = AugmentConfig()

    def __call__(self, row: Row, *, name: str, rng: np.random.Generator | None = None) -> np.ndarray:
        """Returns uint8 [resolution, resolution, 3] of a row of `name`; only with `rng` is it changed at random."""
        try:
            if rng is None or self.augment == AugmentConfig():
                return self.cache.get(row["image"], lambda data: resize_levels(decode_image(data), self.resolution))
            return resize_levels(augment(decode_image(row["image"]), self.augment, rng=rng), self.resolution)
        except ValueError as error:
            raise ValueError(f"{name}, question {row['question_id']!r}, image {row['image_id']!r}: {error}") from error


def _shared_images(sources: Sequence[RowSource]) -> bool:
    return any(len(set(rows.column("image_id"))) < len(rows) for rows in sources)


def _make_images(sources: Sequence[RowSource], data: DataConfig, resolution: int) -> _Images:
    """Returns how images are made; nothing is kept where every row has its own."""
    kept = data.image_cache_mb * 2**20 // max(1, data.workers) if _shared_images(sources) else 0
    return _Images(resolution, ImageCache(kept), data.augment)


class _TrainBatch(NamedTuple):
    """Makes this process's part of batch b; a tuple, so that worker processes can be sent it.

    Row n of the whole stage is the `position[n]`-th of source `source[n]`, in the shuffled order of that source.
    """

    mixture: Mixture
    orders: list[grain.MapDataset]  # of each source: an endless, shuffled stream of numbers of its rows
    sources: list[RowSource]
    data: DataConfig
    tokenizer: Tokenizer
    images: _Images
    seed: int
    batch_size: int  # of all processes together
    part: tuple[int, int]  # which rows of a batch are made here, from and to

    def __call__(self, batch: int) -> Batch:
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
        """Returns the packed text of a row and writes its image into `out`."""
        row = rows[index]
        prefix, suffix = rows.text(row, template=self.data.prompt)
        # The row's number in the stage decides how its image is changed: the same whoever makes it, and when.
        to_unit(self.images(row, name=rows.name, rng=np.random.default_rng([self.seed, number])), out)
        return pack(self.tokenizer, prefix, suffix=suffix, seq_len=self.data.seq_len, overlong=self.data.overlong)


def sift(rows: RowSource, *, data: DataConfig, tokenizer: Tokenizer) -> tuple[list[int], dict[str, Any]]:
    """Returns the numbers of the rows that can be trained on, and a report on those that cannot.

    Every text is tokenised once, so that the number of rows in an epoch is known before training. An empty answer or
    question is always left out: it would teach to say nothing, or to answer what nobody asked. The report has the source's fingerprint under `source`, the number
    of `rows` and `kept`, `rejected` as {reason: n}, and how many answers are `cut`.

    Raises:
        ValueError: naming the question, if a prefix is over-long, or an answer is under the policy `error`; or if no
            row is left.
    """
    kept: list[int] = []
    rejected: Counter[str] = Counter()
    cut = 0
    for index, row in enumerate(rows.texts()):
        prefix, suffix = rows.text(row, template=data.prompt)
        if not suffix or (rows.source.task == "vqa" and not row["question"].strip()):
            rejected["empty_question" if suffix else "empty_answer"] += 1
            continue
        try:
            packed = pack(tokenizer, prefix, suffix=suffix, seq_len=data.seq_len, overlong=data.overlong)
        except Rejected as error:
            rejected[error.reason] += 1
            continue
        except ValueError as error:
            raise ValueError(f"{rows.name}, question {row['question_id']!r}: {error}") from error
        cut += int(packed["mask_loss"].sum()) < len(tokenizer.encode(suffix)) + 1
        kept.append(index)
    report = {"source": rows.fingerprint, "rows": len(rows), "kept": len(kept), "rejected": dict(rejected), "cut": cut}
    if not kept:
        raise ValueError(f"{rows.name}: no row can be trained on; {report['rejected']} of {len(rows)} were rejected.")
    return kept, report


def _close_all(iterators: list[Any]) -> None:
    while iterators:
        iterators.pop().close()


class TrainLoader(Iterator[Batch]):
    """The stream of a stage's training batches, the same for the same seed, from any step on.

    Every source is shuffled anew in each of its epochs; which source a row comes from is decided by the mixture. The
    state is the number of batches drawn, whatever the number of workers and of processes, so a run may continue on
    another machine.

    Attributes:
        report: what was kept and rejected, for each source.
        rows_per_epoch: rows that can be trained on, over all sources. With one source, an epoch shows each once.
        mixture: where each row of the stage comes from.
    """

    def __init__(
        self,
        batches: grain.MapDataset,
        *,
        mixture: Mixture,
        batch_size: int,
        workers: int,
        report: list[dict[str, Any]],
    ) -> None:
        self._batches = batches
        self._batch_size = batch_size
        self._workers = workers
        self.mixture = mixture
        self.report = report
        self.rows_per_epoch: int = sum(entry["kept"] for entry in report)
        self._iterators: list[Any] = []  # one, or none when closed
        # Also when the interpreter ends: Grain's own clean-up then comes too late and complains.
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
        self._drawn = drawn

    def __next__(self) -> Batch:
        if not self._iterators:
            raise ValueError("This loader is closed. Use set_state to continue, or make a new one.")
        batch = next(self._iterators[0])
        self._drawn += 1
        return batch

    def realised(self) -> list[dict[str, Any]]:
        """Returns how many of the rows drawn so far came from each source, and its share (see mixture.realised)."""
        return realised(self.mixture, rows=self._drawn * self._batch_size, sources=len(self.report))

    def close(self) -> None:
        """Ends the threads and workers that prepare batches."""
        _close_all(self._iterators)

    def get_state(self) -> dict[str, int]:
        """Returns what `set_state` needs to continue after the last batch drawn; it can be written as JSON."""
        return {"batches_drawn": self._drawn}

    def set_state(self, state: dict[str, int]) -> None:
        """Continues from a state of a loader that was made with the same arguments."""
        drawn = state.get("batches_drawn")
        if not isinstance(drawn, int) or drawn < 0 or len(state) != 1:
            raise ValueError(f"A loader's state is {{'batches_drawn': n}} with n >= 0; got {state!r}.")
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
    """Returns the training stream over one or several sources, mixed by their weights, counts and schedules.

    Args:
        sources: rows of each source.
        data: prompt, length and policy for over-long answers, augmentation, worker processes.
        tokenizer: of the checkpoint.
        resolution: image height and width in pixels.
        batch_size: rows in a batch of all processes together; batches run over the end of an epoch, so all are full.
        seed: of the order.
        total_batches: gives the number of batches in the whole stage from the number of rows in an epoch.
        weight_by: whether weights are of sources or of their rows.
        process_index: which of the processes this is; it makes rows of its own of every batch, a slice in their order.
        process_count: how many processes share a batch. The order of all rows does not depend on it.

    Raises:
        ValueError: if there is no source or no row to train on, counts do not fit, or processes cannot share a batch.
    """
    if not sources:
        raise ValueError("The training loader needs at least one source; stage.sources is empty.")
    part = _part(batch_size, process_index, process_count)
    orders: list[grain.MapDataset] = []
    report = []
    for number, rows in enumerate(sources):
        kept, entry = sift(rows, data=data, tokenizer=tokenizer)
        report.append(entry)
        # Grain shuffles epoch e by seed + e: neighbouring seeds would give the same orders, one epoch apart.
        order = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        orders.append(grain.MapDataset.source(kept).shuffle(seed=order).repeat())
    sizes = [entry["kept"] for entry in report]
    batches = total_batches(sum(sizes))
    settings = [rows.source for rows in sources]
    mixture = plan_mixture(settings, sizes=sizes, total=batches * batch_size, weight_by=weight_by)
    make = _TrainBatch(
        mixture, orders, list(sources), data, tokenizer, _make_images(sources, data, resolution), seed, batch_size, part
    )
    stream = grain.MapDataset.range(batches).map(make)
    return TrainLoader(stream, mixture=mixture, batch_size=batch_size, workers=data.workers, report=report)


def _part(batch_size: int, process_index: int, process_count: int) -> tuple[int, int]:
    """Returns the first row of every batch that a process makes, and the one after its last."""
    if not 0 <= process_index < process_count:
        raise ValueError(f"process_index={process_index} must be at least 0 and below process_count={process_count}.")
    if batch_size % process_count:
        raise ValueError(
            f"batch_size={batch_size} cannot be shared by process_count={process_count} processes. "
            "Give a multiple of their number."
        )
    size = batch_size // process_count
    return process_index * size, (process_index + 1) * size


class _EvalRow(NamedTuple):
    """Turns a row into a prompt to decode from."""

    rows: RowSource
    data: DataConfig
    tokenizer: Tokenizer
    images: _Images

    def __call__(self, index: int) -> tuple[Batch, Row]:
        row = self.rows[index]
        prefix, _ = self.rows.text(row, template=self.data.prompt)
        try:
            packed = pack_prompt(self.tokenizer, prefix, seq_len=self.data.seq_len)
        except ValueError as error:
            raise ValueError(f"{self.rows.name}, question {row['question_id']!r}: {error}") from error
        image = to_unit(self.images(row, name=self.rows.name))
        return Batch(image=image, mask_example=np.array(True), **packed), row


def _stack(rows: Sequence[Batch]) -> Batch:
    return Batch(*(np.stack(leaves) for leaves in zip(*rows, strict=True)))


def eval_batches(
    rows: RowSource,
    *,
    data: DataConfig,
    tokenizer: Tokenizer,
    resolution: int,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[tuple[Batch, list[Row]]]:
    """Yields (batch, its rows) in order; every row comes once, to one of the processes.

    Arrays are tokens and masks [b, seq_len] with the prompt alone (BOS, prefix, separator) and images [b, resolution,
    resolution, 3], where b = batch_size / process_count. The last batch repeats its last row up to b, with mask_example
    False there; the list of rows holds real ones only, so it may be shorter than the batch. Every process gets the same
    number of batches, if need be one without a real row.
    """
    begin, end = _part(batch_size, process_index, process_count)
    per_batch = end - begin
    batches = -(-len(rows) // batch_size)
    wanted = [batch * batch_size + place for batch in range(batches) for place in range(begin, end)]
    real = [min(number, len(rows) - 1) for number in wanted]
    make = _EvalRow(rows, data, tokenizer, _make_images([rows], data, resolution))
    stream = grain.MapDataset.source(real).map(make)
    ready = grain.ReadOptions(num_threads=PREFETCH.num_threads, prefetch_buffer_size=2 * per_batch)
    iterator = iter(stream.to_iter_dataset(ready))
    numbers = iter(wanted)
    try:
        while pairs := list(itertools.islice(iterator, per_batch)):
            is_real = [next(numbers) < len(rows) for _ in pairs]
            packed = _stack([batch for batch, _ in pairs])._replace(mask_example=np.array(is_real))
            yield packed, [row for (_, row), keep in zip(pairs, is_real, strict=True) if keep]
    finally:
        iterator.close()
