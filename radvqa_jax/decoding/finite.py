"""Finds NaN in answers: the question and token, and whether weights or computation are at fault."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from radvqa_jax.trees import Flat

MOST = 3  # leaves that an error names


def count_nonfinite(params: Flat) -> dict[str, int]:
    """{leaf: the number of its values that are NaN or infinite}; sound leaves are absent."""
    counts = {
        name: sum(
            int(jnp.sum(~jnp.isfinite(part)))
            for part in jax.tree.leaves(leaf)  # a quantised leaf is a tree of arrays
            if jnp.issubdtype(part.dtype, jnp.floating)
        )
        for name, leaf in params.items()
    }
    return {name: count for name, count in counts.items() if count}


def blame(params: Flat) -> str:
    """The cause of NaN in a model's values, and the way out, in sentences for an error."""
    found = count_nonfinite(params)
    if not found:
        return (
            f"All {len(params)} leaves of the model are finite, so a value left the range of the compute dtype. "
            "Try model.compute_dtype='float32', or another checkpoint or adapter."
        )
    named = ", ".join(f"{name} ({count:,})" for name, count in list(found.items())[:MOST])
    more = f", and {len(found) - MOST} more" if len(found) > MOST else ""
    return (
        f"{sum(found.values()):,} values in {len(found)} of the model's {len(params)} leaves are NaN or infinite: "
        f"{named}{more}. Use an earlier checkpoint or adapter, or fetch the file again."
    )


def check_texts(logprobs: Mapping[str, float], params: Flat, *, run: str) -> None:
    """Raises ValueError, as `check_answers`, if the log p of a given text is not finite: {text: its log p}."""
    bad = [text for text, value in logprobs.items() if not np.isfinite(value)]
    if bad:
        raise ValueError(
            f"{run}: log p of the answer {bad[0]!r:.100} is {logprobs[bad[0]]}, so no answer can be chosen. "
            f"{blame(params)}"
        )


def check_answers(
    token_logprobs: Float[np.ndarray, "B ..."], names: Sequence[str], params: Flat, *, run: str = ""
) -> None:
    """Refuses answers with a token whose log p is not finite.

    Args:
        token_logprobs: log p of each token; the tokens are the last axis. Rows past `names` only fill the batch.
        names: the questions' ids.
        params: the model's leaves, searched for values that are not finite.
        run: the name of the answering model.

    Raises:
        ValueError: naming the first such question, its token, and what is wrong with the weights.
    """
    bad = ~np.isfinite(token_logprobs[: len(names)])
    if not bad.any():
        return
    rows = bad.any(axis=tuple(range(1, bad.ndim)))
    first = int(rows.argmax())
    token = int(bad[first].reshape(-1, bad.shape[-1]).any(axis=0).argmax())
    value = token_logprobs[first].reshape(-1, bad.shape[-1])[:, token]
    shown = next(float(x) for x in value if not np.isfinite(x))
    raise ValueError(
        f"{f'{run}: ' if run else ''}log p of answer token {token + 1} to question {names[first]!r} is {shown}, so the "
        f"answer means nothing; the batch has {int(rows.sum())} such answers of {len(names)}. {blame(params)}"
    )
