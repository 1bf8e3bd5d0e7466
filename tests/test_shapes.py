"""The pre-training of the embedded model: its labels, and its questions about sides."""

import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPTS = str(Path(__file__).parents[1] / "scripts")


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts the scripts' folder on the path, as they import each other."""
    monkeypatch.syspath_prepend(SCRIPTS)


@pytest.fixture
def single(scripts: None) -> list[Any]:
    """Scenes with one mark."""
    shapes_world = importlib.import_module("shapes_world")

    rng = np.random.default_rng(11)
    return [scene for scene in (shapes_world.make_scene(rng) for _ in range(90)) if len(scene.marks) == 1]


def test_the_mean_over_patches_of_a_place_says_where_the_mark_is(single: list[Any]) -> None:
    shapes_labels = importlib.import_module("shapes_labels")

    mirrored = [scene.mirrored(sideways=True, upside_down=False) for scene in single]
    for scenes, sign in ((single, 1), (mirrored, -1)):
        labels = shapes_labels.make_labels(scenes, places=True)
        left = np.array([1 if scene.marks[0].side == "left" else -1 for scene in scenes])
        upper = np.array([1 if scene.marks[0].level == "upper" else -1 for scene in scenes])
        assert (np.sign(labels["side"].mean(axis=1)) == left).all()
        assert (np.sign(labels["level"].mean(axis=1)) == upper).mean() > 0.9  # a mark near the middle line crosses it
        assert sign * left[0] == (1 if single[0].marks[0].side == "left" else -1)
        assert ((labels["side"] != 0) == (labels["kind"] > 0)).all()  # nothing where there is no mark


def test_questions_about_sides_ask_for_the_side_of_the_mark_that_they_name(single: list[Any]) -> None:
    shapes_text = importlib.import_module("shapes_text")

    rng = np.random.default_rng(0)
    for scene in single:
        for prefix, answer in shapes_text.sides(rng, scene):
            asked = re.search(r"\b(left|right)\b", prefix)
            side = scene.marks[0].side
            assert answer == (side if asked is None else "yes" if asked[1] == side else "no")
