"""Writing questions ends by an endpoint, a budget, a kill or a mistake; nothing is lost or paid for twice."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from radvqa_jax import chat_cache
from radvqa_jax.chat_client import BudgetSpent, EndpointError
from radvqa_jax.config import ChecksConfig
from radvqa_jax.files import read_jsonl
from radvqa_jax.runners.write_questions import write_candidates, write_questions_mode
from radvqa_jax.synthesis import writing
from radvqa_jax.synthesis.images import Image
from radvqa_jax.synthesis.ledger import read_ledger
from radvqa_jax.synthesis.work import Work
from radvqa_jax.synthesis.writers import Finished
from radvqa_jax.synthesis.writing import WritingStopped
from tests.chat.chat_case import SOON
from tests.synthesis.writing_case import Configure, written


def test_a_failing_endpoint_stops_the_run_and_the_next_continues(
    configure: Configure, chat_server: Any, honest: Any, tmp_path: Path
) -> None:
    def sometimes(body: dict[str, Any]) -> Any:
        return honest(body) if len(chat_server.requests) <= 2 else (500, "text/plain", b"", SOON)

    chat_server.behave = sometimes
    config = configure(max_failures=3, chat={"concurrency": 1})
    with pytest.raises(
        WritingStopped, match=r"failed 3 times in a row \(status 500\). 8 pairs are kept in candidates.jsonl"
    ):
        write_candidates(config, tmp_path)
    before = len(chat_server.requests)
    chat_server.behave = honest
    write_candidates(config, tmp_path)
    assert len(chat_server.requests) == before + 4 and len(written(tmp_path)) == 24


def test_templates_do_not_count_as_replies_of_a_failing_endpoint(
    configure: Configure, chat_server: Any, tmp_path: Path
) -> None:
    chat_server.behave = lambda body: (500, "text/plain", b"", SOON)
    config = configure(
        writers=(("templates", 1.0), ("case", 1.0)), limit=12, max_failures=3, chat={"concurrency": 1, "retries": 0}
    )
    with pytest.raises(WritingStopped, match=r"failed 3 times in a row \(status 500\)"):
        write_candidates(config, tmp_path)
    assert {row["writer"] for row in read_jsonl(tmp_path / "written.jsonl")} == {"templates"}


def test_the_budget_stops_the_run_and_the_next_continues(
    configure: Configure, chat_server: Any, tmp_path: Path
) -> None:
    with pytest.raises(WritingStopped, match=r"max_calls=4.* 16 pairs are kept"):
        write_candidates(configure(chat={"max_calls": 4}), tmp_path)
    write_candidates(configure(), tmp_path)
    assert len(chat_server.requests) == 6 and len(written(tmp_path)) == 24


def test_the_checks_of_a_run_get_what_writing_left_of_its_budget(
    configure: Configure, chat_server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configure(limit=3, chat={"max_calls": 4, "concurrency": 1})
    config = dataclasses.replace(config, synthesis=dataclasses.replace(config.synthesis, name="mine", measure=0))
    checks = ChecksConfig(off=("words", "span"))  # so that some pairs get to the chat model
    config = dataclasses.replace(config, synthesis=dataclasses.replace(config.synthesis, checks=checks))
    with pytest.raises(BudgetSpent, match="max_calls=4"):
        write_questions_mode(config, tmp_path)
    assert len(chat_server.requests) == 4 and len(written(tmp_path)) == 12
    assert "The checks then send up to 3 requests about each pair" in capsys.readouterr().out


def test_a_dry_run_prints_ten_prompts_and_sends_nothing(
    configure: Configure, chat_server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prices = {"prompt_price": 1000.0, "reply_price": 2000.0}
    write_candidates(configure(limit=12, dry_run=True, max_tokens=100, **prices), tmp_path)
    out = capsys.readouterr().out
    assert not chat_server.requests and not (tmp_path / "candidates.jsonl").exists()
    assert out.count("== prompt ") == 10 and "== prompt 10 of 10: case, phantom_rad phantom-" in out
    assert "12 requests are to be sent" in out and "replies at most 1200." in out
    tokens = int(re.findall(r"Prompts have about (\d+) tokens", out)[0])
    assert f"that is {tokens / 1000:.2f} for the prompts, and {tokens / 1000 + 2.4:.2f} at most" in out
    # What is printed is what is sent.
    write_candidates(configure(limit=12), tmp_path)
    for body in chat_server.requests:
        assert sum(message["content"] in out for message in body["messages"]) in (0, 2)
    assert sum(body["messages"][1]["content"] in out for body in chat_server.requests) == 10


def test_the_output_folder_is_checked_before_the_first_request(
    configure: Configure, chat_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may write everywhere, so the system's answer about one folder is replaced."""
    config = configure()
    config = dataclasses.replace(config, synthesis=dataclasses.replace(config.synthesis, name="mine"))
    monkeypatch.setattr(os, "access", lambda path, mode: not Path(path).is_relative_to(config.data.data_dir))
    with pytest.raises(ValueError, match=r"data\.data_dir=.* cannot be written to"):
        write_questions_mode(config, tmp_path)
    assert not chat_server.requests and not (tmp_path / "candidates.jsonl").exists()


