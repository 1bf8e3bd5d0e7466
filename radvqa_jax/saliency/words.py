"""Answer tokens -> words, as a reader sees them."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Int

from radvqa_jax.data.tokenizer import Tokenizer

WORD_START = "▁"  # how SentencePiece writes the space before a word


def word_groups(tokenizer: Tokenizer, ids: Iterable[int] | Int[np.ndarray, " A"]) -> list[tuple[str, list[int]]]:
    """(word, positions of its tokens) in order; a word that occurs twice is listed twice.

    Every token is in one group. Punctuation stays with the word that it follows; BOS, EOS and the separator are
    separate groups, written as the tokenizer writes them. So this also works for a prompt.
    """
    ids, alone = [int(token) for token in ids], {tokenizer.bos, tokenizer.eos, *tokenizer.separator}
    groups: list[list[int]] = []
    for position, token in enumerate(ids):
        starts = token in alone or tokenizer.piece(token).startswith(WORD_START)
        if starts or position == 0 or ids[position - 1] in alone:
            groups.append([])
        groups[-1].append(position)
    return [(_text(tokenizer, [ids[position] for position in group]), group) for group in groups]


def _text(tokenizer: Tokenizer, ids: list[int]) -> str:
    """The text of one word, or its pieces if it has no visible text (EOS, a lone space)."""
    return tokenizer.decode(ids).strip() or "".join(map(tokenizer.piece, ids))
