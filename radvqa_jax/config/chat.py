"""Chat models behind an endpoint, and the requests that are sent to them."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Interval

from radvqa_jax.config.bounds import LARGEST, Above0, Count, NotNegative, Positive, Rows, Seed


@dataclass(frozen=True)
class ChatConfig:
    """A chat model behind an OpenAI-compatible endpoint: vLLM, llama.cpp, Ollama, transformers serve, or a service."""

    base_url: str = ""  # address of the endpoint, such as http://127.0.0.1:8000/v1
    model: str = ""  # the model's name at the endpoint
    allow_other_model: bool = False  # accept replies from another model than the one asked for
    key_variable: str = "OPENAI_API_KEY"  # environment variable that holds the key; a local server needs none
    allow_remote: bool = False  # allow an endpoint on another machine: it receives questions, references and answers
    temperature: NotNegative = 0.0  # sampling temperature; 0 = greedy
    seed: Seed = 0  # sampling seed, which each request contains
    max_tokens: Positive = 512  # longest reply, in tokens
    response_format: Literal["text", "json_object", "json_schema"] = "text"  # the reply format to request
    timeout: Above0 = 120.0  # seconds for one request and its whole reply; a repeated request starts anew
    # How often a failed request (connection, timeout, 408, 409, 429, 5xx) is repeated, with growing pauses.
    retries: Count = 4
    concurrency: Rows = 4  # number of requests in parallel
    requests_per_minute: Count = 0  # most requests per minute; 0 = no limit
    max_calls: Count = 0  # requests per run, repeated ones included; 0 = no limit
    # Prompt and reply tokens per run, as the endpoint counts them, or estimated if it does not; 0 = no limit.
    max_total_tokens: Count = 0
    offline: bool = False  # answer from the cache alone; send nothing
    cache: str = ""  # file that keeps replies; empty = chat_cache.jsonl in the workdir


@dataclass(frozen=True)
class JudgeConfig(ChatConfig):
    """The language model that judges answers (mode=judge)."""

    prompt: Literal["medm", "llama32_med"] = "medm"  # MedM's verdicts 0 or 1, or LLaMA32-Med's 1 to 5
    with_question: bool = True  # False = the judge sees reference and answer alone, as in MedM
    attempts: Positive = 3  # requests per answer until a reply is a verdict; after them the answer stays unjudged
    max_chars: Annotated[int, Interval(ge=100, le=LARGEST)] = (
        4000  # longest field of a prompt, in characters; a longer one is cut, and the prompt says so
    )
    max_failures: Positive = 5  # requests that fail in a row, after their retries, before the run stops
    attacks: Count = 20  # questions on which every attack of evaluation/attacks.py is tried; 0 = none
