"""Maps are of the tokens that were generated: the record's ids, not its text encoded again."""

import pytest

from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.saliency.answers import answer_tokens
from radvqa_jax.schema import Record


def record(said: str, **fields: object) -> Record:
    return Record("q", "i", "where?", "", [said], [], **fields)  # pyright: ignore[reportArgumentType]


def split_pieces(tokenizer: Tokenizer) -> list[tuple[list[int], int]]:
    """(two tokens, the token that has the text of both) wherever the tokenizer would write the latter."""
    pieces = {tokenizer.piece(token): token for token in range(tokenizer.vocab_size)}
    found = []
    for piece, token in pieces.items():
        if piece.startswith("<") or tokenizer.encode(tokenizer.decode([token])) != [token]:
            continue
        for place in range(1, len(piece)):
            first, second = pieces.get(piece[:place]), pieces.get(piece[place:])
            if first is not None and second is not None:
                found.append(([first, second], token))
    return found


def test_the_tokens_are_those_that_were_written(tokenizer: Tokenizer) -> None:
    pairs = split_pieces(tokenizer)
    assert len(pairs) >= 50
    for ids, merged in pairs:
        text = tokenizer.decode(ids)
        assert text == tokenizer.decode([merged]) and tokenizer.encode(text) == [merged]  # the text has two spellings
        for ended in (True, False):
            written = [*ids, tokenizer.eos] if ended else ids
            found = answer_tokens(record(text, token_ids=[written], ended=[ended]), tokenizer)
            assert found.ids == written
            cut = "The answer was cut after 2 tokens: the model did not end it."
            assert found.notes == ([] if ended else [cut])


def test_a_sampled_answer_says_so(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("left lung", eos=True)
    found = answer_tokens(record("left lung", token_ids=[ids, ids], ended=[True] * 2, seeds=[7, 8]), tokenizer)
    assert found == (ids, ["The answer was sampled; it is the first of 2."])


def test_without_ids_the_text_is_encoded_again_and_a_note_says_so(tokenizer: Tokenizer) -> None:
    found = answer_tokens(record("left lung"), tokenizer)
    assert found.ids == tokenizer.encode("left lung", eos=True)
    assert found.notes[0].startswith("The record has no token ids, so the answer was encoded again")


@pytest.mark.parametrize("ids", [[5, 1], [10**6, 1], [-1], []])
def test_ids_that_spell_another_text_are_not_used(tokenizer: Tokenizer, ids: list[int]) -> None:
    found = answer_tokens(record("left lung", token_ids=[ids], ended=[True]), tokenizer)
    assert found.ids == tokenizer.encode("left lung", eos=True)
    assert found.notes[0].startswith("The record's token ids spell another text")
