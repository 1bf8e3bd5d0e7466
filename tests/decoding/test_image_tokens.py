"""Shared image tokens: how often an image is embedded, which ones are kept, and that none are mixed up."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from radvqa_jax.backbones import fake_params
from radvqa_jax.config import DecodeConfig
from radvqa_jax.decoding import image_tokens as module
from radvqa_jax.decoding.batch_size import MOST, choose_batch_size, row_bytes
from radvqa_jax.decoding.decode import decode
from radvqa_jax.decoding.image_tokens import AT_A_TIME, ImageTokens
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.models.variants import VARIANTS
from radvqa_jax.models.vision_language import variables
from radvqa_jax.schema import Batch

MODEL = PaliGemma(VARIANTS["dummy"])
PARAMS = fake_params(MODEL.variant)
EACH = MODEL.variant.num_patches * MODEL.variant.llm.width * 4  # bytes
PIXELS = {bytes([i]): np.random.default_rng(i).uniform(-1, 1, (8, 8, 3)).astype(np.float32) for i in range(12)}


class Seen:
    """Images that note when they are made, and the chunks in which they are embedded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[bytes] = []
        self.chunks: list[int] = []
        real = module.embed_images

        def embed(model: Any, params: Any, image: Any) -> Any:
            self.chunks.append(len(image))
            return real(model, params, image)

        monkeypatch.setattr(module, "embed_images", embed)

    def get(self, kept: ImageTokens, numbers: str, *, tower: str = "", params: Any = PARAMS) -> np.ndarray:
        images = {key: lambda key=key: self.made.append(key) or PIXELS[key] for key in PIXELS}
        return np.asarray(kept.get(MODEL, params, tower, images, [bytes([int(n, 12)]) for n in numbers]))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    return Seen(monkeypatch)


def directly(numbers: str) -> np.ndarray:
    image = jnp.stack([PIXELS[bytes([int(n, 12)])] for n in numbers])
    return np.asarray(MODEL.apply(variables(PARAMS), image, method="embed_image"))


def test_an_image_is_seen_once_whatever_the_batch(seen: Seen) -> None:
    kept = ImageTokens()
    np.testing.assert_allclose(seen.get(kept, "0010"), directly("0010"), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(seen.get(kept, "2013"), directly("2013"), rtol=1e-5, atol=1e-6)
    assert seen.made == [b"\0", b"\1", b"\2", b"\3"] and seen.chunks == [4, 4]  # one shape: chunks are filled up
    assert kept.nbytes == 4 * EACH
    assert kept.has("", b"\3") and not kept.has("", b"\4") and not kept.has("other", b"\3")


def test_a_large_batch_is_embedded_in_chunks(seen: Seen) -> None:
    kept = ImageTokens()
    found = seen.get(kept, "0123456789ab")
    np.testing.assert_allclose(found, directly("0123456789ab"), rtol=1e-5, atol=1e-6)
    assert seen.chunks == [AT_A_TIME, AT_A_TIME]


def test_the_least_recently_used_is_dropped_and_a_batch_may_exceed_the_limit(seen: Seen) -> None:
    kept = ImageTokens(2 * EACH)
    assert kept.room(MODEL) == 2
    for numbers in ("0", "1", "0", "2", "0"):
        seen.get(kept, numbers)
    assert seen.made == [b"\0", b"\1", b"\2"] and kept.nbytes == 2 * EACH
    np.testing.assert_allclose(seen.get(kept, "3456"), directly("3456"), rtol=1e-5, atol=1e-6)
    assert kept.nbytes == 2 * EACH and kept.has("", b"\5") and not kept.has("", b"\3")
    nothing = ImageTokens(0)
    seen.made.clear()
    seen.get(nothing, "11"), seen.get(nothing, "1")
    assert seen.made == [b"\1", b"\1"] and nothing.nbytes == 0 and nothing.room(MODEL) == 1


def test_another_tower_has_tokens_of_its_own(seen: Seen) -> None:
    kept = ImageTokens()
    other = PARAMS | {"img/head/bias": PARAMS["img/head/bias"] + 1}
    first, second = seen.get(kept, "0"), seen.get(kept, "0", tower="trained", params=other)
    assert np.abs(first - second).max() > 0.5
    np.testing.assert_array_equal(seen.get(kept, "0"), first)
    assert len(seen.made) == 2


def test_answers_are_those_of_the_images_themselves() -> None:
    rng = np.random.default_rng(0)
    mask = (np.arange(5) < np.array([[3], [5], [4]])).astype(np.int32)
    texts = {"tokens": rng.integers(4, 64, (3, 5)).astype(np.int32) * mask, "mask_ar": 0 * mask, "mask_loss": 0 * mask}
    image = np.stack([PIXELS[bytes([n])] for n in (4, 4, 7)])
    whole = Batch(image=image, mask_input=mask, mask_example=np.ones(3, bool), **texts)
    shared = ImageTokens().get(MODEL, PARAMS, "", {k: lambda k=k: PIXELS[k] for k in PIXELS}, [b"\4", b"\4", b"\7"])
    keys = jnp.arange(6).reshape(3, 2)
    for temperature, samples in ((0.0, 1), (1.0, 2)):
        config = DecodeConfig(max_new_tokens=5, temperature=temperature, samples=samples)
        key = jax.vmap(jax.random.key)(keys.reshape(-1)).reshape(3, 2)[:, :samples]
        a, b = (
            decode(MODEL, PARAMS, batch, key, config=config, eos=-1) for batch in (whole, whole._replace(image=shared))
        )
        np.testing.assert_array_equal(a.tokens, b.tokens)
        np.testing.assert_allclose(a.logprobs, b.logprobs, atol=1e-5)


def test_the_batch_follows_memory() -> None:
    model = PaliGemma(VARIANTS["paligemma-3b-448"], dtype=jnp.bfloat16)
    config = DecodeConfig(max_new_tokens=32)
    each = row_bytes(model, prompt=128, config=config)
    five = row_bytes(model, prompt=128, config=DecodeConfig(max_new_tokens=32, samples=5, temperature=1.0))
    cache = 2 * 18 * (1024 + 128 + 32) * 256 * 2
    assert five - each == 4 * (cache + 4 * 4 * 257_152)
    sizes = [choose_batch_size(1000, each=each, free=free * 2**30) for free in (1, 4, 16, 80)]
    assert sizes == sorted(sizes) and sizes[0] < 8 and sizes[-1] == MOST
    assert choose_batch_size(1000, each=each, free=0) == 1  # one at a time may still fit
    assert choose_batch_size(1000, each=each, free=0, share=4) == 4
    assert choose_batch_size(5, each=each, free=80 * 2**30, share=4) == 8  # two rows a device
