"""Fixtures for tests of writing: phantoms to write about, and a stand-in for a model that follows its prompt."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from radvqa_jax.config import ChatConfig, Config, DataConfig, SourceConfig, SynthesisConfig, WritingConfig


def read_prompt(body: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """(mark, fields) of a request, as a model that respects the marks reads it."""
    text = body["messages"][-1]["content"]
    mark = text.partition("<<")[2].partition(">>")[0]
    inside = text.partition(f"<<{mark}>>\n")[2].partition(f"\n<</{mark}>>")[0]
    return mark, {line.partition(": ")[0]: json.loads(line.partition(": ")[2]) for line in inside.split("\n")}


def asked_kinds(body: dict[str, Any]) -> list[str]:
    """The kinds of the pairs that a request asks for."""
    wanted = body["messages"][0]["content"].partition("pairs of question and answer")[2].partition(":")[2].split(".")[0]
    return [kind for part in wanted.split(",") for n, kind in [part.split()] for _ in range(int(n))]


def honest_pairs(body: dict[str, Any]) -> dict[str, Any]:
    """The reply of a writer that asks about the first words of the caption."""
    mark, fields = read_prompt(body)
    if '"question": "<question>"}' in body["messages"][0]["content"]:
        return {"mark": mark, "question": "What does the image show?"}
    caption = fields.get("caption") or fields["topic_disease_discussion"]
    pairs = []
    for number, kind in enumerate(asked_kinds(body)):
        answer = {"closed": "Yes.", "open": caption.split()[0], "multiple_choice": "B"}[kind]
        options = ["wrong", "right", "other", "another"] if kind == "multiple_choice" else []
        question = f"What is thing {number}?"
        pairs.append(
            {
                "question": question,
                "answer": answer,
                "kind": kind,
                "options": options,
                "about": "x",
                "support": caption[:9],
            }
        )
    return {"mark": mark, "pairs": pairs}


@pytest.fixture
def honest(chat_server: Any) -> Callable[[dict[str, Any]], Any]:
    """The server's behaviour when it writes well."""

    def behave(body: dict[str, Any]) -> Any:
        return chat_server.say(json.dumps(honest_pairs(body)))

    return behave


@pytest.fixture
def configure(chat_server: Any, honest: Any, phantoms: Path) -> Callable[..., Config]:
    """A function that gives a configuration of writing about the small phantom_rad by the server."""
    chat_server.behave = honest

    def make(*, chat: dict[str, Any] | None = None, **writing: Any) -> Config:
        given: dict[str, Any] = {"base_url": chat_server.url, "model": "m", "retries": 1, "timeout": 5.0}
        return Config(
            mode="write_questions",
            data=DataConfig(data_dir=str(phantoms)),
            synthesis=SynthesisConfig(
                sources=(SourceConfig(dataset="phantom_rad", builder_config="tiny"),),
                chat=ChatConfig(**(given | (chat or {}))),
                writing=WritingConfig(**({"writers": (("case", 1.0),), "limit": 6} | writing)),
            ),
        )

    return make
