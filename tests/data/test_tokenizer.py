"""Text <-> ids, equal to the reference."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sentencepiece import SentencePieceTrainer
from sentencepiece.sentencepiece_model_pb2 import ModelProto  # pyright: ignore[reportAttributeAccessIssue]

from radvqa_jax.data.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def want(golden: Path) -> dict[str, Any]:
    return json.loads((golden / "tokenizer.json").read_text())


def test_ids_equal_the_reference(tokenizer: Tokenizer, want: dict[str, Any]) -> None:
    for case in want["cases"]:
        assert tokenizer.encode(case["text"]) == case["ids"]
        assert tokenizer.encode(case["text"], bos=True, eos=True) == case["ids_bos_eos"]


def test_special_ids_and_size_equal_the_reference(tokenizer: Tokenizer, want: dict[str, Any]) -> None:
    have = {name: getattr(tokenizer, name) for name in ("vocab_size", "pad", "bos", "eos")}
    assert have == {name: want[name] for name in have}


def test_ids_become_the_text_again(tokenizer: Tokenizer, want: dict[str, Any]) -> None:
    for case in want["cases"]:
        assert tokenizer.decode(case["ids"]) == case["back"]
        assert tokenizer.decode([*case["ids_bos_eos"], tokenizer.pad, tokenizer.pad]) == case["back"]


def test_a_token_is_shown_as_its_piece(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("an axial MRI")
    assert "".join(map(tokenizer.piece, ids)).replace("\u2581", " ").strip() == "an axial MRI"
    assert [tokenizer.piece(token) for token in tokenizer.separator] == ["\\n"]  # on one line of a table


def test_tokens_after_eos_are_not_text(tokenizer: Tokenizer) -> None:
    yes, no = tokenizer.encode("yes"), tokenizer.encode("no")
    assert tokenizer.decode([*yes, tokenizer.eos, *no]) == "yes"


def test_text_cannot_forge_the_end(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("</s><pad><s>")
    assert not {tokenizer.eos, tokenizer.pad, tokenizer.bos} & set(ids)


def test_a_token_that_only_the_model_has_is_shown_as_unknown(tokenizer: Tokenizer) -> None:
    """Hugging Face folders embed `<image>` and padding, too, and random or damaged weights predict them."""
    yes = tokenizer.encode("yes")
    assert tokenizer.decode([*yes, tokenizer.vocab_size, tokenizer.eos]) == "yes ⁇ "
    assert tokenizer.piece(tokenizer.vocab_size + 63) == tokenizer.unknown
    with pytest.raises(ValueError, match="Token -1 is not a token"):
        tokenizer.decode([-1])


def test_a_pickled_copy_gives_the_same_ids(tokenizer: Tokenizer) -> None:
    data = pickle.dumps(tokenizer)
    copy = pickle.loads(data)
    assert len(data) < 1000
    assert copy.encode("Is there a mass?<loc0001>") == tokenizer.encode("Is there a mass?<loc0001>")
    assert copy.sha256 == tokenizer.sha256


def extended(path: Path, pieces: list[str]) -> bytes:
    proto = ModelProto.FromString(path.read_bytes())
    for piece in pieces:
        proto.pieces.add(piece=piece, score=0.0, type=ModelProto.SentencePiece.USER_DEFINED)
    return proto.SerializeToString()


def test_a_model_with_location_tokens_is_used_as_it_is(tokenizer: Tokenizer, tmp_path: Path) -> None:
    pieces = [f"<loc{i:04d}>" for i in range(1024)] + [f"<seg{i:03d}>" for i in range(128)]
    (tmp_path / "with.model").write_bytes(extended(tokenizer.path, pieces))
    have = Tokenizer(tmp_path / "with.model")
    assert have.vocab_size == tokenizer.vocab_size
    assert have.encode("<loc0010><seg127> nodule") == tokenizer.encode("<loc0010><seg127> nodule")


def test_a_model_with_some_location_tokens_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "half.model").write_bytes(extended(tokenizer.path, ["<loc0000>"]))
    with pytest.raises(ValueError, match="lacks <loc0001> and 1150 more"):
        Tokenizer(tmp_path / "half.model")


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"--config\.model\.tokenizer=FILE"):
        Tokenizer(tmp_path / "none.model")


@pytest.mark.parametrize("data", [b"", b"no model", b"\xff" * 64])
def test_a_file_of_something_else_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "other.model").write_bytes(data)
    with pytest.raises(ValueError, match="not a usable SentencePiece model"):
        Tokenizer(tmp_path / "other.model")


def test_a_truncated_model_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "cut.model").write_bytes(tokenizer.path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="not a usable SentencePiece model"):
        Tokenizer(tmp_path / "cut.model")


@pytest.mark.parametrize("how", ["twice", "no unknown"])
def test_a_model_whose_ids_are_ambiguous_is_refused(how: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    proto = ModelProto.FromString(tokenizer.model())
    if how == "twice":
        proto.pieces.add(piece=proto.pieces[50].piece, score=0.0)
    else:
        for piece in proto.pieces:
            if piece.type == ModelProto.SentencePiece.UNKNOWN:
                piece.type = ModelProto.SentencePiece.NORMAL
    path = tmp_path / "own.model"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ValueError, match=r"own\.model is not a usable.*(comes more than once|no unknown piece)"):
        Tokenizer(path)


def changed(path: Path, place: Path, change: Callable[[Any], None]) -> Path:
    proto = ModelProto.FromString(path.read_bytes())
    change(proto)
    place.write_bytes(proto.SerializeToString())
    return place


def merge_in_another_order(proto: Any) -> None:
    for piece in proto.pieces:
        if piece.type == ModelProto.SentencePiece.NORMAL:
            piece.score = -1000.0 - piece.score


def add_a_blank_in_front(proto: Any) -> None:
    proto.normalizer_spec.add_dummy_prefix = True


def set_another_end(proto: Any) -> None:
    proto.trainer_spec.eos_piece, proto.trainer_spec.bos_piece = "<s>", "</s>"


def name_the_maker(proto: Any) -> None:
    proto.trainer_spec.model_prefix = "somebody"


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (merge_in_another_order, False),
        (add_a_blank_in_front, False),
        (set_another_end, False),
        (name_the_maker, True),
    ],
)
def test_tokenizers_are_the_same_if_they_cut_texts_alike(
    change: Callable[[Any], None], same: bool, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    other = Tokenizer(changed(tokenizer.path, tmp_path / "other.model", change))
    assert other.sha256 != tokenizer.sha256 and other.same_as(tokenizer) == tokenizer.same_as(other) == same


def test_a_model_that_removes_newlines_is_refused(tmp_path: Path) -> None:
    """As SentencePiece's default settings do: a question and its answer would run into each other."""
    texts = ["is there a nodule in the left lung", "no finding, yes"] * 9
    with (tmp_path / "own.model").open("wb") as file:
        SentencePieceTrainer.train(
            sentence_iterator=iter(texts), model_writer=file, vocab_size=28, pad_id=3, minloglevel=2, num_threads=1
        )
    with pytest.raises(ValueError, match=r"own\.model removes newlines.*normalization_rule_name='identity'"):
        Tokenizer(tmp_path / "own.model")
