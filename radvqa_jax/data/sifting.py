"""Selects the rows of a source that can be trained on, and measures the lengths of their texts."""

from collections import Counter
from typing import Any, NamedTuple

from radvqa_jax.config import DataConfig
from radvqa_jax.data.packing import OVERLONG_QUESTION, Rejected, pack
from radvqa_jax.data.rows import RowSource
from radvqa_jax.data.tokenizer import Tokenizer


class Sifted(NamedTuple):
    """The rows of a source that can be trained on.

    Attributes:
        kept: their numbers.
        text_tokens: of each of them: prompt and answer, without padding.
        report: on those that were left out.
    """

    kept: list[int]
    text_tokens: list[int]
    report: dict[str, Any]


def sift(rows: RowSource, *, data: DataConfig, tokenizer: Tokenizer) -> Sifted:
    """The rows that can be trained on, and a report on those that cannot.

    Every text is tokenised once, so that the number of rows in an epoch is known before training. A row with an empty
    answer or question is always left out: it would teach empty answers, or answers without a question. The report has
    the source's fingerprint under `source`, the number of `rows` and `kept`, `rejected` as {reason: n}, and how many
    answers are `cut`.

    Raises:
        ValueError: naming the question, if a prefix or an answer is over-long under the policy `error`; or if no row
            is left.
    """
    kept: list[int] = []
    lengths: list[int] = []
    rejected: Counter[str] = Counter()
    cut = 0
    for index, row in enumerate(rows.texts()):
        prefix, suffix = rows.text(row, template=data.prompt)
        if not suffix or (rows.source.task == "vqa" and not row["question"].strip()):
            rejected["empty_question" if suffix else "empty_answer"] += 1
            continue
        try:
            packed = pack(tokenizer, prefix, suffix=suffix, seq_len=data.seq_len, overlong=data.overlong)
        except ValueError as error:
            if isinstance(error, Rejected) and (
                error.reason != OVERLONG_QUESTION or data.overlong_question == "reject"
            ):
                rejected[error.reason] += 1
                continue
            raise ValueError(f"{rows.name}, question {row['question_id']!r}: {error}") from error
        cut += int(packed["mask_loss"].sum()) < len(tokenizer.encode(suffix)) + 1
        kept.append(index)
        lengths.append(int(packed["mask_input"].sum()))
    report = {"source": rows.fingerprint, "rows": len(rows), "kept": len(kept), "rejected": dict(rejected), "cut": cut}
    if not kept:
        raise ValueError(f"{rows.name}: no row can be trained on; {report['rejected']} of {len(rows)} were rejected.")
    return Sifted(kept, lengths, report)
