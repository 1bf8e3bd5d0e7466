"""Rows -> evaluation batches: every row once, in order; the last batch is padded with masked rows."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import grain
import numpy as np
from jaxtyping import Float32

from radvqa_jax.config import DataConfig
from radvqa_jax.data.image import to_unit
from radvqa_jax.data.image_cache import Levels, image_key
from radvqa_jax.data.loader import READERS, part_of_batch
from radvqa_jax.data.packing import pack, pack_prompt
from radvqa_jax.data.row_images import RowImages, make_row_images
from radvqa_jax.data.rows import Row, RowSource
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.schema import Batch

Texts = dict[str, np.ndarray]  # tokens and masks, as Batch names them


class _Packer(NamedTuple):
    """Turns the text of a row into a prompt to decode from, or with its answer into a row as in training."""

    rows: RowSource
    data: DataConfig
    tokenizer: Tokenizer
    answers: bool = False

    def __call__(self, row: Row) -> Texts:
        prefix, suffix = self.rows.text(row, template=self.data.prompt)
        seq_len, overlong = self.data.seq_len, self.data.overlong
        try:
            if self.answers:
                return pack(self.tokenizer, prefix, suffix=suffix, seq_len=seq_len, overlong=overlong)
            return pack_prompt(self.tokenizer, prefix, seq_len=seq_len)
        except ValueError as error:
            raise ValueError(f"{self.rows.name}, question {row['question_id']!r}: {error}") from error


def _parts(
    make: Callable[[int], Any], count: int, *, batch_size: int, part: tuple[int, int] = (0, 1)
) -> Iterator[list[tuple[Any, bool]]]:
    """Yields one process's part of each batch: the result of `make` for each row, and whether the row is real.

    The last batch repeats its last row. Every process gets the same number of batches.
    """
    begin, end = part_of_batch(batch_size, *part)
    per_batch = end - begin
    batches = -(-count // batch_size)
    wanted = [batch * batch_size + place for batch in range(batches) for place in range(begin, end)]
    stream = grain.MapDataset.source([min(number, count - 1) for number in wanted]).map(make)
    ready = grain.ReadOptions(num_threads=min(READERS, 2 * per_batch), prefetch_buffer_size=2 * per_batch)
    iterator = iter(stream.to_iter_dataset(ready))
    numbers = iter(wanted)
    try:
        while made := list(itertools.islice(iterator, per_batch)):
            yield [(item, next(numbers) < count) for item in made]
    finally:
        iterator.close()


def _stack(texts: Sequence[Texts]) -> Texts:
    return {name: np.stack([text[name] for text in texts]) for name in texts[0]}


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
    number of batches, if necessary one without a real row. With `answers`, rows are as in training: seq_len + 1 tokens
    wide, with the answer as the suffix.
    """
    packer, images = _Packer(rows, data, tokenizer, answers), make_row_images([rows], data, resolution)

    def make(index: int) -> tuple[Texts, np.ndarray, Row]:
        row = rows[index]
        return packer(row), to_unit(images(row, name=rows.name)), row

    part = process_index, process_count
    for made in _parts(make, len(rows), batch_size=batch_size, part=part):
        texts, units, _ = zip(*(item for item, _ in made), strict=True)
        real = np.array([keep for _, keep in made])
        yield Batch(image=np.stack(units), mask_example=real, **_stack(texts)), [i[-1] for i, keep in made if keep]


class Shown(NamedTuple):
    """The image of a prompt."""

    key: bytes  # equal images have equal keys
    unit: Callable[[], Float32[np.ndarray, "h w 3"]]  # makes the model's input from it


class Prompts(NamedTuple):
    """A batch of prompts with their images, several of which may be the same."""

    texts: Texts  # tokens and masks [b seq_len]
    mask_example: np.ndarray  # False = a row that only fills the batch
    rows: list[Row]  # the real rows
    images: list[Shown]  # of all b


class _Images(NamedTuple):
    """Gives the image of a row; its grey levels are computed at once unless `known` says that nobody needs them."""

    images: RowImages
    name: str
    known: Callable[[bytes], bool]

    def __call__(self, row: Row) -> Shown:
        key = image_key(row["image"])
        levels: Levels | None = None if self.known(key) else self.images(row, name=self.name)
        return Shown(key, lambda: to_unit(self.images(row, name=self.name) if levels is None else levels))


def prompt_batches(
    rows: RowSource,
    *,
    data: DataConfig,
    tokenizer: Tokenizer,
    resolution: int,
    batch_size: int,
    known: Callable[[bytes], bool] = lambda key: False,
) -> Iterator[Prompts]:
    """Yields the prompts of `eval_batches`, for one process, with their images by name instead of in the batch.

    An image whose key is `known` when its row is read is decoded only on demand.
    """
    packer, show = _Packer(rows, data, tokenizer), _Images(make_row_images([rows], data, resolution), rows.name, known)

    def make(index: int) -> tuple[Texts, Shown, Row]:
        row = rows[index]
        return packer(row), show(row), row

    for made in _parts(make, len(rows), batch_size=batch_size):
        texts, images, _ = zip(*(item for item, _ in made), strict=True)
        real = [item[-1] for item, keep in made if keep]
        yield Prompts(_stack(texts), np.array([keep for _, keep in made]), real, list(images))
