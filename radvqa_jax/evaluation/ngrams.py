"""BLEU and ROUGE of one answer against one short reference: the libraries' values, bit for bit, in less time.

NLTK, sacreBLEU and rouge-score build every n-gram of both texts. An answer of 4 kB has 2,800 of them and the reference
three; on 100,000 such answers that is most of an hour. Only the reference's n-grams can match, so only they are counted
here. The tests hold each function to its library.
"""

import math
from collections import Counter
from collections.abc import Sequence

import rouge_score.scoring
from rapidfuzz.distance import LCSseq


def matches(reference: Sequence[str], text: Sequence[str], order: int) -> int:
    """Returns how many n-grams of the reference the text has, each at most as often as the reference has it.

    >>> matches("the left lung".split(), "left lung and left lung".split(), 2)
    1
    """
    wanted = Counter(zip(*(reference[start:] for start in range(order)), strict=False))
    if not wanted or not set(reference).intersection(text):
        return 0
    if order == 1:
        return sum(min(count, text.count(gram[0])) for gram, count in wanted.items())
    said = Counter(gram for gram in zip(*(text[start:] for start in range(order)), strict=False) if gram in wanted)
    return sum(min(count, wanted[gram]) for gram, count in said.items())


def sentence_bleu(reference: Sequence[str], text: Sequence[str], *, orders: int = 4) -> float:
    """Returns NLTK's `sentence_bleu` with equal weights on n-grams of 1 to `orders`, not smoothed.

    An order without a match counts as the smallest positive float, as NLTK's method0 has it.
    """
    found = matches(reference, text, 1)
    if not found:
        return 0.0
    terms = []
    for order in range(1, orders + 1):
        found = matches(reference, text, order) if found else 0  # without a shorter match there is no longer one
        precision = found / max(1, len(text) - order + 1) if found else math.ulp(0.0) * 2**52
        terms.append(math.log(precision) / orders)
    brevity = 1.0 if len(text) > len(reference) else math.exp(1 - len(reference) / len(text))
    return brevity * math.exp(math.fsum(terms))


def rouge_n(reference: Sequence[str], text: Sequence[str], order: int) -> rouge_score.scoring.Score:
    """Returns ROUGE-N of tokens, as rouge-score computes it."""
    common = matches(reference, text, order)
    precision = common / max(len(text) - order + 1, 1)
    recall = common / max(len(reference) - order + 1, 1)
    return rouge_score.scoring.Score(precision, recall, rouge_score.scoring.fmeasure(precision, recall))


def rouge_l(reference: Sequence[str], text: Sequence[str]) -> rouge_score.scoring.Score:
    """Returns ROUGE-L of tokens, as rouge-score computes it.

    Tokens that the reference does not have cannot be in the common subsequence. They are left out of the search.
    """
    wanted = set(reference)
    common = LCSseq.similarity(reference, [token for token in text if token in wanted])
    precision = common / len(text) if common else 0.0
    recall = common / len(reference) if common else 0.0
    return rouge_score.scoring.Score(precision, recall, rouge_score.scoring.fmeasure(precision, recall))
