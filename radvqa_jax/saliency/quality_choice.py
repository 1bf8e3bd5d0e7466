"""Chooses the rows of a data set on which maps can be measured, and makes cases from them."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from radvqa_jax.config import DataConfig, QualityConfig
from radvqa_jax.data.image import decode_image
from radvqa_jax.data.rows import RowSource
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.evaluation.scoring import verdict
from radvqa_jax.saliency.answers import answer_tokens
from radvqa_jax.saliency.bundle import pack_case
from radvqa_jax.saliency.marked_regions import find_region
from radvqa_jax.saliency.quality import MarkedPatches, marked_patches
from radvqa_jax.saliency.quality_cases import Case
from radvqa_jax.schema import Record


def choose(
    rows: RowSource, quality: QualityConfig, *, seed: int, grid: int
) -> tuple[RowSource, list[MarkedPatches], dict[str, int]]:
    """The measurable rows, at most quality.cases, their targets, and the reasons why others are left out.

    Rows are taken in a seeded random order, one for each image in turn, so that many images are covered.
    """
    wanted, skipped = quality.question_types, Counter[str]()
    order = np.random.default_rng(seed).permutation(len(rows)).tolist()
    turn, seen = {}, Counter[str]()
    described = {index: rows[index] for index in order}
    for index in order:
        turn[index] = seen[described[index]["image_id"]]
        seen[described[index]["image_id"]] += 1
    kept: list[tuple[int, MarkedPatches]] = []
    for index in sorted(order, key=lambda index: turn[index]):
        row = described[index]
        if wanted and row["question_type"] not in wanted:
            skipped["another question type"] += 1
            continue
        if len(kept) == quality.cases:
            skipped["above quality.cases"] += 1
            continue
        height, width = decode_image(row["image"]).shape[:2]
        mask, why = find_region(row, height=height, width=width)
        if mask is None:
            skipped[why] += 1
        else:
            kept.append((index, marked_patches(mask, grid=grid)))
    if not kept:
        types = sorted({row["question_type"] for row in described.values()})
        raise ValueError(
            f"{rows.name} has no row to measure maps with: {dict(skipped)}. It needs a `mask` or `boxes` on rows whose "
            f"question_type is in quality.question_types={wanted or 'all'}; there are {types}."
        )
    kept.sort(key=lambda pair: pair[0])
    return rows.select([index for index, _ in kept]), [target for _, target in kept], dict(skipped)


def answers_to_force(
    rows: RowSource, records: Sequence[Record] | None, *, tokenizer: Tokenizer, prompt: str
) -> list[list[int]]:
    """The tokens that are teacher-forced: those of the records' answers, or of the references."""
    if records:
        return [answer_tokens(record, tokenizer).ids for record in records]
    references = [rows.text(row, template=prompt)[1] for row in rows.texts()]
    return [tokenizer.encode(text, eos=True) for text in references]


def make_cases(
    rows: RowSource,
    targets: Sequence[MarkedPatches],
    records: Sequence[Record] | None,
    *,
    answers: Sequence[list[int]],
    tokenizer: Tokenizer,
    data: DataConfig,
    resolution: int,
) -> list[Case]:
    """The questions with the answers that are teacher-forced; a row has room for the longest one."""
    cases, room = [], max(map(len, answers))
    for index, (row, target) in enumerate(zip(rows, targets, strict=True)):
        prefix, reference = rows.text(row, template=data.prompt)
        text = records[index].predictions[0] if records else reference
        batch = pack_case(
            tokenizer,
            image=decode_image(row["image"]),
            prefix=prefix,
            answer=answers[index],
            resolution=resolution,
            seq_len=data.seq_len + room,
        )
        about = {key: row[key] for key in ("question_id", "image_id", "question", "question_type")}
        about |= {"reference": reference, "answer": text}
        about["outcome"] = verdict(records[index], text).outcome if records else "reference"
        cases.append(Case(about, batch, target))
    return cases
