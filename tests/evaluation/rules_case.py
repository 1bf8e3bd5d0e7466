"""Records and pieces of text, for the tests of the rules."""

from typing import Any

from hypothesis import strategies as st

from radvqa_jax.schema import Record

CHOICES = ["CT", "MRI", "Pneumonia", "Normal chest"]


def record(reference: str, question: str = "", **fields: Any) -> Record:
    return Record("q0", "i0", question, reference, [], [], **fields)


PIECES = st.sampled_from(
    """yes no not and or left right lung the a A B (C) D. 5 cm 2-3 > >= 1/2 L4-5 : , ; . ? ! ( ) [ ] { } < >
    <think> </think> </s> ** \\ " ' answer: is because 是 不 没有 左 、 。
    1.0 .5 ± ² \ud800 \x00 \u200b no normal CT MRI""".split()
)
