"""Prefix and suffix -> one row of tokens and masks, exactly as big_vision packs them.

tokens      BOS p p sep s s EOS pad pad
mask_ar      0  0 0  0  1 1  1   1   1      1 = causal from here
mask_loss    0  0 0  0  1 1  1   0   0      1 = a target
mask_input   1  1 1  1  1 1  1   0   0      1 = not padding
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from radvqa_jax.data.tokenizer import Tokenizer

# `reference` cuts whatever does not fit, EOS and separator too, as big_vision does. It exists for comparison.
Overlong = Literal["error", "reject", "cut", "reference"]
Row = dict[str, np.ndarray]

OVERLONG_QUESTION = "overlong_question"
MIN_SUFFIX = 2  # a token and EOS: a prefix must leave room for both


class Rejected(ValueError):
    """A row that a policy may leave out; it is counted under the word `reason`."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def _fill(ids: list[int], width: int, pad: int) -> np.ndarray:
    return np.array((ids + [pad] * width)[:width], np.int32)


def _refuse_prefix(prefix: str, *, length: int, room: int) -> None:
    raise Rejected(
        f"The prefix {prefix[:80]!r} takes {length} tokens with BOS and separator; data.seq_len leaves room for {room}."
        " A question is never cut: raise data.seq_len, or set data.overlong_question to 'reject' to leave it out.",
        reason=OVERLONG_QUESTION,
    )


def pack(tokenizer: Tokenizer, prefix: str, *, suffix: str, seq_len: int, overlong: Overlong = "error") -> Row:
    """A training row: tokens, mask_ar, mask_loss and mask_input, each int32 [seq_len + 1].

    Args:
        tokenizer: of the checkpoint.
        prefix: the prompt.
        suffix: the answer.
        seq_len: input tokens; a row has one more, which is only a target.
        overlong: what happens to an answer that does not fit: `error`, `reject` (raises Rejected), `cut` (the answer's
            end is lost, EOS is kept) or `reference`.

    Raises:
        Rejected: an answer is over-long and the policy is `reject`; a prefix is over-long under any policy of ours.
        ValueError: an answer is over-long and the policy is `error`.
    """
    width = seq_len + 1
    prompt = tokenizer.prompt(prefix)
    answer = tokenizer.encode(suffix, eos=True)
    if overlong != "reference":
        if len(prompt) > width - MIN_SUFFIX:
            _refuse_prefix(prefix, length=len(prompt), room=width - MIN_SUFFIX)
        answer = _fit(tokenizer, answer, room=width - len(prompt), suffix=suffix, overlong=overlong)
    ids = prompt + answer
    column = np.arange(width)
    mask_ar = (column >= len(prompt)).astype(np.int32)
    mask_input = (column < len(ids)).astype(np.int32)
    return {
        "tokens": _fill(ids, width, tokenizer.pad),
        "mask_ar": mask_ar,
        "mask_loss": mask_ar * mask_input,
        "mask_input": mask_input,
    }


def _fit(tokenizer: Tokenizer, answer: list[int], *, room: int, suffix: str, overlong: Overlong) -> list[int]:
    """The answer's ids, EOS last, at most `room` of them."""
    if len(answer) <= room:
        return answer
    if overlong == "cut":
        return [*answer[: room - 1], tokenizer.eos]
    message = (
        f"The answer {suffix[:80]!r} takes {len(answer)} tokens with EOS; after its question data.seq_len leaves room "
        f"for {room}. Raise data.seq_len"
    )
    if overlong == "reject":
        raise Rejected(f"{message}.", reason="overlong_answer")
    raise ValueError(f"{message}, or set data.overlong to 'reject' or 'cut'.")


def pack_prompt(
    tokenizer: Tokenizer, prefix: str, *, seq_len: int, overlong: Literal["error", "reference"] = "error"
) -> Row:
    """A row to decode from: tokens, mask_ar, mask_loss and mask_input, each int32 [seq_len].

    BOS, prefix and separator, then padding; mask_loss is 0 everywhere.

    Raises:
        Rejected: if the prefix does not fit, unless `overlong` is `reference`, which cuts it.
    """
    prompt = tokenizer.prompt(prefix)
    if overlong == "error" and len(prompt) > seq_len:
        _refuse_prefix(prefix, length=len(prompt), room=seq_len)
    column = np.arange(seq_len)
    return {
        "tokens": _fill(prompt, seq_len, tokenizer.pad),
        "mask_ar": (column >= len(prompt)).astype(np.int32),
        "mask_loss": np.zeros(seq_len, np.int32),
        "mask_input": (column < len(prompt)).astype(np.int32),
    }


def reference_rows(tokenizer: Tokenizer, prefix: str, *, suffix: str, seq_len: int) -> dict[str, dict[str, list[int]]]:
    """{train, eval} rows in the form of golden/tokenizer.json, cut as the reference cuts them."""
    train = pack(tokenizer, prefix, suffix=suffix, seq_len=seq_len, overlong="reference")
    prompt = pack_prompt(tokenizer, prefix, seq_len=seq_len, overlong="reference")
    return {
        "train": {
            "text": train["tokens"].tolist(),
            "mask_ar": train["mask_ar"].tolist(),
            "mask_loss": train["mask_loss"].tolist(),
        },
        "eval": {
            "text": prompt["tokens"].tolist(),
            "mask_ar": prompt["mask_ar"].tolist(),
            "mask_input": prompt["mask_input"].tolist(),
        },
    }


def describe_tokens(tokenizer: Tokenizer, row: Mapping[str, np.ndarray]) -> str:
    """One training row as a readable table: number, token, and its masks, without the padding."""
    lines = ["  #  ar loss  token"]
    for number in range(int(row["mask_input"].sum())):
        piece = tokenizer.piece(int(row["tokens"][number]))
        lines.append(f"{number:3}  {row['mask_ar'][number]:2} {row['mask_loss'][number]:4}  {piece}")
    padding = len(row["tokens"]) - int(row["mask_input"].sum())
    return "\n".join([*lines, f"then {padding} of padding; the loss is taken where `loss` is 1"])
