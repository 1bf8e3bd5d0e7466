"""MedGemma's tokenised F1 on SLAKE and VQA-RAD, as far as its definition is known.

Source: Sellergren et al. 2025 (arXiv 2507.05201) and the model card, which name "tokenized F1" for both data sets and
do not define it; Google-Health/medgemma (commit ff57e8c29f56f8d613a139d305635e033b2ebddb) holds no scorer. The reading
here is SQuAD's (Rajpurkar et al. 2016): lower case, no ASCII punctuation, no articles, split at white space, F1 of the
two bags of words. It could not be checked against the original.

Known flaws: "no fracture" has an F1 of 2/3 against "fracture"; every word that explains an answer lowers it; a reply
made of the question's own words scores above 0.
"""

import re
import string
from collections import Counter

from radvqa_jax.schema import Record

NAME = "medgemma"
LABEL = "MedGemma (tokenised F1; our reading)"
VERSION = "arXiv 2507.05201"
METRICS = ("f1",)

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def words(text: str) -> list[str]:
    """The words that are compared.

    >>> words("The X-ray of a chest.")
    ['xray', 'of', 'chest']
    """
    return _ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split()


def f1(reference: str, prediction: str) -> float:
    """The harmonic mean of precision and recall over words; a word matches as often as it occurs on both sides."""
    wanted, said = words(reference), words(prediction)
    if not wanted or not said:
        return float(wanted == said)
    common = sum(min(count, said.count(word)) for word, count in Counter(wanted).items())
    return 2 * common / (len(wanted) + len(said))


def score(record: Record, answer_type: str) -> dict[str, float]:
    """`f1`."""
    return {"f1": f1(record.reference, record.predictions[0])}
