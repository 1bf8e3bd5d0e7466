"""The verdict on an answer takes little time for any text of any size."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radvqa_jax.schema import Record

from . import rules_clock
from .rules_case import CHOICES, PIECES, record

LONG = {
    "no": "no ",
    "zeros": "0",
    "brackets": "([{",
    "marks": "*_`#>~",
    "spaces": " \n\t",
    "answers": "the answer is ",
    "ranges": "1-2 L4-5 1/2 5 x 4 cm ",
    "letters": "A. B) (C) ",
    "thinking": "<think>",
    "json": '{"a":',
    "accents": "e\u0301\u200b",
    "fractions": "\u00bd\u00b2",
    "chinese": "没有左、",
    "lists": "left lung, and ",
    "surrogates": "\ud800",
    "denials": "not if unless ",
    "ligatures": "\ufdfa",
    "ligatures in lines": "\ufdfa\n",
    "units": "\u3300\u33c6 ",
}
ANY_KIND = [
    record("yes", "Is there a mass?"),
    record("left lung", "Where is the mass?"),
    record("CT", choices=CHOICES),
    record("左肺", "病变位于哪里?", language="zh"),
    record("是", "有病变吗?", language="zh"),
]
LIMIT = 0.05  # seconds of processor time for an answer of 100 kB


@pytest.fixture(scope="module")
def clock() -> Iterator[Callable[[Record, str], float]]:
    """Measures a verdict: its seconds over those that it may take on this machine."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        limit = LIMIT * pool.submit(rules_clock.slowness, ANY_KIND).result()
        yield lambda asked, text: pool.submit(rules_clock.seconds, asked, text, limit).result() / limit


@pytest.mark.parametrize("name", LONG)
def test_a_hundred_kilobytes_take_no_longer_than_any_answer(name: str, clock: Callable[[Record, str], float]) -> None:
    text = (LONG[name] * 100_000)[:100_000]
    text = f"1.{text}1" if name == "zeros" else text
    for asked in ANY_KIND:
        assert clock(asked, text) < 1, asked.reference


def test_no_text_of_any_size_takes_long(clock: Callable[[Record, str], float]) -> None:
    texts: list[tuple[Record, str]] = []

    @settings(max_examples=60, deadline=None, database=None, derandomize=True)
    @given(
        st.lists(PIECES | st.sampled_from([*LONG.values()]) | st.characters(), min_size=1, max_size=4),
        st.sampled_from(["", " ", ", ", "\n", ". "]),
        st.sampled_from([590, 3_900, 100_000]),
        st.sampled_from(ANY_KIND),
    )
    def draw(pieces: list[str], joint: str, size: int, asked: Record) -> None:
        texts.append((asked, (joint.join([*pieces, ""]) * size)[:size]))

    draw()  # Hypothesis slows down what runs inside it, so the texts are read outside
    assert len(texts) >= 60
    for asked, text in texts:
        assert clock(asked, text) < 1, (asked, text[:100])
