"""The records that pass between modules, and the shape letters that every module uses.

B batch, T query positions (text), S key positions, P image patches, D width, N query heads, K key/value heads,
G = N / K, H head dim, F mlp dim, L layers, V vocabulary, R rank. h w are image height and width in pixels.
"""

from typing import Annotated, Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from pydantic import BeforeValidator, Field

from radvqa_jax import typed_json


class Batch(NamedTuple):
    """One batch of packed rows: jax or numpy arrays, or their shapes.

    A training row has seq_len + 1 tokens, the last of which is only a target; a prompt has seq_len.
    """

    image: Float[Any, "B h w 3"]  # in [-1, 1]; for a prompt, image tokens [B P D] may take its place
    tokens: Int[Any, "B T"]  # BOS prefix sep suffix EOS pad
    mask_ar: Int[Any, "B T"]  # 1 = causal from here
    mask_loss: Int[Any, "B T"]  # 1 = a target: suffix and EOS
    mask_input: Int[Any, "B T"]  # 1 = not padding
    mask_example: Bool[Any, " B"]  # False = a row that only fills up the batch

    @staticmethod
    def spec(batch_size: int, resolution: int, seq_len: int) -> "Batch":
        """The shapes and dtypes of a batch."""
        row = jax.ShapeDtypeStruct((batch_size, seq_len + 1), np.int32)
        image = jax.ShapeDtypeStruct((batch_size, resolution, resolution, 3), np.float32)
        return Batch(image, row, row, row, row, jax.ShapeDtypeStruct((batch_size,), np.bool_))

    @staticmethod
    def fake(batch_size: int, resolution: int, seq_len: int, *, vocab: int = 64, seed: int = 0) -> "Batch":
        """A random but well-formed batch for tests: a prefix, a suffix of at least one token, padding."""
        rng = np.random.default_rng(seed)
        image = rng.uniform(-1, 1, (batch_size, resolution, resolution, 3)).astype(np.float32)
        width = seq_len + 1
        tokens = rng.integers(4, vocab, (batch_size, width)).astype(np.int32)
        start = rng.integers(2, max(3, width - 2), (batch_size, 1))
        stop = rng.integers(start + 1, width)
        column = np.arange(width)[None]
        mask_input = (column <= stop).astype(np.int32)
        mask_ar = (column >= start).astype(np.int32)
        mask_loss = mask_ar * mask_input
        return Batch(image, tokens * mask_input, mask_ar, mask_loss, mask_input, np.ones(batch_size, bool))


class TrainState(NamedTuple):
    """The state that training changes. Frozen leaves are a separate argument of the step."""

    step: Int[Array, ""]  # optimizer steps done
    trainable: dict[str, Any]  # flat tree, float32
    opt_state: Any


def _answer_type(given: Any) -> Any:
    """`closed`, `open` or empty as written in a file, in capitals or with spaces around it: VQA-RAD has "CLOSED ".

    Raises:
        ValueError: for another word.
    """
    plain = given.strip().lower() if isinstance(given, str) else given
    if isinstance(plain, str) and plain not in ("closed", "open", ""):
        raise ValueError("must be closed, open or empty")
    return plain


class Record(NamedTuple):
    """One line of predictions.jsonl: everything that scoring needs, so that scoring needs no model.

    The facts of a whole run (hashes of model, adapter, tokenizer and data, prompt template, sampling) are stored once,
    in `<name>.json` in the same folder; `settings` identifies the file that a line belongs to.
    """

    question_id: str
    image_id: str
    question: str
    reference: str
    predictions: list[str]  # k answers; the first one is greedy unless temperature > 0
    # For each answer, the sum of log p of its tokens, EOS included; empty if they are not known.
    logprobs: list[Annotated[float, Field(le=0)]] = []  # noqa: RUF012 never mutated
    # closed, open, or empty if the data set does not say; in a file also in capitals or with spaces around it
    answer_type: Annotated[str, BeforeValidator(_answer_type)] = ""
    question_type: str = ""
    organ: str = ""
    modality: str = ""
    plane: str = ""
    choices: Annotated[list[str], Field(max_length=26)] = []  # noqa: RUF012 never mutated; one per letter
    prompt: str = ""
    image_used: str = ""  # image_id of the image that was shown; differs from image_id for the swapped baseline
    run: str = ""  # name of the model: base, or a stage's
    source: str = ""  # data set and release, from its rows
    seeds: list[int] = []  # noqa: RUF012 never mutated; of each sampled answer; empty if greedy
    settings: str = ""  # first 12 digits of the sha256 of the whole run's facts
    # Of each answer, as decoded, EOS included; empty from another system. Encoding the text may give other tokens.
    token_ids: list[list[int]] = []  # noqa: RUF012 never mutated
    ended: list[bool] = []  # noqa: RUF012 never mutated; for each answer: False = cut by decode.max_new_tokens
    language: str = ""  # of question and reference: en, zh; empty if the data set does not say
    # question_ids of the earlier questions about the image that are in the prompt with their answers, the oldest first
    history: list[str] = []  # noqa: RUF012 never mutated

    @property
    def cluster(self) -> str:
        """The image that it counts for in intervals: its own, or the question where the image is unknown."""
        image = self.image_id or f"\t{self.question_id}"
        return f"{self.source}\t{image}"

    def to_json(self) -> dict[str, Any]:
        """A dict for one line of jsonl."""
        return self._asdict()

    @staticmethod
    def from_json(row: dict[str, Any], *, where: str = "a prediction record") -> "Record":
        """The record of one parsed line.

        Raises:
            typed_json.JsonError: naming `where`, the field, the rule and the value, if a field is unknown, is missing
                or has another type.
        """
        return typed_json.check(row, Record, where=where)
