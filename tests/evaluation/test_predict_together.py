"""Several processes give the bytes that one would give, also after interruptions and with other numbers of them."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from radvqa_jax.config import Config, DecodeConfig
from radvqa_jax.evaluation import predict as module
from radvqa_jax.evaluation.answer_batches import share_of
from radvqa_jax.evaluation.kept_answers import part_of, parts_of
from radvqa_jax.processes import Group
from tests.evaluation.predict_case import Predictor
from tests.several import run_together


@pytest.fixture(scope="module")
def predictor(micro_config: Callable[..., Config]) -> Predictor:
    return Predictor(micro_config())


@pytest.fixture(scope="module")
def whole(predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file that one process writes."""
    folder = tmp_path_factory.mktemp("whole")
    predictor.predict(folder)
    return (folder / "base.jsonl").read_bytes()


def test_every_row_is_in_one_share_and_images_stay_together(predictor: Predictor) -> None:
    rows = predictor.rows
    images = rows.shown_images()
    for count in (1, 2, 3, 7, 20):
        shares = [share_of(rows, range(len(rows)), index=index, count=count) for index in range(count)]
        assert Counter(number for share in shares for number in share) == Counter(range(len(rows)))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
        # An image is in two shares only where one ends and the next begins.
        seen = sum(len({images[number] for number in share}) for share in shares)
        assert seen <= len(set(images)) + count - 1
    # Shares are of the rows that remain: after an interruption they are divided again.
    assert [len(share_of(rows, range(3, 10), index=index, count=2)) for index in range(2)] == [3, 4]


@pytest.mark.parametrize("count", [2, 3])
def test_processes_write_the_file_that_one_writes(
    count: int, predictor: Predictor, whole: bytes, tmp_path: Path
) -> None:
    found = run_together(count, lambda group: predictor.predict(tmp_path, group=group))
    assert (tmp_path / "base.jsonl").read_bytes() == whole
    assert [record.to_json() for record in found[0]] == [json.loads(line) for line in whole.splitlines()]
    assert found == [found[0]] * count  # each of them has all records
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base.json", "base.jsonl"]  # no part is left


def test_a_finished_file_is_read_by_the_first_and_nothing_is_decoded(
    predictor: Predictor, whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = predictor.predict(tmp_path)
    monkeypatch.setattr(module, "decode", None)
    assert run_together(2, lambda group: predictor.predict(tmp_path, group=group)) == [records] * 2
    assert (tmp_path / "base.jsonl").read_bytes() == whole


class Changed(Group):
    """A process to which something happens while it waits for the others."""

    def __init__(self, group: Group, happens: Callable[[str], None]) -> None:
        super().__init__(group.index, group.count, group.store)
        self._happens = happens

    def gather(self, value: bytes = b"", *, what: str) -> list[bytes]:
        self._happens(what)
        return super().gather(value, what=what)


def interrupted(predictor: Predictor, folder: Path, *, count: int) -> None:
    """Answers with `count` processes, which end when they have answered and before parts are put together."""

    def kill(what: str) -> None:
        if what.endswith("is answered"):
            raise KeyboardInterrupt

    run_together(count, lambda group: predictor.predict(folder, group=Changed(group, kill)))


def cut_last_line(path: Path) -> int:
    """Cuts a file in its last line, as a kill does; returns how many lines are whole."""
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines)[:-20])
    return len(lines) - 1


@pytest.mark.parametrize("then", [1, 2, 3])
def test_answers_of_interrupted_processes_are_kept_by_any_number_of_processes(
    then: int, predictor: Predictor, whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(predictor, tmp_path, count=2)
    assert [part.name for part in parts_of(tmp_path / "base.jsonl")] == ["base.process0.jsonl", "base.process1.jsonl"]
    kept = cut_last_line(part_of(tmp_path / "base.jsonl", 0)) + cut_last_line(part_of(tmp_path / "base.jsonl", 1))
    decoded: list[int] = []
    real = module.decode

    def counted(model: Any, params: Any, batch: Any, *others: Any, **options: Any) -> Any:
        decoded.append(int(batch.mask_example.sum()))
        return real(model, params, batch, *others, **options)

    monkeypatch.setattr(module, "decode", counted)
    run_together(then, lambda group: predictor.predict(tmp_path, group=group))
    assert (tmp_path / "base.jsonl").read_bytes() == whole
    assert kept == 8 and sum(decoded) == 2  # of ten: only the cut answers are computed again
    assert parts_of(tmp_path / "base.jsonl") == []


def test_a_part_that_was_merged_and_not_removed_counts_once(predictor: Predictor, whole: bytes, tmp_path: Path) -> None:
    predictor.predict(tmp_path)
    part_of(tmp_path / "base.jsonl", 1).write_bytes(b"".join(whole.splitlines(keepends=True)[:3]))
    run_together(2, lambda group: predictor.predict(tmp_path, group=group))
    assert (tmp_path / "base.jsonl").read_bytes() == whole and parts_of(tmp_path / "base.jsonl") == []


def test_a_part_of_another_run_is_refused_and_left_alone(predictor: Predictor, tmp_path: Path) -> None:
    predictor.predict(tmp_path, seed=4, fingerprint={"seed": 4})
    other = (tmp_path / "base.jsonl").read_bytes()
    for path in tmp_path.iterdir():
        path.unlink()
    part = part_of(tmp_path / "base.jsonl", 0)
    part.write_bytes(other)
    with pytest.raises(ValueError, match=r"base.process0.jsonl, line 1: it was made with other settings"):
        predictor.predict(tmp_path)
    assert part.read_bytes() == other


def test_answers_that_the_first_process_does_not_see_are_reported(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("radvqa_jax.evaluation.kept_together.LAG", 0.0)

    def run(group: Group) -> Any:
        def lose(what: str) -> None:
            if group.index == 1 and what.endswith("is answered"):  # its folder is not that of process 0
                part_of(tmp_path / "base.jsonl", 1).unlink()
            if group.index == 1 and what.endswith("is whole"):  # it does not wait for a process that fails
                raise KeyboardInterrupt

        return predictor.predict(tmp_path, group=Changed(group, lose))

    error = run_together(2, run)[0]
    assert isinstance(error, ValueError) and "5 of 10 answers are not in" in str(error), error
    assert "one folder that all processes see" in str(error)


def test_own_answers_are_the_history_in_every_process(micro_config: Callable[..., Config], tmp_path: Path) -> None:
    data = {
        "data.prompt": "{history} answer en {question}",
        "data.seq_len": 128,
        "data.history": "own",
        "mode": "predict",
    }
    asking = Predictor(micro_config(data))
    greedy: dict[str, Any] = {"config": DecodeConfig(max_new_tokens=3, batch_size=4)}
    records = asking.predict(tmp_path / "one", **greedy)
    found = run_together(2, lambda group: asking.predict(tmp_path / "two", group=group, **greedy))
    assert found == [records] * 2 and max(len(record.history) for record in records) >= 2
    files = [(tmp_path / name / "base.jsonl").read_bytes() for name in ("one", "two")]
    assert files[0] == files[1]
