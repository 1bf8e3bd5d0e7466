"""Rows -> evaluation batches: every row once, in order, the last batch filled up and marked."""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import grain
import numpy as np

from radvqa_jax.config import DataConfig
from radvqa_jax.data.image import to_unit
from radvqa_jax.data.loader import READERS, part_of_batch
from radvqa_jax.data.packing import pack, pack_prompt
from radvqa_jax.data.row_images import RowImages, make_row_images
from radvqa_jax.data.rows import Row, RowSource
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.schema import Batch


class _EvalRow(NamedTuple):
    """Turns a row into a prompt to decode from, or with its answer into a row as training has them."""

    rows: RowSource
    data: DataConfig
    tokenizer: Tokenizer
    images: RowImages
    answers: bool

    def __call__(self, index: int) -> tuple[Batch, Row]:
        row = self.rows[index]
        prefix, suffix = self.rows.text(row, template=self.data.prompt)
        seq_len, overlong = self.data.seq_len, self.data.overlong
        try:
            if self.answers:
                packed = pack(self.tokenizer, prefix, suffix=suffix, seq_len=seq_len, overlong=overlong)
            else:
                packed = pack_prompt(self.tokenizer, prefix, seq_len=seq_len)
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
    answers: bool = False,
) -> Iterator[tuple[Batch, list[Row]]]:
    """Yields (batch, its rows) in order; every row comes once, to one of the processes.

    Arrays are tokens and masks [b, seq_len] with the prompt alone (BOS, prefix, separator) and images [b, resolution,
    resolution, 3], where b = batch_size / process_count. The last batch repeats its last row up to b, with mask_example
    False there; the list of rows holds real ones only, so it may be shorter than the batch. Every process gets the same
    number of batches, if need be one without a real row. With `answers`, rows are those of training, seq_len + 1 tokens
    wide, with the answer as the suffix.
    """
    begin, end = part_of_batch(batch_size, process_index, process_count)
    per_batch = end - begin
    batches = -(-len(rows) // batch_size)
    wanted = [batch * batch_size + place for batch in range(batches) for place in range(begin, end)]
    real = [min(number, len(rows) - 1) for number in wanted]
    make = _EvalRow(rows, data, tokenizer, make_row_images([rows], data, resolution), answers)
    stream = grain.MapDataset.source(real).map(make)
    ready = grain.ReadOptions(num_threads=min(READERS, 2 * per_batch), prefetch_buffer_size=2 * per_batch)
    iterator = iter(stream.to_iter_dataset(ready))
    numbers = iter(wanted)
    try:
        while pairs := list(itertools.islice(iterator, per_batch)):
            is_real = [next(numbers) < len(rows) for _ in pairs]
            packed = _stack([batch for batch, _ in pairs])._replace(mask_example=np.array(is_real))
            yield packed, [row for (_, row), keep in zip(pairs, is_real, strict=True) if keep]
    finally:
        iterator.close()
