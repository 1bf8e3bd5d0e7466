"""The answer of a record as the tokens that the model wrote; maps must be of these tokens."""

from collections.abc import Sequence
from typing import NamedTuple

from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.schema import Record


class AnswerTokens(NamedTuple):
    """The tokens of an answer, and notes on them for a reader."""

    ids: list[int]  # with EOS if the model wrote it
    notes: list[str]


def answer_tokens(record: Record, tokenizer: Tokenizer) -> AnswerTokens:
    """The tokens of a record's first answer; a note says if it was sampled."""
    notes = [f"The answer was sampled; it is the first of {len(record.seeds)}."] if record.seeds else []
    written = written_tokens(
        record.predictions[0], record.token_ids[0] if record.token_ids else None, tokenizer, of="record"
    )
    return AnswerTokens(written.ids, [*notes, *written.notes])


def written_tokens(said: str, ids: Sequence[int] | None, tokenizer: Tokenizer, *, of: str) -> AnswerTokens:
    """The tokens of an answer whose text is `said`; `of` says in notes what has the ids.

    Text shows neither the tokens that wrote it nor whether the model ended it. An answer without token ids (of another
    system, or of an older version), or whose ids spell another text (of another tokenizer), is encoded again with EOS
    at its end, and a note says so.
    """
    if ids and _spells(ids, said, tokenizer):
        if tokenizer.eos in ids:
            return AnswerTokens(list(ids), [])
        return AnswerTokens(list(ids), [f"The answer was cut after {len(ids)} tokens: the model did not end it."])
    why = f"The {of}'s token ids spell another text" if ids is not None else f"The {of} has no token ids"
    note = f"{why}, so the answer was encoded again: the model may have written it with other tokens, and not ended it."
    return AnswerTokens(tokenizer.encode(said, eos=True), [note])


def _spells(ids: Sequence[int], text: str, tokenizer: Tokenizer) -> bool:
    return all(0 <= token < tokenizer.vocab_size for token in ids) and tokenizer.decode(ids) == text
