"""Values that the tests of the chat client share, and a server at whose requests Ctrl-C is pressed."""

import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from radvqa_jax import progress
from radvqa_jax.chat_client import ChatClient

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Is it?"}]
SOON = {"retry-after-ms": "1"}  # the client waits as long as the server asks, so tests do not
Make = Callable[..., ChatClient]


class Interrupted:
    """Lets Ctrl-C be pressed when two requests are in flight. One is answered, and one fails, once the run says that it
    waits for them; with `again`, Ctrl-C is pressed then instead.

    Attributes:
        said: lines that the run printed.
    """

    def __init__(self, server: Any, monkeypatch: pytest.MonkeyPatch, *, again: bool = False) -> None:
        self.said: list[str] = []
        self._server, self._again = server, again
        self._good = server.behave
        self._told = threading.Event()
        self._both = threading.Barrier(2, timeout=4)
        server.behave = self._behave
        monkeypatch.setattr(progress, "say", self._say)

    def _behave(self, body: dict[str, Any]) -> Any:
        if len(self._server.requests) > 2:
            return 500, "text/plain", b"", SOON
        if first := self._both.wait() == 0:
            _press()
        self._told.wait(4)
        return self._good(body) if first else (500, "text/plain", b"", SOON)

    def _say(self, text: str) -> None:
        self.said.append(text)
        if self._again:
            threading.Timer(0.2, _press).start()
        else:
            self._told.set()


def _press() -> None:
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGINT)
