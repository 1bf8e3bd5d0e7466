"""Every record of a method is complete, its maps follow its description, and it checks the configuration."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from radvqa_jax.config import Config, Mode, QualityConfig, SaliencyConfig
from radvqa_jax.models.attention import FOLD, tapping
from radvqa_jax.models.vision_language import variables
from radvqa_jax.saliency.buffers import nest
from radvqa_jax.saliency.capture import answer_logprobs, capture
from radvqa_jax.saliency.chosen import check_patches, find_patches
from radvqa_jax.saliency.intervene import knockout, knockout_logprobs, lost_with, occlusion
from radvqa_jax.saliency.lens import logit_lens
from radvqa_jax.saliency.methods import METHODS, check_config, check_methods, computed, measured
from radvqa_jax.saliency.passes import Passes, PassOptions
from radvqa_jax.saliency.unused import check_used

P, DEPTH, ROOM = 16, 3, 5


LLM = ("llm", "layers", "attn")


def inputs(batch: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Image, tokens and mask_ar of a teacher-forced pass."""
    return jnp.asarray(batch.image), jnp.asarray(batch.tokens[:, :-1]), jnp.asarray(batch.mask_ar[:, :-1])


@pytest.fixture(scope="module")
def passes(tiny: Any) -> Passes:
    captures = {flag for method in METHODS.values() for flag in method.captures}
    options = PassOptions(windows=2, knockout_layers=(1,))
    return Passes(tiny.model, tiny.params, tiny.batch, options=options, eos=1, answer_len=ROOM, captures=captures)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if not method.against])
def test_a_method_gives_what_its_record_says(passes: Passes, name: str) -> None:
    method, found = METHODS[name], METHODS[name].compute(passes)
    lead = {"layers, heads": (3, 4), "layers": (3,), "residuals": (1,), "": ()}[method.axes]
    rows = np.asarray(found.rows)
    assert rows.shape == (3, *lead, ROOM, rows.shape[-1])
    assert rows.shape[-1] == (P + 12 if method.text else P) and (found.prompt is not None) == method.prompt
    assert np.isfinite(rows).all() and ((rows < -1e-6).any() == method.signed or name in ("occlusion", "knockout"))
    if method.share:
        np.testing.assert_allclose(rows.sum(axis=-1), 1, atol=1e-5)


@pytest.mark.slow
def test_scores_are_the_logits_of_the_probabilities(tiny: Any, grouped_scores: Any) -> None:
    """softmax(scores, masked) is the attention, in a model without softcap; with it, tanh comes between."""
    for golden, cap in ((tiny, 0.0), (grouped_scores, grouped_scores.model.variant.llm.attn_softcap)):
        found = capture(golden.model, golden.params, golden.batch, answer_len=ROOM, scores=True)
        scores, probs = np.asarray(found.scores, np.float64), np.asarray(found.answer_probs)
        logits = np.tanh(scores / cap) * cap if cap else scores
        weights = np.exp(logits) * (probs > 0)
        np.testing.assert_allclose(weights / weights.sum(axis=-1, keepdims=True), probs, atol=2e-5)
        assert scores.min() < 0 < scores.max()


@pytest.fixture(scope="module")
def grouped_scores(golden: Any) -> Any:
    from .conftest import load

    return load(golden, "paligemma2")


@pytest.mark.slow
def test_centred_maps_are_zero_for_a_patch_that_all_words_read_equally(passes: Passes) -> None:
    found = METHODS["raw_centred"].compute(passes)
    words, prompt = np.asarray(passes.word_rows), np.asarray(found.prompt)
    text = np.asarray(passes.captured.text_probs).mean(axis=(0, 2))[..., :P]
    for row in range(len(words)):
        np.testing.assert_allclose(prompt[row][words[row]].mean(axis=0), 0, atol=1e-6)
        first = int(passes.batch.mask_loss[row].argmax())
        ids = passes.batch.tokens[row, first:][passes.batch.mask_loss[row, first:] == 1]
        assert np.flatnonzero(words[row]).tolist() == list(range(1, first - 1 + max(1, int((ids != 1).sum()))))
        expected = text[row, first - 1] - text[row][words[row]].mean(axis=0)
        np.testing.assert_allclose(np.asarray(found.rows)[row, 0], expected, atol=1e-6)


