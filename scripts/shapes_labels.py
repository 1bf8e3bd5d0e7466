"""The labels that the vision tower of the tiny PaliGemma learns: classes of scenes and patches of shapes_world.py."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import shapes_world

from radvqa_jax.trees import Flat

PLACES = ("side", "level")  # values of a patch with a mark: 1 left or upper, -1 right or lower; 0 without a mark
Labels = dict[str, np.ndarray]  # label -> classes, [B] of a scene or [B P] of its patches; or values of PLACES [B P]


def make_labels(scenes: list[shapes_world.Scene], *, names: bool = False) -> Labels:
    """The classes of each whole scene [B] and of each patch [B P]: its mark (0 = none), row and column.

    `names` adds what the last part of pre-training names: PLACES, by the half of the picture that a patch is in, and
    the frame.
    """
    patches = np.stack([scene.patches for scene in scenes]).astype(np.int32).reshape(len(scenes), -1, 3)
    row, column = np.divmod(np.broadcast_to(np.arange(patches.shape[1]), patches.shape[:2]), shapes_world.GRID)
    of_patches = dict(zip(shapes_world.PATCH_CLASSES, np.moveaxis(patches, -1, 0), strict=True))
    whole = np.array([shapes_world.scene_labels(scene) for scene in scenes])
    if names:
        marked, half = patches[..., 0] > 0, shapes_world.GRID // 2
        signs = (np.where(at < half, 1, -1) for at in (column, row))
        of_patches |= {name: (marked * sign).astype(np.float32) for name, sign in zip(PLACES, signs, strict=True)}
        of_patches["frame"] = np.array([shapes_world.FRAMES.index(scene.frame) for scene in scenes])
    return of_patches | {"row": row, "column": column} | dict(zip(shapes_world.SCENE_CLASSES, whole.T, strict=True))


def make_classifiers(width: int) -> Flat:
    """Linear maps from an image token to each label's classes or value; they are not part of the model."""
    sizes = shapes_world.SCENE_CLASSES | shapes_world.PATCH_CLASSES
    sizes |= {"row": shapes_world.GRID, "column": shapes_world.GRID, "frame": len(shapes_world.FRAMES)}
    sizes |= dict.fromkeys(PLACES, 1)
    return {name: jnp.zeros((width, size)) for name, size in sizes.items()}


def vision_loss(tokens: jax.Array, classifiers: Flat, labels: Labels) -> tuple[jax.Array, dict[str, jax.Array]]:
    """(loss, accuracies): cross entropy of the scene's classes from the mean token, and of a patch's from its own.

    Patches with a mark and patches without one have the same total weight; a mark's accuracy is over the former. PLACES
    have a squared error. With a class "marked, on the left" a token could keep "marked" and "left" as a sum, whose mean
    over patches does not tell the side of the mark. Their accuracy is that of the sign, over patches with a mark.
    """
    total, accuracy = jnp.zeros(()), {}
    for name, target in labels.items():
        if name in PLACES:
            value, marked = (tokens @ classifiers[name])[..., 0], target != 0
            share = marked / jnp.maximum(1, marked.sum())
            total += 2 * (jnp.square(value - target) * (share + ~marked / jnp.maximum(1, (~marked).sum()))).sum()
            accuracy[name] = ((value * target > 0) * share).sum()
            continue
        logits = (tokens if target.ndim == 2 else tokens.mean(axis=1)) @ classifiers[name]
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, target)
        right = logits.argmax(axis=-1) == target
        if name in shapes_world.PATCH_CLASSES:
            marked = target > 0
            share = marked / jnp.maximum(1, marked.sum())
            total += (loss * (share + ~marked / jnp.maximum(1, (~marked).sum()))).sum()
            accuracy[name] = (right * share).sum()
        else:
            total += 0.3 * loss.mean()
            accuracy[name] = right.mean()
    return total, accuracy
