"""Rows by number, as plain Python values; their texts can be read without their images."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from radvqa_jax.config import FilterConfig, SourceConfig
from radvqa_jax.data.filters import describe_condition, matching
from radvqa_jax.prompts import row_text

Row = dict[str, Any]

TEXTS_AT_A_TIME = 4096  # rows that RowSource.texts turns into Python values at a time


def plain(value: Any) -> Any:
    """Text as str, numbers and booleans as Python's own, sequences of these as lists; arrays as they are."""
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return plain(value.item())
    if isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.dtype == object):
        return [plain(item) for item in value]
    return value


class Turn(NamedTuple):
    """An earlier question about an image, and its answer."""

    question_id: str
    question: str
    answer: str


class Prepared(NamedTuple):
    """The place of a prepared split."""

    folder: Path
    split: str
    paths: list[Path]  # its files


class RowSource(Sequence[Row]):
    """The rows of one split, by number, in the order of the prepared files.

    A row is a dict with the features of tfds_builders/features.py and those of its own data set. Images are the encoded
    bytes of a file; text is str. Callers may mutate it. What this class adds has a name that no column of a table can
    have: `_image_used`, the id of another image that is shown, and `_history`, the earlier turns in the prompt.
    """

    def __init__(
        self,
        data: Sequence[Any],
        *,
        indices: Sequence[int],
        source: SourceConfig,
        fingerprint: dict[str, Any],
        encoded: Sequence[str] = ("image",),
        index: Callable[[], pa.Table] | None = None,
        prepared: Prepared | None = None,
    ) -> None:
        """Takes the rows of `data` that `indices` names.

        Args:
            data: rows by number, as TFDS gives them without decoding images.
            indices: the numbers of the rows to take, in order.
            source: the configured source.
            fingerprint: the facts found, for provenance; `n`, the number of rows, is added.
            encoded: features that stay bytes.
            index: gives the texts and numbers of all rows of `data`; without it they are read from the rows.
            prepared: the folder of the split, for files that are kept in it.
        """
        self.prepared = prepared
        self._data = data
        self._index = index
        self._encoded = frozenset(encoded)
        self.indices = np.asarray(indices, np.int64)
        self.source = source
        self.fingerprint: dict[str, Any] = fingerprint | {"n": len(self.indices)}
        self._shown: tuple[Sequence[Any], np.ndarray] | None = None  # (data, its rows) whose images are shown instead
        self._image: tuple[bytes, str] | None = None  # one encoded image that is shown instead, and its id
        self._history: list[tuple[Turn, ...]] | None = None  # of each row, the earlier turns in its prompt

    @property
    def name(self) -> str:
        """The data set, builder config and split, as records name it: `vqa_rad/official:train`."""
        config = str(self.fingerprint["builder_config"])
        return f"{self.source.dataset}{config and '/' + config}:{self.source.split}"

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Row:  # pyright: ignore[reportIncompatibleMethodOverride] no slices
        row = self._data[int(self.indices[index])]
        row = {key: value if key in self._encoded else plain(value) for key, value in row.items()}
        row |= self._said_before(index)
        if self._image is not None:
            return row | {"image": self._image[0], "_image_used": self._image[1]}
        if self._shown is None:
            return row
        data, numbers = self._shown
        shown = data[int(numbers[index])]
        return row | {"image": shown["image"], "_image_used": plain(shown["image_id"])}

    def __iter__(self) -> Iterator[Row]:
        return (self[index] for index in range(len(self)))

    def _said_before(self, index: int) -> Row:
        return {} if self._history is None else {"_history": self._history[index]}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_index": None}  # workers make batches and need no index

    def text_fields(self) -> list[str]:
        """The features of rows that are one text each."""
        if self._index is not None:
            schema = self._index().schema
            return [name for name in schema.names if str(schema.field(name).type) == "string"]
        return [key for key, value in self._plain_row(0).items() if isinstance(value, str)] if len(self) else []

    def column(self, name: str) -> list[Any]:
        """One feature, not an image, of every row; images are not read."""
        if self._index is not None:
            return self._index().column(name).take(self.indices).to_pylist()
        return [self._plain_row(index)[name] for index in range(len(self))]

    def shown_images(self) -> list[Any]:
        """A name for the image shown with each row; equal names mean equal images. Images are not read."""
        if self._image is not None:
            return [self._image[1]] * len(self)
        if self._shown is None:
            return self.column("image_id")
        data, numbers = self._shown
        if data is not self._data or self._index is None:
            return numbers.tolist()
        return self._index().column("image_id").take(numbers).to_pylist()

    def texts(self) -> Iterator[Row]:
        """Yields every row without its images and arrays, which are not read."""
        if self._index is None:
            yield from (self._plain_row(index) for index in range(len(self)))
            return
        for begin in range(0, len(self), TEXTS_AT_A_TIME):
            taken = self._index().take(self.indices[begin : begin + TEXTS_AT_A_TIME]).to_pylist()
            yield from (row | self._said_before(begin + number) for number, row in enumerate(taken))

    def _plain_row(self, index: int) -> Row:
        row = self._data[int(self.indices[index])]
        return {k: plain(value) for k, value in row.items() if k not in self._encoded} | self._said_before(index)

    def select(self, indices: Sequence[int]) -> "RowSource":
        """The rows with these numbers, in this order."""
        numbers = np.asarray(indices, np.int64)
        chosen = self._with_indices(self.indices[numbers])
        if self._shown is not None:
            chosen._shown = self._shown[0], self._shown[1][numbers]
        chosen._image = self._image
        if self._history is not None:
            chosen._history = [self._history[number] for number in numbers.tolist()]
        return chosen

    def with_history(self, histories: Sequence[tuple[Turn, ...]]) -> "RowSource":
        """The same rows, each with the earlier turns for {history} in its prompt, the oldest first."""
        if len(histories) != len(self):
            raise ValueError(f"with_history needs turns for each row: {len(self)} rows, {len(histories)} histories.")
        asked = self.select(range(len(self)))
        asked._history = list(histories)
        return asked

    def where(self, condition: FilterConfig) -> "RowSource":
        """The rows that fulfil a condition; their fingerprint lists it with the numbers of rows before and after."""
        chosen = self.select(matching(self, condition))
        entry = {"filter": describe_condition(condition), "before": len(self), "after": len(chosen)}
        chosen.fingerprint["filters"] = [*self.fingerprint.get("filters", []), entry]
        return chosen

    def whole(self) -> "RowSource":
        """All rows of the split, whatever was selected, in the order of the prepared files."""
        return self._with_indices(np.arange(len(self._data)))

    def _with_indices(self, indices: np.ndarray) -> "RowSource":
        return RowSource(
            self._data,
            indices=indices.tolist(),
            source=self.source,
            fingerprint=self.fingerprint,
            encoded=tuple(self._encoded),
            index=self._index,
            prepared=self.prepared,
        )

    def with_images_of(self, others: Sequence[int], *, lender: "RowSource | None" = None) -> "RowSource":
        """The same rows, each with the image of the row that `others` numbers, and its id as `image_used`.

        The numbers are of rows of `lender`, or of these rows.
        """
        if len(others) != len(self):
            raise ValueError(f"with_images_of needs one number a row: {len(self)} rows, {len(others)} numbers.")
        swapped, lent = self.select(range(len(self))), lender or self
        numbers = lent.indices[np.asarray(others, np.int64)]
        swapped._shown = lent._data, numbers
        swapped.fingerprint["images_of"] = hashlib.sha256(numbers.tobytes()).hexdigest()
        if lender is not None:
            swapped.fingerprint["images_from"] = lender.fingerprint
        return swapped

    def with_image(self, image: bytes, *, image_id: str) -> "RowSource":
        """The same rows, each with this encoded image, and `image_id` as `image_used`."""
        shown = self.select(range(len(self)))
        shown._image = (image, image_id)
        shown.fingerprint["image"] = hashlib.sha256(image).hexdigest()
        return shown

    def captioned(self) -> "RowSource":
        """One row for each image with a caption: its first row that has one."""
        first: dict[str, int] = {}
        captions, images = self.column("caption"), self.column("image_id")
        for index, (caption, image) in enumerate(zip(captions, images, strict=True)):
            if caption.strip():
                first.setdefault(image, index)
        return self.select(list(first.values()))

    def text(self, row: Row, *, template: str) -> tuple[str, str]:
        """(prefix, suffix) of one of these rows for the source's task."""
        return row_text(row, task=self.source.task, template=template, caption_prompt=self.source.prompt)
