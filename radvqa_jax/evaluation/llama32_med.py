"""LLaMA32-Med's metrics: string match over closed and open questions, recall, BLEU and BERTScore.

No code was published, and the paper does not fix the variants; each function states the reading used here. "Closed"
means a yes/no reference, not a data set's own flag: only that reading agrees with the paper's overall figures.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from sacrebleu.metrics.bleu import BLEU

from radvqa_jax.evaluation.ngrams import Overlap
from radvqa_jax.evaluation.tokens import rouge_tokens, sacrebleu_tokens
from radvqa_jax.schema import Record

PACKAGES = {"recall": "rouge-score", "bleu": "sacrebleu", "bertscore": "bert-score"}
_LONGEST = 1_000_000  # tokens; transformers writes about 1e30 for "no limit"
OPENER = "the answer is:"  # the fixed beginning of the model's replies


def cleaned(text: str) -> str:
    """The lower-case text without the opener, edge white space and a final full stop.

    >>> cleaned("The answer is: Left lung.")
    'left lung'
    """
    return text.strip().lower().removeprefix(OPENER).strip().removesuffix(".").strip()


def is_closed(record: Record) -> bool:
    """Whether the reference is yes or no."""
    return cleaned(record.reference) in ("yes", "no")


def per_answer(records: Sequence[Record]) -> dict[str, Float[np.ndarray, " n"]]:
    """Each metric's value for each record's first prediction, in [0, 1].

    - `string_match`: equality after `cleaned`. Known flaw: "Yes, abnormal" is not "yes"; a list in another order is
      wrong.
    - `recall`: the share of the reference's words that occur in the reply (recall of ROUGE-1, not stemmed). Known flaw:
      a longer reply never scores lower, so a reply with every word wins.
    """
    match = [float(cleaned(r.predictions[0]) == cleaned(r.reference)) for r in records]
    pairs = [
        [rouge_tokens(cleaned(text), stem=False) for text in (record.reference, record.predictions[0])]
        for record in records
    ]
    recall = [Overlap(reference, reply).rouge_n(1).recall for reference, reply in pairs]
    return {"string_match": np.array(match), "recall": np.array(recall)} if records else {}


def bleu_counts(records: Sequence[Record]) -> Float[np.ndarray, "n 10"]:
    """The counts that a corpus BLEU sums: matches and totals of four n-gram orders, and both lengths."""
    orders, rows = range(1, 5), []
    for record in records:
        true, said = (sacrebleu_tokens(cleaned(text)) for text in (record.reference, record.predictions[0]))
        common = Overlap(true, said)
        counts = [common.matches(order) for order in orders]
        rows.append([*counts, *(max(0, len(said) - order + 1) for order in orders), len(said), len(true)])
    return np.array(rows, dtype=np.float64).reshape(-1, 10)


def corpus_bleu(counts: Float[np.ndarray, " 10"]) -> float:
    """The corpus BLEU of summed counts in [0, 1]: sacreBLEU's default (13a tokens, exponential smoothing).

    Known flaw: it is made for translations of many sentences; a single word changes the score of a short answer a lot.
    """
    whole = [int(count) for count in counts]
    found = BLEU.compute_bleu(correct=whole[:4], total=whole[4:8], sys_len=whole[8], ref_len=whole[9])
    return found.score / 100


def check_bertscore(model: str) -> Path:
    """The path of the encoder's config.json; raises ValueError if BERTScore cannot be computed with it."""
    config = Path(model).expanduser() / "config.json"
    if not config.is_file():
        raise ValueError(
            f"score.bertscore_model={model!r} must be a folder with a model that transformers saved (config.json, "
            "weights, tokenizer). Names of models are not accepted: nothing is downloaded."
        )
    try:
        import bert_score  # noqa: F401  # pyright: ignore[reportMissingImports]  # an extra: it needs torch
    except ModuleNotFoundError as error:
        raise ValueError(
            f"BERTScore needs the package bert-score ({error}). Install it with pip install 'radvqa_jax[bertscore]', "
            "or leave score.bertscore_model empty."
        ) from error
    tokenizer = config.with_name("tokenizer_config.json")
    limit = json.loads(tokenizer.read_text(encoding="utf-8")).get("model_max_length") if tokenizer.is_file() else None
    if not isinstance(limit, int) or limit > _LONGEST:  # bert-score passes it on, and it would overflow
        raise ValueError(f"{tokenizer} needs a model_max_length, the encoder's longest text in tokens; got {limit}.")
    return config


def bertscore(records: Sequence[Record], *, model: str, layers: int = 0) -> Float[np.ndarray, " n"]:
    """BERTScore's F1 for each record, not rescaled, from the last layer unless `layers` gives another.

    Known flaw: without rescaling it is high for any two texts (the paper's are .82 and .85), and negation hardly
    changes it.

    Args:
        records: the first prediction of each counts.
        model: a folder with an encoder and its tokenizer as transformers saves them; nothing is downloaded.
        layers: the layer whose states are compared, counted from 1.

    Raises:
        ValueError: if the folder holds no model or no model_max_length, or bert-score is not installed.
    """
    config = check_bertscore(model)
    from bert_score import BERTScorer  # pyright: ignore[reportMissingImports]  # an extra: it needs torch

    layers = layers or int(json.loads(config.read_text(encoding="utf-8"))["num_hidden_layers"])
    scorer = BERTScorer(model_type=str(config.parent), num_layers=layers, rescale_with_baseline=False)
    said, true = [r.predictions[0] for r in records], [r.reference for r in records]
    return np.clip(np.asarray(scorer.score(said, true)[2], dtype=np.float64), 0, 1)  # float32 may exceed 1 by 2e-7
