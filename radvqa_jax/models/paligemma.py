"""PaliGemma: image tokens and text through one prefix-LM (Beyer et al. 2024; big_vision models/proj/paligemma)."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from radvqa_jax.models.gemma import Gemma
from radvqa_jax.models.kv_cache import DecodeState, KVCache
from radvqa_jax.models.masks import make_attn_mask, make_positions
from radvqa_jax.models.siglip import Siglip
from radvqa_jax.models.vision_language import VisionLanguageModel


class PaliGemma(VisionLanguageModel):
    """The whole model; `params` is big_vision's tree."""

    def setup(self) -> None:
        v = self.variant
        remat_img = self.remat if self.remat_img is None else self.remat_img
        self.img = Siglip(v.img, v.num_patches, v.llm.width, self.lora, self.dtype, remat_img, self.unroll)
        self.llm = Gemma(v.llm, self.lora, self.dtype, self.remat, self.unroll)

    def embed_image(self, image: Float[Array, "B h w 3"]) -> Float[Array, "B P D"]:
        """The image tokens; unlike text embeddings they are not scaled by sqrt(width)."""
        return self.img(image)

    def _embed(
        self,
        image: Float[Array, "B h w 3"] | Float[Array, "B P D"],
        tokens: Int[Array, "B T"],
        mask_ar: Int[Array, "B T"],
        mask_input: Bool[Array, "B T"],
    ) -> tuple[Float[Array, "B S D"], Int[Array, "B S"], Bool[Array, "B S"]]:
        """Embeddings, mask_ar and mask_input of [image tokens, text]; image tokens belong to the prefix.

        An image may be given as its image tokens, which are then not computed.
        """
        image_tokens = self.embed_image(image) if image.ndim == 4 else image
        x = jnp.concatenate([image_tokens, self.llm.embedder.encode(tokens)], axis=1)
        ones = jnp.ones(image_tokens.shape[:2], mask_ar.dtype)
        mask_ar = jnp.concatenate([ones * 0, mask_ar], axis=1)
        return x, mask_ar, jnp.concatenate([ones.astype(bool), mask_input], axis=1)

    def pre_logits(
        self,
        image: Float[Array, "B h w 3"] | Float[Array, "B P D"],
        tokens: Int[Array, "B T"],
        mask_ar: Int[Array, "B T"],
    ) -> Float[Array, "B T D"]:
        """The states of the text positions, teacher-forced.

        Padding sits on the right and is causal, so no real token reads it and no input mask is needed.
        """
        x, mask_ar, mask_input = self._embed(image, tokens, mask_ar, jnp.ones(tokens.shape, bool))
        attn_mask = make_attn_mask(mask_input, mask_ar)
        out, _ = self.llm(x, positions=make_positions(mask_input), attn_mask=attn_mask)
        return out[:, -tokens.shape[1] :]

    def logits(self, pre_logits: Float[Array, "B T D"]) -> Float[Array, "B T V"]:
        """float32 logits of states."""
        return self.llm.embedder.decode(pre_logits)

    def read_state(self, state: Float[Array, "B T D"]) -> Float[Array, "B T V"]:
        """float32 logits of states between layers, through the last norm."""
        return self.llm.embedder.decode(self.llm.final_norm(state))

    def prefill(
        self,
        image: Float[Array, "B h w 3"] | Float[Array, "B P D"],
        tokens: Int[Array, "B T"],
        mask_ar: Int[Array, "B T"],
        mask_input: Int[Array, "B T"] | Bool[Array, "B T"],
        *,
        new_tokens: int,
        cache_dtype: Any = None,
    ) -> tuple[Float[Array, "B V"], DecodeState]:
        """(logits of the token after each prompt, state with room for `new_tokens` more).

        Prompts are right-padded; a padded slot is never read, and positions count input tokens, so rows of different
        length need no shifting: every row writes its next token into the same slot.
        """
        x, mask_ar, mask_input = self._embed(image, tokens, mask_ar, mask_input.astype(bool))
        batch_size, length = mask_input.shape
        room = ((0, 0), (0, new_tokens))
        cache = KVCache.empty(self.variant.llm, batch_size, length + new_tokens, cache_dtype or self.dtype)
        out, cache = self.llm(
            x,
            positions=make_positions(mask_input),
            attn_mask=jnp.pad(make_attn_mask(mask_input, mask_ar), ((0, 0), *room)),
            cache=cache,
            slot=jnp.zeros((), jnp.int32),
        )
        assert cache is not None
        count = mask_input.sum(axis=1)
        last = jnp.take_along_axis(out, (length - 1 - jnp.argmax(mask_input[:, ::-1], axis=1))[:, None, None], axis=1)
        state = DecodeState(cache, jnp.pad(mask_input, room), count, jnp.asarray(length, jnp.int32))
        return self.llm.embedder.decode(last)[:, 0], state

    def extend(self, token: Int[Array, " B"], state: DecodeState) -> tuple[Float[Array, "B V"], DecodeState]:
        """(logits after one more token of each row, new state).

        Gemma 2's final cap applies here and not in `prefill` or `__call__`, as in big_vision (variants: off).
        """
        readable = jax.lax.dynamic_update_slice_in_dim(
            state.readable, jnp.ones((token.shape[0], 1), bool), state.slot, axis=1
        )
        out, cache = self.llm(
            self.llm.embedder.encode(token[:, None]),
            positions=state.position[:, None],
            attn_mask=readable[:, None, :],
            cache=state.cache,
            slot=state.slot,
        )
        assert cache is not None
        logits = self.llm.embedder.decode(out)[:, 0]
        cap = self.variant.llm.final_softcap
        logits = jnp.tanh(logits / cap) * cap if cap else logits
        return logits, DecodeState(cache, readable, state.position + 1, state.slot + 1)
