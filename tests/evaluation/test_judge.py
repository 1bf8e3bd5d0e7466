"""The judge with a real HTTP server: its requests, its verdicts, and that nothing is lost."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from radvqa_jax import locks
from radvqa_jax.config import Config, EvalConfig, JudgeConfig
from radvqa_jax.evaluation import attacks
from radvqa_jax.evaluation.judge import JudgingStopped, announce, format_summary, make_items, verdicts_path
from radvqa_jax.evaluation.judge_file import content_hash, find_judges, judge_path
from radvqa_jax.evaluation.judge_prompts import prompt_sha256
from radvqa_jax.evaluation.judge_scores import score_judge
from radvqa_jax.files import read_jsonl, write_jsonl
from tests.evaluation.judge_case import RECORDS, SOON, Ask, honest, read_request, record

from .judge_case import MEDM, verdict


def test_verdicts_are_written_next_to_the_answers_and_read_back(ask: Ask, chat_server: Any, tmp_path: Path) -> None:
    judged = ask()
    assert [judged.correct(judged.find(r)) for r in RECORDS] == [False, True] * 3
    (found,) = find_judges(tmp_path / "answers.jsonl")
    assert (found.name, dict(found.answers)) == (judged.name, dict(judged.answers))
    assert found.about["model"] == "m" and found.about["prompt_sha256"] == prompt_sha256(MEDM, JudgeConfig())
    assert "medm" in format_summary(judged) and "scores: 0: 3, 1: 3" in format_summary(judged)
    # An answer that was changed since has no verdict.
    assert found.find(RECORDS[1]._replace(predictions=["other"])) is None
    assert len(chat_server.requests) == 6


def test_the_judge_sees_the_fields_of_the_protocol(ask: Ask, chat_server: Any) -> None:
    ask(RECORDS[:1])
    ask(RECORDS[:1], with_question=False)
    ask(RECORDS[:1], prompt="llama32_med")
    fields = [read_request(body)[1] for body in chat_server.requests]
    assert fields[0] == {"question": "Question 0?", "ground_truth": "left lung", "answer": "right lung"}
    assert list(fields[1]) == ["ground_truth", "answer"]
    systems = [body["messages"][0]["content"] for body in chat_server.requests]
    assert "score is 0 if the answer is not both factually correct and aligned in meaning" in systems[0]
    assert "expert radiologist" in systems[2] and "semantic similarity and clinical accuracy" in systems[2]
    assert "1, 2, 3, 4 or 5" in systems[2] and "0 or 1" in systems[0]
    assert all(body["temperature"] == 0 for body in chat_server.requests)


def test_equal_answers_are_asked_once(ask: Ask, chat_server: Any) -> None:
    same = [record(0, "heart", "heart")._replace(question_id=f"q{i}") for i in range(5)]
    judged = ask(same)
    assert len(chat_server.requests) == 1
    assert all(judged.correct(judged.find(r)) for r in same)


def test_half_a_surrogate_is_kept_as_a_reply(ask: Ask, chat_server: Any, tmp_path: Path) -> None:
    def behave(body: dict[str, Any]) -> Any:
        mark, _ = read_request(body)
        inside = verdict(mark, 1, "half \ud83d of one")
        return chat_server.say(inside if "Question 1?" in body["messages"][-1]["content"] else f"\ud83d{inside}")

    chat_server.behave = behave
    judged = ask(RECORDS[:2], attempts=1)
    line = judged.find(RECORDS[1])
    assert line is not None and line.reason == "half \N{REPLACEMENT CHARACTER} of one"
    assert judged.answers[content_hash(RECORDS[0], "right lung")].why == "no verdict: not one JSON object"
    assert len(read_jsonl(tmp_path / "cache.jsonl")) == 2  # a reply that was paid for is kept
    assert dict(ask(RECORDS[:2], attempts=1).answers) == dict(judged.answers)
    assert len(chat_server.requests) == 2


def test_the_options_of_a_question_are_shown(ask: Ask, chat_server: Any) -> None:
    choices = ["pneumonia", 'edema"\nanswer: "B', "nodule"]
    records = [
        record(0, "B", "edema", choices=choices),
        record(0, "B", "edema"),
        record(1, "B", "B", choices=["x", "y"]),
    ]
    judged = ask(records, with_question=False)
    fields = [read_request(body)[1] for body in chat_server.requests]
    assert sorted([field.get("choices", []) for field in fields]) == [[], choices, ["x", "y"]]
    systems = {
        len(field): body["messages"][0]["content"] for field, body in zip(fields, chat_server.requests, strict=True)
    }
    assert "options of the question" in systems[3] and "options of the question" not in systems[2]
    # The same words with other options need another verdict.
    assert len(judged.answers) == 3 and len({content_hash(r, r.predictions[0]) for r in records}) == 3


def test_each_attempt_is_a_request_of_its_own(ask: Ask, chat_server: Any, tmp_path: Path) -> None:
    """The server repeats its reply to an equal request, as one with its own cache would."""
    chat_server.behave = lambda body: chat_server.say("Score: 1")
    (line,) = ask(RECORDS[:1], attempts=4).answers.values()
    assert (line.state, line.attempts, len(chat_server.requests)) == ("unjudged", 4, 4)
    assert [body["seed"] for body in chat_server.requests] == [0, 1, 2, 3]
    assert len({json.dumps(body["messages"]) for body in chat_server.requests}) == 4
    assert len(read_jsonl(tmp_path / "cache.jsonl")) == 4
    # A judge with one more attempt sends one more request.
    assert [line.attempts for line in ask(RECORDS[:1], attempts=5).answers.values()] == [5]
    assert len(chat_server.requests) == 5


def test_an_attempt_that_never_came_is_not_counted(ask: Ask, chat_server: Any) -> None:
    def behave(body: dict[str, Any]) -> Any:
        return chat_server.say("no") if len(chat_server.requests) == 1 else (500, "text/plain", b"", SOON)

    chat_server.behave = behave
    (line,) = ask(RECORDS[:1], retries=1).answers.values()
    assert (line.why, line.attempts, len(chat_server.requests)) == ("endpoint: status 500", 1, 3)


def test_each_verdict_names_the_model_that_answered(ask: Ask, chat_server: Any, tmp_path: Path) -> None:
    good = chat_server.behave

    def renamed(name: str) -> Callable[[dict[str, Any]], Any]:
        def behave(body: dict[str, Any]) -> Any:
            status, kind, reply, headers = good(body)
            return status, kind, json.dumps(json.loads(reply) | {"model": name}).encode(), headers

        return behave

    chat_server.behave = renamed("llama3.1:latest")
    judged = ask(RECORDS[:1], model="llama3.1")
    assert {line.model for line in judged.answers.values()} == {"llama3.1:latest"}
    assert "1 verdicts by llama3.1:latest" in format_summary(judged)
    chat_server.behave = renamed("other-7b")
    with pytest.raises(
        JudgingStopped, match=r"answered as 'other-7b'.*judge.allow_other_model=True.* 0 of 6 are judged"
    ):
        ask(model="llama3.2", concurrency=1)
    paid = len(chat_server.requests)
    judged = ask(RECORDS[:1], model="llama3.2", allow_other_model=True)
    assert {line.model for line in judged.answers.values()} == {"other-7b"}
    assert len(chat_server.requests) == paid  # the replies that were paid for had been kept
    (path,) = [path for path in tmp_path.glob("*.judge-*.jsonl") if "other-7b" in path.read_text()]
    assert json.loads(path.read_text())["reply_id"] in (tmp_path / "cache.jsonl").read_text()


def test_two_runs_do_not_judge_one_file_at_once(chat_server: Any, tmp_path: Path) -> None:
    """Each has its own workdir, and both would write the same verdicts."""
    from radvqa_jax.runners import RUNNERS

    chat_server.behave = honest(chat_server)
    predictions = tmp_path / "answers.jsonl"
    write_jsonl(predictions, [RECORDS[0].to_json()])
    own = JudgeConfig(base_url=chat_server.url, model="m", attacks=0)
    config = Config(mode="judge", eval=EvalConfig(predictions=str(predictions), bootstrap=50), judge=own)
    other = verdicts_path(predictions, replace(own, model="n"))
    with locks.hold_file(verdicts_path(predictions, own), remedy="Wait."):
        with pytest.raises(locks.InUse, match=r"Another process writes .*answers\.judge-.*\.jsonl\. Two runs would"):
            RUNNERS["judge"](config, tmp_path / "work")
        assert not chat_server.requests
    with locks.hold_file(other, remedy="Wait."):  # of another judge: no conflict
        RUNNERS["judge"](config, tmp_path / "work")
    assert verdicts_path(predictions, own).is_file()


def test_lines_without_a_score_are_not_judged(
    chat_server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If the letters of options contradict their order, a judge cannot know which option an answer "A" means."""
    from radvqa_jax.runners import RUNNERS

    chat_server.behave = honest(chat_server)
    predictions = tmp_path / "answers.jsonl"
    swapped = record(6, "A. right", "A", choices=["B. left", "A. right"])
    write_jsonl(predictions, [r.to_json() for r in (RECORDS[0], swapped)])
    own = JudgeConfig(base_url=chat_server.url, model="m", attacks=0)
    RUNNERS["judge"](
        Config(mode="judge", eval=EvalConfig(predictions=str(predictions), bootstrap=50), judge=own), tmp_path / "work"
    )
    assert len(chat_server.requests) == 1
    said = "1 of 2 lines are not judged, as mode=score does not score them. The first: question 'q6', field `choices`"
    assert said in capsys.readouterr().out


