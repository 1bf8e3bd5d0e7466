"""The vision tower's own parts; the golden numbers test the whole."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange

from radvqa_jax.backbones import fake_params
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.models.siglip import PatchEmbedding
from radvqa_jax.models.variants import VARIANTS
from radvqa_jax.models.vision_language import variables

DUMMY = VARIANTS["dummy"]


def test_the_patch_embedding_is_a_convolution_with_row_major_patches() -> None:
    image = jax.random.normal(jax.random.key(0), (2, 8, 12, 3))
    convolution = nn.Conv(5, (4, 4), strides=(4, 4), padding="VALID")
    params = convolution.init(jax.random.key(1), image)
    params["params"]["bias"] = jnp.arange(5.0)
    with jax.numpy_rank_promotion("allow"):
        expected = rearrange(convolution.apply(params, image), "B i j D -> B (i j) D")
    patches = rearrange(image, "B (i p) (j q) C -> B (i j) (p q C)", p=4, q=4)
    out = PatchEmbedding(5, 4, jnp.float32).apply(params, patches)
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_every_image_token_depends_on_every_patch() -> None:
    model, params = PaliGemma(DUMMY), variables(fake_params(DUMMY))
    embed = jax.jit(lambda image: model.apply(params, image, method="embed_image"))
    image = jax.random.uniform(jax.random.key(0), (1, 8, 8, 3), minval=-1)
    before = embed(image)
    assert before.shape == (1, 4, 16)
    for row, column in ((0, 0), (0, 4), (4, 0), (4, 4)):
        after = embed(image.at[0, row, column].add(1.0))
        assert (np.abs(after - before).max(axis=-1) > 1e-4).all()


def test_an_image_of_another_size_is_refused() -> None:
    model, params = PaliGemma(DUMMY), variables(fake_params(DUMMY))
    for shape in ((10, 10), (12, 12), (4, 16)):  # the last one has the right number of patches
        with pytest.raises(ValueError, match=f"images of 8 x 8 pixels, got {shape[0]} x {shape[1]}"):
            model.apply(params, jnp.zeros((1, *shape, 3)), method="embed_image")
