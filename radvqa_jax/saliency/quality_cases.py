"""The measurements of every case, as rows that can be written to a file and counted later."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float

from radvqa_jax.config import QualityConfig, SaliencyConfig
from radvqa_jax.models.vision_language import VisionLanguageModel
from radvqa_jax.saliency import faithfulness
from radvqa_jax.saliency.answer_maps import AnswerMaps, answer_maps
from radvqa_jax.saliency.capture import answer_logprobs
from radvqa_jax.saliency.intervene import knockout, lost_with, occlusion
from radvqa_jax.saliency.methods import METHODS, measured, plain
from radvqa_jax.saliency.quality import MarkedPatches, centre_prior, edge_map, entropy, from_lowest, measure
from radvqa_jax.saliency.sinks import describe_case
from radvqa_jax.schema import Batch
from radvqa_jax.trees import Flat

# Maps that do not depend on the question. The last one sees the image as the vision tower does, so a map through the
# tower is useful only if it is better than this one.
BLIND = ("centre prior", "edge detector", "vision tower alone")
Maps = dict[str, Float[np.ndarray, "b grid grid"]]


class Subject(NamedTuple):
    """A model whose maps are measured."""

    model: VisionLanguageModel
    params: Flat


class Case(NamedTuple):
    """One question about a marked region of its image."""

    about: dict[str, Any]  # question_id, image_id, question, reference, answer, …: copied into the row
    batch: Batch  # one training row: the question and the answer
    target: MarkedPatches


class Settings(NamedTuple):
    """The settings of the measurement: everything except the models that determines the numbers."""

    saliency: SaliencyConfig
    quality: QualityConfig
    answer_len: int
    eos: int
    seed: int


def stack(cases: Sequence[Case], size: int) -> Batch:
    """The batches of the cases as one of `size` rows; the last case is repeated to fill it."""
    batches = [case.batch for case in cases]
    batches += [batches[-1]] * (size - len(batches))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *batches)


def _maps(subject: Subject, batch: Batch, settings: Settings, *, many: bool = False) -> AnswerMaps:
    """The maps as numpy arrays; with `many` also those of methods that cost many passes."""
    methods = [name for name in measured(settings.quality) if many or not METHODS[name].many]
    found = answer_maps(
        subject.model,
        subject.params,
        batch,
        config=settings.saliency,
        methods=methods,
        answer_len=settings.answer_len,
        eos=settings.eos,
    )
    found = jax.device_get(found)
    return found._replace(maps={name: from_lowest(np.asarray(values)) for name, values in found.maps.items()})


def _blind(batch: Batch, vision_alone: Float[np.ndarray, "b grid grid"]) -> Maps:
    """The maps of BLIND."""
    grid = vision_alone.shape[-1]
    edges = np.stack([edge_map(image, grid=grid) for image in batch.image])
    return dict(zip(BLIND, (np.broadcast_to(centre_prior(grid), edges.shape), edges, vision_alone), strict=True))


def _by_head(heads: Float[np.ndarray, "L N grid grid"], target: MarkedPatches) -> dict[str, list[list[float | None]]]:
    """Figure -> layer -> head; None where a head put nothing on the image."""
    found = [[measure(head, target) for head in layer] for layer in heads]
    return {
        name: [[None if q is None else getattr(q, name) for q in layer] for layer in found]
        for name in ("mass", "hit", "roc_auc")
    }


def _own_figures(case: Case, maps: Mapping[str, Float[np.ndarray, "grid grid"]]) -> dict[str, Any]:
    """The figures of each map against the target, and its spread."""
    found = {name: measure(saliency, case.target) for name, saliency in maps.items()}
    return {
        "quality": {name: q._asdict() for name, q in found.items() if q is not None},
        "entropy": {name: entropy(saliency) for name, saliency in maps.items() if saliency.sum() > 0},
        "top_patch": {name: float(m.max() / m.sum()) for name, m in maps.items() if m.sum() > 0},
    }


def _curves(subject: Subject, batch: Batch, maps: Maps, settings: Settings) -> dict[str, Any]:
    """Name -> (deletion [b K], insertion [b K]); `random` is the mean over random orders."""

    def logprob(images: np.ndarray) -> np.ndarray:
        probed = batch._replace(image=images)
        found = answer_logprobs(subject.model, subject.params, probed, answer_len=settings.answer_len)
        return np.asarray(found).sum(axis=1) / np.maximum(batch.mask_loss.sum(axis=1), 1)

    curves = faithfulness.Curves(batch.image, logprob, steps=settings.quality.steps)
    found = {name: curves.of(faithfulness.order(values)) for name, values in maps.items()}
    size, patches = len(batch.image), next(iter(maps.values())).shape[-1] ** 2
    orders = faithfulness.random_orders(settings.quality.random_orders, patches, seed=settings.seed)
    random = [curves.of(np.broadcast_to(one, (size, patches))) for one in orders]
    return found | {"random": tuple(np.mean([pair[i] for pair in random], axis=0) for i in (0, 1))}


def _stability(subject: Subject, batch: Batch, maps: Maps, settings: Settings) -> dict[str, Float[np.ndarray, " b"]]:
    """The mean rank correlation of each map with those of the image moved by one pixel, for methods that do not
    cost many passes."""
    moved = [_maps(subject, batch._replace(image=images), settings).maps for images in faithfulness.shifts(batch.image)]
    return {name: np.mean([faithfulness.similarity(maps[name], m[name]) for m in moved], axis=0) for name in moved[0]}


def _marked(
    subject: Subject, batch: Batch, cases: Sequence[Case], settings: Settings
) -> dict[str, list[dict[str, Any]]]:
    """Intervention -> the loss of each answer if the marked patches are covered, or hidden from it, and if the same
    number of random patches elsewhere are."""
    marked = np.stack([_marked_patches(case.target) for case in cases])
    chosen = np.concatenate([marked, np.repeat(marked[-1:], len(batch.tokens) - len(cases), axis=0)])
    shared: dict[str, Any] = {"answer_len": settings.answer_len}
    effects = {
        "occlusion": occlusion(subject.model, subject.params, batch, **shared),
        "knockout": knockout(subject.model, subject.params, batch, layers=settings.saliency.knockout_layers, **shared),
    }
    lengths = batch.mask_loss.sum(axis=1).tolist()
    drawn = {"draws": settings.quality.random_orders, "seed": settings.seed}
    return {
        name: [loss._asdict() for loss in lost_with(effect, chosen, lengths, **drawn)]
        for name, effect in effects.items()
    }


def _marked_patches(target: MarkedPatches) -> Bool[np.ndarray, " P"]:
    """The patches that the mask covers by half or more, or the one that it covers most."""
    covered = target.covered.ravel()
    return covered >= min(0.5, covered.max())


def measure_batch(
    subject: Subject, others: Mapping[str, Subject], cases: Sequence[Case], settings: Settings, *, curves: bool
) -> list[dict[str, Any]]:
    """A row for each case: figures of each map, by layer and head, and against the maps of other models.

    Args:
        subject: the measured model.
        others: name -> a model that its maps are compared with, on the same answers: shuffled weights, the base, ….
        cases: at most quality.batch_size.
        settings: how they are measured.
        curves: also deletion, insertion and one-pixel shifts.
    """
    batch = stack(cases, settings.quality.batch_size)
    found = _maps(subject, batch, settings, many=True)
    maps: Maps = dict(found.maps)
    grid = found.vision_alone.shape[-1]
    everything = maps | _blind(batch, found.vision_alone)
    # The next case of the batch, the first one after the last, is likely to have another image.
    neighbour = {name: faithfulness.similarity(m, np.roll(m, -1, axis=0)) for name, m in maps.items()}
    alike = [
        np.array_equal(image, other) for image, other in zip(batch.image, np.roll(batch.image, -1, 0), strict=True)
    ]
    compared = {name: _maps(other, batch, settings).maps for name, other in others.items()}
    curve = _curves(subject, batch, everything, settings) if curves else {}
    stable = _stability(subject, batch, maps, settings) if curves else {}
    lost = _marked(subject, batch, cases, settings) if curves else {}
    rows = []
    for i, case in enumerate(cases):
        row = case.about | {"logprob": float(found.logprob[i])}
        row |= _own_figures(case, {name: m[i] for name, m in everything.items()})
        row["on_image"] = found.on_image[:, i].tolist()
        row["on_bos"] = found.on_bos[:, i].tolist()
        row["heads"] = {name: _by_head(heads[:, i], case.target) for name, heads in found.heads.items()}
        row |= {"grid": grid, "marked": {name: losses[i] for name, losses in lost.items()}}
        alone = {name: m[i] for name, m in maps.items() if plain(name) == name}
        row["sinks"] = describe_case(found.words_raw[i], found.words[i], alone)
        row["like_another_image"] = {} if alike[i] else {name: float(values[i]) for name, values in neighbour.items()}
        row["compared"] = {
            other: {
                name: {
                    "similarity": float(faithfulness.similarity(maps[name][i : i + 1], theirs[name][i : i + 1])[0]),
                    "roc_auc": q.roc_auc if (q := measure(theirs[name][i], case.target)) else None,
                }
                for name in theirs
            }
            for other, theirs in compared.items()
        }
        row["curves"] = {
            name: {"deletion": down[i].tolist(), "insertion": up[i].tolist()} for name, (down, up) in curve.items()
        }
        row["stability"] = {name: float(values[i]) for name, values in stable.items()}
        rows.append(row)
    return rows


def measure_cases(
    subject: Subject, others: Mapping[str, Subject], cases: Sequence[Case], settings: Settings, *, start: int = 0
) -> Iterator[list[dict[str, Any]]]:
    """Yields the rows of one batch of cases after another, from case `start` on, which begins a batch."""
    size, with_curves = settings.quality.batch_size, settings.quality.curve_cases
    for first in range(start, len(cases), size):
        yield measure_batch(subject, others, cases[first : first + size], settings, curves=first < with_curves)
