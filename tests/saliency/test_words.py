"""Words are what a reader sees, and no token is lost."""

import pytest

from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.saliency.words import word_groups


@pytest.mark.parametrize("text", ["left lung", "yes", "No finding, é日 left left.", " 42 mm", "pneumothorax", ""])
def test_groups_are_the_words_of_the_text(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text, eos=True)
    groups = word_groups(tokenizer, ids)
    assert [position for _, positions in groups for position in positions] == list(range(len(ids)))
    assert [word for word, _ in groups[:-1]] == text.split()
    assert groups[-1] == (tokenizer.piece(tokenizer.eos), [len(ids) - 1])


def test_a_word_that_occurs_twice_is_there_twice(tokenizer: Tokenizer) -> None:
    groups = word_groups(tokenizer, tokenizer.encode("is left left"))
    assert [word for word, _ in groups] == ["is", "left", "left"]
    assert groups[1][1] != groups[2][1]


def test_a_lone_space_has_a_name(tokenizer: Tokenizer) -> None:
    (space,) = [i for i in range(tokenizer.vocab_size) if tokenizer.piece(i) == "▁"]
    ids = [space, tokenizer.eos]
    assert word_groups(tokenizer, ids)[0] == ("▁", [0])


def test_what_follows_eos_is_a_word_of_its_own(tokenizer: Tokenizer) -> None:
    letter = tokenizer.encode("yes")[0]
    assert [positions for _, positions in word_groups(tokenizer, [tokenizer.eos, letter])] == [[0], [1]]
