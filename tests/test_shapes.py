"""The pre-training of the embedded model: its labels, and its questions with the words of radiology."""

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
        labels = shapes_labels.make_labels(scenes, names=True)
        left = np.array([1 if scene.marks[0].side == "left" else -1 for scene in scenes])
        upper = np.array([1 if scene.marks[0].level == "upper" else -1 for scene in scenes])
        assert (np.sign(labels["side"].mean(axis=1)) == left).all()
        assert (np.sign(labels["level"].mean(axis=1)) == upper).mean() > 0.9  # a mark near the middle line crosses it
        assert sign * left[0] == (1 if single[0].marks[0].side == "left" else -1)
        assert ((labels["side"] != 0) == (labels["kind"] > 0)).all()  # nothing where there is no mark


@pytest.fixture
def names(scripts: None) -> Any:
    """The module of the names."""
    return importlib.import_module("shapes_names")


def drawn(names: Any, scene: Any) -> dict[str, str]:
    """The name of everything in a scene with one mark, by kind of question."""
    mark = scene.marks[0]
    what = {"modality": scene.frame, "plane": scene.background, "region": scene.body, "finding": mark.kind}
    what |= {"side": mark.side, "size": mark.size}
    return {kind: names.NAMES[kind][value] for kind, value in what.items() if value in names.NAMES[kind]}


def test_answers_are_the_names_of_what_is_drawn(names: Any, single: list[Any]) -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for number, scene in enumerate(single):
        scene = scene.framed(("open", "edge", "corners")[number % 3])
        true = drawn(names, scene)
        for kind, prefix, answer in names.questions(rng, scene):
            form, about = kind.split() if " " in kind else ("closed", "normal")
            seen.add((form, about))
            if about == "normal":
                assert answer == ("no" if prefix.endswith(" normal?") else "yes")  # every scene here has a mark
            elif form == "open":
                assert answer == true[about]
            else:
                asked = next(w for w in names.NAMES[about].values() if re.search(rf"\b{w}\b", prefix))
                assert answer == ("yes" if asked == true[about] else "no"), prefix
    assert seen == {(form, kind) for form in ("open", "closed") for kind in names.NAMES} | {("closed", "normal")}


def test_left_in_the_picture_is_the_right_side_of_the_patient(names: Any, single: list[Any]) -> None:
    scene = next(scene for scene in single if scene.marks[0].x < 0.5)
    assert drawn(names, scene)["side"] == "right"
    assert drawn(names, scene.mirrored(sideways=True, upside_down=False))["side"] == "left"


def test_no_task_of_the_last_part_has_the_sides_of_the_picture(names: Any, single: list[Any]) -> None:
    rng = np.random.default_rng(0)
    scene = next(scene for scene in single if scene.marks[0].x < 0.5)
    about_sides = 0
    for _ in range(400):
        prefix, answer = names.draw_task(rng, scene)
        asked = re.search(r"\b(left|right)\b", prefix)
        if "Repeat" in prefix or (asked is None and answer not in ("left", "right")):
            continue
        about_sides += 1
        assert answer == ("right" if asked is None else "yes" if asked[1] == "right" else "no"), prefix
    assert about_sides > 30


def test_one_of_several_lesions_is_named(names: Any, scripts: None) -> None:
    shapes_world = importlib.import_module("shapes_world")
    rng = np.random.default_rng(5)
    several = [s for s in (shapes_world.make_scene(rng) for _ in range(60)) if len({m.kind for m in s.marks}) > 1]
    seen = set()
    for scene in several:
        for kind, prefix, answer in names.questions(rng, scene):
            form, about = kind.split() if " " in kind else (kind, "")
            if about not in ("side", "size"):
                continue
            named = [mark for mark in scene.marks if names.NAMES["finding"][mark.kind] in prefix]
            assert len(named) == 1, prefix
            value = names.NAMES[about][getattr(named[0], about)]
            asked = [name for name in names.NAMES[about].values() if re.search(rf"\b{name}\b", prefix)]
            assert answer == (value if form == "open" else "yes" if asked == [value] else "no"), prefix
            seen.add(kind)
    assert seen == {f"{form} {about}" for form in ("open", "closed") for about in ("side", "size")}


def test_a_frame_is_at_the_edge_and_its_class_is_a_label(single: list[Any], scripts: None) -> None:
    shapes_labels = importlib.import_module("shapes_labels")
    framed = [single[0].framed(frame) for frame in ("open", "edge", "corners")]
    assert shapes_labels.make_labels(framed, names=True)["frame"].tolist() == [0, 1, 2]
    assert "frame" not in shapes_labels.make_labels(framed)
    middle = slice(10, -10)
    for scene in framed[1:]:
        assert (scene.image != single[0].image).any()
        assert (scene.image[middle, middle] == single[0].image[middle, middle]).mean() > 0.95
