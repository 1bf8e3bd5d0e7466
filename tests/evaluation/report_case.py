"""An experiment with made-up answers, for the tests of the report."""

import io
from typing import Any

from PIL import Image

from radvqa_jax.evaluation.report import Experiment, ShownMap
from radvqa_jax.schema import Record


def records(accuracy: float, *, run: str, n: int = 80) -> list[Record]:
    """Answers to n questions on n / 4 images; the given share of them is right."""
    rows = []
    for i in range(n):
        closed = i % 2 == 0
        reference = "yes" if closed else "left lung"
        right = (i * 7919) % n < accuracy * n
        rows.append(
            Record(
                question_id=f"q{i}",
                image_id=f"i{i // 4}",
                question=f"Question {i}?",
                reference=reference,
                predictions=[reference if right else "no" if closed else ""],
                logprobs=[],
                answer_type="closed" if closed else "open",
                question_type="presence" if closed else "position",
                organ="lung" if i < n // 2 else "brain",
                run=run,
            )
        )
    return rows


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (40, 90, 160)).save(buffer, format="PNG")
    return buffer.getvalue()


def experiment(**fields: Any) -> Experiment:
    given: dict[str, Any] = {
        "title": "Phantom radiographs",
        "runs": {name: records(share, run=name) for name, share in [("base", 0.3), ("stage1", 0.5), ("stage2", 0.9)]},
        "one_training": "base" in fields.get("runs", ["base"]),
        "question_only": records(0.5, run="question_only"),
        "majority": records(0.4, run="majority"),
        "unseen": {"swapped": {"stage2": records(0.45, run="stage2")}},
        "losses": {"stage1": [{"step": s, "loss": 3 / s} for s in range(1, 20)], "stage2": [{"step": 1, "loss": 0.5}]},
        "maps": [ShownMap("Which?", "left", "left", "correct", png(), png(), "A & B")],
        "provenance": {"synthetic": True, "config": {"hash": "0f3a"}, "files": ["a", "b"]},
    }
    return Experiment(**(given | fields))