@pytest.mark.slow
def test_knockout_masks_the_chosen_patches_layers_and_readers(tiny: Any) -> None:
    model, params, batch = tiny.model, tiny.params, tiny.batch
    plain = np.asarray(answer_logprobs(model, params, batch, answer_len=ROOM))
    none, every = np.zeros((3, P), bool), np.ones((3, P), bool)
    layers = np.ones(DEPTH, bool)
    shared: dict[str, Any] = {"answer_len": ROOM}
    np.testing.assert_allclose(knockout_logprobs(model, params, batch, none, layers, **shared), plain, atol=1e-5)
    np.testing.assert_allclose(knockout_logprobs(model, params, batch, every, ~layers, **shared), plain, atol=1e-5)
    # No text state reads the image: another image changes nothing, while it does if only the answer cannot read it.
    other = batch._replace(image=np.asarray(batch.image)[::-1].copy())
    for readers, alike in (("text", True), ("answer", False)):
        found = [knockout_logprobs(model, params, b, every, layers, readers=readers, **shared) for b in (batch, other)]
        assert np.allclose(found[0], found[1], atol=1e-5) == alike, readers
    # One layer and a few patches: the same as minus infinity before that layer's softmax, in that layer alone.
    some = none.copy()
    some[:, 3:7] = True
    first = batch.mask_loss.argmax(axis=1) - 1

    def hook(module: Any, probs: jax.Array, value: Any, project: Any, query: jax.Array, key: jax.Array) -> jax.Array:
        if module.path[0] == "img":
            return probs
        layer = module.get_variable(FOLD, "layer")
        module.put_variable(FOLD, "layer", layer + 1)
        reader = jnp.arange(probs.shape[-1])[None] >= (P + first)[:, None]
        hidden = reader[:, None, :, None] & np.pad(some, ((0, 0), (0, probs.shape[-1] - P)))[:, None, None]
        masked = jax.nn.softmax(jnp.where(hidden, -jnp.inf, jnp.log(probs)), axis=-1)
        return jnp.where(layer == 1, masked, probs)

    start = {FOLD: nest(LLM, {"layer": jnp.zeros((), jnp.int32)})}
    with tapping(hook, queries=True):
        logits, _ = model.apply(variables(params) | start, *inputs(batch), mutable=[FOLD])
    lost = knockout(model, params, batch, layers=(1,), answer_len=ROOM)(some)
    expected = np.asarray(jax.nn.log_softmax(logits))
    for row in range(3):
        token = batch.tokens[row, first[row] + 1]
        assert plain[row, 0] - lost[row, 0] == pytest.approx(float(expected[row, first[row], token]), abs=1e-4)
    assert np.abs(lost[:, 0]).max() > 1e-5


@pytest.mark.slow
def test_occlusion_is_what_covering_loses_and_windows_tile_the_map(tiny: Any, passes: Passes) -> None:
    effect = occlusion(tiny.model, tiny.params, tiny.batch, answer_len=ROOM)
    assert np.abs(effect(np.zeros((3, P), bool))).max() < 1e-5
    window = np.zeros((4, 4), bool)
    window[:2, 2:] = True
    expected = effect(np.tile(window.ravel(), (3, 1)))
    found = np.asarray(METHODS["occlusion"].compute(passes).rows)
    np.testing.assert_allclose(found[..., window.ravel()], np.repeat(expected[..., None], 4, axis=-1), atol=1e-5)
    chosen = np.zeros((3, P), bool)
    chosen[:, :4] = True
    losses = lost_with(effect, chosen, [1, 1, 1], draws=2, seed=0)
    assert losses == lost_with(effect, chosen, [1, 1, 1], draws=2, seed=0) and losses[0].patches == 4
    assert losses[1].chosen == pytest.approx(effect(chosen)[1].sum(), abs=1e-5)
    assert lost_with(effect, ~np.zeros((3, P), bool), [1, 1, 1], draws=1, seed=0)[0].elsewhere is None


@pytest.mark.slow
def test_the_lens_reads_image_tokens_as_the_output_layer_would(tiny: Any) -> None:
    found = logit_lens(tiny.model, tiny.params, tiny.batch, answer_len=ROOM)
    assert found.target_probs.shape == (3, DEPTH, ROOM, P) and found.top_ids.shape == (3, DEPTH, P)

    # After the last layer it is the model's own logits at the image tokens: those of one unembedding, one norm.
    def image_logits(module: Any, image: Any, tokens: Any, mask_ar: Any) -> Any:
        seen: list[Any] = []

        def keep(next_method: Any, args: Any, kwargs: Any, context: Any) -> Any:
            out = next_method(*args, **kwargs)
            if context.method_name == "__call__" and context.module.name == "final_norm":
                seen.append(out)
            return out

        with nn.intercept_methods(keep):
            module.pre_logits(image, tokens, mask_ar)
        return module.llm.embedder.decode(seen[0][:, :P])

    probs = np.asarray(
        jax.nn.softmax(tiny.model.apply(variables(tiny.params), *inputs(tiny.batch), method=image_logits))
    )
    np.testing.assert_allclose(found.top_probs[:, -1], probs.max(axis=-1), rtol=1e-4)
    first = tiny.batch.mask_loss.argmax(axis=1)
    for row in range(3):
        expected = probs[row, :, tiny.batch.tokens[row, first[row]]]
        np.testing.assert_allclose(found.target_probs[row, -1, 0], expected, rtol=1e-4, atol=1e-8)
    assert np.abs(np.asarray(found.top_probs[:, 0]) - np.asarray(found.top_probs[:, -1])).max() > 1e-4


