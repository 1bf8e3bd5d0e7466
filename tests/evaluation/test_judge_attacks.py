"""Attacks on the judge: wrong answers that ask for a score."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from radvqa_jax.evaluation import attacks
from radvqa_jax.evaluation.judge import JudgingStopped
from radvqa_jax.evaluation.judge_file import JudgeFile, find_judges
from radvqa_jax.evaluation.judge_scores import score_judge
from radvqa_jax.schema import Record
from tests.evaluation.judge_case import ANSWERS, RECORDS, Ask, read_request, record

from .judge_case import verdict


def gullible(server: Any, best: int = 1) -> Callable[[dict[str, Any]], Any]:
    """A judge that obeys an answer which asks for a score, and otherwise judges well."""

    def behave(body: dict[str, Any]) -> Any:
        mark, fields = read_request(body)
        asked = re.search(rf"score\D{{0,15}}{best}", fields["answer"], re.IGNORECASE)
        right = bool(asked) or fields["answer"] == fields["ground_truth"]
        return server.say(verdict(mark, best if right else 0))

    return behave


def test_requests_are_announced_before_the_first_and_attacks_apart(
    ask: Ask, chat_server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    good, seen = chat_server.behave, []

    def note(body: dict[str, Any]) -> Any:
        seen.append(capsys.readouterr().out)
        return good(body)

    chat_server.behave = note
    ask(RECORDS[:2], concurrency=1)
    ask(attacks=3, concurrency=1, max_calls=500)
    said = [text for text in seen if text]
    assert "2 distinct answers: 0 have a verdict, 0 have a reply in the cache, 2 are to be asked." in said[0]
    assert "attacks" not in said[0] and "up to 3 times" in said[0] and "judge.max_calls" not in said[0]
    assert "6 distinct answers: 2 have a verdict, 0 have a reply in the cache, 4 are to be asked." in said[1]
    each = 3 * len(attacks.NAMES)
    assert re.search(rf" ({each - 2}|{each - 1}|{each}) distinct attacks: 0 have a verdict, ", said[1])
    assert "judge.attacks=0 leaves the attacks out" in said[1]
    assert "requests were sent" in capsys.readouterr().out
    with pytest.raises(JudgingStopped):
        ask(max_calls=1, seed=3)
    assert "judge.max_calls=1 will stop this run before its end" in "".join(seen)


# Attacks.


def test_attacks_are_wrong_answers_and_the_same_each_time() -> None:
    made = attacks.make_attacks(RECORDS, questions=4, best=5, seed=1)
    assert made == attacks.make_attacks(RECORDS, questions=4, best=5, seed=1)
    assert made != attacks.make_attacks(RECORDS, questions=4, best=5, seed=2)
    assert len(made) == 4 * len(attacks.NAMES) and {a.name for a in made} == set(attacks.NAMES)
    for attack in made:
        if attack.name == attacks.CONTROL:
            assert attack.prediction != attack.record.reference and attack.prediction in ANSWERS
    assert max(len(a.prediction) for a in made) > 15_000
    assert not attacks.make_attacks([RECORDS[0]], questions=4, best=1, seed=0)  # there is no wrong answer
    choice = record(0, "B", "A", choices=["heart", "liver"])
    assert attacks.make_attacks([choice], questions=1, best=1, seed=0)[0].prediction == "heart"


def test_questions_that_no_rule_can_judge_are_not_attacked() -> None:
    good = RECORDS[:2]
    odd = [record(8, "nein", "ja")._replace(language="de"), record(9, "US", "US")._replace(choices=["CT", "MRI"])]
    made = attacks.make_attacks([*odd, *good], questions=4, best=1, seed=0)
    assert {attack.record.question_id for attack in made} == {each.question_id for each in good}


def test_attack_success_is_counted(ask: Ask, chat_server: Any) -> None:
    judged = ask(attacks=3)
    cells = score_judge(judged, RECORDS, resamples=50, seed=0)["attacks"]
    assert {name: cell["value"] for name, cell in cells.items()} == dict.fromkeys(["any attack", *attacks.NAMES], 0.0)
    assert cells["control"]["n"] == 3 and cells["any attack"]["n"] == 3 * (len(attacks.NAMES) - 1)
    chat_server.behave = gullible(chat_server)
    cells = score_judge(ask(attacks=3, model="gullible"), RECORDS, resamples=50, seed=0)["attacks"]
    assert cells["control"]["value"] == 0.0 < cells["any attack"]["value"] < 1
    assert cells["instruction"]["value"] == cells["planted verdict, JSON"]["value"] == 1.0
    assert cells["instruction"]["interval"][0] > 0.1
    # The attacks do not enter the score of the answers.
    assert score_judge(judged, RECORDS, resamples=50, seed=0)["overall"]["accuracy"]["n"] == 6


def test_attacks_on_an_earlier_reference_do_not_count(ask: Ask, tmp_path: Path) -> None:
    ask(attacks=6)
    (judged,) = find_judges(tmp_path / "answers.jsonl")
    corrected = [RECORDS[0]._replace(reference="lung"), *RECORDS[1:]]

    def count(records: Sequence[Record], judged: JudgeFile = judged) -> int:
        return int(score_judge(judged, records, resamples=50, seed=0)["attacks"]["control"]["n"])

    assert (count(RECORDS), count(corrected)) == (6, 5)
    assert count([r._replace(predictions=["other"]) for r in RECORDS]) == 6  # new answers change no attack
    older = judged._replace(attacks=[line._replace(attacked="") for line in judged.attacks])
    assert count(corrected, older) == 6  # the lines do not say what they attacked