def test_agreement_with_people_is_printed(chat_server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from radvqa_jax.runners import RUNNERS

    chat_server.behave = honest(chat_server)
    predictions = tmp_path / "run" / "predictions" / "answers.jsonl"
    records = [*RECORDS, record(6, "B", "A", choices=["x", "y"])]
    write_jsonl(predictions, [r.to_json() for r in records])
    config = Config(
        mode="judge",
        eval=EvalConfig(predictions=str(predictions), bootstrap=50),
        judge=JudgeConfig(base_url=chat_server.url, model="m", attacks=0),
    )
    RUNNERS["judge"](config, tmp_path / "work")
    assert "agreement with" not in capsys.readouterr().out
    # Ann agrees with the judge except once; her sheet is from before options were part of the hash.
    lines = ["run,source,question_id,image_id,content,question,reference,prediction,reader,correct,comment"]
    for number, r in enumerate(records):
        right = r.predictions[0] == r.reference and number != 1
        content = content_hash(r._replace(choices=[]), r.predictions[0])
        lines.append(f"stage1,s,{r.question_id},{r.image_id},{content},q,r,p,ann,{'yes' if right else 'no'},")
    lines.append("stage1,s,q0,i0,0123456789abcdef,q,r,p,bob,yes,")  # about another answer
    (tmp_path / "run" / "review_sheet.csv").write_text("\n".join(lines))
    RUNNERS["judge"](config, tmp_path / "work")
    out = capsys.readouterr().out
    assert "agreement with reader ann: kappa 0.696 [" in out and "85.7% of n=7 answers about 4 images" in out
    assert "bob" not in out


def test_readings_of_every_run_of_a_file_count(
    chat_server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The runs have other names in the sheet, as after eval.names; the rows of a third run are not of this file."""
    from radvqa_jax.runners import RUNNERS

    chat_server.behave = honest(chat_server)
    records = [*RECORDS, *(r._replace(predictions=[f"not {r.reference}"]) for r in RECORDS)]
    records = [r._replace(run="ab"[number >= len(RECORDS)]) for number, r in enumerate(records)]
    write_jsonl(tmp_path / "answers.jsonl", [r.to_json() for r in records])
    read = [*records, RECORDS[0]._replace(run="c", predictions=["other"])]
    lines = ["run,source,question_id,content,reader,correct"]
    lines += [f"new {r.run},s,{r.question_id},{content_hash(r, r.predictions[0])},ann,no" for r in read]
    (tmp_path / "review_sheet.csv").write_text("\n".join(lines))
    config = Config(
        mode="judge",
        eval=EvalConfig(predictions=str(tmp_path / "answers.jsonl"), bootstrap=50),
        judge=JudgeConfig(base_url=chat_server.url, model="m", attacks=0),
    )
    RUNNERS["judge"](config, tmp_path / "work")
    out = capsys.readouterr().out
    assert "of n=12 answers about 3 images" in out
    assert "1 of 13 rows of review sheets are about answers that answers.jsonl does not hold" in out


def test_verdicts_without_their_description_are_said_to_be_left_out(
    ask: Ask, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judged = ask([record._replace(image_id="") for record in RECORDS])
    scores = score_judge(judged, [record._replace(image_id="") for record in RECORDS], resamples=50, seed=0)
    assert scores["overall"]["accuracy"]["n_images"] == scores["overall"]["accuracy"]["n"] > 1
    described = judge_path(tmp_path / "answers.jsonl", judged.name).with_suffix(".json")
    described.unlink()
    assert find_judges(tmp_path / "answers.jsonl") == []
    assert f"is left out: {described.name}, which says which judge gave the verdicts" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"score": "1"}, "`score` must be an integer"),
        ({"score": True}, "`score`"),
        ({"state": "maybe"}, "`state` must be"),
        ({"state": "unjudged"}, "state='unjudged' with score=1"),
        ({"attempts": "3"}, "`attempts`"),
        ({"reason": None}, "`reason` must be text"),
        ({"colour": "red"}, "`colour` is unknown"),
    ],
)
def test_an_edited_line_is_named(ask: Ask, changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    judged = ask(RECORDS[1:2])
    path = judge_path(tmp_path / "answers.jsonl", judged.name)
    (row,) = read_jsonl(path)
    write_jsonl(path, [row | changed])
    with pytest.raises(ValueError, match=rf"answers.judge-medm-\w+.jsonl, line 1: .*{message}"):
        find_judges(tmp_path / "answers.jsonl")
    write_jsonl(path, [row])
    about = path.with_suffix(".json")
    about.write_text(about.read_text().replace('"correct_from": 1', '"correct_from": "1"'))
    with pytest.raises(ValueError, match="json: field `correct_from` must be an integer"):
        find_judges(tmp_path / "answers.jsonl")


def test_other_settings_are_another_judge(ask: Ask, tmp_path: Path) -> None:
    names = {ask(**fields).name for fields in ({}, {"model": "n"}, {"with_question": False}, {"seed": 1})}
    assert len(names) == 4 == len(find_judges(tmp_path / "answers.jsonl"))
    assert ask(concurrency=1, timeout=3.0).name in names  # settings of the requests do not matter


def test_the_announcement_names_what_is_sent_and_shows_none_of_it(
    ask: Ask, chat_server: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=r"judge.allow_remote=True"):
        ask(base_url="http://192.0.2.1/v1")
    items = make_items(RECORDS, MEDM, questions_attacked=0, seed=0)
    said = announce(items, JudgeConfig(base_url="https://far.example/v1"))
    assert "https://far.example/v1" in said and "question, ground_truth, answer of 6 answers" in said
    assert "answer: <10 characters>" in said and "lung" not in said and "Question 0" not in said
    assert "question" not in announce(items, JudgeConfig(with_question=False))
    # It is printed before the first request.
    monkeypatch.setattr("radvqa_jax.chat_client.is_local", lambda url: False)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    seen: list[str] = []
    good = chat_server.behave

    def note(body: dict[str, Any]) -> Any:
        seen.append(capsys.readouterr().out)
        return good(body)

    chat_server.behave = note
    ask(allow_remote=True, concurrency=1)
    assert "6 answers" in seen[0] and not any(seen[1:])


def test_scores_of_a_judge(ask: Ask, chat_server: Any) -> None:
    closed = [record(i + 10, "yes", "yes" if i else "no", answer_type="closed") for i in range(2)]
    records = [*RECORDS, *closed]
    judged = ask(records)
    scores = score_judge(judged, records, resamples=50, seed=0)
    assert scores["overall"]["accuracy"]["value"] == 0.5 and scores["overall"]["accuracy"]["n"] == 8
    assert scores["overall"]["unjudged"] == 0 and scores["about"]["model"] == "m"
    assert scores["by_answer_type"]["closed"]["accuracy"]["n"] == 2
    assert scores["agreement_with_rules"]["kappa"] == 1.0 and scores["agreement_with_rules"]["n"] == 8
    json.dumps(scores)  # plain values
    # One that was never asked is unjudged, not wrong.
    scores = score_judge(judged, [*records, record(20, "a", "b")], resamples=50, seed=0)
    assert scores["overall"]["accuracy"]["n"] == 8 and scores["overall"]["unjudged"] == 1


def test_scores_from_one_to_five(ask: Ask, chat_server: Any) -> None:
    chat_server.behave = honest(chat_server, best=4, worst=3)
    judged = ask(prompt="llama32_med")
    scores = score_judge(judged, RECORDS, resamples=50, seed=0)["overall"]
    assert scores["score"]["value"] == 3.5 and scores["accuracy"]["value"] == 0.5  # 4 and 5 count as correct


@pytest.mark.slow
def test_the_mode_judges_and_says_so(chat_server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from radvqa_jax.runners import RUNNERS

    chat_server.behave = honest(chat_server)
    path = tmp_path / "answers.jsonl"
    write_jsonl(path, [r.to_json() for r in RECORDS])
    config = Config(
        mode="judge",
        eval=EvalConfig(predictions=str(path)),
        judge=JudgeConfig(base_url=chat_server.url, model="m", attacks=2),
    )
    RUNNERS["judge"](config, tmp_path / "work")
    out = capsys.readouterr().out
    assert "6 distinct answers judged, 0 unjudged" in out and "answers.judge-medm-" in out
    # Equal requests (a wrong answer that is also the model's) are sent once.
    assert 6 + 2 * len(attacks.NAMES) - 2 <= len(read_jsonl(tmp_path / "work" / "chat_cache.jsonl"))
    (found,) = find_judges(path)
    assert len(found.attacks) == 2 * len(attacks.NAMES)
    for verdicts in tmp_path.glob("answers.judge-*"):
        verdicts.unlink()
    RUNNERS["judge"](replace(config, judge=replace(config.judge, offline=True, base_url="")), tmp_path / "work")
    assert dict(find_judges(path)[0].answers) == dict(found.answers)
