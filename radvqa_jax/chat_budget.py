"""The limits of a run's requests to a chat model: their number, tokens and rate. Repeated requests also count."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from radvqa_jax.chat_stop import Stop
from radvqa_jax.config import ChatConfig

_BYTES_A_TOKEN = 3  # of UTF-8. English has about 4, Chinese 3 to 5: the estimate errs towards too many tokens
_TOKENS_A_MESSAGE = 4  # that a chat template adds to it


class BudgetSpent(ValueError):
    """The run has used up its calls or tokens."""


def estimate_tokens(text: str) -> int:
    """About how many tokens a text has, rounded up.

    >>> estimate_tokens("Is there a mass?")
    6
    """
    return -(-len(text.encode("utf-8", "replace")) // _BYTES_A_TOKEN)


def estimate_prompt(messages: Sequence[Mapping[str, str]]) -> int:
    """About how many tokens a conversation has."""
    return sum(estimate_tokens(message["content"]) + _TOKENS_A_MESSAGE for message in messages)


class Budget:
    """Counts requests and tokens of a run, and spaces requests evenly over time. Safe to use from several threads.

    A failed request counts with the estimate of its prompt. Each request in flight reserves `max_tokens`, so that a run
    exceeds `max_total_tokens` by at most the reply to one request.
    """

    def __init__(self, config: ChatConfig, stop: Stop, *, used: tuple[int, int] = (0, 0)) -> None:
        """Begins with the calls and tokens that an earlier part of the run used."""
        self._config, self._stop = config, stop
        self._room = threading.Condition()
        self._asking = threading.local()
        self._reserved = 0  # tokens that the replies in flight may use
        self._next = 0.0
        self.calls, self.tokens = used

    @contextmanager
    def asking(self, prompt: int) -> Iterator[None]:
        """Reserves the tokens of one question; waits first while requests in flight may use up the rest.

        Raises:
            BudgetSpent: if too little is left for a prompt of this many tokens.
        """
        most, limit = self._config.max_tokens, self._config.max_total_tokens
        with self._room:
            while limit and self._reserved and self.tokens + self._reserved + prompt + most > limit:
                self._room.wait()
            self._check(prompt)
            self._reserved += most
        self._asking.prompt = prompt
        try:
            yield
        finally:
            with self._room:
                self._reserved -= most
                self._room.notify_all()

    def count(self) -> None:
        """Counts one request for this thread's question, and waits until it may be sent.

        Raises:
            BudgetSpent: if the budget does not allow the request.
        """
        prompt = self._asking.prompt
        with self._room:
            self._check(prompt)
            self.calls += 1
            self.tokens += prompt
            now = time.monotonic()
            start = max(now, self._next)
            if self._config.requests_per_minute:
                self._next = start + 60 / self._config.requests_per_minute
        if start > now:
            self._stop.pause(start - now)

    def take_back(self) -> None:
        """Undoes this thread's last `count`, because the request could not be sent."""
        with self._room:
            self.calls -= 1
            self.tokens -= self._asking.prompt

    def replied(self, tokens: int) -> None:
        """Replaces the estimate of a request by its own tokens and those of its reply."""
        with self._room:
            self.tokens += tokens - self._asking.prompt

    def _check(self, prompt: int) -> None:
        calls, limit = self._config.max_calls, self._config.max_total_tokens
        again = "Raise it and start again to continue."
        if calls and self.calls >= calls:
            raise BudgetSpent(f"The budget is spent: max_calls={calls}. {again}")
        if limit and (self.tokens >= limit or self.tokens + prompt > limit):
            used = f"{self.tokens} are used, and the next prompt has about {prompt}"
            raise BudgetSpent(f"The budget is spent: max_total_tokens={limit}; {used}. {again}")
