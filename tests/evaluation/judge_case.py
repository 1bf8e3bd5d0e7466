"""Verdicts of the two rubrics, for the tests of the judge."""

import json
from collections.abc import Callable
from typing import Any

from radvqa_jax.evaluation.judge_file import JudgeFile
from radvqa_jax.evaluation.judge_prompts import RUBRICS
from radvqa_jax.schema import Record

MEDM, LLAMA = RUBRICS["medm"], RUBRICS["llama32_med"]


def verdict(mark: str, score: Any, reason: str = "because") -> str:
    return json.dumps({"mark": mark, "reason": reason, "score": score})


SOON = {"retry-after-ms": "1"}


def record(number: int, reference: str, prediction: str, **fields: Any) -> Record:
    given = {"answer_type": "open", "source": "s"} | fields
    return Record(f"q{number}", f"i{number // 2}", f"Question {number}?", reference, [prediction], [], **given)


ANSWERS = ("left lung", "right lung", "heart", "liver", "spleen", "kidney")
RECORDS = [record(i, ANSWERS[i], ANSWERS[i if i % 2 else (i + 1) % 6]) for i in range(6)]


def read_request(body: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """(mark, fields) of a request, as a judge that respects the marks reads it."""
    text = body["messages"][-1]["content"]
    mark = text.partition("<<")[2].partition(">>")[0]
    inside = text.partition(f"<<{mark}>>\n")[2].partition(f"\n<</{mark}>>")[0]
    return mark, {line.partition(": ")[0]: json.loads(line.partition(": ")[2]) for line in inside.split("\n")}


def honest(server: Any, best: int = 1, worst: int = 0) -> Callable[[dict[str, Any]], Any]:
    def behave(body: dict[str, Any]) -> Any:
        mark, fields = read_request(body)
        return server.say(verdict(mark, best if fields["answer"] == fields["ground_truth"] else worst))

    return behave


Ask = Callable[..., JudgeFile]
