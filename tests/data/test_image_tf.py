"""The resize against TensorFlow's own, which the reference uses."""

import numpy as np
import pytest

from radvqa_jax.data.image import resize_image


@pytest.mark.tf
@pytest.mark.parametrize("shape", [(40, 60), (112, 112), (500, 300), (31, 700), (900, 1100)])
def test_resize_is_that_of_tensorflow(shape: tuple[int, int]) -> None:
    import tensorflow as tf

    image = np.random.default_rng(shape[0]).integers(0, 256, (*shape, 3), dtype=np.uint8)
    wanted = tf.image.resize(image, (112, 112), method="bilinear", antialias=True)
    wanted = tf.cast(tf.clip_by_value(wanted, 0, 255), tf.uint8).numpy().astype(int)
    levels = np.rint((resize_image(image, 112) + 1) * 127.5).astype(int)
    assert np.abs(levels - wanted).max() <= 1
    assert (levels == wanted).mean() >= 0.998
