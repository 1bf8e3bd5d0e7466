"""Maps of one case: the right rows, words and averages, one compilation."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import pytest

from radvqa_jax.config import SaliencyConfig
from radvqa_jax.data.image import resize_image
from radvqa_jax.data.packing import pack
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.saliency.capture import capture
from radvqa_jax.saliency.maps import METHODS, CaseMaps, answer_maps, case_maps
from radvqa_jax.saliency.rollout import rollout
from radvqa_jax.schema import Batch

SEQ_LEN = 48
PREFIX = "answer en where?"
CONFIG = SaliencyConfig(residual=0.4, head_fusion="max", start_layer=1, layers=(0, 2))
IMAGE = np.random.default_rng(0).integers(0, 256, (40, 64, 3)).astype(np.uint8)


class Asked(NamedTuple):
    """A model that knows the golden tokenizer, to be asked."""

    model: PaliGemma
    params: dict[str, Any]
    tokenizer: Tokenizer

    def maps(self, answer: Any, **changes: Any) -> CaseMaps:
        arguments = {"image": IMAGE, "prefix": PREFIX, "config": CONFIG, "seq_len": SEQ_LEN} | changes
        return case_maps(self.model, self.params, tokenizer=self.tokenizer, answer=answer, **arguments)


@pytest.fixture(scope="module")
def asked(tiny: Any, tokenizer: Tokenizer) -> Asked:
    """Returns the golden model with rows for all tokens; it has 320, the tokenizer 512 and its location tokens."""
    name = "llm/embedder/input_embedding"
    table, variant = np.asarray(tiny.params[name]), tiny.model.variant
    room = (tokenizer.vocab_size - len(table), table.shape[1])
    drawn = np.random.default_rng(0).normal(0, 0.02, room).astype(np.float32)
    llm = dataclasses.replace(variant.llm, vocab_size=tokenizer.vocab_size)
    model = PaliGemma(dataclasses.replace(variant, llm=llm))
    return Asked(model, {**tiny.params, name: np.concatenate([table, drawn])}, tokenizer)


def test_maps_are_the_rows_of_the_packed_case(asked: Asked) -> None:
    found = asked.maps(asked.tokenizer.encode("left lung", eos=True))
    row = pack(asked.tokenizer, PREFIX, suffix="left lung", seq_len=SEQ_LEN)
    pixels = resize_image(IMAGE, 56)[None]
    batch = Batch(image=pixels, mask_example=np.ones(1, bool), **{k: v[None] for k, v in row.items()})
    captured = capture(asked.model, asked.params, batch)
    probs = np.asarray(captured.attn_probs)[:, 0]
    rolled = np.asarray(rollout(captured.attn_probs, residual=0.4, head_fusion="max", start_layer=1))[0]
    first, count = row["mask_loss"].argmax(), row["mask_loss"].sum()
    assert found.tokens.tolist() == row["tokens"][first : first + count].tolist()
    for token in range(count):
        query = 16 + first + token - 1
        expected = probs[[0, 2], :, query, :16].mean(axis=(0, 1)).reshape(4, 4)
        np.testing.assert_allclose(found.maps["raw"][token], expected, rtol=0, atol=1e-6)
        np.testing.assert_allclose(found.maps["rollout"][token], rolled[query, :16].reshape(4, 4), rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.logprobs, captured.logprobs[0, :count], rtol=0, atol=1e-6)


def test_words_and_answer_are_means_over_their_tokens(asked: Asked) -> None:
    found = asked.maps(asked.tokenizer.encode("left lung left", eos=True))
    assert found.answer == "left lung left" and found.ended
    assert [word for word, _ in found.words][:3] == ["left", "lung", "left"]
    assert set(found.maps) == set(METHODS)
    for method, tokens in found.maps.items():
        assert len(tokens) == len(found.tokens) == len(found.logprobs)
        words = found.of_words(method)
        for index, (_, positions) in enumerate(found.words):
            np.testing.assert_allclose(words[index], tokens[positions].mean(axis=0), rtol=1e-6)
        assert np.abs(words[0] - words[2]).max() > 0  # the same word, another place
        np.testing.assert_allclose(found.of_answer(method), tokens[:-1].mean(axis=0), rtol=1e-6)  # without EOS
        transposed = found.image_to_response(method)
        assert transposed.shape == (4, 4, len(found.words))
        assert np.array_equal(transposed[2, 1], words[:, 2, 1])


def test_values_are_shares_that_nothing_stretched(asked: Asked) -> None:
    found = asked.maps(asked.tokenizer.encode("yes", eos=True))
    for tokens in found.maps.values():
        assert (tokens > 0).all()
        assert ((sums := tokens.sum(axis=(1, 2))) < 1).all() and (sums > 0.05).all()


def test_an_answer_as_decoded_is_taken_up_to_eos(asked: Asked) -> None:
    ids = asked.tokenizer.encode("yes", eos=True)
    padded = asked.maps(np.array([*ids, asked.tokenizer.pad, asked.tokenizer.pad]))
    assert padded.tokens.tolist() == ids
    cut = asked.maps(ids[:-1])
    assert not cut.ended and cut.tokens.tolist() == ids[:-1]
    np.testing.assert_allclose(cut.of_answer("raw"), padded.of_answer("raw"), rtol=1e-5)


def test_of_an_empty_answer_eos_is_all_there_is(asked: Asked) -> None:
    found = asked.maps([asked.tokenizer.eos])
    assert found.answer == "" and len(found.words) == 1
    assert np.array_equal(found.of_answer("raw"), found.maps["raw"][0])


def test_one_compilation_serves_all_cases(asked: Asked) -> None:
    config = SaliencyConfig(residual=0.123)
    before = answer_maps._cache_size()
    for answer, prefix in (("yes", "a"), ("left lung", "answer en where is it?"), ("", "b")):
        asked.maps(asked.tokenizer.encode(answer, eos=True), prefix=prefix, config=config)
    assert answer_maps._cache_size() == before + 1


def test_what_does_not_fit_is_refused(asked: Asked) -> None:
    ids = asked.tokenizer.encode("left lung", eos=True)
    with pytest.raises(ValueError, match=r"A question is never cut: raise data\.seq_len"):
        asked.maps(ids, seq_len=8)
    with pytest.raises(ValueError, match=r"a row of data\.seq_len=16 holds 17"):
        asked.maps(ids[:-1] * 8, seq_len=16)
    with pytest.raises(ValueError, match=r"saliency.layers=\(3,\) names \[3\]"):
        asked.maps(ids, config=SaliencyConfig(layers=(3,)))
