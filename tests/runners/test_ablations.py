"""A grid from end to end on a random model and 40 phantoms: shared training, continuation and empty cells."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from radvqa_jax.config import CellConfig, Config, DataConfig, SourceConfig
from radvqa_jax.data.preparing import prepare
from radvqa_jax.data.sources import load_rows
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.evaluation import predict
from radvqa_jax.evaluation.predict import read_records
from radvqa_jax.files import read_json
from radvqa_jax.loaded_base import LoadedBase
from radvqa_jax.runners import RUNNERS, ablations
from radvqa_jax.training import loop
from radvqa_jax.training.stage import Trained

MakeConfig = Callable[..., Config]
DUMMY = Path(__file__).resolve().parents[2] / "tfds_builders" / "med_halt" / "dummy_data"
PHANTOMS = SourceConfig(dataset="phantom_rad", builder_config="tiny")
OTHER = {"source": dataclasses.replace(PHANTOMS, split="validation", limit=6), "train_source": PHANTOMS}
FAKE = {"source": SourceConfig(dataset="med_halt", builder_config="fake"), "prompt": "answer en {question} {choices}"}
ABSENT = {"source": SourceConfig(dataset="vqa_rad", split="test")}
RISING = (
    dataclasses.replace(PHANTOMS, task="caption"),
    dataclasses.replace(PHANTOMS, anneal="linear", points=((0.5, 0.0), (1.0, 1.0))),
)
CELLS = (
    CellConfig("reference"),
    CellConfig("without stage 1", without=("stage1",)),
    CellConfig("adapter off", without=("stage1", "stage2")),
    CellConfig("role", prompt="You are an expert. answer en {question}"),
    CellConfig("swapped", image="swapped"),
    CellConfig("blank", image="blank"),
    CellConfig("rising", stage_sources=RISING),
    CellConfig("far", against="far, off", **OTHER),
    CellConfig("far, off", without=("stage1", "stage2"), **OTHER),
    CellConfig("far, alone", **OTHER),
    CellConfig("absent", **ABSENT),
    CellConfig("nonsense", image="borrowed", seq_len=256, **FAKE),
    CellConfig("nonsense, grey", seq_len=256, **FAKE),
)


def with_cells(config: Config, *cells: CellConfig, **changed: Any) -> Config:
    grid = dataclasses.replace(config.ablations, cells=cells)
    return dataclasses.replace(config, mode="ablations", ablations=grid, **changed)


@pytest.fixture(scope="module")
def base(micro_config: MakeConfig, phantoms: Path) -> Config:
    prepare(
        "med_halt",
        builder_config="fake",
        data=DataConfig(data_dir=str(phantoms), manual_dir=str(DUMMY), allow_count_mismatch=True),
    )
    return micro_config({"data.allow_count_mismatch": True})


@pytest.fixture(scope="module")
def grid(base: Config, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    """(configuration, workdir) of a grid that ran once."""
    config, workdir = with_cells(base, *CELLS), tmp_path_factory.mktemp("grid")
    RUNNERS["ablations"](config, workdir)
    return config, workdir


def rows(workdir: Path) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in read_json(workdir / "ablations.json")["cells"]}


def records(workdir: Path, row: dict[str, Any]) -> list[Any]:
    return read_records(workdir / row["about"]["predictions"])


@pytest.mark.slow
def test_every_cell_has_its_baselines_and_its_reference(grid: tuple[Config, Path]) -> None:
    found = rows(grid[1])
    assert list(found) == [cell.name for cell in CELLS]
    for name in ("reference", "without stage 1", "adapter off", "role", "swapped", "blank", "rising"):
        assert found[name]["overall"]["n"] == 10 and found[name]["overall"]["interval"] is not None
        assert {"question_only", "majority"} <= set(found[name]["baselines"]) == set(found[name]["over"])
    assert found["reference"]["compared"] is None
    compared = {name: row["compared"] for name, row in found.items() if row["compared"]}
    assert compared["far"]["with"] == "far, off" and compared["far"]["n"] == 6
    assert compared["far, alone"] == {"with": "reference", "why_not": "asks other questions"}
    tested = [each for each in compared.values() if "difference" in each]
    assert len(tested) == 7 and "over 7 comparisons" in read_json(grid[1] / "ablations.json")["method"]["tests"]
    assert all(each["p_images_holm"] >= each["p_images"] for each in tested)


@pytest.mark.slow
def test_a_cell_without_data_is_empty_and_says_what_to_run(grid: tuple[Config, Path]) -> None:
    row = rows(grid[1])["absent"]
    assert not {"overall", "baselines", "over", "nonsense"} & set(row)
    assert "vqa_rad is not prepared" in row["empty"] and "configs/build_data.py" in row["empty"]
    assert row["compared"] == {"with": "reference", "why_not": "empty"}
    text = (grid[1] / "ablations.txt").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("absent  ")]
    assert set(line.removeprefix("absent").split()) == {"-"}
    assert "empty: vqa_rad is not prepared" in (grid[1] / "ablations.html").read_text()


@pytest.mark.slow
def test_cells_differ_in_what_they_change_and_in_nothing_else(grid: tuple[Config, Path]) -> None:
    workdir, found = grid[1], rows(grid[1])
    said = {name: records(workdir, row) for name, row in found.items() if "about" in row and "overall" in row}
    assert all(r.prompt.startswith("You are an expert. answer en ") for r in said["role"])
    assert all(r.image_used != r.image_id for r in said["swapped"])
    assert {r.image_used for r in said["blank"]} == {"blank"}
    shared = ("reference", "role", "swapped", "blank")
    assert len({found[name]["about"]["trained_sha256"] for name in shared}) == 1
    others = ("reference", "without stage 1", "adapter off", "rising")
    assert len({found[name]["about"]["trained_sha256"] for name in others}) == 4
    assert found["adapter off"]["about"]["trained"] == "nothing"


@pytest.mark.slow
def test_training_is_shared(grid: tuple[Config, Path]) -> None:
    # stage 1; stage 2 after it; stage 2 alone; stage 2 after it on other data
    adapters = sorted(path.parent.name for path in (grid[1] / "trained").glob("*/*/adapter.npz"))
    assert adapters == ["stage1", "stage2", "stage2", "stage2"]


@pytest.mark.slow
def test_questions_without_images_are_asked_with_the_stated_image(grid: tuple[Config, Path]) -> None:
    workdir, found = grid[1], rows(grid[1])
    borrowed, grey = (records(workdir, found[name]) for name in ("nonsense", "nonsense, grey"))
    assert {r.image_id for r in borrowed} == {""} and all(r.image_used for r in borrowed)
    assert {r.image_used for r in grey} == {""} and found["nonsense, grey"]["about"]["questions_without_an_image"] == 3
    assert any("A) " in r.prompt and r.choices for r in borrowed)
    assert "an image borrowed from phantom_rad" in found["nonsense"]["changes"]
    assert "a uniform grey where a question has no image" in found["nonsense, grey"]["changes"]
    said = found["nonsense"]["nonsense"]
    assert said["refused"]["n"] == said["made_up"]["n"] == said["confident"]["n"] == 3
    assert found["nonsense"]["overall"]["n_images"] == 3  # each question stands alone
    assert set(found["nonsense"]["baselines"]) == {"longest_option"}
    assert "nonsense, questions that have no answer: refused" in (workdir / "ablations.txt").read_text()


@pytest.mark.slow
def test_a_grid_that_was_interrupted_ends_as_if_it_was_not(
    base: Config, grid: tuple[Config, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = predict.append_jsonl, []

    def crash(path: Path, lines: list[dict[str, Any]]) -> None:
        seen.append(path)
        if len(seen) == 5:  # within the second cell: ten questions are three batches
            raise KeyboardInterrupt
        real(path, lines)

    config = with_cells(base, CELLS[0], CELLS[4])  # one chain of training, two cells
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(predict, "append_jsonl", crash)
        RUNNERS["ablations"](config, tmp_path)
    assert not (tmp_path / "ablations.json").exists()
    RUNNERS["ablations"](config, tmp_path)
    again, whole = rows(tmp_path), rows(grid[1])
    for name, row in again.items():
        assert (row["overall"], row["about"]) == (whole[name]["overall"], whole[name]["about"])
    # Once more: nothing is trained or answered again.
    for where, what in ((loop, "step_on"), (predict, "decode")):
        monkeypatch.setattr(where, what, None)
    before = (tmp_path / "ablations.html").read_bytes()
    RUNNERS["ablations"](config, tmp_path)
    assert (tmp_path / "ablations.html").read_bytes() == before


def test_an_existing_adapter_is_used(base: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = with_cells(base, CellConfig("mine", adapter=str(tmp_path / "nowhere")))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        RUNNERS["ablations"](config, tmp_path)


def test_a_stage_starts_from_its_init_from_as_in_other_modes(
    base: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: dict[str, str] = {}

    def train(loaded: LoadedBase) -> Trained:
        (name,) = loaded.config.stage_names
        starts[name] = loaded.config.stages[name].init_from
        return Trained.nothing()

    monkeypatch.setattr(ablations, "train_stages", train)
    for given in ("", "elsewhere/stage1"):
        stages = {"stage2": dataclasses.replace(base.stages["stage2"], init_from=given)}
        loaded: Any = LoadedBase(with_cells(base, CELLS[0]).with_stages(stages), tmp_path, None, None)  # pyright: ignore[reportArgumentType]
        ablations._Trainer(loaded, tmp_path / "trained", "")(CELLS[0])
        assert starts["stage1"] == ""
        assert starts["stage2"] == given or (not given and Path(starts["stage2"]).name == "stage1")


def test_a_prompt_that_is_too_long_is_found_before_anything_trains(
    base: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ablations, "load_base", None)
    long = CellConfig("long", prompt="word " * 80 + "{question}")
    with pytest.raises(ValueError, match=r"Cell 'long', seq_len=64: .* raise data.seq_len"):
        RUNNERS["ablations"](with_cells(base, CELLS[0], long), tmp_path)


def test_a_cell_whose_blind_baselines_learn_its_questions_is_refused_before_anything_trains(
    base: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ablations, "load_base", None)
    asked = dataclasses.replace(base.eval.source, split="validation")
    leak = CellConfig("leak", source=asked, train_source=dataclasses.replace(asked, limit=0))
    with pytest.raises(ValueError, match=r"tiny:validation\) hold 10 of the 10 questions .*of a cell: train_source"):
        RUNNERS["ablations"](with_cells(base, CELLS[0], leak), tmp_path)


OFF = ("stage1", "stage2")


def role_that_leaves_some_out(config: Config) -> str:
    """A prompt with which the longest questions, and only these, do not fit."""
    tokenizer = Tokenizer(config.model.tokenizer)
    rows = load_rows(config.eval.source, config.data, seed=config.seed)
    for words in range(1, 200):
        prompt = "of " * words + "{question}"
        lengths = [len(tokenizer.encode(rows.text(row, template=prompt)[0])) + 2 for row in rows.texts()]
        if max(lengths) > config.data.seq_len:
            assert min(lengths) <= config.data.seq_len
            return prompt
    raise AssertionError("no prompt is long enough")


def test_a_question_that_is_too_long_for_one_cell_is_left_out_of_all(
    base: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = (CellConfig("off", without=OFF), CellConfig("role", without=OFF, prompt=role_that_leaves_some_out(base)))
    RUNNERS["ablations"](with_cells(base, *cells), tmp_path)
    found = rows(tmp_path)
    assert 0 < found["off"]["overall"]["n"] == found["role"]["overall"]["n"] < 10
    assert "difference" in found["role"]["compared"]  # pair by pair: both asked the same questions
    left_out = found["off"]["about"]["data"]["left_out"]
    assert left_out == {"overlong_question": 10 - found["off"]["overall"]["n"]}
    assert "of 10 questions of phantom_rad/tiny:test do not fit data.seq_len=64" in capsys.readouterr().out
    error = dataclasses.replace(base, data=dataclasses.replace(base.data, overlong_question="error"))
    with pytest.raises(ValueError, match=r"Cell 'role', seq_len=64: phantom_rad/tiny:test, question .*never cut"):
        RUNNERS["ablations"](with_cells(error, *cells), tmp_path / "error")


def test_an_unknown_data_set_is_an_error_and_no_empty_cell(base: Config, tmp_path: Path) -> None:
    cell = CellConfig("typo", source=SourceConfig(dataset="slak", split="test"))
    with pytest.raises(ValueError, match=r"no data set 'slak'\. Did you mean `slake`"):
        RUNNERS["ablations"](with_cells(base, CELLS[0], cell), tmp_path)


def test_names_of_files_differ_where_names_do() -> None:
    names = ["a b", "a_b", "a-b", "ä", "ö"]
    assert len({ablations._file_name(name, "") for name in names}) == 5
    assert "/" not in ablations._file_name("a/../b", "trained/x/stage2")
    # A cell whose training was changed gets its own file, so that it is not trained and then refused.
    assert ablations._file_name("a", "trained/x/stage2") != ablations._file_name("a", "trained/y/stage2")
