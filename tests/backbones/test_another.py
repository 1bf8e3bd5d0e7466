"""Another backbone trains, answers and has saliency maps, and no other module knows of it.

`Behind` has PaliGemma's towers under other names, and its image tokens after the text. Attention does not depend on the
order of keys, so with the same weights, masks and rotary positions it must give PaliGemma's numbers up to
rounding. Code that assumes names of the tree, or that the image comes first, would give other numbers or fail.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float, Int

import radvqa_jax
from radvqa_jax.api import Model
from radvqa_jax.backbones import BACKBONES, PALIGEMMA, Backbone, TreeNames, abstract_params, fake_params
from radvqa_jax.checkpoints import big_vision
from radvqa_jax.config import Config, LoraConfig, ModelConfig, OptimConfig, StageConfig
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.export.huggingface_folder import write_model_config
from radvqa_jax.models.gemma import Gemma
from radvqa_jax.models.kv_cache import DecodeState, KVCache
from radvqa_jax.models.masks import make_attn_mask, make_positions
from radvqa_jax.models.siglip import Siglip
from radvqa_jax.models.variants import VARIANTS, GemmaConfig, SiglipConfig, Variant
from radvqa_jax.models.vision_language import VisionLanguageModel
from radvqa_jax.schema import Batch
from radvqa_jax.training.stage import Base, Trained, run_stage

SIZES = Variant(
    SiglipConfig(width=16, depth=2, mlp_dim=24, num_heads=2, patch=7),
    GemmaConfig(width=16, depth=2, mlp_dim=24, num_heads=2, num_kv_heads=1, head_dim=8, vocab_size=1664),
    14,
)
SEQ_LEN = 32
SHARES = {"raw", "raw_centred", "value_norm", "rollout", "rollout_centred", "relevancy", "knockout", "lens", "scores"}


class Behind(VisionLanguageModel):
    """The text, then the image tokens; every position is that of PaliGemma."""

    def setup(self) -> None:
        v = self.variant
        self.picture = Siglip(v.img, v.num_patches, v.llm.width, self.lora, self.dtype, self.remat, self.unroll)
        self.text = Gemma(v.llm, self.lora, self.dtype, self.remat, self.unroll)

    def embed_image(self, image: Float[Array, "B h w 3"]) -> Float[Array, "B P D"]:
        return self.picture(image)

    def _inputs(self, image: Array, tokens: Array, mask_ar: Array, mask_input: Array) -> tuple[Any, Any, Any, Any]:
        """(states, positions, attention mask, which are input), all in the model's own order."""
        image = self.embed_image(image) if image.ndim == 4 else image
        ones = jnp.ones(image.shape[:2], int)
        mask_ar = jnp.concatenate([0 * ones, mask_ar], axis=1)
        mask_input = jnp.concatenate([ones, mask_input], axis=1).astype(bool)
        back = np.argsort(behind(image.shape[1], tokens.shape[1]))
        mask = make_attn_mask(mask_input, mask_ar)[:, back][:, :, back]
        states = jnp.concatenate([self.text.embedder.encode(tokens), image], axis=1)
        return states, make_positions(mask_input)[:, back], mask, mask_input[:, back]

    def pre_logits(self, image: Array, tokens: Int[Array, "B T"], mask_ar: Array) -> Float[Array, "B T D"]:
        x, positions, mask, _ = self._inputs(image, tokens, mask_ar, jnp.ones(tokens.shape, int))
        return self.text(x, positions=positions, attn_mask=mask)[0][:, : tokens.shape[1]]

    def logits(self, pre_logits: Float[Array, "B T D"]) -> Float[Array, "B T V"]:
        return self.text.embedder.decode(pre_logits)

    def read_state(self, state: Float[Array, "B T D"]) -> Float[Array, "B T V"]:
        return self.text.embedder.decode(self.text.final_norm(state))

    def prefill(
        self, image: Any, tokens: Any, mask_ar: Any, mask_input: Any, *, new_tokens: int, cache_dtype: Any = None
    ) -> tuple[Float[Array, "B V"], DecodeState]:
        x, positions, mask, known = self._inputs(image, tokens, mask_ar, mask_input)
        batch, length = known.shape
        cache = KVCache.empty(self.variant.llm, batch, length + new_tokens, cache_dtype or self.dtype)
        mask = jnp.pad(mask, ((0, 0), (0, 0), (0, new_tokens)))
        out, cache = self.text(x, positions=positions, attn_mask=mask, cache=cache, slot=jnp.zeros((), jnp.int32))
        assert cache is not None
        last = jnp.take_along_axis(out, (mask_input.sum(axis=1) - 1)[:, None, None], axis=1)
        readable = jnp.pad(known, ((0, 0), (0, new_tokens)))
        state = DecodeState(cache, readable, known.sum(axis=1), jnp.asarray(length, jnp.int32))
        return self.logits(last)[:, 0], state

    def extend(self, token: Int[Array, " B"], state: DecodeState) -> tuple[Float[Array, "B V"], DecodeState]:
        readable = state.readable.at[:, state.slot].set(True)
        out, cache = self.text(
            self.text.embedder.encode(token[:, None]),
            positions=state.position[:, None],
            attn_mask=readable[:, None],
            cache=state.cache,
            slot=state.slot,
        )
        assert cache is not None
        return self.logits(out)[:, 0], DecodeState(cache, readable, state.position + 1, state.slot + 1)


