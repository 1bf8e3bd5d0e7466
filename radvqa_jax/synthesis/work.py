"""Tasks of writing: the writer and kind for each image, chosen by hashes and so the same in every run."""

import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from radvqa_jax.config import SynthesisConfig
from radvqa_jax.synthesis import prompts
from radvqa_jax.synthesis.candidates import Candidate
from radvqa_jax.synthesis.images import Image, unit_hash
from radvqa_jax.synthesis.templates import TEMPLATES
from radvqa_jax.trees import nearest

WORK_ID_LENGTH = 16  # hexadecimal digits of a sha256


class Work(NamedTuple):
    """The work of one writer on one image."""

    work_id: str
    image: Image
    writer: str
    kinds: tuple[str, ...]  # the kind of each requested pair; empty for `templates`


def writers_of(config: SynthesisConfig) -> tuple[tuple[str, float], ...]:
    """(writer, share of the images it writes about).

    If the config names none: the templates, and `case` if a chat model is configured.
    """
    if config.writing.writers:
        return config.writing.writers
    has_model = bool(config.chat.base_url) or config.chat.offline
    return (("templates", 1.0), ("case", 1.0)) if has_model else (("templates", 1.0),)


def check_writing(config: SynthesisConfig) -> None:
    """Raises ValueError, naming the field and the way out, if the writers cannot begin."""
    known = [*prompts.MODEL_WRITERS, "templates"]
    for writer, share in writers_of(config):
        if writer not in known:
            near = nearest(writer, known)
            raise ValueError(f"synthesis.writing.writers: there is no {writer!r}.{near} There are: {', '.join(known)}.")
        if not 0 < share <= 1:
            raise ValueError(f"synthesis.writing.writers: the share of {writer} must be in (0, 1], got {share}.")
    if unknown := [name for name in config.writing.templates if name not in TEMPLATES]:
        near = nearest(unknown[0], list(TEMPLATES))
        raise ValueError(
            f"synthesis.writing.templates: there is no {unknown[0]!r}.{near} There are: {', '.join(TEMPLATES)}."
        )
    asks = [writer for writer, _ in writers_of(config) if writer in prompts.MODEL_WRITERS]
    if asks and not config.chat.model:
        raise ValueError(
            f"The writers {', '.join(asks)} ask a chat model: give synthesis.chat.base_url and synthesis.chat.model, "
            "or synthesis.writing.writers=(('templates', 1.0),)."
        )


def sha256_text(text: str) -> str:
    """The hexadecimal sha256 of a text."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def draw_kinds(config: SynthesisConfig, image: Image, writer: str, *, seed: int) -> tuple[str, ...]:
    """The kinds of the pairs that a writer must make, drawn with the configured shares."""
    if writer == "caption":
        return ("open",)
    if writer == "templates":
        return ()
    rng = random.Random(f"{seed}\nkinds\n{image.dataset}\n{image.image_id}\n{writer}")
    names, shares = zip(*config.writing.kinds, strict=True)
    return tuple(sorted(rng.choices(names, shares, k=config.writing.pairs)))


def plan(images: Iterable[Image], config: SynthesisConfig, *, seed: int) -> Iterator[Work]:
    """Yields the work on each image; a writer gets no work on images without the texts that it needs."""
    shares = writers_of(config)
    for image in images:
        for writer, share in shares:
            if unit_hash("writer", seed, image.dataset, image.image_id, writer) >= share:
                continue
            if writer in prompts.MODEL_WRITERS and not prompts.can_write(writer, image):
                continue
            kinds = draw_kinds(config, image, writer, seed=seed)
            yield Work(_work_id(image, writer, kinds), image, writer, kinds)


def planned(pairs: Sequence[Candidate], works: Iterable[Work], *, cache: Path) -> list[Candidate]:
    """The pairs of planned images and writers, in the order of the plan.

    Pairs are kept in the order of the replies, which differs between runs. Checks and the written set use the order of
    the plan, so that the same replies give the same set. Pairs of an earlier command about other images, or by other
    writers, are left out.

    Args:
        pairs: all of the workdir.
        works: the whole plan.
        cache: the file of replies, for the error.

    Raises:
        ValueError: if a planned image has another caption than a pair about it was written from.
    """
    places: dict[tuple[str, str, str, str], dict[str, int]] = {}  # place in the plan, by image and writer, by caption
    for place, work in enumerate(works if pairs else ()):
        image = work.image
        key = (image.dataset, image.builder_config, image.image_id, work.writer)
        places.setdefault(key, {}).setdefault(sha256_text(image.row["caption"]), place)
    found = []
    for pair in pairs:
        now = places.get((pair.dataset, pair.builder_config, pair.image_id, pair.writer))
        if now is None:
            continue
        if pair.caption_sha256 not in now:
            keep = f", with --config.synthesis.chat.cache={cache} to keep the replies so far" if cache.is_file() else ""
            raise ValueError(
                f"The caption of {pair.image_id!r} in {pair.dataset}:{pair.prepared_split} is not the one that a "
                "question was written from: the set was prepared anew, or its source has another filter. Write the "
                f"questions in a new workdir{keep}."
            )
        found.append((now[pair.caption_sha256], len(found), pair))
    return [pair for *_, pair in sorted(found, key=lambda one: one[:2])]


def _work_id(image: Image, writer: str, kinds: Sequence[str]) -> str:
    """The id of a piece of work; it changes with the content that the writer is shown."""
    shown = [str(image.row.get(name) or "") for name in prompts.FIELDS.get(writer, ("caption",))]
    content = json.dumps([image.dataset, image.builder_config, image.image_id, writer, kinds, shown])
    return sha256_text(content)[:WORK_ID_LENGTH]
