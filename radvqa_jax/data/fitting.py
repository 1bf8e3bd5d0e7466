"""Which questions of an evaluation fit the text length; those that do not are left out by name, or stop the run."""

from radvqa_jax.config import DataConfig
from radvqa_jax.data.packing import OVERLONG_QUESTION, Rejected, pack_prompt
from radvqa_jax.data.rows import RowSource
from radvqa_jax.data.tokenizer import Tokenizer

LISTED = 5  # questions that the message names


def fitting(rows: RowSource, *, data: DataConfig, tokenizer: Tokenizer) -> RowSource:
    """Returns the rows whose question fits `data.seq_len`, and says how many were left out.

    The rows' fingerprint then has `left_out`: {reason: number}. Rows that all fit are returned as they are.

    Raises:
        ValueError: naming the first question that does not fit, under the policy `error`; or if no question fits.
    """
    kept, left_out = [], []
    for index, row in enumerate(rows.texts()):
        prefix, _ = rows.text(row, template=data.prompt)
        try:
            pack_prompt(tokenizer, prefix, seq_len=data.seq_len)
        except Rejected as error:
            if data.overlong_question == "error":
                raise ValueError(f"{rows.name}, question {row['question_id']!r}: {error}") from error
            left_out.append(str(row["question_id"]))
        else:
            kept.append(index)
    if not left_out:
        return rows
    if not kept:
        raise ValueError(f"{rows.name}: no question fits data.seq_len={data.seq_len}. Raise it.")
    more = ", …" if len(left_out) > LISTED else ""
    print(
        f"{len(left_out)} of {len(rows)} questions of {rows.name} do not fit data.seq_len={data.seq_len} and are left "
        f"out of every score: {', '.join(left_out[:LISTED])}{more}. Raise data.seq_len to ask them.",
        flush=True,
    )
    chosen = rows.select(kept)
    chosen.fingerprint["left_out"] = {OVERLONG_QUESTION: len(left_out)}
    return chosen
