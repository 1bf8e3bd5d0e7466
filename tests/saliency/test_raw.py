"""Raw attention, read in the directions that exist."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from radvqa_jax.saliency.capture import capture
from radvqa_jax.saliency.raw import (
    image_to_response,
    over_heads,
    question_to_image,
    raw_attention,
    response_to_image,
    response_to_question,
)


def test_raw_attention_is_the_mean_over_heads_and_chosen_layers(tiny: Any) -> None:
    captured = capture(tiny.model, tiny.params, tiny.batch)
    golden = tiny.io["attention_probs"]
    for layers in ((), (1,), (0, 2)):
        maps = raw_attention(captured.answer_probs, num_patches=16, layers=layers)
        for row, first in enumerate(tiny.io["mask_loss"].argmax(axis=1)):
            for token in range(int(captured.length[row])):
                query = 16 + first + token - 1
                heads = golden[list(layers) or slice(None), row, :, query, :16]
                expected = heads.mean(axis=(0, 1)).reshape(4, 4)
                np.testing.assert_allclose(maps[row, token], expected, rtol=0, atol=1e-5)


def test_what_the_answer_reads_of_a_patch_is_the_map_read_the_other_way() -> None:
    maps = jax.random.uniform(jax.random.key(0), (2, 5, 3, 3))
    one = np.zeros((3, 3), bool)
    one[2, 0] = True
    np.testing.assert_array_equal(image_to_response(maps, jnp.asarray(one)), maps[:, :, 2, 0])
    two = one.copy()
    two[0, 1] = True
    both = image_to_response(maps, jnp.asarray(two))
    np.testing.assert_allclose(both, maps[:, :, 2, 0] + maps[:, :, 0, 1], rtol=1e-6)
    np.testing.assert_allclose(image_to_response(maps, jnp.ones((3, 3), bool)), maps.sum(axis=(-2, -1)), rtol=1e-6)


def test_every_direction_is_its_block_of_the_golden_matrix(tiny: Any) -> None:
    captured = capture(tiny.model, tiny.params, tiny.batch, rows="text")
    golden = tiny.io["attention_probs"]
    row, first = 1, int(tiny.io["mask_loss"][1].argmax())
    queries = [16 + first - 1 + token for token in range(int(captured.length[row]))]
    to_image = np.asarray(response_to_image(captured.answer_probs, num_patches=16))[:, row, :, : len(queries)]
    np.testing.assert_allclose(to_image.reshape(3, 4, -1, 16), golden[:, row][:, :, queries, :16], rtol=0, atol=1e-5)
    to_text = np.asarray(response_to_question(captured.answer_probs, num_patches=16))[:, row, :, : len(queries)]
    np.testing.assert_allclose(to_text, golden[:, row][:, :, queries, 16:], rtol=0, atol=1e-5)
    np.testing.assert_allclose(to_image.sum((-2, -1)) + to_text.sum(-1), 1, rtol=0, atol=1e-5)
    asked = np.asarray(question_to_image(captured.text_probs, num_patches=16))[:, row]
    np.testing.assert_allclose(asked.reshape(3, 4, 12, 16), golden[:, row, :, 16:, :16], rtol=0, atol=1e-5)


def test_heads_are_fused_as_they_are(tiny: Any) -> None:
    captured = capture(tiny.model, tiny.params, tiny.batch)
    golden = np.asarray(captured.answer_probs)
    for name, function in (("mean", np.mean), ("max", np.max), ("min", np.min)):
        np.testing.assert_allclose(over_heads(captured.answer_probs, fusion=name), function(golden, axis=2), rtol=1e-6)
    one = raw_attention(captured.answer_probs, num_patches=16, layers=(1,), heads=(2,), fusion="max")
    assert np.array_equal(one.reshape(3, 12, 16), golden[1, :, 2, :, :16])
    with pytest.raises(ValueError, match=r"saliency.layers=\(0, 3\) names \[3\]; the model's layers are 0 to 2"):
        raw_attention(captured.answer_probs, num_patches=16, layers=(0, 3))
    with pytest.raises(ValueError, match=r"saliency.heads=\(4,\) names \[4\]; the model's heads are 0 to 3"):
        raw_attention(captured.answer_probs, num_patches=16, heads=(4,))
    with pytest.raises(ValueError, match="fusion='median' must be one of mean, max, min"):
        over_heads(captured.answer_probs, fusion="median")
