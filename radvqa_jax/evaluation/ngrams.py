"""BLEU and ROUGE of one answer against one short reference: the libraries' values, bit for bit, in less time.

NLTK, sacreBLEU and rouge-score build every n-gram of both texts. An answer of 4 kB has 2,800 of them and the reference
three; for 100,000 such answers that takes most of an hour. Only tokens of the reference can match, so all others are
dropped first, and n-grams are counted in the rest. The tests compare each function with its library.
"""

import math
from collections import Counter
from collections.abc import Sequence

import rouge_score.scoring
from rapidfuzz.distance import LCSseq


class Overlap:
    """The n-grams that a text shares with a reference; both are lists of tokens."""

    def __init__(self, reference: Sequence[str], text: Sequence[str]) -> None:
        self.reference, self.length = reference, len(text)
        wanted = set(reference)
        # The text with one None for each run of tokens that the reference does not have: no n-gram crosses it.
        self._kept: list[str | None] = []
        if wanted.intersection(text):
            before: str | None = None
            for token in text:
                if token in wanted:
                    self._kept.append(before := token)
                elif before is not None:
                    self._kept.append(before := None)

    def matches(self, order: int) -> int:
        """The number of the reference's n-grams that the text has, each at most as often as the reference has it.

        >>> Overlap("the left lung".split(), "left lung and left lung".split()).matches(2)
        1
        """
        wanted = Counter(zip(*(self.reference[start:] for start in range(order)), strict=False))
        if not wanted or not self._kept:
            return 0
        if order == 1:
            return sum(min(count, self._kept.count(gram[0])) for gram, count in wanted.items())
        grams = zip(*(self._kept[start:] for start in range(order)), strict=False)
        said = Counter(gram for gram in grams if gram in wanted)
        return sum(min(count, wanted[gram]) for gram, count in said.items())

    def sentence_bleu(self, *, orders: int = 4) -> float:
        """NLTK's `sentence_bleu` with equal weights on n-grams of 1 to `orders`, not smoothed.

        An order without a match counts as the smallest positive float, as NLTK's method0 has it.
        """
        found = self.matches(1)
        if not found:
            return 0.0
        terms = []
        for order in range(1, orders + 1):
            found = self.matches(order) if found else 0  # without a shorter match there cannot be a longer one
            precision = found / max(1, self.length - order + 1) if found else math.ulp(0.0) * 2**52
            terms.append(math.log(precision) / orders)
        longer = self.length > len(self.reference)
        brevity = 1.0 if longer else math.exp(1 - len(self.reference) / self.length)
        return brevity * math.exp(math.fsum(terms))

    def rouge_n(self, order: int) -> rouge_score.scoring.Score:
        """ROUGE-N, as rouge-score computes it."""
        return self._rouge(self.matches(order), order)

    def rouge_l(self) -> rouge_score.scoring.Score:
        """ROUGE-L, as rouge-score computes it."""
        if not self._kept:
            return self._rouge(0, 1)
        return self._rouge(LCSseq.similarity(self.reference, [token for token in self._kept if token is not None]), 1)

    def _rouge(self, common: int, order: int) -> rouge_score.scoring.Score:
        precision = common / max(self.length - order + 1, 1)
        recall = common / max(len(self.reference) - order + 1, 1)
        return rouge_score.scoring.Score(precision, recall, rouge_score.scoring.fmeasure(precision, recall))
