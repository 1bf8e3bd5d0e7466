"""The rows behind written pairs, where tables number their images alike or give an image several captions."""

from collections.abc import Mapping
from typing import Any

import pytest

from radvqa_jax.config import DataConfig, FilterConfig, SourceConfig, SynthesisConfig
from radvqa_jax.data.rows import RowSource
from radvqa_jax.synthesis import evidence, images
from radvqa_jax.synthesis.candidates import Candidate
from radvqa_jax.synthesis.checks import Checked
from radvqa_jax.synthesis.evidence import Evidences, make_items
from radvqa_jax.synthesis.images import Images
from radvqa_jax.synthesis.planted import make_candidate
from radvqa_jax.synthesis.prepared_rows import rows_by_split
from tfds_builders.features import common_row
from tfds_builders.phantom_rad.plan import plan_split

CAPTIONS = SourceConfig(task="caption")


def table(name: str, captions: Mapping[str, str], **fields: str) -> RowSource:
    """A table of one image, "1", with a row for each {language: caption}."""
    rows = [
        common_row(name.encode(), image_id="1", question_id=word, language=word, caption=text, source="own data")
        | fields
        for word, text in captions.items()
    ]
    source = SourceConfig(dataset="table", builder_config=name, task="caption")
    return RowSource(rows, indices=range(len(rows)), source=source, fingerprint={"builder_config": name})


def pairs_about(found: Images) -> list[Candidate]:
    """A pair about each image."""
    place = ("dataset", "builder_config", "split", "case_id", "image_id")
    drawn = plan_split("train", 1)[0]
    return [
        make_candidate(drawn, ("What is seen?", "A nodule"), image.row | {name: getattr(image, name) for name in place})
        for image in found
    ]


def written(monkeypatch: pytest.MonkeyPatch, *chosen: RowSource, whole: list[RowSource]) -> tuple[Images, Evidences]:
    """The images of the chosen rows, and the evidence of a pair about each."""
    monkeypatch.setattr(images, "_all_splits", lambda source, data, seed: chosen)
    tables = {rows.source.builder_config: rows for rows in whole}
    monkeypatch.setattr(evidence, "open_rows", lambda source, data: tables[source.builder_config])
    found = Images(SynthesisConfig(sources=(CAPTIONS,)), DataConfig(), seed=0)
    return found, Evidences(pairs_about(found), DataConfig())


def test_two_tables_that_number_their_images_alike_have_different_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run about them continues, and the written set has as many images as they."""
    tables = [table(name, {"en": f"Nodule of {name}."}, case_id=f"P{name}") for name in ("a", "b")]
    found, evidences = written(monkeypatch, *tables, whole=tables)
    found.check_splits(pairs := pairs_about(found))
    assert [pair.case_id for pair in pairs] == ["Pa", "Pb"]
    for several, names in ((pairs, {("a/1", b"a"), ("b/1", b"b")}), (pairs[1:], {("1", b"b")})):
        checked = [Checked(item, {}) for item in make_items(several, evidences)]
        by_split = rows_by_split(checked, evidences, choices={}, planted={}, checks_sha256="")
        rows: list[dict[str, Any]] = [row for give in by_split.values() for row in give()]
        assert {(row["image_id"], row["image"]) for row in rows} == names


def test_the_evidence_is_the_caption_that_a_filter_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The image's first caption is another one, and may be the evidence of other pairs."""
    whole = table("a", {"zh": "Left lung mass.", "en": "Left nodule."})
    chosen = [whole.where(FilterConfig(field="language", values=(word,))).captioned() for word in ("en", "zh")]
    found, evidences = written(monkeypatch, *chosen, whole=[whole])
    items = make_items(pairs_about(found), evidences)
    assert [item.evidence.caption for item in items] == ["Left nodule.", "Left lung mass."]
