"""The gallery of several processes: each makes the maps of its questions, and all get the results."""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from radvqa_jax.data.rows import RowSource
from radvqa_jax.evaluation.report import ShownMap
from radvqa_jax.processes import Group
from radvqa_jax.saliency.gallery import Gallery, write_cases
from radvqa_jax.saliency.viewer import write_case_text
from radvqa_jax.saliency.viewer_types import ViewerCase, WrittenCase
from radvqa_jax.schema import Record

IMAGES = ("image", "map")  # the fields of ShownMap that are files


class Shared(NamedTuple):
    """The results of all processes, in the order of the questions."""

    shown: list[ShownMap]  # for the report
    cases: Sequence[ViewerCase | WrittenCase]  # for viewer.html


def write_cases_together(
    rows: RowSource, *, records: Mapping[str, list[Record]], group: Group, **options: Any
) -> Shared:
    """Writes the maps of some questions, which the processes take in turn.

    Args:
        rows: the questions.
        records: name of a model -> the answers to them, in the same order.
        group: the processes.
        options: of `write_cases`.

    Raises:
        ValueError: in every process, if one of them cannot make its maps.
    """
    own = range(group.index, len(rows), group.count)
    answers = {name: [of_model[index] for index in own] for name, of_model in records.items()}
    made = group.each(lambda: write_cases(rows=rows.select(own), records=answers, **options), what="maps are made")
    if group.count == 1:
        return Shared(made.shown, made.cases)
    parts = [_unpack(part) for part in group.gather(_pack(made), what="maps")]
    turns = [divmod(index, group.count) for index in range(len(rows))]
    return Shared(
        [parts[process].shown[turn] for turn, process in turns], [parts[process].cases[turn] for turn, process in turns]
    )


def _pack(gallery: Gallery) -> bytes:
    """A gallery for another process, as JSON; images as base64."""
    shown = [
        item._asdict() | {name: base64.b64encode(getattr(item, name)).decode() for name in IMAGES}
        for item in gallery.shown
    ]
    return json.dumps([shown, [write_case_text(case) for case in gallery.cases]]).encode()


def _unpack(data: bytes) -> Shared:
    shown, cases = json.loads(data)
    files = [{name: base64.b64decode(item[name]) for name in IMAGES} for item in shown]
    return Shared(
        [ShownMap(**item | images) for item, images in zip(shown, files, strict=True)],
        [WrittenCase(question, Markup(text)) for question, text in cases],
    )
