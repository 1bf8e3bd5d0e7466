"""The answer of a record as the tokens that the model wrote; maps must be of these tokens."""

from typing import NamedTuple

from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.schema import Record


class AnswerTokens(NamedTuple):
    """The tokens of an answer, and notes on them for a reader."""

    ids: list[int]  # with EOS if the model wrote it
    notes: list[str]


def answer_tokens(record: Record, tokenizer: Tokenizer) -> AnswerTokens:
    """The tokens of a record's first answer.

    Text shows neither the tokens that wrote it nor whether the model ended it. A record without token ids (of another
    system, or of an older version), or whose ids spell another text than its answer, is encoded again with EOS at its
    end, and a note says so. So it does of an answer that was sampled.
    """
    said = record.predictions[0]
    notes = [f"The answer was sampled; it is the first of {len(record.seeds)}."] if record.seeds else []
    if record.token_ids and _spells(record.token_ids[0], said, tokenizer):
        ids = list(record.token_ids[0])
        if tokenizer.eos in ids:
            return AnswerTokens(ids, notes)
        cut = f"The answer was cut after {len(ids)} tokens: the model did not end it."
        return AnswerTokens(ids, [*notes, cut])
    why = "The record's token ids spell another text" if record.token_ids else "The record has no token ids"
    note = f"{why}, so the answer was encoded again: the model may have written it with other tokens, and not ended it."
    return AnswerTokens(tokenizer.encode(said, eos=True), [*notes, note])


def _spells(ids: list[int], text: str, tokenizer: Tokenizer) -> bool:
    return bool(ids) and all(0 <= token < tokenizer.vocab_size for token in ids) and tokenizer.decode(ids) == text
