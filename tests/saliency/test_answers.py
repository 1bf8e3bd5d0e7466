"""Maps are of the tokens that were written: the record's ids, and not its text encoded again."""

import numpy as np
import pytest

from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.saliency.answers import answer_tokens
from radvqa_jax.schema import Record


def record(said: str, **fields: object) -> Record:
    return Record("q", "i", "where?", "", [said], [], **fields)  # pyright: ignore[reportArgumentType]


def test_the_tokens_are_those_that_were_written(tokenizer: Tokenizer) -> None:
    rng, differing = np.random.default_rng(0), 0
    ordinary = [t for t in range(tokenizer.vocab_size) if not tokenizer.piece(t).startswith("<")]
    for _ in range(50):
        ids = rng.choice(ordinary, 4).tolist()
        for ended in (True, False):
            written = [*ids, tokenizer.eos] if ended else ids
            found = answer_tokens(record(tokenizer.decode(written), token_ids=[written], ended=[ended]), tokenizer)
            assert found.ids == written
            cut = "The answer was cut after 4 tokens: the model did not end it."
            assert found.notes == ([] if ended else [cut])
        differing += tokenizer.encode(tokenizer.decode(ids)) != ids
    assert differing  # which is why the text will not do


def test_without_ids_the_text_is_encoded_again_and_that_is_said(tokenizer: Tokenizer) -> None:
    found = answer_tokens(record("left lung"), tokenizer)
    assert found.ids == tokenizer.encode("left lung", eos=True)
    assert found.notes[0].startswith("The record has no token ids, so the answer was encoded again")


@pytest.mark.parametrize("ids", [[5, 1], [10**6, 1], [-1], []])
def test_ids_that_spell_another_text_are_not_used(tokenizer: Tokenizer, ids: list[int]) -> None:
    found = answer_tokens(record("left lung", token_ids=[ids], ended=[True]), tokenizer)
    assert found.ids == tokenizer.encode("left lung", eos=True)
    assert found.notes[0].startswith("The record's token ids spell another text")
