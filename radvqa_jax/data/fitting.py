"""Finds the questions of an evaluation that exceed the text length, and leaves them out by name or stops the run."""

from collections.abc import Sequence

from radvqa_jax.config import DataConfig
from radvqa_jax.data.packing import OVERLONG_QUESTION, Rejected, pack_prompt
from radvqa_jax.data.rows import RowSource
from radvqa_jax.data.tokenizer import Tokenizer

LISTED = 5  # questions that the message names


def fitting(rows: RowSource, *, data: DataConfig, tokenizer: Tokenizer) -> RowSource:
    """The rows whose question fits `data.seq_len`; prints the number of those that are left out.

    The rows' fingerprint then has `left_out`: {reason: number}. If all rows fit, they are returned unchanged.

    Raises:
        ValueError: naming the first question that does not fit, under the policy `error`; or if no question fits.
    """
    return leave_out(rows, overlong(rows, data=data, tokenizer=tokenizer), seq_len=data.seq_len)


def overlong(rows: RowSource, *, data: DataConfig, tokenizer: Tokenizer) -> list[int]:
    """The numbers of the rows whose question does not fit `data.seq_len`; errors are those of `fitting`."""
    found = []
    for index, row in enumerate(rows.texts()):
        prefix, _ = rows.text(row, template=data.prompt)
        try:
            pack_prompt(tokenizer, prefix, seq_len=data.seq_len)
        except Rejected as error:
            if data.overlong_question == "error":
                raise ValueError(f"{rows.name}, question {row['question_id']!r}: {error}") from error
            found.append(index)
    if found and len(found) == len(rows):
        raise ValueError(f"{rows.name}: no question fits data.seq_len={data.seq_len}; raise data.seq_len.")
    return found


def leave_out(rows: RowSource, numbers: Sequence[int], *, seq_len: int) -> RowSource:
    """The rows without those of these numbers; prints them, and counts them in the fingerprint."""
    if not numbers:
        return rows
    without = set(numbers)
    names = [str(name) for index, name in enumerate(rows.column("question_id")) if index in without]
    more = ", …" if len(names) > LISTED else ""
    print(
        f"{len(names)} of {len(rows)} questions of {rows.name} do not fit data.seq_len={seq_len} and are left "
        f"out of every score: {', '.join(names[:LISTED])}{more}. Raise data.seq_len to ask them.",
        flush=True,
    )
    chosen = rows.select([index for index in range(len(rows)) if index not in without])
    chosen.fingerprint["left_out"] = {OVERLONG_QUESTION: len(names)}
    return chosen
