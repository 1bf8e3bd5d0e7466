"""The output of `radvqa list`."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from radvqa_jax.command_line.modes import experiments
from radvqa_jax.trees import nearest
from tfds_builders import catalogue


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def _configs() -> str:
    return _table((e.name, e.mode, e.about) for e in experiments().values())


def _variants() -> str:
    from radvqa_jax.models.variants import VARIANTS

    rows = [("name", "pixels", "image tokens", "language model")]
    rows += [
        (name, str(v.resolution), str(v.num_patches), f"{v.llm.depth} layers of width {v.llm.width}")
        for name, v in VARIANTS.items()
    ]
    return _table(rows)


def _datasets() -> str:
    return _table((folder.name, _about(folder / "README.md")) for folder in catalogue.folders().values())


def _about(readme: Path) -> str:
    """The first sentence of a data set's page, without its name."""
    lines = (line.strip("#* ") for line in readme.read_text(encoding="utf-8").splitlines())
    first = next((line for line in lines if line), "")
    return re.sub(rf"^{readme.parent.name}: ", "", _first_sentence(first))


def _first_sentence(text: str) -> str:
    return re.split(r"\.(?:\s+(?=[A-Z])|$)", text)[0]


def _methods() -> str:
    from radvqa_jax.saliency.methods import METHODS

    return _table((name, _first_sentence(method.about)) for name, method in METHODS.items())


def _devices() -> str:
    from radvqa_jax.planning.devices import DEVICES

    rows = [("name", "device", "GiB", "TFLOP/s", "GB/s")]
    rows += [
        (
            name,
            f"{d.count} x {d.kind}",
            f"{d.memory / 2**30:.0f}",
            f"{d.peak_flops / 1e12:.0f}",
            f"{d.bandwidth / 1e9:.0f}",
        )
        for name, d in DEVICES.items()
    ]
    return _table(rows)


LISTS: dict[str, Callable[[], str]] = {
    "configs": _configs,
    "variants": _variants,
    "datasets": _datasets,
    "methods": _methods,
    "devices": _devices,
}


def listing(arguments: list[str]) -> str:
    """The list that the arguments name, as text.

    Raises:
        ValueError: if they do not name exactly one list; it suggests the nearest name.
    """
    if len(arguments) != 1 or arguments[0] not in LISTS:
        given = " ".join(arguments)
        raise ValueError(f"list takes one of {', '.join(LISTS)}; got {given!r}.{nearest(given, LISTS)}")
    return LISTS[arguments[0]]()
