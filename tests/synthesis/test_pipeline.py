"""From captions to a trained and evaluated model in one command, on a model that trains in seconds."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from radvqa_jax.config import source
from radvqa_jax.files import read_json, read_jsonl
from radvqa_jax.runners import RUNNERS, data
from radvqa_jax.runners.data import prepare_all

NAME = "micro_questions"
QUESTIONS = {"dataset": "written", "builder_config": NAME}
PIPELINE = {
    "mode": "job",
    "synthesis.name": NAME,
    "synthesis.sources": (source(dataset="phantom_rad", builder_config="tiny"),),
    "synthesis.measure": 20,
    "synthesis.checks.blind_seen": 10_000,
    "synthesis.writing.templates": ("modality", "organ", "finding", "side"),
    "stages.stage1.sources": (source(**QUESTIONS),),
    "stages.stage2.sources": (
        source(**QUESTIONS),
        source(**QUESTIONS, anneal="linear", points=((0.5, 0.0), (1.0, 1.0))),
    ),
    "eval.source": source(**QUESTIONS, split="test", limit=8),
    "eval.train_source": source(**QUESTIONS),
    "decode.samples": 5,
    "decode.temperature": 1.0,
}


@pytest.mark.slow
def test_a_job_writes_its_questions_trains_on_them_and_reports_what_checks_caught(
    micro_config: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    RUNNERS["job"](micro_config(PIPELINE), tmp_path)
    page = (tmp_path / "report.html").read_text()
    first = page.partition("<table")[2].partition("</table>")[0]
    assert "planted pairs caught" in first and "<strong>words</strong>" in first
    sampled = page.partition("Several answers a question</h2>")[2].partition("</table>")[0]
    assert sampled.count("<td>5</td>") == 3 and "5 runs, n=" in sampled
    assert (tmp_path / "questions" / "questions.html").is_file()
    accepted = read_jsonl(tmp_path / "questions" / "accepted.jsonl")
    written = {line["candidate_id"] for line in read_jsonl(tmp_path / "questions" / "candidates.jsonl")}
    assert accepted and {line["candidate_id"] for line in accepted} <= written
    shares = read_json(tmp_path / "stage2" / "data.json")
    assert [entry["source"]["builder_config"] for entry in shares] == [NAME, NAME]
    stage2 = read_jsonl(tmp_path / "predictions" / "stage2.jsonl")
    assert all(len(line["predictions"]) == 5 for line in stage2)
    assert {line["question_id"] for line in stage2} <= {line["candidate_id"] for line in accepted}
    # A second run finds the questions prepared and writes none.
    before = (tmp_path / "questions" / "candidates.jsonl").stat().st_mtime_ns
    RUNNERS["job"](micro_config(PIPELINE), tmp_path)
    assert (tmp_path / "questions" / "candidates.jsonl").stat().st_mtime_ns == before
    # Another run uses the questions with the report of their checks, and names the run that wrote them.
    other = tmp_path / "other"
    prepare_all(micro_config(PIPELINE), other)
    assert (other / "questions" / "questions.json").read_bytes() == (tmp_path / "questions/questions.json").read_bytes()
    (other / "questions" / "questions.json").write_text("{}")  # of an earlier state of the set
    prepare_all(micro_config(PIPELINE), other)
    assert (other / "questions" / "questions.json").read_bytes() == (tmp_path / "questions/questions.json").read_bytes()
    assert f"already prepared, written by templates about phantom_rad; {len(accepted)} of" in capsys.readouterr().out
    for changed, named in (
        ({"synthesis.checks.coverage": 0.7}, "checks.coverage: 0.6 then, 0.7 now"),
        ({"synthesis.chat.model": "m", "synthesis.chat.base_url": "http://127.0.0.1:9/v1"}, "chat.model: '' then, 'm'"),
        ({"seed": 5}, "seed: 0 then, 5 now"),
    ):
        with pytest.raises(ValueError, match=re.escape(f"written with other settings ({named}")):
            prepare_all(micro_config(PIPELINE | changed), other)
    prepare_all(micro_config(PIPELINE | {"synthesis.chat.timeout": 3.0, "synthesis.review_rows": 5}), other)


def test_a_job_prepares_the_evaluated_sets_before_it_writes_questions(
    micro_config: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The written pairs are compared with them."""
    done: list[str] = []
    monkeypatch.setattr(data, "prepare", lambda dataset, **_: done.append(dataset))
    monkeypatch.setattr(data, "write_questions_mode", lambda config, folder: done.append("written"))
    asked = {"eval.source": source(dataset="slake", builder_config="en"), "data.data_dir": str(tmp_path)}
    data.write_missing(micro_config(PIPELINE | asked), tmp_path)
    assert done == ["phantom_rad", "slake", "written"]


def test_a_job_that_names_questions_nobody_writes_fails_with_the_command(
    micro_config: Callable[..., Any], tmp_path: Path
) -> None:
    other = source(dataset="written", builder_config="rocov2_questions")
    config = micro_config(PIPELINE | {"stages.stage2.sources": (other,), "stages.stage1.sources": (other,)})
    config = dataclasses.replace(
        config, eval=dataclasses.replace(config.eval, source=config.stages["stage1"].sources[0])
    )
    with pytest.raises(ValueError, match=re.escape("configs/write_questions.py:rocov2")):
        RUNNERS["job"](config, tmp_path)
