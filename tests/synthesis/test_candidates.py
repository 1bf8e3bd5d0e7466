"""Lines of candidates.jsonl: candidates are read back as written, and other lines are named."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from radvqa_jax.files import write_jsonl
from radvqa_jax.synthesis.candidates import Candidate, append_candidates, make_id, read_candidates


def make_candidate(**changed: Any) -> Candidate:
    given: dict[str, Any] = {
        "candidate_id": "",
        "dataset": "medpix_2",
        "builder_config": "official",
        "prepared_split": "train",
        "split": "train",
        "case_id": "MPX1",
        "image_id": "MPX1_synpic1",
        "caption_sha256": "ab" * 32,
        "writer": "case",
        "prompt_sha256": "cd" * 32,
        "model": "served",
        "seed": 3,
        "sampling": {"temperature": 0.7},
        "reply_id": "ef" * 32,
        "question": "Which lobe holds the mass?",
        "answer": "left lower lobe",
        "kind": "open",
        "answer_type": "open",
        "question_type": "location",
        "support": "mass in the left lower lobe",
    }
    candidate = Candidate(**(given | changed))
    return replace(candidate, candidate_id=make_id(candidate))


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "candidates.jsonl"
    choices = ["liver", "spleen"]
    pairs = [make_candidate(), make_candidate(kind="multiple_choice", answer_type="closed", choices=choices)]
    append_candidates(path, pairs[:1])
    append_candidates(path, pairs[1:])
    append_candidates(path, pairs[:1])  # the same pair again is still one pair
    assert read_candidates(path) == pairs
    with path.open("ab") as file:
        file.write(b'{"candidate_id": "cut of')
    assert read_candidates(path) == pairs


@pytest.mark.parametrize("name", ["dataset", "image_id", "writer", "question", "answer", "choices"])
def test_an_id_depends_on_the_content_of_the_pair(name: str) -> None:
    changed = {"writer": "caption", "choices": ["a"]}.get(name, "other")
    assert make_candidate(**{name: changed}).candidate_id != make_candidate().candidate_id
    assert make_candidate(seed=4, reply_id="", split="test").candidate_id == make_candidate().candidate_id


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": True}, "`seed` must be an integer; got true"),
        ({"seed": "3"}, '`seed` must be an integer; got "3"'),
        ({"choices": "liver"}, "`choices` must be a list"),
        ({"choices": [1]}, r"`choices\[0\]` must be text"),
        ({"sampling": []}, "`sampling` must be a JSON object"),
        ({"writer": "poet"}, "`writer` must be 'case', 'literature', 'caption' or 'templates'; got \"poet\""),
        ({"kind": None}, "`kind` must be"),
        ({"answerable_from_image": "yes"}, "`answerable_from_image` must be true or false"),
        ({"colour": "red"}, "`colour` is unknown"),
        ({"answer": "right lower lobe"}, "is not the id of its content"),
        ({"answer_type": "closed"}, "the line is not the one that was written; was it edited"),
        ({"answerable_from_image": False}, "the line is not the one that was written; was it edited"),
        ({"model": "another"}, "the line is not the one that was written; was it edited"),
    ],
)
def test_a_line_that_is_not_a_candidate_is_named(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "candidates.jsonl"
    write_jsonl(path, [make_candidate().to_json() | changed])
    with pytest.raises(ValueError, match=rf"candidates\.jsonl, line 1: .*{message}"):
        read_candidates(path)


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    row = make_candidate().to_json()
    del row["image_id"]
    write_jsonl(tmp_path / "candidates.jsonl", [row])
    with pytest.raises(ValueError, match=r"line 1: field `image_id` is missing"):
        read_candidates(tmp_path / "candidates.jsonl")
