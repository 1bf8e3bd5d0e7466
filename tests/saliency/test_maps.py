"""Maps of one case: the right rows, words and averages, one compilation, and a file that is read back."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from radvqa_jax.config import SaliencyConfig
from radvqa_jax.data.image import resize_image
from radvqa_jax.data.packing import pack
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.saliency import capture as capture_module
from radvqa_jax.saliency import relevancy as relevancy_module
from radvqa_jax.saliency.bundle import CHEAP, CaseBundle, make_bundle, own_answer
from radvqa_jax.saliency.bundle_file import load_bundle, save_bundle, to_arrays
from radvqa_jax.saliency.capture import Captured, capture
from radvqa_jax.saliency.maps import CaseMaps, pass_options, reduce_bundle
from radvqa_jax.saliency.passes import PassOptions
from radvqa_jax.saliency.relevancy import relevancy
from radvqa_jax.saliency.rollout import rollout
from radvqa_jax.saliency.viewer_cases import RESIDUALS
from radvqa_jax.schema import Batch

SEQ_LEN = 48
PREFIX = "answer en where?"
CONFIG = SaliencyConfig(residual=0.4, head_fusion="max", start_layer=1, layers=(0, 2), methods=("raw", "rollout"))
OPTIONS = PassOptions((0.5, 0.4), "max", start_layer=1)
IMAGE = np.random.default_rng(0).integers(0, 256, (40, 64, 3)).astype(np.uint8)
ARGUMENTS = {"image": IMAGE, "prefix": PREFIX, "seq_len": SEQ_LEN}


class Asked(NamedTuple):
    """A model that knows the golden tokenizer, to be asked."""

    model: PaliGemma
    params: dict[str, Any]
    tokenizer: Tokenizer

    def maps(self, answer: Any, **changes: Any) -> CaseMaps:
        config = changes.pop("config", CONFIG)
        return reduce_bundle(self.bundle(answer, options=pass_options(config), **changes), config)

    def bundle(self, answer: Any, **changes: Any) -> CaseBundle:
        arguments = ARGUMENTS | {"options": OPTIONS} | changes
        return make_bundle(self.model, self.params, tokenizer=self.tokenizer, answer=answer, **arguments)


@pytest.fixture(scope="module")
def asked(worded: tuple[PaliGemma, dict[str, Any]], tokenizer: Tokenizer) -> Asked:
    return Asked(*worded, tokenizer)


@pytest.fixture(scope="module")
def packed(asked: Asked) -> tuple[dict[str, np.ndarray], Batch, Captured]:
    """The row of training that asks PREFIX and answers "left lung", as a batch, and all its attention."""
    row = pack(asked.tokenizer, PREFIX, suffix="left lung", seq_len=SEQ_LEN)
    pixels = resize_image(IMAGE, 56)[None]
    batch = Batch(image=pixels, mask_example=np.ones(1, bool), **{k: v[None] for k, v in row.items()})
    return row, batch, capture(asked.model, asked.params, batch, rows="all", vision=True)


def test_maps_are_the_rows_of_the_packed_case(asked: Asked, packed: Any) -> None:
    found = asked.maps(asked.tokenizer.encode("left lung", eos=True))
    row, _, captured = packed
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


def test_a_bundle_holds_every_layer_head_and_direction(asked: Asked, packed: Any) -> None:
    found = asked.bundle(asked.tokenizer.encode("left lung", eos=True))
    row, batch, captured = packed
    probs = np.asarray(captured.attn_probs)[:, 0]
    first, count = int(row["mask_loss"].argmax()), int(row["mask_loss"].sum())
    queries = slice(16 + first - 1, 16 + first - 1 + count)
    np.testing.assert_allclose(found.image["raw"], probs[:, :, queries, :16], rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.text["raw"], probs[:, :, queries, 16 : 16 + first + count], rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.prompt["raw"], probs[:, :, 16 : 16 + first, :16], rtol=0, atol=1e-6)
    assert found.prompt_ids.tolist() == row["tokens"][:first].tolist()
    assert [word for word, _ in found.prompt_words] == ["<s>", "answer", "en", "where?", "\\n"]
    rolled = np.asarray(rollout(captured.attn_probs, residual=0.5, head_fusion="max", start_layer=1))[0]
    np.testing.assert_allclose(found.image["rollout"][0], rolled[queries, :16], rtol=0, atol=1e-6)
    vision = np.asarray(rollout(captured.vision_probs, residual=0.5, head_fusion="max"))[0]
    np.testing.assert_allclose(found.vision_rollout, vision, rtol=0, atol=1e-6)
    relevance = np.asarray(relevancy(asked.model, asked.params, batch))[0, :count]
    np.testing.assert_allclose(found.image["relevancy"], relevance[:, :16], rtol=0, atol=1e-6)
    for token in range(count):  # a state's attention to itself is left out
        own = np.eye(relevance.shape[1])[queries.start + token]
        expected = (relevance[token] - own)[16 : 16 + first + count]
        np.testing.assert_allclose(found.text["relevancy"][token], expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.text["rollout"][0], rolled[queries, 16 : 16 + first + count], rtol=0, atol=1e-6)
    whole = found.sources("rollout")
    assert sum(whole) == pytest.approx(1, abs=1e-5) and min(whole) > 0
    one = found.sources("raw", [0], layers=(1,), heads=(2,))
    row = probs[1, 2, queries.start]
    expected = [row[:16].sum(), row[16], row[17 : 16 + first - 1].sum(), row[16 + first - 1], 0.0]
    np.testing.assert_allclose(one, expected, rtol=0, atol=1e-6)
    asking = rolled[16 : 16 + first, :16]
    np.testing.assert_allclose(found.prompt["rollout"][0], asking, rtol=0, atol=1e-6)
    for prompt, method in ((asking, "rollout"), (found.prompt["raw"].mean(axis=(0, 1)), "raw")):
        np.testing.assert_allclose(found.tokens(method, prompt=True).reshape(-1, 16), prompt, rtol=1e-6, atol=1e-7)
    with pytest.raises(ValueError, match=r"value_norm has no map of the prompt's tokens; raw and .*rollout.* have"):
        found.tokens("value_norm", prompt=True)


@pytest.mark.parametrize("residual", [0.0, 0.3, 0.5, 0.95])
def test_the_vision_towers_rollout_has_the_configured_residual_whatever_others_are_shown(residual: float) -> None:
    config = SaliencyConfig(residual=residual)
    for others in ((), RESIDUALS):
        assert pass_options(config, residuals=others).vision_rollout.residuals == (residual,)


def test_an_answer_is_contrasted_with_another(asked: Asked, tmp_path: Path) -> None:
    encode = asked.tokenizer.encode
    yes, no = (asked.bundle(encode(a, eos=True), other=b) for a, b in (("yes", "no"), ("no", "yes")))
    for method in ("contrast", "contrast_first"):
        mine, theirs = yes.image[method], no.image[method]
        assert mine.min() < 0 < mine.max() and (mine == mine[0]).all()  # one map for every token
        np.testing.assert_allclose(mine[0], -theirs[0], rtol=1e-3, atol=1e-6)
    assert np.abs(yes.image["contrast"] - yes.image["contrast_first"]).max() > 1e-6
    assert yes.methods[-1] == "contrast_first_vision" and yes.other == "no"
    assert yes.log_ratio == pytest.approx(yes.logprobs.sum() - no.logprobs.sum(), abs=1e-4)
    save_bundle(tmp_path / "case.npz", yes)
    back = load_bundle(tmp_path / "case.npz")
    assert back.other == "no" and back.log_ratio == pytest.approx(yes.log_ratio)
    assert back.image["contrast"] == pytest.approx(yes.image["contrast"], rel=2e-3, abs=1e-6)
    assert "contrast" not in asked.bundle(encode("yes", eos=True)).image
    cut = asked.bundle(encode("left"), other="left lung")  # a cut answer, which the other one continues
    assert "contrast" not in cut.image and cut.other == ""


def test_tokens_reads_one_map_of_any_method(asked: Asked) -> None:
    found = asked.bundle(asked.tokenizer.encode("left lung", eos=True))
    head = found.tokens("raw", layers=(1,), heads=(3,))
    assert np.array_equal(head, found.image["raw"][1, 3].reshape(-1, 4, 4))
    raw, value_norm = found.image["raw"], found.image["value_norm"]
    np.testing.assert_allclose(found.tokens("raw", layers=(0, 2)).ravel(), raw[[0, 2]].mean((0, 1)).ravel())
    assert np.array_equal(found.tokens("value_norm", layers=(2,)).ravel(), found.layers["value_norm"][2].ravel())
    assert np.array_equal(found.tokens("value_norm", layers=(2,), heads=(0,)).ravel(), value_norm[2, 0].ravel())
    assert np.array_equal(found.tokens("rollout", residual=0.4).ravel(), found.image["rollout"][1].ravel())
    through = found.tokens("raw_vision", layers=(1,), heads=(3,))
    np.testing.assert_allclose(through.reshape(-1, 16), raw[1, 3] @ found.vision_rollout, rtol=0, atol=1e-6)
    np.testing.assert_allclose(through.sum((1, 2)), head.sum((1, 2)), rtol=1e-5)  # rows of the tower's rollout sum to 1
    assert np.abs(through - head).max() > 1e-3
    with pytest.raises(ValueError, match=r"This case has no map 'flow'\. It has: raw, raw_centred, value_norm"):
        found.tokens("flow")
    with pytest.raises(ValueError, match="rollout has no heads to choose from; raw and value_norm have"):
        found.tokens("rollout", heads=(1,))
    for method in set(found.methods) - {"rollout", "rollout_vision"}:
        with pytest.raises(ValueError, match=r"^[a-z_]+ has no residual to choose from; rollout has"):
            found.tokens(method, residual=0.4)
    with pytest.raises(ValueError, match=r"heads=\(4,\) names \[4\]; the model's heads are 0 to 3"):
        found.tokens("raw", heads=(4,))
    with pytest.raises(ValueError, match=r"No rollout with residual=0.9; there are 0.5, 0.4"):
        found.tokens("rollout", residual=0.9)


def test_a_bundle_comes_back_from_its_file(asked: Asked, tmp_path: Path) -> None:
    found = asked.bundle(asked.tokenizer.encode("left left", eos=True))
    save_bundle(tmp_path / "case.npz", found)
    back = load_bundle(tmp_path / "case.npz")
    assert (back.answer, back.words, back.prompt_words) == (found.answer, found.words, found.prompt_words)
    assert back.options == found.options and back.ended
    assert back.methods == found.methods and len(back.methods) == 12
    for method in found.methods:
        whole = found.tokens(method)
        np.testing.assert_allclose(back.tokens(method), whole, rtol=2e-3, atol=1e-6)
    arrays = to_arrays(found)
    assert all(values.dtype != object for values in arrays.values())
    assert arrays["raw"].shape == (3, 4, len(found.token_ids), 16) and arrays["raw"].dtype == np.float16


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"format": np.array(0)}, "A case bundle has format=3; this one has 0"),
        ({"other": np.zeros(1)}, "A case bundle has format=3; this one has none"),
        ({"format": np.array(3)}, "KeyError: 'options'"),
        ({"format": np.array(np.inf)}, "OverflowError"),
        ({"format": np.array(3), "options": np.array("[]")}, "AttributeError"),
        ({"format": np.array(3), "options": np.array("5")}, "AttributeError"),
        ({"format": np.array([3, 3])}, "TypeError"),
        ({"format": np.array("x")}, "invalid literal"),
        ({"format": np.array(3), "options": np.array("[" * 100_000)}, "RecursionError"),
        ({"format": np.array(3), "options": np.array('{"what": 1}')}, "TypeError"),
        ({"format": np.array([{}], dtype=object)}, "is a pickle of Python objects"),
    ],
)
def test_a_file_that_is_not_a_bundle_is_an_error_that_names_it(
    tmp_path: Path, arrays: dict[str, np.ndarray], problem: str
) -> None:
    path = tmp_path / "other.npz"
    np.savez(path, allow_pickle=True, **arrays)
    with pytest.raises(ValueError, match=rf"other\.npz is not the \.npz of a saliency case: .*{problem}"):
        load_bundle(path)


def test_arrays_that_contradict_each_other_are_no_bundle(asked: Asked, tmp_path: Path) -> None:
    arrays = to_arrays(asked.bundle(asked.tokenizer.encode("left lung", eos=True), methods=CHEAP))
    path = tmp_path / "case.npz"
    for name, changed in (
        ("word_of_token", arrays["word_of_token"][:-1]),
        ("word_of_token", arrays["word_of_token"] + 1),
        ("word_of_prompt_token", arrays["word_of_prompt_token"] + 0.5),
        ("token_ids", arrays["token_ids"][None]),
        ("logprobs", arrays["logprobs"][1:]),
        ("vision_rollout", np.float32(1)),
        ("vision_rollout", arrays["vision_rollout"][:9, :9]),
        ("grid", np.array(3)),
        ("raw", arrays["raw"][..., :9]),
        ("raw", arrays["raw"][0]),
        ("raw_text", arrays["raw_text"][:, :, :, 1:]),
        ("raw_prompt", arrays["raw_prompt"][:2]),
        ("rollout", np.repeat(arrays["rollout"], 2, axis=0)),
    ):
        np.savez(path, allow_pickle=False, **arrays | {name: changed})
        with pytest.raises(ValueError, match=r"case\.npz is not the \.npz of a saliency case: ValueError: "):
            load_bundle(path)
    np.savez(path, allow_pickle=False, **arrays)
    assert load_bundle(path).methods


def test_a_bundle_that_would_fill_the_memory_is_not_read(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "big.npz", raw=np.zeros(80 << 18, np.float32))
    with pytest.raises(ValueError, match="its arrays have 83,886,080 bytes, more than 100 times those of the file"):
        load_bundle(tmp_path / "big.npz")
    (tmp_path / "empty.npz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"empty\.npz is not .*: it is empty"):
        load_bundle(tmp_path / "empty.npz")


def test_without_relevancy_there_is_none(asked: Asked, tmp_path: Path) -> None:
    found = asked.bundle([asked.tokenizer.eos], methods=CHEAP)
    assert "relevancy" not in found.methods
    save_bundle(tmp_path / "case.npz", found)
    assert "relevancy" not in load_bundle(tmp_path / "case.npz").methods


def test_the_models_own_answer_is_the_likeliest(asked: Asked) -> None:
    ids = own_answer(asked.model, asked.params, tokenizer=asked.tokenizer, max_new_tokens=3, **ARGUMENTS)
    assert 1 <= len(ids) <= 3
    own = asked.maps(ids).logprobs.sum()
    for other in ("yes", "left lung", "no"):
        length = len(ids)
        assert own > asked.maps((asked.tokenizer.encode(other) * 3)[:length]).logprobs.sum()


def test_the_first_state_cannot_tell_two_answers_apart_but_the_gradient_can(asked: Asked) -> None:
    yes, no = (asked.bundle(asked.tokenizer.encode(text, eos=True)).image for text in ("yes", "no"))
    assert np.array_equal(yes["raw"][:, :, 0], no["raw"][:, :, 0])
    assert np.array_equal(yes["rollout"][:, 0], no["rollout"][:, 0])
    assert not np.array_equal(yes["raw"][:, :, 1], no["raw"][:, :, 1])  # what predicted EOS has read the answer
    assert np.abs(yes["relevancy"][0] - no["relevancy"][0]).max() > 1e-6


def test_words_and_answer_are_means_over_their_tokens(asked: Asked) -> None:
    found = asked.maps(asked.tokenizer.encode("left lung left", eos=True))
    assert found.answer == "left lung left" and found.ended
    assert [word for word, _ in found.words][:3] == ["left", "lung", "left"]
    assert tuple(found.maps) == CONFIG.methods
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


def test_values_are_shares_that_are_not_rescaled(asked: Asked) -> None:
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


def test_the_maps_of_an_empty_answer_are_those_of_eos(asked: Asked) -> None:
    found = asked.maps([asked.tokenizer.eos])
    assert found.answer == "" and len(found.words) == 1
    assert np.array_equal(found.of_answer("raw"), found.maps["raw"][0])


def test_one_compilation_serves_all_cases(asked: Asked) -> None:
    options = PassOptions((0.123,))
    counters = capture_module._capture, relevancy_module.relevancy
    asked.bundle(asked.tokenizer.encode("no", eos=True), options=options)
    before = [counter._cache_size() for counter in counters]
    for answer, prefix in (("yes", "a"), ("left lung", "answer en where is it?"), ("", "b")):
        asked.bundle(asked.tokenizer.encode(answer, eos=True), prefix=prefix, options=options)
    assert [counter._cache_size() for counter in counters] == before


def test_questions_and_answers_that_do_not_fit_are_refused(asked: Asked) -> None:
    ids = asked.tokenizer.encode("left lung", eos=True)
    with pytest.raises(ValueError, match=r"A question is never cut: raise data\.seq_len"):
        asked.maps(ids, seq_len=8)
    with pytest.raises(ValueError, match=r"a row of data\.seq_len=16 holds 17"):
        asked.maps(ids[:-1] * 8, seq_len=16)
    with pytest.raises(ValueError, match=r"layers=\(3,\) names \[3\]"):
        asked.maps(ids, config=dataclasses.replace(CONFIG, layers=(3,)))
