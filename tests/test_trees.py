"""Names of leaves, and rules over them."""

from typing import Any

import jax
import numpy as np
import pytest

from radvqa_jax import trees

TREE: dict[str, Any] = {"b": {"y": np.zeros((2, 3)), "x": {"w": np.ones(4, np.int8)}}, "a": np.float32(1)}


def test_flatten_and_unflatten_are_inverse() -> None:
    flat = trees.flatten(TREE)
    assert list(flat) == ["a", "b/x/w", "b/y"]
    assert flat["b/x/w"] is TREE["b"]["x"]["w"]
    assert trees.flatten(trees.unflatten(flat)) == flat
    assert trees.unflatten({}) == {}


def test_the_first_rule_that_matches_the_whole_name_wins() -> None:
    rules = [("llm/.*/w", "one"), ("llm/.*", "two"), (".*", "three")]
    names = ["llm/a/w", "llm/a/w/lora_a", "img/llm/a/w"]
    assert trees.apply_rules(names, rules, what="x") == dict(zip(names, ["one", "two", "three"], strict=True))


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([("img/.*", "a")], r"train: 2 of 3 leaves are covered by no rule \(llm/x, llm/y\)\. End the rules with"),
        ([(".*", "a"), ("img/.*", "b")], r"train: the rules \['img/\.\*'\] decide about no leaf.*leaves look like"),
        ([("im", "a"), (".*", "b")], r"the rules \['im'\] decide about no leaf"),
    ],
)
def test_uncovered_leaves_and_idle_rules_are_refused(rules: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trees.apply_rules(["img/w", "llm/x", "llm/y"], rules, what="train")


def test_labels_are_freeze_or_train_with_a_group() -> None:
    assert not trees.is_trained("freeze")
    assert trees.is_trained("train:head")
    for wrong in ("train:", "head", "Freeze", ""):
        with pytest.raises(ValueError, match=f"A label is 'freeze' or 'train:<group>', got '{wrong}'"):
            trees.is_trained(wrong)


def test_split_parts_every_leaf() -> None:
    flat = {"a": 1, "b": 2, "c": 3}
    trainable, frozen = trees.split(flat, {"a": "freeze", "b": "train:x", "c": "train:y"})
    assert (trainable, frozen) == ({"b": 2, "c": 3}, {"a": 1})


def test_count_works_on_arrays_and_shapes() -> None:
    assert trees.count(TREE) == 11
    assert trees.count({"a": jax.ShapeDtypeStruct((2, 5), np.float32)}) == 10


def test_diff_names_what_is_missing_extra_and_misshaped() -> None:
    have = {"a": np.zeros(2), "b": np.zeros((2, 3)), "same": np.zeros(1)}
    want = {"b": np.zeros((3, 2)), "c": np.zeros(()), "same": np.ones(1)}
    assert trees.diff(have, want) == {
        "missing": ["c ()"],
        "extra": ["a (2,)"],
        "misshaped": ["b: have (2, 3), want (3, 2)"],
    }


def test_nearest_returns_nothing_if_no_name_is_near() -> None:
    assert trees.nearest("learning_rat", ["seed", "learning_rate"]) == " Did you mean `learning_rate`?"
    assert trees.nearest("qqq", ["seed", "learning_rate"]) == ""


def test_the_table_says_what_is_trained() -> None:
    flat = {"img/w": np.zeros((10, 30), np.float32), "llm/w": np.zeros(700, np.float16)}
    *lines, total = trees.table(flat, {"img/w": "train:head", "llm/w": "freeze"}).split("\n")
    assert [line.split() for line in lines] == [
        ["name", "shape", "dtype", "weights", "label"],
        ["img/w", "(10,", "30)", "float32", "300", "train:head"],
        ["llm/w", "(700,)", "float16", "700", "freeze"],
    ]
    assert total == "total 1,000 weights, 300 trained (30.000%)"
    assert trees.table(flat).split("\n")[-1] == "total 1,000 weights"
