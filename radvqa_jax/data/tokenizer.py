"""Text <-> ids: a SentencePiece model with PaliGemma's location and segmentation tokens."""

import functools
import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError
from jaxtyping import Int
from sentencepiece import SentencePieceProcessor
from sentencepiece.sentencepiece_model_pb2 import ModelProto  # pyright: ignore[reportAttributeAccessIssue] made at import

SEPARATOR = "\n"
# Texts that two tokenizers with the same tokens may cut differently: blanks, capitals, digits, other forms of letters.
PROBES = (
    "answer en Is there a 2.5 cm nodule in the RIGHT upper lobe?",
    " yes,  no \n\tT2-weighted ",
    "Größe e\u0301dema \ufb01brosis \uff15 \u00d7 \uff11 \uff4d\uff4d \u00b5 \u2026",
    "图中有肝脏吗\uff1f左肺",
)
LOC_TOKENS = tuple(f"<loc{i:04d}>" for i in range(1024))
SEG_TOKENS = tuple(f"<seg{i:03d}>" for i in range(128))


def _add_pieces(model: bytes) -> bytes:
    """The model with LOC_TOKENS and SEG_TOKENS after its own pieces, unless it already has them all."""
    proto = ModelProto.FromString(model)
    own = {piece.piece for piece in proto.pieces}
    if len(own) < len(proto.pieces):
        twice = [piece for piece, count in Counter(piece.piece for piece in proto.pieces).items() if count > 1]
        raise ValueError(f"the piece {twice[0]!r:.100} comes more than once, so that its id is not known")
    if not any(piece.type == ModelProto.SentencePiece.UNKNOWN for piece in proto.pieces):
        raise ValueError("it has no unknown piece, so that some texts have no ids")
    missing = [token for token in (*LOC_TOKENS, *SEG_TOKENS) if token not in own]
    if not missing:
        return model
    if len(missing) < len(LOC_TOKENS) + len(SEG_TOKENS):
        raise ValueError(
            f"it lacks {missing[0]} and {len(missing) - 1} more of the <loc> and <seg> tokens but has others of them. "
            "Give a model that has all 1152, or none of them"
        )
    user_defined = ModelProto.SentencePiece.USER_DEFINED
    for token in missing:
        proto.pieces.add(piece=token, score=0.0, type=user_defined)
    return proto.SerializeToString()


class Tokenizer:
    """Gemma's tokenizer, or another SentencePiece model with pad, bos and eos, and PaliGemma's form of prompts.

    A backbone with another form of prompts has its own class (`Backbone.tokenizer`). The 1024 `<loc…>` and 128
    `<seg…>` tokens take the ids after the model's own pieces, as in big_vision; a model file that already holds them is
    used as it is. Pickling keeps only the path.
    """

    def __init__(self, path: str | Path) -> None:
        """Reads the model file.

        Raises:
            FileNotFoundError: with the next step.
            ValueError: if the file is not a SentencePiece model, or lacks a token that rows need.
        """
        self.path = Path(path).expanduser()
        if not self.path.is_file():
            raise FileNotFoundError(
                f"There is no tokenizer at model.tokenizer={str(path)!r}. Give the SentencePiece .model file that "
                "belongs to the checkpoint: --config.model.tokenizer=FILE (PaliGemma: gemma_tokenizer.model or "
                "paligemma_tokenizer.model, released with the weights)."
            )
        model = self.path.read_bytes()
        self.sha256 = hashlib.sha256(model).hexdigest()
        try:
            self._processor = SentencePieceProcessor(model_proto=_add_pieces(model))
        except (DecodeError, RuntimeError, ValueError) as error:
            raise ValueError(f"{self.path} is not a usable SentencePiece model: {error}.") from error
        self.vocab_size: int = self._processor.vocab_size()
        self.pad: int = self._processor.pad_id()
        self.bos: int = self._processor.bos_id()
        self.eos: int = self._processor.eos_id()
        absent = [name for name in ("pad", "bos", "eos") if getattr(self, name) < 0]
        if absent:
            raise ValueError(f"{self.path} has no {' and no '.join(absent)} token; rows cannot be packed without it.")
        if not self.separator:
            raise ValueError(
                f"{self.path} removes newlines, and one separates a question from its answer. Train the SentencePiece "
                "model with normalization_rule_name='identity' and remove_extra_whitespaces=False."
            )

    def __reduce__(self) -> tuple[type["Tokenizer"], tuple[str]]:
        return type(self), (str(self.path),)

    def encode(self, text: str, *, bos: bool = False, eos: bool = False) -> list[int]:
        """The ids of a text, optionally with the tokens for its beginning and end."""
        ids: list[int] = self._processor.encode(text)
        return [self.bos] * bos + ids + [self.eos] * eos

    def prompt(self, prefix: str) -> list[int]:
        """The ids before an answer: BOS, the prefix, and the separator, tokenised separately as big_vision does."""
        return self.encode(prefix, bos=True) + self.separator

    def decode(self, ids: Iterable[int] | Int[np.ndarray, " T"]) -> str:
        """The text of ids up to the first EOS; BOS and padding are left out.

        A model may embed more tokens than the tokenizer has (`<image>`, padding to a multiple of 64). One that it
        predicts is shown as an unknown token: ` ⁇ `.
        """
        text: list[int] = []
        for token in map(int, ids):
            if token == self.eos:
                break
            if token < 0:
                raise ValueError(f"Token {token} is not a token: ids begin at 0.")
            if token not in (self.bos, self.pad):
                text.append(self._known(token))
        return self._processor.decode(text)

    @property
    def is_bpe(self) -> bool:
        """Whether the model is byte-pair encoding, as Gemma's is, and not a unigram model."""
        return ModelProto.FromString(self.model()).trainer_spec.model_type == 2

    def same_as(self, other: "Tokenizer") -> bool:
        """Whether the other one has the same tokens, `<loc…>` and `<seg…>` included, under the same ids, and cuts texts
        into them alike.

        The texts are PROBES and those of the tokens, without special ones such as `<loc0001>`. Two files may spell one
        rule in different ways, so the rules themselves are not compared.
        """
        if self.sha256 == other.sha256:
            return True
        pieces, others = ([one._processor.id_to_piece(i) for i in range(one.vocab_size)] for one in (self, other))
        if pieces != others or (self.pad, self.bos, self.eos) != (other.pad, other.bos, other.eos):
            return False
        texts = [*PROBES, *(piece.replace("▁", " ") for piece in pieces if piece[0] != "<")]
        return self._processor.encode(texts) == other._processor.encode(texts)

    def model(self) -> bytes:
        """The SentencePiece model in use, with the `<loc…>` and `<seg…>` tokens."""
        return self._processor.serialized_model_proto()

    def piece(self, token: int) -> str:
        r"""One token as SentencePiece writes it, a newline as \n."""
        return self._processor.id_to_piece(self._known(token)).replace("\n", "\\n")

    def _known(self, token: int) -> int:
        return token if token < self.vocab_size else self._processor.unk_id()

    @property
    def unknown(self) -> str:
        """The piece for text that cannot be encoded."""
        return self.piece(self._processor.unk_id())

    @functools.cached_property
    def separator(self) -> list[int]:
        """The ids between prefix and suffix."""
        return self.encode(SEPARATOR)
