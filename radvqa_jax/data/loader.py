"""Rows -> batches: an endless, restartable training stream with Grain, and evaluation in order."""

import itertools
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import grain
import numpy as np
from absl import flags

from radvqa_jax.config import DataConfig
from radvqa_jax.data.image import decode_image, resize_image
from radvqa_jax.data.packing import Rejected, pack, pack_prompt
from radvqa_jax.data.sources import Row, RowSource
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.schema import Batch

# A batch is one element of the stream, so these are batches made at a time and kept ready.
PREFETCH = grain.ReadOptions(num_threads=4, prefetch_buffer_size=4)


def _pixels(row: Row, *, name: str, resolution: int) -> np.ndarray:
    try:
        return resize_image(decode_image(row["image"]), resolution)
    except ValueError as error:
        raise ValueError(f"{name}, question {row['question_id']!r}, image {row['image_id']!r}: {error}") from error


def _batch(rows: Sequence[Batch]) -> Batch:
    return Batch(*(np.stack(leaves) for leaves in zip(*rows, strict=True)))


class _TrainRow(NamedTuple):
    """Turns a row of one source into one row of a batch; a tuple, so that worker processes can be sent it."""

    rows: RowSource
    data: DataConfig
    tokenizer: Tokenizer
    resolution: int

    def __call__(self, index: int) -> Batch:
        row = self.rows[index]
        prefix, suffix = self.rows.text(row, template=self.data.prompt)
        packed = pack(self.tokenizer, prefix, suffix=suffix, seq_len=self.data.seq_len, overlong=self.data.overlong)
        image = _pixels(row, name=self.rows.name, resolution=self.resolution)
        return Batch(image=image, mask_example=np.array(True), **packed)


def sift(rows: RowSource, *, data: DataConfig, tokenizer: Tokenizer) -> tuple[list[int], dict[str, Any]]:
    """Returns the numbers of the rows that can be trained on, and a report on those that cannot.

    Every text is tokenised once, so that the number of rows in an epoch is known before training. An empty answer is
    always left out: it would teach to say nothing. The report has the source's fingerprint under `source`, the number
    of `rows` and `kept`, `rejected` as {reason: n}, and how many answers are `cut`.

    Raises:
        ValueError: naming the question, if a prefix is over-long, or an answer is under the policy `error`; or if no
            row is left.
    """
    kept: list[int] = []
    rejected: Counter[str] = Counter()
    cut = 0
    for index, row in enumerate(rows):
        prefix, suffix = rows.text(row, template=data.prompt)
        if not suffix:
            rejected["empty_answer"] += 1
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
    """An endless stream of full training batches, the same for the same seed, from any step on.

    Every source is shuffled anew in each of its epochs; sources are drawn in turn in proportion to their weights. The
    state is the number of batches drawn, whatever the number of workers, so a run may continue on another machine.

    Attributes:
        report: what was kept and rejected, for each source.
        rows_per_epoch: rows that can be trained on, over all sources. With one source, an epoch shows each once.
    """

    def __init__(self, batches: grain.MapDataset, *, workers: int, report: list[dict[str, Any]]) -> None:
        self._batches = batches
        self._workers = workers
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
) -> TrainLoader:
    """Returns the training stream over one or several sources, mixed by `source.weight`.

    Args:
        sources: rows of each source.
        data: prompt, length and policy for over-long answers, worker processes.
        tokenizer: of the checkpoint.
        resolution: image height and width in pixels.
        batch_size: rows in a batch; batches run over the end of an epoch, so all are full.
        seed: of the order.
    """
    if not sources:
        raise ValueError("The training loader needs at least one source; stage.sources is empty.")
    streams: list[grain.MapDataset] = []
    report = []
    for number, rows in enumerate(sources):
        kept, entry = sift(rows, data=data, tokenizer=tokenizer)
        report.append(entry | {"weight": rows.source.weight})
        # Grain shuffles epoch e by seed + e: neighbouring seeds would give the same orders, one epoch apart.
        order = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        stream = grain.MapDataset.source(kept).shuffle(seed=order).repeat()
        streams.append(stream.map(_TrainRow(rows, data, tokenizer, resolution)))
    mixed = streams[0]
    if len(streams) > 1:
        mixed = grain.MapDataset.mix(streams, weights=[rows.source.weight for rows in sources])
    batches = mixed.batch(batch_size, drop_remainder=True, batch_fn=_batch)
    return TrainLoader(batches, workers=data.workers, report=report)


class _EvalRow(NamedTuple):
    """Turns a row into a prompt to decode from."""

    rows: RowSource
    data: DataConfig
    tokenizer: Tokenizer
    resolution: int

    def __call__(self, index: int) -> tuple[Batch, Row]:
        row = self.rows[index]
        prefix, _ = self.rows.text(row, template=self.data.prompt)
        try:
            packed = pack_prompt(self.tokenizer, prefix, seq_len=self.data.seq_len)
        except ValueError as error:
            raise ValueError(f"{self.rows.name}, question {row['question_id']!r}: {error}") from error
        image = _pixels(row, name=self.rows.name, resolution=self.resolution)
        return Batch(image=image, mask_example=np.array(True), **packed), row


def eval_batches(
    rows: RowSource, *, data: DataConfig, tokenizer: Tokenizer, resolution: int, batch_size: int
) -> Iterator[tuple[Batch, list[Row]]]:
    """Yields (batch, its rows) in order; every row comes once.

    Arrays are tokens and masks [batch_size, seq_len] with the prompt alone (BOS, prefix, separator) and images
    [batch_size, resolution, resolution, 3]. The last batch repeats its last row up to batch_size, with mask_example
    False there; the list of rows holds real ones only, so it may be shorter than the batch.
    """
    stream = grain.MapDataset.range(len(rows)).map(_EvalRow(rows, data, tokenizer, resolution))
    ready = grain.ReadOptions(num_threads=PREFETCH.num_threads, prefetch_buffer_size=2 * batch_size)
    iterator = iter(stream.to_iter_dataset(ready))
    try:
        while pairs := list(itertools.islice(iterator, batch_size)):
            packed = [batch for batch, _ in pairs]
            filler = packed[-1]._replace(mask_example=np.array(False))
            yield _batch(packed + [filler] * (batch_size - len(packed))), [row for _, row in pairs]
    finally:
        iterator.close()
