"""One question and its answer -> maps: by answer token, by word, and for the whole answer.

A map says what the model read, not why it answered; it is not an explanation.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from radvqa_jax.config import SaliencyConfig
from radvqa_jax.saliency.bundle import CaseBundle
from radvqa_jax.saliency.methods import METHODS, plain
from radvqa_jax.saliency.passes import PassOptions


class CaseMaps(NamedTuple):
    """Maps of one case, by method: those of saliency.methods."""

    answer: str
    tokens: Int[np.ndarray, " A"]  # of the answer, with EOS if it has one
    logprobs: Float[np.ndarray, " A"]  # log p of each
    words: list[tuple[str, list[int]]]  # (word, its token positions), see `word_groups`
    ended: bool  # whether the last token is EOS
    maps: dict[str, Float[np.ndarray, "A grid grid"]]

    def of_words(self, method: str) -> Float[np.ndarray, "W grid grid"]:
        """One map for each word, the mean over its tokens."""
        return np.stack([self.maps[method][positions].mean(axis=0) for _, positions in self.words])

    def of_answer(self, method: str) -> Float[np.ndarray, "grid grid"]:
        """The mean over the answer's tokens; EOS counts only if there is nothing else."""
        tokens = self.maps[method][: len(self.tokens) - self.ended]
        return (tokens if len(tokens) else self.maps[method]).mean(axis=0)

    def image_to_response(self, method: str) -> Float[np.ndarray, "grid grid W"]:
        """For each patch, the response of every word to it: the words' maps read in the other direction.

        With the patch as the query all values would be zero; see saliency/rollout.py.
        """
        return np.moveaxis(self.of_words(method), 0, -1)


def reduce_bundle(bundle: CaseBundle, config: SaliencyConfig) -> CaseMaps:
    """The maps of config.methods; methods by layer are means over config.layers and all heads."""
    layers = {method: config.layers if "layers" in METHODS[plain(method)].axes else () for method in config.methods}
    return CaseMaps(
        answer=bundle.answer,
        tokens=bundle.token_ids,
        logprobs=bundle.logprobs,
        words=bundle.words,
        ended=bundle.ended,
        maps={method: bundle.tokens(method, layers=chosen) for method, chosen in layers.items()},
    )


def pass_options(config: SaliencyConfig, *, residuals: tuple[float, ...] = ()) -> PassOptions:
    """The options of maps from the configuration, with rollouts of further residuals after its own."""
    return PassOptions(
        residuals=(config.residual, *(weight for weight in residuals if weight != config.residual)),
        head_fusion=config.head_fusion,
        start_layer=config.start_layer,
        discard=config.discard,
        windows=config.windows,
        knockout_layers=config.knockout_layers,
    )
