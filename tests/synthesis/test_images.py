"""The split of a case: one for all its images and texts, the same in every run."""

import json
from pathlib import Path
from typing import Any

import pytest

from radvqa_jax.config import DataConfig, SourceConfig, SynthesisConfig, WritingConfig
from radvqa_jax.data.preparing import prepare
from radvqa_jax.data.rows import RowSource
from radvqa_jax.runners.write_questions import write_candidates
from radvqa_jax.synthesis import images as module
from radvqa_jax.synthesis.candidates import read_candidates
from radvqa_jax.synthesis.images import Images, drawn_split


def rows(split: str, cases: list[tuple[str, str]], dataset: str = "phantom_rad") -> RowSource:
    """A split with these (case, image) pairs."""
    given = [
        {"case_id": case, "image_id": image, "caption": f"CT {image}", "modality": "CT", "question_id": image}
        for case, image in cases
    ]
    source = SourceConfig(dataset=dataset, split=split, task="caption")
    return RowSource(given, indices=range(len(given)), source=source, fingerprint={"builder_config": "x"})


def make(monkeypatch: pytest.MonkeyPatch, sources: list[RowSource], *, seed: int = 0, **writing: Any) -> Images:
    monkeypatch.setattr(module, "_all_splits", lambda source, data, seed: sources)
    config = SynthesisConfig(sources=(SourceConfig(dataset="phantom_rad"),), writing=WritingConfig(**writing))
    return Images(config, DataConfig(), seed=seed)


def test_a_case_in_several_splits_goes_to_the_one_held_out_most(monkeypatch: pytest.MonkeyPatch) -> None:
    train = rows("train", [("a", "a1"), ("b", "b1"), ("c", "c1"), ("", "lone")])
    held = [rows("validation", [("b", "b2"), ("c", "c2")]), rows("test", [("c", "c3"), ("d", "d1")])]
    found = make(monkeypatch, [train, *held])
    splits = {image.image_id: image.split for image in found}
    assert splits == {
        **{"a1": "train", "b1": "validation", "c1": "test", "lone": "train", "b2": "validation"},
        **{"c2": "test", "c3": "test", "d1": "test"},
    }
    assert {image.image_id: image.prepared_split for image in found}["c1"] == "train"
    assert len(found.moved) == 2 and len(found) == 8
    assert {image.image_id: image.case_id for image in found}["lone"] == "lone"


def test_a_set_with_one_split_is_split_by_case_and_always_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [(f"case{number // 2}", f"image{number}") for number in range(2000)]
    found = list(make(monkeypatch, [rows("train", cases)], held_out=(0.1, 0.2)))
    by_case: dict[str, set[str]] = {}
    for image in found:
        by_case.setdefault(image.case_id, set()).add(image.split)
    assert all(len(splits) == 1 for splits in by_case.values())
    share = {split: sum(image.split == split for image in found) / 2000 for split in ("train", "validation", "test")}
    assert 0.16 < share["test"] < 0.24 and 0.07 < share["validation"] < 0.13
    again = make(monkeypatch, [rows("train", cases[::-1])], held_out=(0.1, 0.2), seed=9)
    assert {i.image_id: i.split for i in again} == {i.image_id: i.split for i in found}  # whatever order and seed
    assert drawn_split("d", "c", (0.0, 0.0)) == "train"


