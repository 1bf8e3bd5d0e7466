"""The results of a model's passes over a batch; each pass is made once, when the first method needs it."""

import numbers
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from radvqa_jax.models.vision_language import VisionLanguageModel
from radvqa_jax.saliency import intervene, lens
from radvqa_jax.saliency.capture import Captured, capture
from radvqa_jax.saliency.contrast import Contrast, contrast
from radvqa_jax.saliency.relevancy import relevancy
from radvqa_jax.saliency.rollout import RolloutOptions
from radvqa_jax.schema import Batch
from radvqa_jax.trees import Flat


def _is_number(value: object, kind: type) -> bool:
    """Whether a value is a number of this kind, of Python or numpy, and not a bool."""
    return isinstance(value, kind) and not isinstance(value, bool | np.bool_)


@dataclass(frozen=True)
class PassOptions:
    """The options of maps, for all methods; hashable."""

    residuals: tuple[float, ...] = (0.5,)  # one rollout each; the vision tower's has the first
    head_fusion: str = "mean"
    start_layer: int = 0
    discard: float = 0.0
    windows: int = 8  # along a side: windows of patches that are covered or hidden in turn
    knockout_layers: tuple[int, ...] = ()  # in which the answer cannot read a window; none = all

    def __post_init__(self) -> None:
        """Raises ValueError for what would fail in the middle of a pass; capture and knockout check the rest."""
        weights, windows = self.residuals, self.windows
        if not isinstance(weights, tuple) or not weights or not all(_is_number(one, numbers.Real) for one in weights):
            raise ValueError(f"residuals={weights!r:.100} must be a tuple of numbers, at least one, such as (0.5,).")
        if not _is_number(windows, numbers.Integral) or windows < 1:
            raise ValueError(f"windows={windows!r:.100} must be an integer of at least 1.")
        if not isinstance(self.knockout_layers, tuple):
            raise ValueError(f"knockout_layers={self.knockout_layers!r:.100} must be a tuple of layers.")

    @property
    def rollout(self) -> RolloutOptions:
        """The rollout that `capture` folds in the language model."""
        return RolloutOptions(self.residuals, self.head_fusion, self.start_layer, self.discard)

    @property
    def vision_rollout(self) -> RolloutOptions:
        """The rollout that it folds in the vision tower: all layers, the first of the residual weights."""
        return RolloutOptions(self.residuals[:1], self.head_fusion, 0, self.discard)


@dataclass(frozen=True)
class Opposed:
    """The same question with the answer and another one: two rows, and where they differ."""

    pair: Batch
    differs: int


class Passes:
    """The passes of a model over training rows."""

    def __init__(
        self,
        model: VisionLanguageModel,
        params: Flat,
        batch: Batch,
        *,
        options: PassOptions,
        eos: int,
        answer_len: int | None = None,
        captures: Collection[str] = (),
        opposed: Opposed | None = None,
    ) -> None:
        """Takes the model, its leaves and the rows.

        Args:
            model: static.
            params: flat tree of base leaves and adapters.
            batch: training rows; `mask_loss` says where the answers are.
            options: of the maps.
            eos: the token that ends an answer.
            answer_len: A, room for answer tokens, EOS included; None = T.
            captures: further arrays that the one captured pass keeps: value_norm, scores.
            opposed: the answer and another one, of a batch of one row; None = there is no other.
        """
        self.model, self.params, self.batch, self.options, self.eos = model, params, batch, options, eos
        self.answer_len, self.captures, self.opposed = answer_len, captures, opposed

    @cached_property
    def captured(self) -> Captured:
        return capture(
            self.model,
            self.params,
            self.batch,
            answer_len=self.answer_len,
            rows="text",
            value_norm="value_norm" in self.captures,
            scores="scores" in self.captures,
            rollout=self.options.rollout,
            vision_rollout=self.options.vision_rollout,
        )

    @property
    def num_patches(self) -> int:
        return self.model.variant.num_patches

    @cached_property
    def word_rows(self) -> Bool[Array, "B T"]:
        """Text positions whose states read for a word: at the question's words, and before each word of the answer.

        BOS and what predicted EOS are left out; the separator's state counts, because it predicted the first token.
        """
        tokens, mask_loss = jnp.asarray(self.batch.tokens), jnp.asarray(self.batch.mask_loss)
        first = jnp.argmax(mask_loss, axis=1)[:, None]
        words = ((tokens != self.eos) & (mask_loss == 1)).sum(axis=1, keepdims=True)
        column = jnp.arange(tokens.shape[1] - 1)[None]
        return (column >= 1) & (column < first - 1 + jnp.maximum(words, 1))

    @cached_property
    def relevance(self) -> Float[Array, "B A S"]:
        """Relevancy without the identity part of each state."""
        found = relevancy(self.model, self.params, self.batch, answer_len=self.answer_len)
        own = jax.nn.one_hot(self.captured.query, found.shape[-1])
        within = jnp.arange(found.shape[1])[None] < self.captured.length[:, None]
        return found - own * within[..., None]

    def contrast(self, *, only_first: bool) -> Contrast:
        assert self.opposed is not None, "methods that hold two answers against each other need another answer"
        longest = int(self.opposed.pair.mask_loss.sum(axis=1).max())
        return contrast(
            self.model,
            self.params,
            self.opposed.pair,
            differs=self.opposed.differs,
            only_first=only_first,
            answer_len=min(-(-longest // 16) * 16, self.opposed.pair.tokens.shape[1] - 1),  # few lengths compile
        )

    @cached_property
    def lens(self) -> lens.Lens:
        return lens.logit_lens(self.model, self.params, self.batch, answer_len=self.answer_len)

    @cached_property
    def occlusion(self) -> Float[Array, "B A P"]:
        found = intervene.occlusion_map(
            self.model, self.params, self.batch, windows=self.options.windows, answer_len=self.answer_len
        )
        return jnp.asarray(found)

    @cached_property
    def knockout(self) -> Float[Array, "B A P"]:
        found = intervene.knockout_map(
            self.model,
            self.params,
            self.batch,
            windows=self.options.windows,
            layers=self.options.knockout_layers,
            answer_len=self.answer_len,
        )
        return jnp.asarray(found)
