"""Finds the questions of an evaluation that exceed the text length, and leaves them out by name or stops the run."""

from collections.abc import Mapping, Sequence

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
    """The rows without those of these numbers, which do not fit; prints them, and counts them in the fingerprint."""
    return without(
        rows,
        {OVERLONG_QUESTION: numbers} if numbers else {},
        why=f"do not fit data.seq_len={seq_len}",
        way_out="Raise data.seq_len to ask them.",
    )


def without(rows: RowSource, found: Mapping[str, Sequence[int]], *, why: str, way_out: str) -> RowSource:
    """The rows without those of the numbers in `found`, {reason: numbers}; prints them, and counts them by reason.

    The counts are in the fingerprint's `left_out`, with those of earlier calls. Without any the rows are unchanged.
    """
    left_out = {number for numbers in found.values() for number in numbers}
    if not left_out:
        return rows
    names = [str(name) for index, name in enumerate(rows.column("question_id")) if index in left_out]
    more = ", …" if len(names) > LISTED else ""
    print(
        f"{len(names)} of {len(rows)} questions of {rows.name} {why} and are left out of every score: "
        f"{', '.join(names[:LISTED])}{more}. {way_out}",
        flush=True,
    )
    chosen = rows.select([index for index in range(len(rows)) if index not in left_out])
    counts = {reason: len(numbers) for reason, numbers in found.items()}
    chosen.fingerprint["left_out"] = rows.fingerprint.get("left_out", {}) | counts
    return chosen