def test_a_limit_is_a_part_of_a_larger_one(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [(f"case{number}", f"image{number}") for number in range(50)]
    few, more = (make(monkeypatch, [rows("train", cases)], limit=limit) for limit in (5, 20))
    chosen, wider = ({image.image_id for image in found} for found in (few, more))
    assert len(chosen) == len(few) == 5 and len(wider) == 20 and chosen < wider
    assert chosen != {image.image_id for image in make(monkeypatch, [rows("train", cases)], limit=5, seed=1)}


def test_questions_of_test_cases_are_only_ever_in_test(configure: Any, tmp_path: Path) -> None:
    write_candidates(configure(writers=(("templates", 1.0),), limit=0), tmp_path)
    by_case: dict[str, set[tuple[str, str]]] = {}
    for pair in read_candidates(tmp_path / "candidates.jsonl"):
        by_case.setdefault(pair.case_id, set()).add((pair.split, pair.prepared_split))
    assert all(len(found) == 1 for found in by_case.values())
    assert {split for found in by_case.values() for split, _ in found} == {"train", "validation", "test"}


@pytest.mark.parametrize(
    "edit",
    [lambda pair: pair | {"split": "train"}, lambda pair: pair | {"case_id": "another"}],
)
def test_a_line_moved_by_hand_to_another_split_is_refused_before_anything_is_written(
    edit: Any, configure: Any, tmp_path: Path
) -> None:
    config = configure(writers=(("templates", 1.0),), limit=0)
    write_candidates(config, tmp_path)
    path = tmp_path / "candidates.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    held = next(number for number, line in enumerate(lines) if line["split"] == "test")
    lines[held] = edit(lines[held]) | {"line_sha256": ""}  # as a file of an earlier version
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    edited = path.read_bytes()
    with pytest.raises(ValueError, match=r"candidates.jsonl says case .* in test: the line was edited"):
        write_candidates(config, tmp_path)
    assert path.read_bytes() == edited


def test_pairs_are_in_the_order_of_the_plan_whatever_the_order_of_the_replies(configure: Any, tmp_path: Path) -> None:
    """The checks and the written set depend on the order; threads finish in any."""
    config = configure(writers=(("templates", 1.0),), limit=6)
    _, pairs = write_candidates(config, tmp_path)
    path = tmp_path / "candidates.jsonl"
    by_image: dict[str, list[str]] = {}
    for line in path.read_text().splitlines(keepends=True):
        by_image.setdefault(json.loads(line)["image_id"], []).append(line)
    path.write_text("".join(line for image in reversed(by_image) for line in by_image[image]))
    assert read_candidates(path) != pairs and len(by_image) == 6
    assert write_candidates(config, tmp_path)[1] == pairs


def test_a_removed_line_is_noticed(configure: Any, tmp_path: Path) -> None:
    config = configure(writers=(("templates", 1.0),), limit=3)
    write_candidates(config, tmp_path)
    path = tmp_path / "candidates.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:2] + lines[3:]))
    with pytest.raises(ValueError, match=r"pairs that templates wrote about image .* lines were removed"):
        write_candidates(config, tmp_path)


@pytest.mark.slow
def test_medpix_gives_cases_and_literature(configure: Any, chat_server: Any, repo: Path, tmp_path: Path) -> None:
    """The stand-in of MedPix 2.0: all writers, each with its evidence."""
    import dataclasses

    data = DataConfig(
        data_dir=str(tmp_path / "data"),
        manual_dir=str(repo / "tfds_builders" / "medpix_2" / "dummy_data"),
        allow_count_mismatch=True,
    )
    prepare("medpix_2", data=data)
    config = configure(limit=0, writers=(("case", 1.0), ("literature", 1.0), ("caption", 1.0), ("templates", 1.0)))
    sources = (SourceConfig(dataset="medpix_2"),)
    config = dataclasses.replace(config, data=data, synthesis=dataclasses.replace(config.synthesis, sources=sources))
    write_candidates(config, tmp_path / "work")
    pairs = read_candidates(tmp_path / "work" / "candidates.jsonl")
    assert {pair.writer for pair in pairs} == {"case", "literature", "caption", "templates"}
    assert {pair.answerable_from_image for pair in pairs if pair.writer == "literature"} == {False}
    asked = [body["messages"][1]["content"] for body in chat_server.requests]
    assert any("topic_disease_discussion: " in text for text in asked) and any(
        "case_findings: " in text for text in asked
    )
    for hidden in ("case_history", "age:", "sex:", "acr", "case_treatment"):
        assert not any(hidden in text.lower() for text in asked)
    kinds = {pair.question_type for pair in pairs if pair.writer == "templates"}
    assert {"findings", "diagnosis", "modality"} <= kinds
    assert json.loads((tmp_path / "work" / "writing.json").read_text())["prompts"].keys() == {
        "case",
        "literature",
        "caption",
    }
