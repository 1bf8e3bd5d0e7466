"""The cache of replies on a disk that is full for a moment."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from radvqa_jax.chat_cache import Cache
from radvqa_jax.chat_reply import Reply
from tests.chat.chat_case import MESSAGES, Make


def reply(key: str) -> Reply:
    return Reply(text="links — ja " * 20, finish="stop", model="m", tokens=5, cached=False, key=key)


def fill_disk(monkeypatch: pytest.MonkeyPatch, writes: list[int]) -> None:
    """Lets each write write this many bytes at most; 0 fails, as a full disk does."""
    real = os.write

    def write(file: int, data: Any) -> int:
        room = writes.pop(0) if writes else len(data)
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(file, data[:room])

    monkeypatch.setattr(os, "write", write)


def kept(cache: Cache) -> list[str]:
    return [key for key in "abcd" if (found := cache.get(key)) and found == reply(key)._replace(cached=True)]


def test_a_line_that_is_written_in_parts_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path / "cache.jsonl")
    fill_disk(monkeypatch, [100, 1, 7])
    for key in "ab":
        cache.put(reply(key))
    assert kept(cache) == kept(Cache(cache.path)) == ["a", "b"]
    cache.close()


@pytest.mark.parametrize("writes", [[1000, 40, 0], [1000, 0], [1000, 1, 1, 0]])
def test_a_reply_that_the_disk_has_no_room_for_is_an_error_and_leaves_nothing(
    writes: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then there is room again: what comes later is kept, and the next run reads the file."""
    cache = Cache(tmp_path / "cache.jsonl")
    fill_disk(monkeypatch, writes)
    cache.put(reply("a"))
    with pytest.raises(OSError, match=r"No space left on device: '.*cache.jsonl'"):
        cache.put(reply("b"))
    assert kept(cache) == kept(Cache(cache.path)) == ["a"] and cache.path.read_bytes().count(b"\n") == 1
    for key in "cd":
        cache.put(reply(key))
    assert kept(cache) == kept(Cache(cache.path)) == ["a", "c", "d"]
    cache.close()


def test_the_line_of_another_process_is_not_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path / "cache.jsonl")
    cache.put(reply("a"))
    real = os.write

    def write(file: int, data: Any) -> int:
        if not calls:
            calls.append(1)
            return real(file, data[:10])
        with cache.path.open("ab") as other:
            other.write(b"theirs\n")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    calls: list[int] = []
    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OSError, match="No space left"):
        cache.put(reply("b"))
    assert cache.path.read_bytes().endswith(b"theirs\n")
    cache.close()


def test_a_reply_for_a_cache_that_was_removed_ends_the_run(make: Make, chat_server: Any, tmp_path: Path) -> None:
    client = make()
    client.ask(MESSAGES)
    (tmp_path / "cache.jsonl").unlink()
    for _ in range(2):  # the second is not sent
        with pytest.raises(FileNotFoundError, match=r"removed during the run.*cache.jsonl"):
            client.ask(MESSAGES[:1])
    assert len(chat_server.requests) == 2
