"""Groups questions into batches for answering."""

import itertools
from collections.abc import Sequence

from radvqa_jax.config import DataConfig, DecodeConfig
from radvqa_jax.data.packing import pack_prompt
from radvqa_jax.data.rows import RowSource
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.decoding.batch_size import MOST, choose_batch_size, free_bytes, row_bytes
from radvqa_jax.models.activation_sharding import row_shares
from radvqa_jax.models.vision_language import VisionLanguageModel

SHAPES = 3  # lengths that prompts are padded to: the whole, half and quarter of data.seq_len; each compiles once
KIND = ("answer_type", "question_type")  # features of a row that predict how long its answer is

Groups = dict[int, list[tuple[int, str]]]  # {length that the prompt is padded to: [(number of the row, question_id)]}


def widths(seq_len: int) -> list[int]:
    """The lengths that prompts are padded to, ascending.

    >>> widths(128), widths(28)
    ([32, 64, 128], [7, 14, 28])
    """
    return sorted({-(-seq_len // 2**power) for power in range(SHAPES)})


def by_length(rows: RowSource, *, tokenizer: Tokenizer, data: DataConfig, batch_size: int) -> Groups:
    """{length that the prompt is padded to: [(number of the row, question_id)]}, each row once.

    A length with less than one batch of prompts passes them to the next length, because each shape costs a compilation.
    A batch_size of 0 counts as MOST: which length a prompt has must not depend on the memory at hand.

    Raises:
        ValueError: if a question_id occurs twice, or a prompt is longer than data.seq_len.
    """
    limits = widths(data.seq_len)
    groups: Groups = {width: [] for width in limits}
    seen: set[str] = set()
    for index, row in enumerate(rows.texts()):
        name = row["question_id"]
        if name in seen:
            raise ValueError(
                f"{rows.name}: question_id {name!r} occurs twice, and answers are kept by it. Repair the data set."
            )
        seen.add(name)
        prefix, _ = rows.text(row, template=data.prompt)
        try:
            length = int(pack_prompt(tokenizer, prefix, seq_len=data.seq_len)["mask_input"].sum())
        except ValueError as error:
            raise ValueError(f"{rows.name}, question {name!r}: {error}") from error
        groups[next(width for width in limits if length <= width)].append((index, name))
    for width, wider in itertools.pairwise(limits):
        if len(groups[width]) < (batch_size or MOST):
            groups[wider] = sorted(groups[wider] + groups[width])
            groups[width] = []
    return {width: found for width, found in groups.items() if found}


def alike_together(rows: RowSource, numbers: Sequence[int], *, room: int) -> list[int]:
    """Orders rows so that the answers of a batch have similar lengths and questions about one image are close together.

    A batch is decoded until its longest answer ends. The length of an answer is not known in advance, and the reference
    must not be used; so questions of one kind (answer_type, question_type) are put together. If there are more images
    than `room` for their tokens, the questions about the images that fit come first, then those about the next.
    """
    images, first = rows.shown_images(), {}
    for number in numbers:
        first.setdefault(images[number], len(first))
    kinds = [rows.column(name) if name in rows.text_fields() else [""] * len(rows) for name in KIND]

    def place(number: int) -> tuple[int, tuple[str, ...], int, int]:
        image = first[images[number]]
        return image // room, tuple(column[number] for column in kinds), image, number

    return sorted(numbers, key=place)


def share_of(rows: RowSource, numbers: Sequence[int], *, index: int, count: int) -> list[int]:
    """The rows that one of `count` processes answers, of the rows with these numbers.

    Every row belongs to one process, and shares differ by at most one row. Questions about one image stay together,
    except at the end of a share, so that each process sees its images once and all get the same mix of kinds of
    questions.
    """
    images, first = rows.shown_images(), {}
    for number in numbers:
        first.setdefault(images[number], len(first))
    ordered = sorted(numbers, key=lambda number: (first[images[number]], number))
    return ordered[index * len(ordered) // count : (index + 1) * len(ordered) // count]


def batch_size_for(model: VisionLanguageModel, config: DecodeConfig, *, rows: int, prompt: int) -> int:
    """The number of questions in a batch, of `rows` in all: as configured, or as many as fit in memory."""
    if config.batch_size:
        return config.batch_size
    each = row_bytes(model, prompt=prompt, config=config)
    return choose_batch_size(rows, each=each, free=free_bytes(), share=row_shares())