def test_the_configuration_is_checked_by_name_before_anything_is_computed() -> None:
    config = SaliencyConfig()
    check_config(config, depth=3)
    wrong = {
        "methods": (("rolout",), r"saliency\.methods names 'rolout', which is not a method\. Did you mean `rollout`\?"),
        "layers": ((77,), r"saliency\.layers=\(77,\) names \[77\]; the model's layers are 0 to 2"),
        "knockout_layers": ((3,), r"saliency\.knockout_layers=\(3,\) names \[3\]"),
        "start_layer": (99, r"saliency\.start_layer=99 must be one of the model's layers, 0 to 2"),
    }
    for field, (value, says) in wrong.items():
        with pytest.raises(ValueError, match=says):
            check_config(dataclasses.replace(config, **{field: value}), depth=3)
    with pytest.raises(ValueError, match="is always made if there is another answer"):
        check_methods(("contrast",), field="saliency.methods")
    for text, says in (("1,1,9,1", "has 4 x 4 patches"), ("2,2,1,2", "Swap them"), ("all", "counted from 1")):
        with pytest.raises(ValueError, match=says):
            check_patches(dataclasses.replace(config, patches=(text,)), grid=4)
    mask = np.zeros((8, 8), bool)
    mask[:2, 2:4] = True
    assert np.flatnonzero(find_patches("marked", grid=4, mask=mask)).tolist() == [1]
    assert np.flatnonzero(find_patches("1,2,2,2", grid=4, mask=None)).tolist() == [1, 5]
    assert find_patches("marked", grid=4, mask=None) is None


def test_a_field_that_no_method_of_the_mode_uses_is_refused() -> None:
    def check(mode: Mode, methods: tuple[str, ...] = (), **fields: Any) -> None:
        fields |= {} if mode == "saliency_quality" else {"methods": methods}
        quality = QualityConfig(methods=methods if mode == "saliency_quality" else ())
        check_used(Config(mode=mode, saliency=SaliencyConfig(**fields), quality=quality))

    used: list[tuple[tuple[str, ...], dict[str, Any]]] = [
        (("rollout", "lens_vision"), {"layers": (1,)}),
        (("occlusion",), {"windows": 4}),
        (("knockout_vision",), {"windows": 4, "knockout_layers": (1,)}),
        (("raw",), {"knockout_layers": (1,), "patches": ("marked",)}),
        (("rollout",), {"start_layer": 1, "windows": 8}),
    ]
    for methods, fields in used:
        check("saliency", methods, **fields)
    check("saliency_quality", windows=4, layers=(1,), knockout_layers=(1,))  # all methods
    check("saliency_quality", ("raw",), knockout_layers=(1,))  # marked patches are hidden too
    unused: list[tuple[Mode, dict[str, Any], str]] = [
        ("saliency", {"layers": (1,)}, r"^saliency.layers=\(1,\) has no effect on saliency.methods=rollout"),
        ("ask", {"windows": 4}, "^saliency.windows=4 has no .*only occlusion, knockout use it"),
        ("job", {"knockout_layers": (1,)}, "only knockout and saliency.patches use it. Leave saliency.knockout_layers"),
        ("saliency_quality", {"windows": 4}, "^saliency.windows=4 has no effect on quality.methods=rollout"),
    ]
    for mode, fields, message in unused:
        with pytest.raises(ValueError, match=message):
            check(mode, ("rollout",), **fields)


def test_costly_methods_are_computed_only_if_named_and_all_are_measured() -> None:
    assert "occlusion" not in computed(SaliencyConfig()) and "raw" in computed(SaliencyConfig(methods=()))
    assert "occlusion" in computed(SaliencyConfig(methods=("occlusion_vision",)))
    assert measured(QualityConfig()) == tuple(name for name, method in METHODS.items() if not method.against)
    assert measured(QualityConfig(methods=("lens",))) == ("lens",)
