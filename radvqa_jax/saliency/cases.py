"""Cases on disk: <question_id>.npz with every number, and pictures."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from matplotlib.figure import Figure

from radvqa_jax.config import SaliencyConfig
from radvqa_jax.files import atomic_write
from radvqa_jax.saliency.figures import ALPHA, EMPTY, FORMATS, case_figure, number_words, save_figure
from radvqa_jax.saliency.maps import CaseMaps
from radvqa_jax.saliency.methods import METHODS, plain
from radvqa_jax.saliency.overlay import Limits, overlay_png, robust_limits
from radvqa_jax.saliency.quality import Quality, quality

WORDS_SHOWN = 6  # in the figure; the .npz has all
NAME_LENGTH = 100
PARTS = tuple(f"_{part}" for part in (*METHODS, "heads", "shares"))  # ends of the names of a case's files
# Of the configuration; they are stored.
SETTINGS = ("residual", "head_fusion", "start_layer", "discard", "layers", "windows", "knockout_layers")


class SavedCase(NamedTuple):
    """The files that were written, and the figures of the maps."""

    npz: Path
    figure: Path  # PNG of the panels: whole answer and words, by method; there is a .pdf of the same name
    overlays: dict[str, Path]  # method -> PNG of the whole answer's map on the image
    quality: dict[str, Quality]  # method -> figures for the whole answer's map; empty without a mask


def safe_name(question_id: str) -> str:
    """A file name for an id: as it is if it is plain, otherwise cleaned and with a hash that keeps it unique.

    An id such as `17_raw` gets a hash, too: `17_raw.png` is a file of the case 17.

    >>> safe_name("xray-17")
    'xray-17'
    >>> safe_name("../17").startswith("_17-"), safe_name("17_raw").startswith("17_raw-")
    (True, True)
    """
    clean = re.sub(r"[^A-Za-z0-9_-]+", "_", question_id)[:NAME_LENGTH]
    digest = hashlib.sha256(question_id.encode()).hexdigest()[:8]
    is_plain = clean and clean == question_id and not plain(clean).endswith(PARTS)
    return clean if is_plain else f"{clean}-{digest}"


def case_arrays(maps: CaseMaps, *, image_size: tuple[int, int]) -> dict[str, np.ndarray]:
    """The arrays of a case's .npz; none needs pickle.

    `<method>_tokens [A grid grid]`, `<method>_words [W grid grid]` and `<method>_answer [grid grid]` for each method;
    `token_ids`, `logprobs`, `word_of_token [A]`, `words [W]` (text), `answer` (text), `grid` and `image_size` (height,
    width of the original image). Layers and heads are in a bundle (bundle_file.py).
    """
    word_of_token = np.empty(len(maps.tokens), np.int32)
    for index, (_, positions) in enumerate(maps.words):
        word_of_token[positions] = index
    arrays = {
        "token_ids": maps.tokens,
        "logprobs": maps.logprobs,
        "words": np.array([word for word, _ in maps.words]),
        "word_of_token": word_of_token,
        "answer": np.array(maps.answer),
        "grid": np.array(next(iter(maps.maps.values())).shape[-1]),
        "image_size": np.array(image_size),
    }
    for method, values in maps.maps.items():
        arrays[f"{method}_tokens"] = values
        arrays[f"{method}_words"] = maps.of_words(method)
        arrays[f"{method}_answer"] = maps.of_answer(method)
    return arrays


def _title(method: str) -> str:
    through = "" if plain(method) == method else " through the vision tower"
    return METHODS[plain(method)].title + through


def _label(method: str) -> str:
    through = "" if plain(method) == method else ", through ViT"
    return METHODS[plain(method)].unit + through


def _overlay(
    image: UInt8[np.ndarray, "h w 3"],
    values: Float[np.ndarray, "grid grid"],
    method: str,
    outline: Bool[np.ndarray, "_ _"] | None,
) -> bytes:
    limits = robust_limits(values, signed=METHODS[plain(method)].signed)
    return overlay_png(image, values, limits=limits, label=_label(method), alpha=ALPHA, fade=True, outline=outline)


def _figure(maps: CaseMaps, image: UInt8[np.ndarray, "h w 3"], **heading: Any) -> Figure:
    """The figure: one row for each method with the image, the whole answer, and its first words."""
    words = number_words([word for word, _ in maps.words])
    words = [*words[: len(words) - maps.ended], *["(end)"] * maps.ended][:WORDS_SHOWN]
    panels, titles, limits = [], [], list[Limits | None]()
    for method in maps.maps:
        whole, parts = maps.of_answer(method), maps.of_words(method)[: len(words)]
        scale = robust_limits(whole, parts, signed=METHODS[plain(method)].signed)
        # The original appears once, before the first map; the column below it stays empty.
        panels += [EMPTY if panels else None, whole, *parts]
        share = f" ({whole.sum():.0%} on the image)" if METHODS[plain(method)].share else ""
        title = _title(method)
        titles += ["" if titles else "image", f"{title}: answer{share}", *(f"{title}: {w}" for w in words)]
        limits += [None, *[scale] * (1 + len(parts))]
    note = (
        "colours: what one patch has of the map; one scale a row, from 0, or even around 0 where values have a sign; "
    )
    note += "≥: the hottest patches are beyond the end"
    if len(maps.words) > len(words):
        note += f"; the first {len(words)} of {len(maps.words)} words"
    return case_figure(image, panels, titles, limits=limits, columns=2 + len(words), note=note, **heading)


def _write(path: Path, data: bytes) -> Path:
    with atomic_write(path, "wb") as file:
        file.write(data)
    return path


def save_case(
    folder: Path,
    maps: CaseMaps,
    *,
    image: UInt8[np.ndarray, "h w 3"],
    question_id: str,
    question: str,
    config: SaliencyConfig,
    reference: str = "",
    mask: Bool[np.ndarray, "_ _"] | None = None,
) -> SavedCase:
    """Writes a case into `folder`, each file whole or not at all, and returns their list.

    Args:
        folder: made if absent; files of the same question are replaced.
        maps: of the case.
        image: original pixels.
        question_id: names the files, made safe.
        question: shown and stored.
        config: how the maps were made; stored.
        reference: shown and stored.
        mask: of the region that the data set marks, in the size of the image; if it is absent or empty, nothing is
            measured.

    Raises:
        ValueError: if mask and image differ in size.
    """
    if mask is not None and mask.shape != image.shape[:2]:
        raise ValueError(
            f"Question {question_id!r}: the mask is {mask.shape[0]} x {mask.shape[1]} pixels, its image "
            f"{image.shape[0]} x {image.shape[1]}. A mask must have the size of the original image."
        )
    name, answers = safe_name(question_id), {method: maps.of_answer(method) for method in maps.maps}
    measured = {method: quality(values, mask) for method, values in answers.items()} if mask is not None else {}
    found = {method: value for method, value in measured.items() if value is not None}
    arrays = case_arrays(maps, image_size=image.shape[:2]) | {
        "question_id": np.array(question_id),
        "question": np.array(question),
        "reference": np.array(reference),
        "settings": np.array(json.dumps({key: getattr(config, key) for key in SETTINGS})),
        **{f"{method}_quality": np.array(value) for method, value in found.items()},
    }
    with atomic_write(folder / f"{name}.npz", "wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    heading = {"question": question, "answer": maps.answer, "reference": reference, "outline": mask}
    figure = _figure(maps, image, **heading)
    for kind in FORMATS:
        _write(folder / f"{name}.{kind}", save_figure(figure, kind))
    return SavedCase(
        npz=folder / f"{name}.npz",
        figure=folder / f"{name}.png",
        overlays={
            method: _write(folder / f"{name}_{method}.png", _overlay(image, values, method, mask))
            for method, values in answers.items()
        },
        quality=found,
    )
