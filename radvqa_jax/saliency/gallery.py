"""Maps for a few questions of a data set: which ones, and what a report shows of them."""

from pathlib import Path
from typing import Any

import numpy as np

from radvqa_jax.config import Config
from radvqa_jax.data.image import decode_image
from radvqa_jax.data.sources import RowSource
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.evaluation.scoring import verdict
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.saliency.cases import SavedCase, read_mask, save_case
from radvqa_jax.saliency.maps import case_maps
from radvqa_jax.schema import Record
from radvqa_jax.trees import Flat


def choose_cases(records: list[Record], *, cases: int, seed: int) -> list[int]:
    """Returns numbers of records, at most `cases`: a seeded draw that takes the question types in turn.

    Records without an answer are left out, and an image is shown once as long as there are others. Whether an answer is
    right plays no part: a gallery of successes would mislead.
    """
    order = np.random.default_rng(seed).permutation(len(records)).tolist()
    by_type: dict[str, list[int]] = {}
    for index in order:
        if records[index].predictions and records[index].predictions[0].strip():
            by_type.setdefault(records[index].question_type, []).append(index)
    chosen: list[int] = []
    seen: set[str] = set()
    while len(chosen) < cases and any(by_type.values()):
        for _, waiting in sorted(by_type.items()):
            if not waiting or len(chosen) == cases:
                continue
            fresh = next((index for index in waiting if records[index].image_id not in seen), waiting[0])
            waiting.remove(fresh)
            seen.add(records[fresh].image_id)
            chosen.append(fresh)
    return chosen


def _caption(record: Record, saved: SavedCase) -> str:
    outcome = verdict(record, record.predictions[0]).outcome
    text = f"{record.question_id} ({outcome})."
    for method, found in saved.quality.items():
        text += f" {method}: {found.mass:.0%} of the map's mass lies in the lesion, which covers {found.area:.0%}."
    return text


def write_cases(
    model: PaliGemma,
    params: Flat,
    rows: RowSource,
    *,
    records: list[Record],
    tokenizer: Tokenizer,
    config: Config,
    folder: Path,
) -> list[dict[str, Any]]:
    """Writes the maps of some of the questions into `folder` and returns what a report shows of each.

    Each entry has `png` (bytes), `caption`, `question`, `reference` and `prediction`. The map is of the answer that the
    record holds, teacher-forced.

    Args:
        model: with the adapters that `params` holds.
        params: flat tree of base leaves and adapters.
        rows: the questions.
        records: the answers to them, in the same order.
        tokenizer: of the checkpoint.
        config: the experiment; `saliency` says how many and how.
        folder: made if absent.
    """
    shown = []
    for index in choose_cases(records, cases=config.saliency.cases, seed=config.seed):
        row, record = rows[index], records[index]
        image = decode_image(row["image"])
        prefix, _ = rows.text(row, template=config.data.prompt)
        maps = case_maps(
            model,
            params,
            tokenizer=tokenizer,
            image=image,
            prefix=prefix,
            answer=tokenizer.encode(record.predictions[0], eos=True),
            config=config.saliency,
            seq_len=config.data.seq_len + config.decode.max_new_tokens,
        )
        saved = save_case(
            folder,
            maps,
            image=image,
            question_id=record.question_id,
            question=record.question,
            config=config.saliency,
            reference=record.reference,
            mask=read_mask(row["mask"]) if row.get("mask") else None,
        )
        shown.append(
            {
                "png": saved.figure.read_bytes(),
                "caption": _caption(record, saved),
                "question": record.question,
                "reference": record.reference,
                "prediction": record.predictions[0],
            }
        )
    return shown
