"""Maps for a few questions of a data set: their choice, and their presentation in a report."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from radvqa_jax import progress
from radvqa_jax.config import Config
from radvqa_jax.data.image import decode_image
from radvqa_jax.data.rows import RowSource
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.evaluation.report import ShownMap
from radvqa_jax.evaluation.scoring import verdict
from radvqa_jax.files import atomic_write, write_text
from radvqa_jax.prompts import one_line
from radvqa_jax.saliency.answers import answer_tokens
from radvqa_jax.saliency.bundle import CaseBundle, Sources, pack_case, row_length
from radvqa_jax.saliency.cases import SavedCase, safe_name, save_case
from radvqa_jax.saliency.chosen import lose_chosen
from radvqa_jax.saliency.compare import no_contrast, other_answer
from radvqa_jax.saliency.figures import FORMATS, heads_figure, save_figure
from radvqa_jax.saliency.maps import reduce_bundle
from radvqa_jax.saliency.marked_regions import find_region
from radvqa_jax.saliency.methods import METHODS, plain
from radvqa_jax.saliency.viewer_cases import Shown, ask_models, viewer_case
from radvqa_jax.saliency.viewer_types import ViewerCase
from radvqa_jax.schema import Record

SHOWN_SIDE = 640  # pixels of the longer side of an image in the report


def choose_cases(records: list[Record], *, cases: int, seed: int) -> list[int]:
    """Numbers of at most `cases` records: a seeded draw that takes the question types in turn.

    Records without an answer are left out, and no image is repeated while there are others. The correctness of an
    answer plays no part: a gallery of successes would mislead.
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


class Gallery(NamedTuple):
    """The results for the cases."""

    shown: list[ShownMap]  # for the report
    cases: list[ViewerCase]  # for viewer.html


class AskedCase(NamedTuple):
    """A question about one image, and the answer of every model."""

    records: Mapping[str, Record]  # name of a model -> its answer
    image: UInt8[np.ndarray, "h w 3"]  # original pixels
    prefix: str  # the prompt, without the separator
    mask: Bool[np.ndarray, "h w"] | None = None  # of what the data set marks
    headline: Sequence[tuple[str, str]] = ()  # (name, value) shown large next to the answer
    facts: Sequence[tuple[str, str]] = ()  # (name, value) shown next to the image
    notes: Sequence[str] = ()  # sentences for the reader
    other: str = ""  # another answer that the answer is compared with; empty = none


def _share(value: float) -> str:
    """A share as text for a reader: never 0 % for a value that is not 0.

    >>> _share(0.0047), _share(0.31), _share(0.0)
    ('0.47 %', '31 %', '0 %')
    """
    return f"{100 * value:.0f} %" if value >= 0.0995 or value == 0 else f"{100 * value:.2g} %"


