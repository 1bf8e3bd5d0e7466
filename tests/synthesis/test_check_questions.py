"""From pairs to a prepared set: every pair in a list with its results; a set that audit and filters can use."""

import csv
import dataclasses
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import mlcroissant as mlc
import pytest

from radvqa_jax.config import (
    AuditConfig,
    ChecksConfig,
    Config,
    DataConfig,
    FilterConfig,
    SourceConfig,
    StageConfig,
    SynthesisConfig,
)
from radvqa_jax.data.preparing import prepare
from radvqa_jax.data.sources import find_prepared, load_rows, open_rows
from radvqa_jax.files import read_json, read_jsonl
from radvqa_jax.runners.audit import audit_all
from radvqa_jax.runners.check_questions import Origin, check_pairs, check_questions, check_settings
from radvqa_jax.runners.write_questions import describe_replaced
from radvqa_jax.synthesis import suite
from radvqa_jax.synthesis.candidates import Candidate
from radvqa_jax.synthesis.chat_checks import chat_checks
from radvqa_jax.synthesis.evidence import Evidences
from radvqa_jax.synthesis.planted import make_candidate, planned_of
from radvqa_jax.synthesis.planted_pairs import right_pairs

NAME = "tiny_questions"
SOURCE = SourceConfig(dataset="written", builder_config=NAME)


def write_pairs(data: DataConfig) -> list[Candidate]:
    """Right pairs about every phantom, and one false pair about each."""
    found = []
    for split in ("train", "validation", "test"):
        rows = open_rows(SourceConfig("phantom_rad", "tiny", split), data)
        first = {row["image_id"]: row for row in reversed(list(rows.texts()))}
        for row in first.values():
            place = row | {"dataset": "phantom_rad", "builder_config": "tiny", "split": split}
            image = planned_of(row)
            pairs = [*right_pairs(image)[:6], ("How old is the patient?", "A 54-year-old man")]
            found += [make_candidate(image, pair, place) for pair in pairs]
    return list({candidate.candidate_id: candidate for candidate in found}.values())


@pytest.fixture(scope="module")
def data(phantoms: Path) -> DataConfig:
    return DataConfig(data_dir=str(phantoms))


@pytest.fixture(scope="module")
def config(data: DataConfig) -> Config:
    checks = ChecksConfig(blind_seen=10_000, off=("round_trip",))  # one of a chat model
    synthesis = SynthesisConfig(
        name=NAME, unchecked=True, measure=20, review_rows=12, review_images=True, checks=checks
    )
    return Config(data=data, synthesis=synthesis)


