"""A forecast of a run of writing: requests, tokens, their cost, and ten whole prompts."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from radvqa_jax.chat_budget import estimate_prompt
from radvqa_jax.chat_client import ChatClient
from radvqa_jax.config import SynthesisConfig
from radvqa_jax.synthesis import prompts
from radvqa_jax.synthesis.chat_checks import requests_a_pair
from radvqa_jax.synthesis.ledger import Ledger
from radvqa_jax.synthesis.work import Work

SHOWN = 10  # prompts that a dry run prints


class Forecast(NamedTuple):
    """The remaining work, counted without sending anything."""

    work: Counter[str]  # writer -> pieces of work
    done: int  # pieces of work that an earlier run finished
    cached: int  # requests that the cache answers
    requests: int  # requests to send, if every first reply is usable
    prompt_tokens: int  # tokens of these, estimated
    reply_tokens: int  # tokens of the replies to these, at most
    shown: list[Work]  # the first pieces of work that ask the chat model


def forecast(works: Iterable[Work], ledger: Ledger, client: ChatClient | None, config: SynthesisConfig) -> Forecast:
    """Counts the remaining work."""
    work: Counter[str] = Counter()
    shown: list[Work] = []
    done = cached = requests = prompt_tokens = 0
    seen: set[str] = set()
    for one in works:
        if one.work_id in ledger or one.work_id in seen:
            done += one.work_id in ledger and one.work_id not in seen
            seen.add(one.work_id)
            continue
        seen.add(one.work_id)
        work[one.writer] += 1
        if one.writer not in prompts.MODEL_WRITERS:
            continue
        assert client is not None
        prompt = prompts.make_prompt(one.writer, one.image, one.kinds, max_chars=config.writing.max_chars)
        schema = prompts.schema(one.writer, pairs=len(one.kinds))
        if client.is_cached(prompt.messages, schema=schema, seed=config.chat.seed):
            cached += 1
            continue
        requests += 1
        prompt_tokens += estimate_prompt(prompt.messages)
        if len(shown) < SHOWN:
            shown.append(one)
    return Forecast(work, done, cached, requests, prompt_tokens, requests * config.writing.max_tokens, shown)


def describe_forecast(found: Forecast, config: SynthesisConfig) -> str:
    """Describes the remaining work and its cost, for the terminal."""
    per_writer = ", ".join(f"{n} by {writer}" for writer, n in found.work.items()) or "none"
    lines = [f"Images to write about: {per_writer}. Finished by earlier runs: {found.done}."]
    if found.requests or found.cached:
        attempts = config.writing.attempts
        again = f" Each is asked up to {attempts} times until a reply can be used." if attempts > 1 else ""
        lines.append(
            f"{found.requests} requests are to be sent to {config.chat.base_url}, {found.cached} are in the cache."
            f"{again} Prompts have about {found.prompt_tokens} tokens, replies at most {found.reply_tokens}."
        )
        prices = config.writing.prompt_price, config.writing.reply_price
        if any(prices):
            low = found.prompt_tokens * prices[0] / 1e6
            high = low + found.reply_tokens * prices[1] / 1e6
            lines.append(f"At the configured prices that is {low:.2f} for the prompts, and {high:.2f} at most.")
        else:
            lines.append("No price is configured (synthesis.writing.prompt_price, reply_price).")
        if config.chat.max_calls and found.requests > config.chat.max_calls:
            lines.append(f"synthesis.chat.max_calls={config.chat.max_calls} will stop this run before its end.")
    asks = bool(config.chat.base_url) and not config.chat.offline
    if asks and (n := requests_a_pair(config.checks)):
        lines.append(
            f"The checks then send up to {n} requests about each pair that the other checks pass, if every first reply "
            "is usable. The limits of synthesis.chat are those of writing and checks together."
        )
    return "\n".join(lines)


def show_prompts(found: Forecast, config: SynthesisConfig) -> str:
    """The first prompts in full, as the run would send them."""
    parts = []
    for number, work in enumerate(found.shown, 1):
        prompt = prompts.make_prompt(work.writer, work.image, work.kinds, max_chars=config.writing.max_chars)
        image = work.image
        parts.append(
            f"== prompt {number} of {len(found.shown)}: {work.writer}, {image.dataset} {image.image_id} ({image.split})"
        )
        parts += [f"-- {message['role']}\n{message['content']}" for message in prompt.messages]
    return "\n".join(parts)
