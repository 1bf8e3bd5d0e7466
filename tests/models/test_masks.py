"""The prefix-LM mask, against the rule in words."""

import jax.numpy as jnp
import numpy as np

from radvqa_jax.models.masks import make_attn_mask, make_positions


def test_a_token_reads_another_by_the_rule() -> None:
    rng = np.random.default_rng(0)
    mask_input, mask_ar = rng.integers(0, 2, (4, 7)).astype(bool), rng.integers(0, 2, (4, 7))
    mask = np.asarray(make_attn_mask(jnp.asarray(mask_input), jnp.asarray(mask_ar)))
    for row in range(4):
        for query in range(7):
            for key in range(7):
                both_are_input = mask_input[row, query] and mask_input[row, key]
                not_later = mask_ar[row, : key + 1].sum() <= mask_ar[row, : query + 1].sum()
                assert mask[row, query, key] == (both_are_input and not_later)


def test_positions_count_input_tokens() -> None:
    mask_input = jnp.array([[1, 1, 0, 1], [1, 1, 1, 1]], bool)
    assert make_positions(mask_input).tolist() == [[0, 1, 1, 2], [0, 1, 2, 3]]