@pytest.fixture(scope="module")
def workdir(config: Config, data: DataConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("questions")
    check_questions(config, folder, write_pairs(data), Origin({"requests": 0}, {"not JSON": 2}))
    return folder


def test_every_pair_is_in_one_list_with_the_result_of_every_check(workdir: Path, data: DataConfig) -> None:
    accepted, rejected = (read_jsonl(workdir / f"{name}.jsonl") for name in ("accepted", "rejected"))
    ids = [line["candidate_id"] for line in (*accepted, *rejected)]
    assert sorted(ids) == sorted(candidate.candidate_id for candidate in write_pairs(data))
    for line in (*accepted, *rejected):
        outcomes = {name: result["outcome"] for name, result in line["checks"].items()}
        assert set(outcomes) == set(accepted[0]["checks"])
        assert ("failed" in outcomes.values()) == (not line["accepted"])
        assert all(result["version"] for result in line["checks"].values())
    old = [line for line in rejected if "54" in line["answer"]]
    assert len(old) == 40  # one for each phantom
    assert all(line["checks"]["age"]["outcome"] == "failed" for line in old)
    # Checks that need a model did not run, and their results say so.
    assert all(line["checks"]["entailment"]["outcome"] == "not_run" for line in accepted)


def test_the_prepared_set_has_images_splits_and_provenance_of_its_source(workdir: Path, data: DataConfig) -> None:
    accepted = read_jsonl(workdir / "accepted.jsonl")
    for split, n in Counter(line["split"] for line in accepted).items():
        rows = load_rows(dataclasses.replace(SOURCE, split=split), data)
        assert len(rows) == n
        whole = open_rows(SourceConfig("phantom_rad", "tiny", split), data)
        originals = {row["image_id"]: row for row in whole}
        for row in rows:
            original = originals[row["image_id"]]
            assert row["image"] == original["image"]
            assert {name: row[name] for name in ("case_id", "modality", "organ", "plane", "caption")} == {
                name: original[name] for name in ("case_id", "modality", "organ", "plane", "caption")
            }
            assert row["split"] == split
            assert row["written_from"] == f"phantom_rad/tiny:{split}"
            assert "synthetic" in row["source"].split()
            assert row["yes_no"] == (row["answer"].strip(".").lower() in ("yes", "no"))


def test_provenance_can_be_filtered_by(workdir: Path, data: DataConfig) -> None:
    unchecked = dataclasses.replace(SOURCE, builder_config=f"{NAME}_unchecked")
    everything = load_rows(unchecked, data)
    kept = load_rows(dataclasses.replace(unchecked, where=(FilterConfig("accepted", ("yes",)),)), data)
    assert len(kept) == len(load_rows(SOURCE, data)) < len(everything)
    assert kept.column("failed_checks") == [""] * len(kept)
    aged = load_rows(dataclasses.replace(unchecked, where=(FilterConfig("rejected_by", ("age",), exclude=True),)), data)
    assert len(aged) < len(everything)


def test_the_audit_finds_no_leak_between_its_splits(workdir: Path, config: Config) -> None:
    test = dataclasses.replace(SOURCE, split="test")
    stage = StageConfig(sources=(SOURCE,))
    audited = dataclasses.replace(
        config, stages={"stage1": stage}, run_stages=(), eval=dataclasses.replace(config.eval, source=test)
    )
    report, _ = audit_all(audited)
    assert report["clean"]
    assert report["splits"][f"written/{NAME}:train"]["rows"] == len(load_rows(SOURCE, config.data))


@pytest.mark.filterwarnings("ignore:ConjunctiveGraph:DeprecationWarning")  # within mlcroissant
def test_card_and_croissant_describe_the_files(workdir: Path, data: DataConfig) -> None:
    folder = Path(find_prepared(SOURCE, data).data_dir)
    card = (folder / "README.md").read_text()
    about = read_json(folder / "written.json")
    assert "All images are synthetic" in card
    assert "Not for clinical use" in card
    assert f"accepted: {about['accepted']}" in card
    assert "| wrong side |" in card and "Licence of phantom_rad: That of this repository." in card
    dataset = mlc.Dataset(jsonld=folder / "croissant.json")
    assert not dataset.metadata.ctx.issues.errors
    assert "http://mlcommons.org/croissant/1.1" in json.dumps(read_json(folder / "croissant.json"))
    records = list(dataset.records("questions"))
    rows = [
        row
        for split in ("train", "validation", "test")
        for row in load_rows(dataclasses.replace(SOURCE, split=split), data)
    ]
    assert [record["questions/question"].decode() for record in records] == [row["question"] for row in rows]


def test_the_report_begins_with_what_each_check_caught(workdir: Path) -> None:
    page = (workdir / "questions.html").read_text()
    tables = page.split("<table")
    assert "What each check caught" in page.split("<table")[0] + tables[1]
    report = read_json(workdir / "questions.json")
    counted = {row["check"]: row for row in report["funnel"]}
    assert counted["age"]["failed"] == 40
    assert counted["balance"]["left"] == report["accepted"]
    assert report["measured"]["overall"]["recall"]["n"] > 20
    assert "not JSON" in page
    assert "<script>" not in page


def test_a_sheet_is_drawn_with_the_images_of_its_rows(workdir: Path) -> None:
    with (workdir / "review_pairs.csv").open(encoding="utf-8-sig", newline="") as file:
        lines = list(csv.reader(file))
    assert len(lines) == 13
    assert len(list((workdir / "review_images").iterdir())) == 12
    assert "failed" not in lines[0]


def test_the_command_that_drew_a_sheet_also_reads_it_and_gives_the_same_figures_each_time(
    config: Config, data: DataConfig, tmp_path: Path
) -> None:
    own = dataclasses.replace(config.synthesis, name="read_questions", unchecked=False, measure=0, review_images=False)
    pairs = write_pairs(data)[:70]
    check_questions(dataclasses.replace(config, synthesis=own), tmp_path, pairs, Origin({}, {}))
    drawn = (tmp_path / "review_draw.json").read_bytes()
    (tmp_path / "ada.csv").write_text(
        "candidate_id,verdict\n"
        + "".join(f"{name},{('pass', 'discard')[n % 2]}\n" for n, name in enumerate(json.loads(drawn)["weights"]))
    )
    read = dataclasses.replace(own, review_sheets=(str(tmp_path / "ada.csv"),), review="drop")
    found = []
    for _ in range(2):
        check_questions(dataclasses.replace(config, synthesis=read), tmp_path, pairs, Origin({}, {}))
        found.append(read_json(tmp_path / "questions.json")["review"])
    assert found[0] == found[1] and found[0]["readers"]["ada"]["n"] == 12
    assert (tmp_path / "review_draw.json").read_bytes() == drawn
    assert "Weighted to 70 of 70 pairs" in (tmp_path / "questions.html").read_text()


def test_written_again_it_replaces_the_old_set_and_only_when_whole(
    workdir: Path, config: Config, data: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "other_questions"
    own = dataclasses.replace(config.synthesis, name=name, unchecked=False, review_rows=0, measure=0)
    pairs = write_pairs(data)
    source = dataclasses.replace(SOURCE, builder_config=name)
    written = Origin({}, {})
    check_questions(dataclasses.replace(config, synthesis=own), tmp_path, pairs[:90], written)
    before = load_rows(source, data).column("question")
    with monkeypatch.context() as broken:
        broken.setattr("radvqa_jax.runners.check_questions.write_card", lambda *args, **kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            check_questions(dataclasses.replace(config, synthesis=own), tmp_path, pairs[:60], written)
    assert load_rows(source, data).column("question") == before
    parent = Path(data.data_dir) / "written" / name
    assert [path.name for path in parent.iterdir() if path.is_dir()] == ["1.0.0"]
    (parent / ".rebuild-1.0.0" / "incomplete.X").mkdir(parents=True)  # what a killed run leaves
    check_questions(dataclasses.replace(config, synthesis=own), tmp_path, pairs[:60], written)
    assert len(load_rows(source, data)) < len(before)
    assert [path.name for path in parent.iterdir() if path.is_dir()] == ["1.0.0"]


def test_a_run_says_before_it_begins_which_set_it_will_replace(workdir: Path, data: DataConfig, tmp_path: Path) -> None:
    assert describe_replaced("never_written", data.data_dir) == ""
    said = describe_replaced(NAME, data.data_dir)
    assert re.match(
        rf"written/{NAME} is prepared already \(written by .* about phantom_rad; \d+ of \d+ pairs accepted\)\. ", said
    )
    assert said.endswith("will replace it. To keep it, give another --config.synthesis.name.")
    folder = tmp_path / "written" / NAME / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "written.json").write_text("[]")
    assert "(unreadable: " in describe_replaced(NAME, str(tmp_path))  # it is replaced nevertheless


@pytest.mark.parametrize(
    "read", [load_rows, lambda source, data: prepare(source.dataset, builder_config=source.builder_config, data=data)]
)
def test_a_set_that_is_not_written_names_the_command_that_writes_it(read: Any, data: DataConfig) -> None:
    with pytest.raises(ValueError, match=r"configs/write_questions.py:rocov2 --config.synthesis.name=rocov2_questions"):
        read(SourceConfig("written", "rocov2_questions"), data)


def test_a_pair_may_not_repeat_a_question_of_a_set_that_is_evaluated(
    config: Config, data: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in a split called train, and in a table, which no list of data sets names."""
    monkeypatch.setattr("radvqa_jax.synthesis.evidence.prepared_sets", lambda data: iter(()))
    asked = open_rows(SourceConfig("phantom_rad", "tiny", "train"), data)
    row = next(iter(asked.texts()))
    chosen = ChecksConfig(near_words=0)
    names = {check.name for check in suite.all_checks(chosen, known=[], chat=chat_checks(chosen, None))}
    chosen = dataclasses.replace(chosen, off=tuple(names - {"contamination"}))
    own = SynthesisConfig(name="own_questions", measure=0, checks=chosen)
    pair = dataclasses.replace(write_pairs(data)[0], question=row["question"], answer=row["answer"])
    outcomes = []
    for place in (SourceConfig(), asked.source, dataclasses.replace(asked.source, task="caption")):
        run = dataclasses.replace(config, synthesis=own, eval=dataclasses.replace(config.eval, source=place))
        audited = dataclasses.replace(run, eval=config.eval, audit=AuditConfig(also_evaluate=(place,)))
        for one in (run, audited):
            outcome = check_pairs(one, tmp_path, [pair], Evidences([pair], data))
            outcomes.append(outcome.checked[0].results["contamination"].outcome)
    assert outcomes == [*["passed"] * 2, *["failed"] * 2, *["passed"] * 2]


def test_an_evaluated_set_is_prepared_before_questions_are_paid_for(config: Config) -> None:
    absent, own = SourceConfig("table", "chest", "test"), dataclasses.replace(SOURCE, split="test")
    check_settings(dataclasses.replace(config, eval=dataclasses.replace(config.eval, source=own)))
    with pytest.raises(ValueError, match=r"table is not prepared.*configs/build_data.py"):
        check_settings(dataclasses.replace(config, audit=AuditConfig(also_evaluate=(absent,))))


@pytest.mark.parametrize("name", ["", "../up", "Big", "a b"])
def test_a_name_that_cannot_be_a_folder_is_refused(name: str, data: DataConfig) -> None:
    with pytest.raises(ValueError, match="rocov2_questions"):
        load_rows(SourceConfig("written", name), data)


def test_a_caption_that_changed_since_is_refused(
    workdir: Path, config: Config, data: DataConfig, tmp_path: Path
) -> None:
    pairs = [dataclasses.replace(pair, caption_sha256="0" * 64) for pair in write_pairs(data)[:3]]
    with pytest.raises(ValueError, match="prepared anew"):
        check_questions(config, tmp_path, pairs, Origin({}, {}))


def test_false_pairs_are_planted_only_where_the_truth_is_known(
    config: Config, data: DataConfig, tmp_path: Path
) -> None:
    planted = dataclasses.replace(config.synthesis, name="planted_questions", plant=0.25, review_rows=0, measure=0)
    pairs = [pair for pair in write_pairs(data) if "54" not in pair.answer]
    check_questions(dataclasses.replace(config, synthesis=planted), tmp_path, pairs, Origin({}, {}))
    lines = [*read_jsonl(tmp_path / "accepted.jsonl"), *read_jsonl(tmp_path / "rejected.jsonl")]
    false = [line for line in lines if line["planted"]]
    assert len(false) == round(len(pairs) / 3)
    assert sum(line["accepted"] for line in false) <= 0.05 * len(false)
    unchecked = load_rows(SourceConfig("written", "planted_questions_unchecked"), data)
    assert sum(map(bool, unchecked.column("planted"))) > 0