def _shown(record: Record, image: UInt8[np.ndarray, "h w 3"], saved: SavedCase) -> ShownMap:
    """A case in the report: the image, and the configuration's first map with its figures."""
    method = next((name for name in saved.overlays if not METHODS[plain(name)].signed), next(iter(saved.overlays)))
    through = "" if plain(method) == method else ", through the vision tower"
    text = f"{METHODS[plain(method)].label}{through}, whole answer."
    if method in saved.quality:
        found = saved.quality[method]
        text += f" {_share(found.mass)} of it is in the marked region, which covers {_share(found.area)} of the image."
    if record.ended[:1] == [False]:
        text += f" The answer was cut after {len(record.token_ids[0])} tokens."
    picture = Image.fromarray(image)
    picture.thumbnail((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    said = record.predictions[0]
    outcome = verdict(record, said).outcome
    overlay = saved.overlays[method].read_bytes()
    return ShownMap(record.question, record.reference, said, outcome, file.getvalue(), overlay, text)


def _write_heads(path: Path, bundle: CaseBundle, image: UInt8[np.ndarray, "h w 3"], record: Record) -> None:
    """Writes raw attention of the whole answer by layer and head, for a screen and for a paper."""
    inner = slice(0, max(1, len(bundle.token_ids) - bundle.ended))
    grid = bundle.grid
    raw = bundle.image["raw"]
    maps = raw[:, :, inner].mean(axis=2).reshape(*raw.shape[:2], grid, grid)
    figure = heads_figure(image, maps, question=record.question, answer=bundle.answer)
    for kind in FORMATS:
        data = save_figure(figure, kind)
        with atomic_write(path.with_name(f"{path.name}_heads.{kind}"), "wb") as file:
            file.write(data)


def _write_shares(path: Path, bundle: CaseBundle) -> None:
    """Writes the parts of the answer's raw attention on the image and in the text, for each layer and head:
    shares of one, mean over the answer's tokens without EOS."""
    depth, heads = bundle.image["raw"].shape[:2]
    rows: list[list[Any]] = [["layer", "head", *Sources._fields]]
    for layer, head in np.ndindex(depth, heads):
        found = bundle.sources("raw", layers=(layer,), heads=(head,))
        rows.append([layer, head, *(round(share, 6) for share in found)])
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path.with_name(f"{path.name}_shares.csv"), text.getvalue())


def write_case(
    shown: Mapping[str, Shown], asked: AskedCase, *, tokenizer: Tokenizer, config: Config, folder: Path
) -> tuple[ViewerCase, SavedCase]:
    """Writes the maps and figures of one question into `folder`; returns the viewer's case, and the list of files.

    Every map is of the last model's answer, teacher-forced; the files hold the last model's maps, the viewer all.

    Args:
        shown: name -> model, in the order of reading.
        asked: the question; the last model must have answered with at least a word.
        tokenizer: of the checkpoint.
        config: the experiment; `saliency` says how maps are made.
        folder: made if absent.
    """
    last = list(shown)[-1]
    record = asked.records[last]
    ids, notes = answer_tokens(record, tokenizer)
    # A text that is encoded again may have more tokens than max_new_tokens.
    other = one_line(asked.other)
    answers = [ids, tokenizer.encode(other, eos=True)] if other else [ids]
    seq_len = row_length(config.data.seq_len, answers, step=config.decode.max_new_tokens)
    bundles = ask_models(
        shown,
        tokenizer=tokenizer,
        image=asked.image,
        prefix=asked.prefix,
        answer=ids,
        config=config.saliency,
        seq_len=seq_len,
        other=other,
    )
    saved = save_case(
        folder,
        reduce_bundle(bundles[last], config.saliency),
        image=asked.image,
        question_id=record.question_id,
        question=record.question,
        config=config.saliency,
        reference=record.reference,
        mask=asked.mask,
    )
    _write_heads(folder / safe_name(record.question_id), bundles[last], asked.image, record)
    _write_shares(folder / safe_name(record.question_id), bundles[last])
    lost = lose_chosen(
        shown[last].model,
        shown[last].params,
        pack_case(
            tokenizer,
            image=asked.image,
            prefix=asked.prefix,
            answer=ids,
            resolution=shown[last].model.variant.resolution,
            seq_len=seq_len,
        ),
        config=config.saliency,
        mask=asked.mask,
        seed=config.seed,
    )
    ratio = [
        (f"{shown[name].label}: log p of the answer less that of “{bundle.other}”", f"{bundle.log_ratio:+.3f}")
        for name, bundle in bundles.items()
        if bundle.other
    ]
    if other and not ratio:
        notes = [*notes, no_contrast(other)]
    case = viewer_case(
        shown,
        bundles,
        records=asked.records,
        image=asked.image,
        mask=asked.mask,
        headline=asked.headline,
        facts=[*asked.facts, *ratio, *lost],
        notes=[*asked.notes, *notes],
    )
    return case, saved


def write_cases(
    shown: Mapping[str, Shown],
    rows: RowSource,
    *,
    records: Mapping[str, list[Record]],
    tokenizer: Tokenizer,
    config: Config,
    folder: Path,
) -> Gallery:
    """Writes the maps of some questions into `folder`; returns the cases of the report and of the viewer.

    Args:
        shown: name -> model, in the order of reading.
        rows: the questions.
        records: name -> the answers to them, in the same order.
        tokenizer: of the checkpoint.
        config: the experiment; `saliency` says how maps are made.
        folder: made if absent.
    """
    last = list(shown)[-1]
    gallery = Gallery([], [])
    for index in progress.bar(range(len(rows)), name="attention maps", unit="case"):
        row = rows[index]
        record, image = records[last][index], decode_image(row["image"])
        mask, why = find_region(row, height=image.shape[0], width=image.shape[1])
        facts = [(name, text) for name in ("modality", "organ", "plane") if (text := getattr(record, name))]
        answers = {name: of_model[index] for name, of_model in records.items()}
        asked = AskedCase(
            answers,
            image,
            prefix=rows.text(row, template=config.data.prompt)[0],
            mask=mask,
            facts=[*facts, ("marked region", f"none: {why}")] if why else facts,
            other=other_answer(
                record.predictions[0], [record.reference, *(a.predictions[0] for a in answers.values())]
            ),
        )
        case, saved = write_case(shown, asked, tokenizer=tokenizer, config=config, folder=folder)
        gallery.cases.append(case)
        gallery.shown.append(_shown(record, image, saved))
    return gallery
