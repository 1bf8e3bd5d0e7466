"""Med-Idefics' metrics (CS231N 2024): containment, set F1 and unigram BLEU, as its eval_*.py compute them.

The authors call containment "exact match". Every metric is also given without punctuation (`_no_punctuation`): most
of the published gain in F1 and BLEU is that the fine-tuned model does not end its answers with a full stop.
"""

import re
import string
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from radvqa_jax.evaluation.ngrams import Overlap
from radvqa_jax.evaluation.tokens import nltk_tokens
from radvqa_jax.schema import Record

PACKAGES = {"f1": "nltk", "bleu1": "nltk"}

_WORD = re.compile(r"\w")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def clean(prediction: str) -> str:
    """The part of a lower-case reply that the authors score: after "answer:", before a later "question:".

    >>> clean("question: is it? answer: no question: why?"), clean("assistant: no")
    ('no', 'no')
    """
    start = prediction.find("answer:")
    if start != -1:
        end = prediction.find("question:", start)
        prediction = prediction[start + len("answer:") : end if end != -1 else len(prediction)].strip()
    return prediction.replace("assistant:", "").strip()


def containment(reference: str, prediction: str) -> float:
    """1 if the reference is a substring of the reply; both in lower case, the reply not cleaned.

    Known flaw: "no" is in "normal", "not" and "note", a long reply contains much, and a reply of every option is right.
    """
    return float(reference in prediction)


def set_f1(reference: Sequence[str], prediction: Sequence[str]) -> float:
    """The harmonic mean of common tokens over all tokens of the prediction and of the reference.

    Known flaw: common tokens are a set but the totals are not, so a repeated word lowers the score even of the
    reference itself; punctuation and articles count as words.
    """
    common = len(set(reference) & set(prediction))
    precision = common / len(prediction) if prediction else 0.0
    recall = common / len(reference) if reference else 0.0
    return 2 * precision * recall / (precision + recall) if common else 0.0


def bleu1(reference: Sequence[str], prediction: Sequence[str]) -> float:
    """NLTK's sentence BLEU with weights (1, 0, 0, 0): clipped unigram precision times the brevity penalty.

    Known flaw: the full stop of "no." halves the score; a mean over answers is not a corpus BLEU.
    """
    return Overlap(reference, prediction).sentence_bleu(orders=1)


def _words(tokens: Sequence[str]) -> list[str]:
    """The tokens that do not consist of punctuation alone."""
    marks = {token for token in set(tokens) if not _WORD.search(token)}
    return [token for token in tokens if token not in marks]


def _score(record: Record) -> dict[str, float]:
    reference, prediction = record.reference.lower(), record.predictions[0].lower()
    true, said = nltk_tokens(reference), nltk_tokens(clean(prediction))
    bare, bare_said = map(_words, (true, said))
    return {
        "containment": containment(reference, prediction),
        "f1": set_f1(true, said),
        "bleu1": bleu1(true, said),
        "containment_no_punctuation": containment(
            reference.translate(_NO_PUNCTUATION), prediction.translate(_NO_PUNCTUATION)
        ),
        "f1_no_punctuation": set_f1(bare, bare_said),
        "bleu1_no_punctuation": bleu1(bare, bare_said),
    }


def per_answer(records: Sequence[Record]) -> dict[str, Float[np.ndarray, " n"]]:
    """Each metric's value for each record's first prediction, in [0, 1]."""
    rows = [_score(record) for record in records]
    return {name: np.array([row[name] for row in rows]) for name in (rows[0] if rows else ())}
