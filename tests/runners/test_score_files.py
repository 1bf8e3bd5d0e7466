"""Files that a pattern matches next to answers are not scored."""

from pathlib import Path

import pytest

from radvqa_jax.runners.score_files import only_answers


@pytest.mark.parametrize(
    ("answers", "other", "said"),
    [
        ("stage2.jsonl", "stage2.judge-medm-1a2b3c4d.jsonl", "it has a judge's verdicts on stage2."),
        ("s_blank.jsonl", "s_blank.judge-medm-1a2b3c4d.jsonl", "it has a judge's verdicts on s_blank."),
        ("stage2.jsonl", "stage2.process1.jsonl", "it has answers of an interrupted run, whose command puts them into"),
        ("s_blank.jsonl", "s_blank_prompts.jsonl", "it has each prompt once; s_blank has each question."),
        ("a.jsonl", "a.jsonl.rejects.jsonl", "it has the rows that could not be converted to a."),
    ],
)
def test_files_that_belong_to_answers_are_left_out(
    answers: str, other: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, beside, elsewhere = tmp_path / answers, tmp_path / other, tmp_path / "elsewhere" / other
    assert only_answers([beside, own]) == [own]
    assert f"{beside} is left out: {said}" in capsys.readouterr().out
    assert only_answers([beside]) == [beside] and only_answers([own, elsewhere]) == [own, elsewhere]
    assert not capsys.readouterr().out
