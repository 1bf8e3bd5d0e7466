"""Weights & Biases gets scalars and nothing else: with a recorder of its interface, and with the package itself."""

import json
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from radvqa_jax.config import WandbConfig
from radvqa_jax.training.hooks import Scalars
from radvqa_jax.training.wandb_run import ID, SETTINGS, WandbRun, check_wandb

CONFIG = WandbConfig(project="chest", name="rank 8")


class Recorder:
    """The calls to `wandb`: the arguments of init, and the calls of the run that it gives."""

    def __init__(self) -> None:
        self.started: list[dict[str, Any]] = []
        self.calls: list[tuple[Any, ...]] = []

    def init(self, **arguments: Any) -> "Recorder":
        self.started.append(arguments)
        return self

    def define_metric(self, name: str, step_metric: str = "") -> None:
        self.calls.append(("define_metric", name, step_metric))

    def log(self, values: dict[str, float]) -> None:
        self.calls.append(("log", values))

    def finish(self) -> None:
        self.calls.append(("finish",))


class _Error(Exception):
    pass


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """A recorder in place of the package."""
    recorder, fake = Recorder(), types.ModuleType("wandb")
    errors = types.SimpleNamespace(Error=_Error)
    vars(fake).update(init=lambda **arguments: recorder.init(**arguments), Settings=dict, errors=errors)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return recorder


def log(folder: Path, steps: list[int], *, start: int = 0) -> None:
    scalars = Scalars(folder, start_step=start, also=WandbRun(CONFIG, folder, stage="captions"))
    for step in steps:
        scalars(step, {"loss": 1 / step, "mfu": 0.5, "eval/closed/loss_per_token": 0.25})
    scalars.close()


def test_a_run_gets_the_scalars_by_their_tags_and_nothing_else(wandb: Recorder, tmp_path: Path) -> None:
    log(tmp_path, [1, 2])
    own = (tmp_path / ID).read_text()
    assert wandb.started == [
        {"project": "chest", "entity": None, "name": "rank 8, captions", "id": own, "dir": str(tmp_path)}
        | {"resume": "allow", "settings": SETTINGS}
    ]
    scalars = {"speed/mfu": 0.5, "eval/closed/loss_per_token": 0.25}
    assert wandb.calls == [
        ("define_metric", "step", ""),
        ("define_metric", "*", "step"),
        ("log", {"step": 1, "train/loss": 1.0} | scalars),
        ("log", {"step": 2, "train/loss": 0.5} | scalars),
        ("finish",),
    ]


def test_a_stage_that_continues_continues_its_run(wandb: Recorder, tmp_path: Path) -> None:
    log(tmp_path, [1, 2])
    log(tmp_path, [2, 3], start=1)
    assert len({arguments["id"] for arguments in wandb.started}) == 1 and len(wandb.started) == 2
    (tmp_path / ID).write_text("../other")
    with pytest.raises(ValueError, match=r"wandb_id\.txt must hold the id of a run, 16 digits; got '\.\./other'"):
        log(tmp_path, [4], start=3)


def test_a_refusal_of_the_service_is_reported_with_the_way_out(
    wandb: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: Any) -> None:
        raise _Error("no such project")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(ValueError, match=r"wandb\.project=chest: .*no such project.*WANDB_MODE=offline"):
        log(tmp_path, [1])


def test_a_missing_package_or_key_is_found_first(wandb: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    check_wandb(WandbConfig())
    with pytest.raises(ValueError, match=r"wandb\.project=chest sends scalars, and there is no key: export WANDB_API"):
        check_wandb(CONFIG)
    monkeypatch.setenv("WANDB_MODE", "offline")
    check_wandb(CONFIG)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match=r"pip install 'radvqa_jax\[wandb\]'"):
        check_wandb(CONFIG)
    check_wandb(WandbConfig())


def records(data: bytes) -> Iterator[bytes]:
    """Yields the records of an offline run: LevelDB's log, in blocks of 32 KiB, after a header of 7 bytes."""
    place, record = 7, b""
    while place < len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        if place + 7 + length > len(data):
            return  # still being written
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield record
            record = b""


def test_the_package_itself_keeps_the_scalars_and_no_terminal_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed: pip install -e '.[wandb]'")
    from wandb.proto import wandb_internal_pb2

    for name, value in {"MODE": "offline", "CONSOLE": "wrap", "SAVE_CODE": "true", "HOST": "ward-7"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    monkeypatch.setattr(sys, "argv", ["radvqa", "--config.data.manual_dir=/data/JANE_DOE"])
    run = WandbRun(CONFIG, tmp_path, stage="stage2")
    print("Is there a fracture in the left JANE_DOE?", flush=True)
    for step in (1, 2):
        run(step, {"train/loss": 1 / step})
    run.close()
    data = b""
    (path,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    deadline = time.monotonic() + 60
    found: list[Any] = []  # wandb's own process may close the file a moment after finish()
    while not (found and found[-1].WhichOneof("record_type") == "exit") and time.monotonic() < deadline:
        data = path.read_bytes()
        found = [wandb_internal_pb2.Record.FromString(record) for record in records(data)]
    assert not [word for word in (b"JANE_DOE", b"fracture", b"ward-7", str(tmp_path).encode()) if word in data]
    allowed = {"header", "run", "telemetry", "metric", "summary", "history", "exit"}
    assert {record.WhichOneof("record_type") for record in found} <= allowed
    logged = [
        {item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        for record in found
        if record.WhichOneof("record_type") == "history"
    ]
    assert [{key: row[key] for key in ("step", "train/loss")} for row in logged] == [
        {"step": 1, "train/loss": 1.0},
        {"step": 2, "train/loss": 0.5},
    ]
    assert all({key for key in row if not key.startswith("_")} == {"step", "train/loss"} for row in logged)
