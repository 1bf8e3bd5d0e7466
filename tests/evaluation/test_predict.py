"""Answers in a file: the content of a record, and that an interrupted file is completed without a trace."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from radvqa_jax.config import DecodeConfig
from radvqa_jax.data.eval_loader import eval_batches
from radvqa_jax.evaluation import predict as module
from radvqa_jax.evaluation.answer_batches import by_length
from radvqa_jax.evaluation.kept_answers import check_fingerprint
from radvqa_jax.evaluation.predict import read_records
from radvqa_jax.models.vision_language import variables
from tests.evaluation.predict_case import DRAWN, FINGERPRINT, Predictor


def test_a_record_holds_the_row_the_prompt_and_the_answers(predictor: Predictor, tmp_path: Path) -> None:
    records = predictor.predict(tmp_path)
    assert len(records) == len(predictor.rows) == 10
    assert records == read_records(tmp_path / "base.jsonl")
    for record, row in zip(records, predictor.rows, strict=True):
        same = ("question_id", "image_id", "question", "answer_type", "question_type", "organ", "modality", "source")
        assert {name: getattr(record, name) for name in same} == {name: row[name] for name in same}
        assert record.reference == row["answer"]
        assert record.prompt == f"answer en {row['question']}"
        assert record.run == "base"
        assert record.image_used == record.image_id
        assert len(record.predictions) == len(record.logprobs) == DRAWN.samples
        assert all(np.isfinite(value) and value < 0 for value in record.logprobs)
    answers = {answer for record in records for answer in record.predictions}
    assert len(answers) > 10  # drawn, and not always the same answer
    tokenizer, again = predictor.tokenizer, 0
    for record in records:
        for answer, ids, ended in zip(record.predictions, record.token_ids, record.ended, strict=True):
            assert tokenizer.decode(ids) == answer and ids.count(tokenizer.eos) == ended == (ids[-1] == tokenizer.eos)
            assert len(ids) == DRAWN.max_new_tokens or (ended and len(ids) < DRAWN.max_new_tokens)
            again += tokenizer.encode(answer) == ids[: len(ids) - ended]
    assert again < 20  # the text alone would not give the tokens back


def test_logprobs_are_those_of_the_answers_tokens(predictor: Predictor, tmp_path: Path) -> None:
    """Sum of log p of each token of the answer, by a teacher-forced pass over prompt and answer."""
    config = DecodeConfig(max_new_tokens=4, batch_size=10)
    records = predictor.predict(tmp_path, config=config)
    ((batch, _),) = eval_batches(
        predictor.rows, data=predictor.config.data, tokenizer=predictor.tokenizer, resolution=28, batch_size=10
    )
    tokens = jnp.pad(batch.tokens, ((0, 0), (0, 4)))
    start = jnp.asarray(batch.mask_input.sum(axis=1))
    column = jnp.arange(tokens.shape[1])[None]
    mask_ar = (column >= start[:, None]).astype(jnp.int32)
    apply = jax.jit(predictor.model.apply)
    total, done = np.zeros(10), np.zeros(10, bool)
    for step in range(4):
        logits = apply(variables(predictor.params), jnp.asarray(batch.image), tokens, mask_ar)
        last = jax.nn.log_softmax(logits[jnp.arange(10), start + step - 1])
        token = last.argmax(axis=1)
        total += np.where(done, 0, last.max(axis=1))
        done |= np.asarray(token == predictor.tokenizer.eos)
        tokens = tokens.at[jnp.arange(10), start + step].set(token)
    np.testing.assert_allclose([record.logprobs[0] for record in records], total, atol=2e-4)


def test_a_finished_file_is_read_and_nothing_is_decoded(
    predictor: Predictor, decoded: list[int], tmp_path: Path
) -> None:
    records = predictor.predict(tmp_path)
    assert decoded == [4, 4, 2]
    before = (tmp_path / "base.jsonl").read_bytes()
    assert predictor.predict(tmp_path) == records
    assert decoded == [4, 4, 2]
    assert (tmp_path / "base.jsonl").read_bytes() == before


# What is left of ten lines -> the batches that are decoded again.
CUTS = {
    "no line": (lambda lines: [], [4, 4, 2]),
    "half a line": (lambda lines: [lines[0][:40]], [4, 4, 2]),
    "half a batch": (lambda lines: lines[:3], [4, 3]),
    "a batch": (lambda lines: lines[:4], [4, 2]),
    "a batch and a half line": (lambda lines: [*lines[:4], lines[4][:40]], [4, 2]),
    "a batch and a half": (lambda lines: lines[:6], [4]),
    "some from the middle": (lambda lines: [lines[5], lines[2], lines[7]], [4, 3]),
    "within a character": (lambda lines: [*lines[:8], lines[8][:20] + "ä".encode()[:1]], [2]),
    "all but the end of the last line": (lambda lines: [*lines[:9], lines[9].rstrip()], []),
}


@pytest.mark.parametrize("cut", CUTS)
def test_a_cut_file_is_completed_as_if_it_had_not_been_cut(
    cut: str, predictor: Predictor, decoded: list[int], tmp_path: Path
) -> None:
    records = predictor.predict(tmp_path)
    path = tmp_path / "base.jsonl"
    whole = path.read_bytes()
    left, again = CUTS[cut]
    path.write_bytes(b"".join(left(whole.splitlines(keepends=True))))
    decoded.clear()
    assert predictor.predict(tmp_path) == records
    assert path.read_bytes() == whole
    assert decoded == again


def test_a_crash_while_answering_loses_a_batch_at_most(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = predictor.predict(tmp_path / "whole")
    real, appended = module.append_jsonl, []

    def crash(path: Path, rows: list[dict[str, Any]]) -> None:
        if len(appended) == 1:
            raise KeyboardInterrupt
        appended.append(rows)
        real(path, rows)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(module, "append_jsonl", crash)
        predictor.predict(tmp_path)
    assert len(read_records(tmp_path / "base.jsonl")) == 4
    assert predictor.predict(tmp_path) == records


def test_kept_answers_are_found_by_question_and_not_by_place(
    predictor: Predictor, tmp_path: Path, decoded: list[int]
) -> None:
    records = predictor.predict(tmp_path)
    path = tmp_path / "base.jsonl"
    whole = path.read_bytes()
    path.write_bytes(b"".join(reversed(whole.splitlines(keepends=True))))
    decoded.clear()
    assert predictor.predict(tmp_path) == records and path.read_bytes() == whole and not decoded


FOREIGN = {
    "a line twice": (lambda lines: [*lines, lines[0]], r"base.jsonl, line 11: it answers question '.*' a second time"),
    "another question": (lambda lines: [*lines[:9], lines[9] | {"question_id": "zz"}], r"line 10: it answers .*'zz'"),
    "other settings": (
        lambda lines: [lines[0] | {"settings": "0" * 12}, *lines[1:]],
        r"line 1: it was made with other",
    ),
    "an edited answer": (
        lambda lines: [lines[0] | {"predictions": ["right"]}, *lines[1:]],
        r"question '.*' are \['right'\], but their tokens say",
    ),
    "no question": (lambda lines: [{"run": "base"}, *lines[1:]], r"base.jsonl, line 1: .*question_id"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_line_of_another_run_is_refused_and_left_alone(name: str, predictor: Predictor, tmp_path: Path) -> None:
    edit, says = FOREIGN[name]
    predictor.predict(tmp_path)
    path = tmp_path / "base.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in edit(lines)))
    edited = path.read_bytes()
    with pytest.raises(ValueError, match=says):
        predictor.predict(tmp_path)
    assert path.read_bytes() == edited


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"seed": 4, "decode": FINGERPRINT["decode"]}, "seed"),
        ({"seed": 3, "decode": {"temperature": 0.5, "targets": (("a", "b"),)}}, "decode/temperature"),
        (FINGERPRINT | {"trained": "x"}, "trained"),
        ({"seed": 3}, "decode/targets, decode/temperature"),
    ],
)
def test_a_file_made_with_other_settings_is_refused_and_left_alone(
    changed: dict[str, Any], named: str, predictor: Predictor, tmp_path: Path
) -> None:
    predictor.predict(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=rf"base.jsonl holds lines .* these differ: {named}\. Give another --workdir"):
        predictor.predict(tmp_path, fingerprint=changed)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_answers_of_unknown_origin_are_not_taken_over_or_deleted(predictor: Predictor, tmp_path: Path) -> None:
    predictor.predict(tmp_path)
    (tmp_path / "base.json").unlink()
    before = (tmp_path / "base.jsonl").read_bytes()
    with pytest.raises(ValueError, match=r"base.jsonl is there, but base.json, .* is missing"):
        predictor.predict(tmp_path)
    assert (tmp_path / "base.jsonl").read_bytes() == before


def test_swapped_rows_show_the_other_image_and_say_so(predictor: Predictor, tmp_path: Path) -> None:
    greedy = replace(DRAWN, temperature=0.0, samples=1)
    rows = predictor.rows
    others = [next(j for j in range(10) if rows[j]["image_id"] != row["image_id"]) for row in rows]
    swapped = predictor.predict(tmp_path / "swapped", rows=rows.with_images_of(others), config=greedy)
    own = predictor.predict(tmp_path / "own", config=greedy)
    assert [record.image_used for record in swapped] == [rows[j]["image_id"] for j in others]
    assert [record.image_id for record in swapped] == [row["image_id"] for row in rows]
    assert [record.prompt for record in swapped] == [record.prompt for record in own]
    assert [record.reference for record in swapped] == [record.reference for record in own]
    assert [record.logprobs for record in swapped] != [record.logprobs for record in own]
    # The same question about the same image, whether the row owns it or not, has the same answer.
    same = predictor.predict(tmp_path / "same", rows=rows.with_images_of(range(10)), config=greedy)
    assert [(r.predictions, r.logprobs) for r in same] == [(r.predictions, r.logprobs) for r in own]


def test_a_swapped_file_is_resumed_with_the_swapped_images(predictor: Predictor, tmp_path: Path) -> None:
    rows = predictor.rows.with_images_of([9, 8, 7, 6, 5, 4, 3, 2, 1, 0])
    records = predictor.predict(tmp_path, rows=rows)
    path = tmp_path / "base.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:5]))
    assert predictor.predict(tmp_path, rows=rows) == records


def test_one_sample_is_greedy_and_the_seed_does_not_matter(predictor: Predictor, tmp_path: Path) -> None:
    greedy = DecodeConfig(max_new_tokens=4, batch_size=4)
    first = predictor.predict(tmp_path / "a", config=greedy)
    assert first == predictor.predict(tmp_path / "b", config=greedy, seed=99)
    drawn = [
        predictor.predict(tmp_path / name, config=DRAWN, seed=seed) for name, seed in (("c", 3), ("d", 3), ("e", 4))
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(len(record.predictions) == 1 for record in first)


def test_a_line_that_is_not_a_record_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"question_id": "1", "anwser": "no"}) + "\n")
    with pytest.raises(ValueError, match=r"x.jsonl, line 1: field `anwser` is unknown and 4 more\."):
        read_records(path)


def test_a_repeated_question_id_is_refused(predictor: Predictor) -> None:
    with pytest.raises(ValueError, match=r"question_id .* occurs twice"):
        by_length(
            predictor.rows.select([0, 1, 0]), tokenizer=predictor.tokenizer, data=predictor.config.data, batch_size=4
        )


def test_an_answer_with_nan_logits_names_question_token_and_leaf(predictor: Predictor, tmp_path: Path) -> None:
    name = "llm/layers/mlp/linear"
    leaf = np.array(predictor.params[name])
    leaf[0, 0, :2] = np.nan
    sound = predictor.params
    predictor.params = sound | {name: jnp.asarray(leaf)}
    with pytest.raises(ValueError, match="means nothing") as caught:
        predictor.predict(tmp_path)
    predictor.params = sound
    named = re.search(r"base: log p of answer token 1 to question '(.+?)' is nan", str(caught.value))
    assert named and named[1] in predictor.rows.column("question_id")
    assert f"2 values in 1 of the model's {len(sound)} leaves are NaN or infinite: {name} (2)" in str(caught.value)
    assert not (tmp_path / "base.jsonl").is_file()  # no line of such an answer
    assert len(predictor.predict(tmp_path)) == 10  # nor is anything in the way of a sound checkpoint


def test_answers_before_the_one_with_nan_logits_are_kept(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = module.decode, []

    def later(*args: Any, **others: Any) -> Any:
        out = real(*args, **others)
        calls.append(out)
        if len(calls) < 2:
            return out
        return out._replace(token_logprobs=out.token_logprobs.at[2, 1, 3].set(-jnp.inf))

    with (
        monkeypatch.context() as patched,
        pytest.raises(ValueError, match=r"token 4 to question '.*' is -inf") as caught,
    ):
        patched.setattr(module, "decode", later)
        predictor.predict(tmp_path)
    assert "All" in str(caught.value) and "leaves of the model are finite" in str(caught.value)
    assert "model.compute_dtype='float32'" in str(caught.value)
    kept = read_records(tmp_path / "base.jsonl")
    assert len(kept) == 4
    whole = predictor.predict(tmp_path)
    assert len(whole) == 10 and {r.question_id for r in kept} <= {r.question_id for r in whole}


@pytest.mark.parametrize("text", ["5", "null", '"x"', "[1]"])
def test_a_description_of_another_kind_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.jsonl").touch()
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match=r"run\.json.* must be a JSON object"):
        check_fingerprint(tmp_path / "run.jsonl", {})


def test_a_folder_in_place_of_the_description_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.jsonl").touch()
    (tmp_path / "run.json").mkdir()
    with pytest.raises(ValueError, match=r"run\.json is not a file, but it must describe the answers of run\.jsonl"):
        check_fingerprint(tmp_path / "run.jsonl", {})
