"""LLaVA-Med 1.0's closed accuracy and open recall.

Source: microsoft/LLaVA-Med, llava/eval/run_eval.py with eval_metrics/evaluate_metrics.py and glossary.py, commit
b9a98a736d2ef05bcf5ff345be6403fb3a664eaf, the last one that has them (version 1.5 removed them). Checked against that
code: tests/evaluation/protocols.json.

Known flaws:
- Closed: a reply is right if it contains "yes" or "no" anywhere and contains the reference anywhere. "normal" and
  "note" contain "no"; "yes and no" is always right; a closed question whose reference is neither yes nor no ("CT")
  is wrong unless the reply also contains "yes" or "no".
- Open: recall of the reference's words, so that a longer reply never scores lower. A word that the reply repeats counts
  as often as it is repeated: "left left left" recalls 3/4 of "left lung".
- The rule that removes full stops removes the first 32 of a text, because a flag is passed as the count.

Not implemented: "open accuracy" and BLEU of the same script. The first needs a file of candidate answers that was not
published with the code.
"""

import functools
import re
from collections import Counter

from radvqa_jax.evaluation.protocols.vqa import CONTRACTIONS, DIGITS
from radvqa_jax.schema import Record

NAME = "llava_med"
LABEL = "LLaVA-Med 1.0"
VERSION = "microsoft/LLaVA-Med@b9a98a7"
METRICS = ("closed", "open_recall")

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_FULL_STOP = re.compile(r"\.(?!\d)")
# Replacements of words: digits for number words, one spelling of contractions, nothing for articles.
_FORMS = dict.fromkeys(("a", "an", "the"), "") | CONTRACTIONS | DIGITS
_FULL_STOPS = 32  # the value of re.UNICODE, which the original passes as the count


def normalize(text: str) -> str:
    """Text in the form that both rules compare: no articles, digits for number words, less punctuation."""
    number = _COMMA_IN_NUMBER.search(text) is not None
    out = text
    for mark in _PUNCTUATION:
        if mark in text:
            out = out.replace(mark, "" if number or f"{mark} " in text or f" {mark}" in text else " ")
    words = _FULL_STOP.sub("", out, count=_FULL_STOPS).lower().split()
    return " ".join([form for word in words if (form := _FORMS.get(word, word))]).replace(",", "")


@functools.lru_cache(4096)
def _reference(text: str) -> str:
    return normalize(text.lower())


def recall(reference: str, prediction: str) -> float:
    """The share of the reference's words that the prediction has; its repetitions count (see above)."""
    wanted, said = Counter(normalize(reference).split()), normalize(prediction).split()
    times = {word: said.count(word) for word in wanted}
    found, missed = sum(times.values()), sum(count for word, count in wanted.items() if not times[word])
    return found / (found + missed) if found else 0.0


def score(record: Record, answer_type: str) -> dict[str, float]:
    """`closed` for a closed question and `open_recall` for an open one."""
    reference, prediction = _reference(record.reference), normalize(record.predictions[0].lower())
    if answer_type == "closed":
        decided = "yes" in prediction or "no" in prediction
        return {"closed": float(decided and reference in prediction)}
    return {"open_recall": recall(reference, prediction)}
