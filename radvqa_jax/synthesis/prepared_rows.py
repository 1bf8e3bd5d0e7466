"""Checked pairs as rows of a prepared set."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from radvqa_jax.synthesis.checks import Checked
from radvqa_jax.synthesis.duplicates import SPLIT_ORDER
from radvqa_jax.synthesis.evidence import Evidences
from tfds_builders.catalogue import TABLE
from tfds_builders.features import YES_NO, common_row, is_yes_no

COPIED = ("image_id", "case_id", "modality", "organ", "location", "plane", "caption", "language")
Row = dict[str, Any]


def make_row(pair: Checked, row: Mapping[str, Any], *, choices: Sequence[str], planted: str, checks_sha256: str) -> Row:
    """The row of a pair, without its image.

    Args:
        pair: with the results of all checks.
        row: the row from which it was written.
        choices: its options in the order in which they are shown.
        planted: the kind of deliberate error; empty if there is none.
        checks_sha256: of the checks and their settings.
    """
    candidate = pair.item.candidate
    language = str(row.get("language") or "en")
    set_name = "/".join(filter(None, (candidate.dataset, candidate.builder_config)))
    common = common_row(
        None,
        **{name: str(row.get(name) or "") for name in COPIED},
        question_id=candidate.candidate_id,
        question=" ".join(candidate.question.split()),
        answer=" ".join(candidate.answer.split()),
        answer_type=candidate.answer_type,
        question_type=candidate.question_type,
        source=f"{row['source']}, written questions",
        split=candidate.split,
        yes_no=language in YES_NO and is_yes_no(candidate.answer.rstrip(" ."), language=language),
        choices=list(choices),
        answer_index=list(choices).index(candidate.answer) if candidate.answer in choices else -1,
    )
    return common | {
        "candidate_id": candidate.candidate_id,
        "written_from": f"{set_name}:{candidate.prepared_split}",
        "writer": candidate.writer,
        "model": candidate.model,
        "prompt_sha256": candidate.prompt_sha256,
        "caption_sha256": candidate.caption_sha256,
        "kind": candidate.kind,
        "support": candidate.support,
        "answerable": "image" if candidate.answerable_from_image else "literature",
        "accepted": "yes" if pair.accepted else "no",
        "rejected_by": "" if pair.accepted else pair.failed[0],
        "failed_checks": " ".join(pair.failed),
        "tags": " ".join(pair.tags),
        "planted": planted,
        "checks_sha256": checks_sha256,
        "attribution": str(row.get("attribution") or ""),
    }


def rows_by_split(
    pairs: Sequence[Checked],
    evidences: Evidences,
    *,
    choices: Mapping[str, Sequence[str]],
    planted: Mapping[str, str],
    checks_sha256: str,
) -> dict[str, Callable[[], Iterator[Row]]]:
    """{split: function that yields its rows}; images are read one at a time.

    Of several tables, which may number their images alike, the name is in front of an image's id.
    """
    tables = {pair.item.candidate.builder_config for pair in pairs if pair.item.candidate.dataset == TABLE}

    def give(split: str) -> Iterator[Row]:
        for pair in pairs:
            candidate = pair.item.candidate
            if candidate.split != split:
                continue
            row = make_row(
                pair,
                evidences.row(candidate),
                choices=choices.get(candidate.candidate_id, candidate.choices),
                planted=planted.get(candidate.candidate_id, ""),
                checks_sha256=checks_sha256,
            )
            if candidate.dataset == TABLE and len(tables) > 1:
                row["image_id"] = f"{candidate.builder_config}/{candidate.image_id}"
            yield row | {"image": evidences.image(candidate)}

    splits = sorted({pair.item.candidate.split for pair in pairs}, key=lambda split: SPLIT_ORDER.get(split, 0))
    return {split: (lambda split=split: give(split)) for split in splits}