def test_other_settings_in_one_workdir_are_refused(configure: Configure, tmp_path: Path) -> None:
    write_candidates(configure(), tmp_path)
    with pytest.raises(ValueError, match=r"other settings \(temperature: 0.7 then, 0.2 now\). Give another --workdir"):
        write_candidates(configure(temperature=0.2), tmp_path)
    write_candidates(configure(limit=8, attempts=1, chat={"concurrency": 2, "max_calls": 100}), tmp_path)


def test_pairs_that_the_command_does_not_plan_are_kept_and_not_used(
    configure: Configure, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(folder: Path, **writing: Any) -> set[str]:
        """The ids of the pairs that are checked."""
        _, used = write_candidates(configure(**writing), folder)
        return {pair.candidate_id for pair in used}

    both, case = (("templates", 1.0), ("case", 1.0)), (("case", 1.0),)
    everything = run(tmp_path / "a", writers=both, limit=6)
    capsys.readouterr()
    for narrower in ({"writers": case, "limit": 6}, {"writers": both, "limit": 2}):
        assert run(tmp_path / "a", **narrower) == run(tmp_path / str(narrower["limit"]), **narrower)
        assert re.search(r"\d+ pairs of earlier commands.* stay in .*candidates\.jsonl", capsys.readouterr().out)
    assert run(tmp_path / "a", writers=both, limit=6) == everything
    assert "earlier commands" not in capsys.readouterr().out


def test_a_changed_caption_is_noticed_before_the_first_request(
    configure: Configure, chat_server: Any, tmp_path: Path
) -> None:
    write_candidates(configure(limit=2), tmp_path)
    asked = len(chat_server.requests)
    path = tmp_path / "candidates.jsonl"
    edit = {"line_sha256": "", "caption_sha256": "0" * 64}
    lines = [json.loads(line) | edit for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    cache = re.escape(str(tmp_path / "chat_cache.jsonl"))
    with pytest.raises(ValueError, match=rf"prepared anew.*new workdir, with --config.synthesis.chat.cache={cache} "):
        write_candidates(configure(limit=4), tmp_path)
    assert len(chat_server.requests) == asked
    again = configure(limit=2, chat={"cache": str(tmp_path / "chat_cache.jsonl")})
    write_candidates(again, tmp_path / "new")  # the way out
    assert len(chat_server.requests) == asked and len(written(tmp_path / "new")) == 8


@pytest.mark.parametrize(
    ("writing", "message"),
    [
        ({"writers": (("cases", 1.0),)}, "there is no 'cases'. Did you mean `case`"),
        ({"writers": (("case", 0.0),)}, r"share of case must be in \(0, 1\], got 0.0"),
        ({"templates": ("modalty",)}, "there is no 'modalty'. Did you mean `modality`"),
    ],
)
def test_a_wrong_writer_is_named_before_anything_is_sent(
    writing: dict[str, Any], message: str, configure: Configure, chat_server: Any, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        write_candidates(configure(**writing), tmp_path)
    with pytest.raises(ValueError, match=r"ask a chat model: give synthesis.chat.base_url and synthesis.chat.model"):
        write_candidates(configure(chat={"model": ""}), tmp_path)
    assert not chat_server.requests


RUN = """
import pathlib, sys
from radvqa_jax.config.check import from_config_dict
from radvqa_jax.runners.write_questions import write_candidates
import runpy

config = runpy.run_path(sys.argv[1])["get_config"]()
write_candidates(from_config_dict(config), pathlib.Path(sys.argv[2]))
"""


FILE = """
from radvqa_jax.config import default_config, source

def get_config():
    config = default_config()
    config.mode = "write_questions"
    config.data.data_dir = {data!r}
    config.synthesis.sources = (source(dataset="phantom_rad", builder_config="tiny"),)
    config.synthesis.chat.base_url = {url!r}
    config.synthesis.chat.model = "m"
    config.synthesis.name = "killed_questions"
    config.synthesis.chat.concurrency = 4
    config.synthesis.writing.writers = (("case", 1.0), ("templates", 1.0))
    return config
"""


@pytest.mark.slow
def test_a_killed_run_loses_nothing_and_pays_nothing_twice(
    chat_server: Any, honest: Any, configure: Configure, phantoms: Path, tmp_path: Path, repo: Path
) -> None:
    """Killed with SIGKILL while it writes, twice; the third run ends by itself."""

    def slow(body: dict[str, Any]) -> Any:
        time.sleep(0.05)
        return honest(body)

    chat_server.behave = slow
    (tmp_path / "config.py").write_text(FILE.format(data=str(phantoms), url=chat_server.url))
    command = [sys.executable, "-c", RUN, str(tmp_path / "config.py"), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(repo), "JAX_PLATFORMS": "cpu"}
    in_flight = 4  # two images with the same texts may be asked about at the same time
    for stop in (5, 20, None):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while stop and len(chat_server.requests) < stop and process.poll() is None:
            time.sleep(0.005)
        if stop:
            process.send_signal(signal.SIGKILL)
            in_flight += 4  # at most: requests whose replies were not kept
        _, errors = process.communicate(timeout=120)
        assert process.returncode == (-signal.SIGKILL if stop else 0), errors.decode()[-2000:]
    pairs = written(tmp_path)
    assert len(read_jsonl(tmp_path / "candidates.jsonl")) == len(pairs)  # none twice
    assert Counter(pair.writer for pair in pairs)["case"] == 4 * 40  # none lost
    assert len(read_ledger(tmp_path / "written.jsonl")) == 80
    bodies = Counter(json.dumps(body, sort_keys=True) for body in chat_server.requests)
    assert bodies.total() <= len(bodies) + in_flight and len(bodies) <= 40
    # An uninterrupted run writes the same pairs.
    chat_server.behave = honest
    config = configure(writers=(("case", 1.0), ("templates", 1.0)), limit=0, chat={"retries": 4, "timeout": 120.0})
    write_candidates(config, tmp_path / "whole")
    assert {pair.candidate_id for pair in written(tmp_path / "whole")} == {pair.candidate_id for pair in pairs}


def test_no_pair_is_on_the_disk_before_its_reply(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before pairs are synced to the disk, the cache with their replies has been synced."""
    replies, pairs = tmp_path / "chat_cache.jsonl", tmp_path / "candidates.jsonl"
    safe, checked = set[str](), 0
    wait = os.fsync

    def watched(file: int) -> None:
        nonlocal checked
        wait(file)
        if os.path.samestat(os.fstat(file), replies.stat()):
            safe.update(row["key"] for row in read_jsonl(replies, allow_cut=True))
        elif pairs.exists() and os.path.samestat(os.fstat(file), pairs.stat()):
            assert {pair.reply_id for pair in written(tmp_path)} <= safe
            checked += 1

    monkeypatch.setattr(os, "fsync", watched)
    monkeypatch.setattr(chat_cache, "SYNC_EVERY", 3600.0)
    write_candidates(configure(limit=0), tmp_path)
    assert checked and len(written(tmp_path)) == 160


def test_batches_hold_few_pieces_and_an_error_comes_after_what_ended_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "BATCH", 3)
    made: list[str] = []
    image = Image("d", "", "train", "train", "case", "image", {"caption": "CT"})

    def do(work: Work) -> Finished:
        if work.work_id == "50":
            raise EndpointError("no more", kind="status 401", final=True)
        time.sleep(0.001)
        return Finished(None, failure=work.work_id)

    def works() -> Iterator[Work]:
        for number in range(100):
            made.append(str(number))
            yield Work(str(number), image, "case", ())

    threads = 4
    seen: list[str] = []
    with pytest.raises(EndpointError, match="no more"):
        for batch in writing._Hands(works(), do).batches(threads, ThreadPoolExecutor(threads)):
            seen += [one.failure for one in batch]
            assert len(made) <= len(seen) + 3 + 2 * threads  # nothing piles up while a batch is written
            time.sleep(0.003)
    assert Counter(seen) == Counter(made) - Counter(["50"])  # nothing lost, nothing twice
    assert 50 <= len(seen) < 60  # what had begun ended, and nothing else began
    # A reader that leaves ends the threads, too.
    made.clear()
    begun = threading.active_count()
    batches = writing._Hands(works(), lambda work: Finished(None)).batches(threads, ThreadPoolExecutor(threads))
    next(batches)
    batches.close()
    assert len(made) < 30 and threading.active_count() <= begun


def test_threads_switch_sooner_while_they_write_and_as_before_afterwards() -> None:
    image = Image("d", "", "train", "train", "case", "image", {"caption": "CT"})
    works = [Work(str(number), image, "case", ()) for number in range(3)]
    before = sys.getswitchinterval()
    hands = writing._Hands(works, lambda work: Finished(None, failure=str(sys.getswitchinterval())))
    seen = [float(one.failure) for batch in hands.batches(2, ThreadPoolExecutor(2)) for one in batch]
    assert seen == [pytest.approx(writing.SWITCH)] * 3
    assert sys.getswitchinterval() == before
    batches = writing._Hands(works, lambda work: Finished(None)).batches(2, ThreadPoolExecutor(2))
    next(batches)
    batches.close()
    assert sys.getswitchinterval() == before


def test_work_that_was_cut_between_pairs_and_ledger_is_done_again_without_asking(
    configure: Configure, chat_server: Any, tmp_path: Path
) -> None:
    write_candidates(configure(), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    pairs = written(tmp_path)
    for ledger_lines, half_pair in ((5, b'{"candidate_id": "01'), (0, b"")):
        lines = before["written.jsonl"].splitlines(keepends=True)
        (tmp_path / "written.jsonl").write_bytes(b"".join(lines[:ledger_lines]) + b'{"work_id"')
        cut = before["candidates.jsonl"].splitlines(keepends=True)
        (tmp_path / "candidates.jsonl").write_bytes(b"".join(cut[:-2]) + half_pair)
        write_candidates(configure(), tmp_path)
        assert sorted(written(tmp_path), key=str) == sorted(pairs, key=str)
        assert len(read_jsonl(tmp_path / "candidates.jsonl")) == 24 and len(chat_server.requests) == 6
