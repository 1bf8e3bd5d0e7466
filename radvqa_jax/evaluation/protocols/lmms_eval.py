"""lmms-eval's SLAKE accuracy: equality after its own normal form, English and Chinese.

Source: EvolvingLMMs-Lab/lmms-eval, lmms_eval/tasks/slake/utils.py, commit 75571cfe0fa36ca5ec2e6aa2bb268f9d38295af3.
Checked against that code: tests/evaluation/protocols.json. That commit has no VQA-RAD and no PMC-VQA; the same rule is
applied to them here.

Known flaws:
- Chinese polarity words are merged across questions: a reply of "normal" is a right "yes" to any question whose
  reference is "yes", and "abnormal" a right "no".
- "true" is "yes" and "false" is "no", whatever the question.
- Text in round brackets is removed from both sides: "lung (left)" equals "lung".
- Word order, synonyms and a sentence around the answer are wrong.
"""

import functools
import re
import string

from radvqa_jax.schema import Record

NAME = "lmms_eval"
LABEL = "lmms-eval (SLAKE)"
VERSION = "EvolvingLMMs-Lab/lmms-eval@75571cf"
METRICS = ("accuracy", "closed", "open")

_CHINESE_MARKS = (
    "\uff01\uff1f\uff61\u3002\uff02\uff03\uff04\uff05\uff06\uff07\uff08\uff09\uff0a\uff0b\uff0c\uff0d\uff0f\uff1a"
    "\uff1b\uff1c\uff1d\uff1e\uff20\uff3b\uff3c\uff3d\uff3e\uff3f\uff40\uff5b\uff5c\uff5d\uff5e\u3001\u300a\u300b"
    "\u3010\u3011"
)
_MARKS = str.maketrans(dict.fromkeys(string.punctuation + _CHINESE_MARKS, " "))
_BRACKETS = re.compile(r"\([^)]*\)|\uff08[^\uff09]*\uff09")
_YES = set("yes yeah yep true \u662f \u662f\u7684 \u6709 \u5305\u542b \u53ef\u4ee5 \u80fd \u4f1a \u6b63\u5e38".split())
_NO = set(
    "no nope false \u5426 \u4e0d\u662f \u6ca1\u6709 \u65e0 \u4e0d\u5305\u542b \u4e0d\u80fd \u4e0d\u4f1a "
    "\u4e0d\u53ef\u4ee5 \u4e0d\u6b63\u5e38 \u5f02\u5e38".split()
)


def normalize(text: str) -> str:
    """Text without case, brackets and punctuation; a lone polarity word becomes `yes` or `no`."""
    words = " ".join(_BRACKETS.sub(" ", text.strip().lower()).translate(_MARKS).split())
    if words == "x ray":
        return "xray"
    return "yes" if words in _YES else "no" if words in _NO else words


_reference = functools.lru_cache(4096)(normalize)


def score(record: Record, answer_type: str) -> dict[str, float]:
    """`accuracy`, and `closed` or `open` with the same value."""
    right = float(normalize(record.predictions[0]) == _reference(record.reference))
    return {"accuracy": right} | ({answer_type: right} if answer_type else {})
