"""Stops a run's requests to a chat model, at Ctrl-C or an error: replies in flight are awaited, and nothing is sent."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from radvqa_jax import progress


class Stopped(RuntimeError):
    """A request was not sent, because the run stops."""


class Stop:
    """Knows the requests in flight. Once `now` was called, no request is sent, and no pause lasts."""

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._in_flight = 0

    def now(self) -> int:
        """Lets no further request be sent, and says what is awaited. Returns the number of requests in flight."""
        with self._lock:
            first, waiting = not self._stopped.is_set(), self._in_flight
            self._stopped.set()
        if first and waiting:
            replies = "reply of 1 request that is" if waiting == 1 else f"replies of {waiting} requests that are"
            progress.say(f"waiting for the {replies} paid for; press Ctrl-C to end the run now")
        return waiting

    def pause(self, seconds: float) -> None:
        """Waits; a stop ends the pause."""
        self._stopped.wait(seconds)

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Counts a request as in flight within the block.

        Raises:
            Stopped: if no request may be sent any more.
        """
        with self._lock:
            if self._stopped.is_set():
                raise Stopped("The run stops; the request was not sent.")
            self._in_flight += 1
        try:
            yield
        finally:
            with self._lock:
                self._in_flight -= 1

    @contextmanager
    def threads(self, n: int) -> Iterator[ThreadPoolExecutor]:
        """Threads that ask. An error or Ctrl-C within the block stops the requests, and awaits those in flight.

        Ctrl-C during this time ends the waiting.
        """
        pool = ThreadPoolExecutor(n)  # not `with`, which would wait again after the second Ctrl-C
        wait = True
        try:
            yield pool
        except BaseException as error:
            wait = not (self._stopped.is_set() and isinstance(error, KeyboardInterrupt))
            self.now()
            raise
        finally:
            pool.shutdown(wait=wait, cancel_futures=True)