class Own(Tokenizer):
    """Tokenizer and prompts of the other backbone; the ids are PaliGemma's."""


def behind(num_patches: int, text_len: int) -> Int[np.ndarray, " S"]:
    return np.concatenate([text_len + np.arange(num_patches), np.arange(text_len)])


def renamed(name: str) -> str:
    """A name, or a pattern, of PaliGemma's tree as one of this tree's; the order of names stays."""
    return name.replace("img", "picture", 1).replace("llm", "text", 1)


def make_record() -> Backbone:
    rules = {
        part: tuple((renamed(renamed(pattern)), value) for pattern, value in getattr(PALIGEMMA, part))
        for part in ("equations", "sharding", "results")
    }
    tree = TreeNames(**{field: renamed(name) for field, name in vars(PALIGEMMA.tree).items()})
    files = {field: renamed(value) for field, value in PALIGEMMA.layout._asdict().items() if isinstance(value, str)}
    layout = PALIGEMMA.layout._replace(branches=("picture", "text"), **files)
    return replace(
        PALIGEMMA, name="behind", title="Behind", model=Behind, tree=tree, sequence=behind, layout=layout,
        tokenizer=Own, write_config=None, **rules,
    )  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def known() -> Iterator[None]:
    """Registers the two models, and does nothing else for them."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(BACKBONES, "behind", make_record())
        patched.setitem(VARIANTS, "before", SIZES)
        patched.setitem(VARIANTS, "behind", replace(SIZES, backbone="behind"))
        yield


def run(variant: str, folder: Path) -> tuple[Base, Trained]:
    """The base, and what two steps train: the bias of the projector, and adapters of every linear weight."""

    class Batches:
        drawn = 0

        def __next__(self) -> Batch:
            self.drawn += 1
            return Batch.fake(2, SIZES.resolution, 8, seed=self.drawn)

        def get_state(self) -> dict[str, Any]:
            return {"drawn": self.drawn}

        def set_state(self, state: dict[str, Any]) -> None:
            self.drawn = state["drawn"]

    head = "picture/head" if variant == "behind" else "img/head"
    stage = StageConfig(
        optim=OptimConfig(learning_rate=0.01), batch_size=2, accumulate=1, total_steps=2, log_every=1,
        lora=LoraConfig(rank=2, targets=((".*", "lora"),)),
        train=((r".*/lora_[ab]", "train:lora"), (f"{head}/bias", "train:head"), (".*", "freeze")),
    )  # fmt: skip
    model = ModelConfig(variant=variant, compute_dtype="float32", param_dtype="float32", remat="blocks")
    base = Base(fake_params(VARIANTS[variant]), f"{variant}.npz", "a" * 64)
    config = Config(model=model, stages={"stage2": stage}, run_stages=("stage2",))
    trained = run_stage(
        "stage2",
        config,
        base=base,
        start=Trained.nothing(),
        batches=Batches(),
        rows_per_epoch=4,
        data={},
        folder=folder,
    )
    return base, trained


@pytest.mark.slow
def test_it_trains_as_paligemma_does(tmp_path: Path) -> None:
    (base, before), (other, after) = run("before", tmp_path / "before"), run("behind", tmp_path / "behind")
    assert {renamed(name) for name in base.params} == set(other.params)
    assert {renamed(name) for name in before.leaves} == set(after.leaves) and len(after.leaves) > 20
    for name, leaf in before.leaves.items():
        np.testing.assert_allclose(after.leaves[renamed(name)], leaf, atol=2e-4, err_msg=name)
        assert not name.endswith("lora_b") or np.abs(leaf).max() > 5e-3  # it was trained


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, golden: Path) -> dict[str, Model]:
    """Both models, loaded from native checkpoints with the same weights."""
    folder = tmp_path_factory.mktemp("checkpoints")
    loaded = {}
    for variant in ("before", "behind"):
        big_vision.save(folder / f"{variant}.npz", fake_params(VARIANTS[variant]))
        settings = {"data.seq_len": SEQ_LEN, "decode.max_new_tokens": 4, "model.compute_dtype": "float32"}
        loaded[variant] = radvqa_jax.load(
            folder / f"{variant}.npz", variant=variant, tokenizer=golden / "tiny_tokenizer.model",
            settings=settings | {"model.param_dtype": "float32"},
        )  # fmt: skip
    return loaded


@pytest.mark.slow
def test_it_gives_the_answers_and_maps_of_paligemma(models: dict[str, Model]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 30), dtype=np.uint8)
    before, behind_ = (model.answer(picture, "Is there a mass?", samples=2) for model in models.values())
    assert type(models["behind"]._loaded.tokenizer) is Own
    assert behind_.token_ids == before.token_ids and behind_.samples == before.samples
    assert behind_.logprob == pytest.approx(before.logprob, abs=1e-3)
    maps = [
        model.saliency(answer, methods=tuple(SHARES), other="no")
        for model, answer in zip(models.values(), (before, behind_), strict=True)
    ]
    found, wanted = (made.bundle for made in reversed(maps))
    assert set(wanted.image) == SHARES | {"contrast", "contrast_first"}
    for part in ("image", "text", "prompt", "layers"):
        for method, values in getattr(wanted, part).items():
            size = np.abs(values).max()
            assert values.std() > 1e-3 * size > 0, (part, method)  # an empty map would prove nothing
            np.testing.assert_allclose(
                getattr(found, part)[method], values, atol=2e-3 * size, err_msg=f"{part} {method}"
            )
    np.testing.assert_allclose(found.vision_rollout, wanted.vision_rollout, atol=1e-5)


def test_a_model_whose_image_is_not_in_the_sequence_has_no_maps_yet(models: dict[str, Model]) -> None:
    picture = np.zeros((14, 14), np.uint8)
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(BACKBONES, "aside", replace(make_record(), name="aside", title="Aside", sequence=None))
        model = models["behind"]
        answer = model.answer(picture, "Is there a mass?")
        model.model = model.model.clone(variant=replace(model.model.variant, backbone="aside"))
        with pytest.raises(ValueError, match="Aside reads its image by cross-attention, which attention maps do not"):
            model.saliency(answer, methods=("raw",))


def test_a_model_without_a_form_in_transformers_is_exported_as_a_native_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Behind cannot be written as a Hugging Face folder. Set export.format=big_"):
        write_model_config(tmp_path, VARIANTS["behind"], image_token=3, dtype="float32", new_tokens=4)
    assert not list(tmp_path.iterdir())


def test_leaves_of_the_other_tree_are_recognised_by_its_record() -> None:
    record, shapes = make_record(), abstract_params(VARIANTS["behind"])
    assert {record.tower_of(name) for name in shapes if name.startswith("picture/")} == {"img"}
    assert {record.layout.token_table, record.layout.position_embedding, record.tree.patch_embedding} <= set(shapes)
    assert sum(map(record.is_projector, shapes)) == 2
