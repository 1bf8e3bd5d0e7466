"""One question and its answer -> maps: by answer token, by word, and for the whole answer.

A map says what the model read, not why it answered; it is not an explanation.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from radvqa_jax.config import SaliencyConfig
from radvqa_jax.saliency.bundle import BY_HEAD, VISION_SUFFIX, BundleOptions, CaseBundle


class CaseMaps(NamedTuple):
    """Maps of one case, by method: those of saliency.methods."""

    answer: str
    tokens: Int[np.ndarray, " A"]  # of the answer, with EOS if it has one
    logprobs: Float[np.ndarray, " A"]  # log p of each
    words: list[tuple[str, list[int]]]  # (word, its token positions), see `word_groups`
    ended: bool  # whether the last token is EOS
    maps: dict[str, Float[np.ndarray, "A grid grid"]]

    def of_words(self, method: str) -> Float[np.ndarray, "W grid grid"]:
        """Returns a map a word, the mean over its tokens."""
        return np.stack([self.maps[method][positions].mean(axis=0) for _, positions in self.words])

    def of_answer(self, method: str) -> Float[np.ndarray, "grid grid"]:
        """Returns the mean over the answer's tokens; EOS counts only if there is nothing else."""
        tokens = self.maps[method][: len(self.tokens) - self.ended]
        return (tokens if len(tokens) else self.maps[method]).mean(axis=0)

    def image_to_response(self, method: str) -> Float[np.ndarray, "grid grid W"]:
        """Returns, for each patch, what every word read of it: the words' maps read the other way.

        With the patch as the query all values would be zero; see saliency/rollout.py.
        """
        return np.moveaxis(self.of_words(method), 0, -1)


def reduce_bundle(bundle: CaseBundle, config: SaliencyConfig) -> CaseMaps:
    """Returns the maps of config.methods; raw and value_norm are means over config.layers and all heads."""
    layers = {
        method: config.layers if method.removesuffix(VISION_SUFFIX) in BY_HEAD else () for method in config.methods
    }
    return CaseMaps(
        answer=bundle.answer,
        tokens=bundle.token_ids,
        logprobs=bundle.logprobs,
        words=bundle.words,
        ended=bundle.ended,
        maps={method: bundle.tokens(method, layers=chosen) for method, chosen in layers.items()},
    )


def bundle_options(config: SaliencyConfig) -> BundleOptions:
    """Returns how config wants its maps made; relevancy is computed only if it is among its methods."""
    wanted = any(method.startswith("relevancy") for method in config.methods)
    return BundleOptions((config.residual,), config.head_fusion, config.start_layer, config.discard, relevancy=wanted)
