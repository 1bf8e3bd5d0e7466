"""Names for the leaves of a tree ('llm/layers/attn/q_einsum/w'), and ordered rules over those names.

A tree is a nested dict of arrays. A flat tree is a dict from name to leaf; it is a pytree too.
"""

import difflib
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import re2

Tree = dict[str, Any]
Flat = dict[str, Any]
Rules = Sequence[tuple[str, str]]

FREEZE = "freeze"
TRAIN = "train:"


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Flat:
    """{name: leaf} with '/' between the keys, in sorted order of names.

    >>> flatten({"b": {"y": 1, "x": 2}, "a": 3})
    {'a': 3, 'b/x': 2, 'b/y': 1}
    """
    flat: Flat = {}
    for key in sorted(tree):
        name = f"{prefix}{key}"
        value = tree[key]
        flat.update(flatten(value, f"{name}/") if isinstance(value, Mapping) else {name: value})
    return flat


def unflatten(flat: Mapping[str, Any]) -> Tree:
    """The nested dict whose `flatten` is `flat`.

    >>> unflatten({"a": 3, "b/x": 2})
    {'a': 3, 'b': {'x': 2}}
    """
    tree: Tree = {}
    for name, leaf in flat.items():
        *parents, last = name.split("/")
        node = tree
        for key in parents:
            node = node.setdefault(key, {})
        node[last] = leaf
    return tree


def nearest(name: str, names: Iterable[str]) -> str:
    """A sentence that suggests the most similar name; empty if none is similar.

    >>> nearest("warmup_step", ["warmup_steps", "seed"])
    ' Did you mean `warmup_steps`?'
    """
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return f" Did you mean `{close[0]}`?" if close else ""


@functools.lru_cache(maxsize=1024)
def compile_pattern(pattern: str, what: str) -> Any:
    """Compiles a regular expression over leaf names; its `fullmatch` takes time linear in the name.

    The syntax is RE2's, without look-around and back-references, so that no pattern in a file can hang a program.

    Args:
        pattern: the regular expression.
        what: the field that it came from, which errors name.

    Raises:
        ValueError: if it is not a regular expression of this syntax.
    """
    options: Any = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except (re2.error, UnicodeEncodeError) as error:
        reason = error.args[0]
        reason = reason.decode(errors="replace") if isinstance(reason, bytes) else str(error)
        raise ValueError(
            f"{what}: {pattern!r} is not a regular expression that can be used ({reason}). Write it in RE2's syntax, "
            "which has no look-around and no back-references."
        ) from error


def apply_rules(names: Iterable[str], rules: Rules, *, what: str) -> dict[str, str]:
    """{name: label} by the first rule whose pattern matches the whole name.

    Args:
        names: leaf names.
        rules: ordered (regular expression, label) pairs.
        what: the config field that the rules came from, which errors name.

    Raises:
        ValueError: if no rule matches a name, or a rule decides the label of no name.
    """
    names = list(names)
    compiled = [(compile_pattern(pattern, what), label) for pattern, label in rules]
    labels: dict[str, str] = {}
    used: set[int] = set()
    for name in names:
        for index, (pattern, label) in enumerate(compiled):
            if pattern.fullmatch(name):
                labels[name] = label
                used.add(index)
                break
    uncovered = [name for name in names if name not in labels]
    if uncovered:
        shown = ", ".join(uncovered[:5])
        raise ValueError(
            f"{what}: {len(uncovered)} of {len(names)} leaves are covered by no rule ({shown}). "
            'End the rules with (".*", "<label>") to cover the rest.'
        )
    idle = [pattern.pattern for i, (pattern, _) in enumerate(compiled) if i not in used]
    if idle:
        raise ValueError(
            f"{what}: the rules {idle} decide about no leaf. Rules match whole names, the first match wins; "
            f"leaves look like {names[:3]}. Remove the rule or correct its pattern."
        )
    return labels


def is_trained(label: str) -> bool:
    """Whether a leaf with this label is trained; labels are 'freeze' or 'train:<group>'."""
    if label == FREEZE:
        return False
    if label.startswith(TRAIN) and len(label) > len(TRAIN):
        return True
    raise ValueError(f"A label is 'freeze' or 'train:<group>', got {label!r}.")


def split(flat: Flat, labels: Mapping[str, str]) -> tuple[Flat, Flat]:
    """(trainable, frozen), two flat trees that together hold every leaf of `flat`."""
    trainable = {name: leaf for name, leaf in flat.items() if is_trained(labels[name])}
    frozen = {name: leaf for name, leaf in flat.items() if name not in trainable}
    return trainable, frozen


def count(tree: Any) -> int:
    """The number of weights in a tree of arrays or shapes; a quantised leaf counts its original weights."""
    import jax  # imported late: the command line checks names before it loads jax

    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree, is_leaf=lambda x: hasattr(x, "shape")))


def diff(have: Mapping[str, Any], want: Mapping[str, Any]) -> dict[str, list[str]]:
    """The differences between two flat trees of arrays or shapes, in words.

    The result has the keys `missing` (in want only), `extra` (in have only) and `misshaped`; each is a list of
    readable lines that begin with the leaf's name.
    """
    return {
        "missing": [f"{n} {tuple(want[n].shape)}" for n in sorted(set(want) - set(have))],
        "extra": [f"{n} {tuple(have[n].shape)}" for n in sorted(set(have) - set(want))],
        "misshaped": [
            f"{n}: have {tuple(have[n].shape)}, want {tuple(want[n].shape)}"
            for n in sorted(set(have) & set(want))
            if tuple(have[n].shape) != tuple(want[n].shape)
        ],
    }


def _kind(leaf: Any) -> str:
    """The dtype of a leaf, or the format that it is quantised to."""
    kind = getattr(leaf, "qtype", leaf.dtype)
    return kind if isinstance(kind, str) else str(np.dtype(kind))


def table(flat: Mapping[str, Any], labels: Mapping[str, str] | None = None) -> str:
    """A readable table of name, shape, dtype, number of weights and, if given, label."""
    cell: Callable[[str], str] = lambda name: labels[name] if labels else ""  # noqa: E731
    rows = [(name, str(tuple(leaf.shape)), _kind(leaf), f"{count(leaf):,}", cell(name)) for name, leaf in flat.items()]
    rows.insert(0, ("name", "shape", "dtype", "weights", "label" if labels else ""))
    total = sum(count(leaf) for leaf in flat.values())
    trained = sum(count(leaf) for name, leaf in flat.items() if labels and is_trained(labels[name]))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.append(f"total {total:,} weights" + (f", {trained:,} trained ({trained / total:.3%})" if labels else ""))
    return "\n".join(lines)
