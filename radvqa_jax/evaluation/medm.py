"""MedM's metrics (Shourya, Dumontier, Sun 2025): label accuracy, ROUGE and BLEU, on the first prediction.

ROUGE and BLEU are those of the authors' train2.py, and reproduce its stored values. No code was published for label
accuracy, the judge and the organ table. Known flaw, kept only in the metrics named `_with_prompt`: the scored text
still contained the prompt ("answer en <question>" and a newline), so a question that repeats words of its answer raises
the score of any reply.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from radvqa_jax.evaluation.ngrams import Overlap
from radvqa_jax.evaluation.tokens import rouge_tokens
from radvqa_jax.schema import Record

_ROUGE = ("rouge1", "rouge2", "rougeL")  # the paper's ROUGE-S, ROUGE-M and ROUGE-L
PACKAGES = {"rouge": "rouge-score", "bleu": "nltk"}


def label_accuracy(record: Record) -> float:
    """1 if the first prediction is the label, letter case and edge white space aside, else 0.

    With choices the label's letter counts as well. Known flaw: "Yes." is not "yes". MedM does not say how a
    reply becomes a label, and this is the plainest reading.
    """
    labels = {record.reference.strip().casefold()}
    if record.reference in record.choices:
        labels.add(chr(97 + record.choices.index(record.reference)))
    return float(record.predictions[0].strip().casefold() in labels)


def rouge(reference: Sequence[str], text: Sequence[str]) -> dict[str, float]:
    """The F-measures of ROUGE-1, -2 and -L of tokens (`rouge_tokens`, with Porter stems).

    Known flaw: they count words, and "no fracture" and "fracture" share most words.
    """
    common = Overlap(reference, text)
    scores = (common.rouge_n(1), common.rouge_n(2), common.rouge_l())
    return {name: score.fmeasure for name, score in zip(_ROUGE, scores, strict=True)}


def bleu4(reference: str, text: str) -> float:
    """NLTK's sentence BLEU: four n-gram orders with equal weights, no smoothing, split at white space.

    Known flaw: a text without a common 4-gram gets about 1e-78 or less, so a short answer scores nothing even if it
    is right; letter case and punctuation count.
    """
    return Overlap(reference.split(), text.split()).sentence_bleu()


def prompt_of(record: Record) -> str:
    """The prompt as MedM's tokenizer decoded it, with the newline that ends it."""
    return (record.prompt or f"answer en {record.question}").rstrip("\n") + "\n"


def per_answer(records: Sequence[Record]) -> dict[str, Float[np.ndarray, " n"]]:
    """Each metric's value for each record, in [0, 1]; `_with_prompt` scores the prompt with the reply."""
    rows = []
    for record in records:
        answer, row = record.predictions[0], {"label_accuracy": label_accuracy(record)}
        reference, said = rouge_tokens(record.reference), rouge_tokens(answer)
        prompt = prompt_of(record)  # ends with a newline, so that its tokens stay apart
        for suffix, tokens, text in (
            ("", said, answer),
            ("_with_prompt", rouge_tokens(prompt) + said, prompt + answer),
        ):
            row |= {f"{name}{suffix}": value for name, value in rouge(reference, tokens).items()}
            row[f"bleu4{suffix}"] = bleu4(record.reference, text)
        rows.append(row)
    return {name: np.array([row[name] for row in rows]) for name in (rows[0] if rows else ())}
