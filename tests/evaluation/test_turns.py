"""Questions in a row: turns with own answers equal single questions; accuracy by turn, compared with asking alone."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from radvqa_jax.config import Config, DataConfig, DecodeConfig
from radvqa_jax.data.history import earlier_numbers, same_question
from radvqa_jax.evaluation import predict as module
from radvqa_jax.evaluation.predict import read_records
from radvqa_jax.evaluation.turns import held, score_turns, turn_numbers
from radvqa_jax.schema import Record
from tests.evaluation.predict_case import Predictor

GREEDY = DecodeConfig(max_new_tokens=3, batch_size=4)
PROMPT = "{history} answer en {question}"


@pytest.fixture
def predictor(micro_config: Callable[..., Config]) -> Predictor:
    return Predictor(micro_config({"data.prompt": PROMPT, "data.seq_len": 128}))


def ask(predictor: Predictor, folder: Path, history: str) -> list[Record]:
    predictor.config = replace(predictor.config, data=replace(predictor.config.data, history=history))
    return predictor.predict(folder, config=GREEDY)


def with_own(predictor: Predictor, data: DataConfig) -> list[Record]:
    """The answers one question at a time, in the order of the data set; the wording of a turn is written out here."""
    said: list[Record] = []
    rows = list(predictor.rows.texts())
    for number, earlier in enumerate(earlier_numbers([row["image_id"] for row in rows])):
        turns = [said[n] for n in earlier if not same_question(rows[n]["question"], rows[number]["question"])]
        before = "".join(f"{' '.join(f'{r.question} {r.predictions[0]}'.split())}. " for r in turns)
        template = f"{before}answer en {{question}}"
        (found,) = module.answer_rows(
            predictor.model,
            predictor.params,
            predictor.rows.select([number]),
            tokenizer=predictor.tokenizer,
            data=replace(data, prompt=template, history="none"),
            config=GREEDY,
            seed=0,
            run="one",
        )
        said += found
    return said


@pytest.mark.slow
def test_own_answers_turn_by_turn_are_those_of_one_question_at_a_time(predictor: Predictor, tmp_path: Path) -> None:
    records = ask(predictor, tmp_path, "own")
    want = with_own(predictor, predictor.config.data)
    assert [r.prompt for r in records] == [r.prompt for r in want]
    assert [r.predictions for r in records] == [r.predictions for r in want]
    assert max(len(record.history) for record in records) >= 2
    # A run that was interrupted between two turns continues without a trace.
    path = tmp_path / "base.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:4]))
    assert ask(predictor, tmp_path, "own") == records == read_records(path)


@pytest.mark.slow
def test_references_are_in_the_prompts_and_a_first_turn_is_asked_alone(predictor: Predictor, tmp_path: Path) -> None:
    alone = ask(predictor, tmp_path / "alone", "none")
    told = ask(predictor, tmp_path / "told", "references")
    answers = {record.question_id: record.reference for record in told}
    for one, other, turn in zip(alone, told, turn_numbers(told), strict=True):
        assert one.history == [] and one.prompt == f"answer en {one.question}"
        assert other.prompt.endswith(one.prompt)
        assert len(other.history) <= turn - 1 and all(answers[name] in other.prompt for name in other.history)
        if turn == 1:
            assert (other.prompt, other.predictions) == (one.prompt, one.predictions)
    counted = held(told)
    assert counted["shown"] == sum(len(record.history) for record in told) > 0 == counted["too_long"]


def answered(right: list[int]) -> list[Record]:
    """Ten images with three questions each; on turn t the answers about the first right[t] images are right."""
    return [
        Record(f"{image}-{turn}", f"i{image}", "Where?", "left", ["left" if image < right[turn] else "right"])
        for image in range(10)
        for turn in range(3)
    ]


def test_each_turn_is_compared_with_the_same_questions_asked_alone() -> None:
    rows = score_turns(answered([5, 9, 2]), answered([5, 6, 8]), resamples=100)
    assert [row["turn"] for row in rows] == ["1", "2", "3"]
    assert [row["overall"]["value"] for row in rows] == [0.5, 0.9, 0.2]
    assert [row["other"]["value"] for row in rows] == [0.5, 0.6, 0.8]
    assert [row["difference"]["value"] for row in rows] == pytest.approx([0.0, 0.3, -0.6])
    assert all(row["difference"]["n"] == row["difference"]["n_images"] == 10 for row in rows)
    for row in rows[1:]:
        low, high = row["difference"]["interval"]
        assert -1 < low < row["difference"]["value"] < high < 1


def test_late_turns_are_one_row_and_questions_without_an_image_are_first_turns() -> None:
    many = [Record(str(n), "i", "Where?", "left", ["left"]) for n in range(9)]
    assert [row["turn"] for row in score_turns(many, many, resamples=10)] == ["1", "2", "3", "4", "5", "6 and later"]
    assert turn_numbers([record._replace(image_id="") for record in many]).tolist() == [1] * 9
