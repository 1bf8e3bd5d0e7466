"""Chat models behind an endpoint, and what they are asked for."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Interval

from radvqa_jax.config.bounds import Above0, Count, NotNegative, Positive, Seed


@dataclass(frozen=True)
class ChatConfig:
    """A chat model behind an OpenAI-compatible endpoint: vLLM, llama.cpp, Ollama, transformers serve, or a service."""

    base_url: str = ""  # such as http://127.0.0.1:8000/v1
    model: str = ""  # as the endpoint calls it
    allow_other_model: bool = False  # whether a reply counts that says it is of another model than `model`
    key_variable: str = "OPENAI_API_KEY"  # environment variable that holds the key; a local server needs none
    allow_remote: bool = False  # an endpoint that is not this machine gets questions, references and answers
    temperature: NotNegative = 0.0  # of replies; 0 = the likeliest
    seed: Seed = 0  # that the endpoint is told
    max_tokens: Positive = 512  # of a reply
    response_format: Literal["text", "json_object", "json_schema"] = "text"  # what the endpoint is told to hold to
    timeout: Above0 = 120.0  # seconds for one whole request, the reply included; each repeated one has as many
    retries: Count = 4  # of a request that failed (connection, timeout, 408, 409, 429, 5xx), with growing pauses
    concurrency: Positive = 4  # requests at a time
    requests_per_minute: Count = 0  # 0 = no limit
    max_calls: Count = 0  # requests that a run may send, repeated ones included; 0 = no limit
    # Prompt and reply tokens that a run may use, as the endpoint counts, by estimate where it does not; 0 = no limit.
    max_total_tokens: Count = 0
    offline: bool = False  # only what is in the cache; nothing is sent
    cache: str = ""  # file of replies; empty = chat_cache.jsonl in the workdir


@dataclass(frozen=True)
class JudgeConfig(ChatConfig):
    """The language model that judges answers (mode=judge)."""

    prompt: Literal["medm", "llama32_med"] = "medm"  # MedM's 0/1, or LLaMA32-Med's 1 to 5
    with_question: bool = True  # False: the judge sees reference and answer alone, as MedM had it
    attempts: Positive = 3  # replies asked for until one is a verdict; then the answer is unjudged
    max_chars: Annotated[int, Interval(ge=100)] = (
        4000  # of each field; the rest of a longer one is cut, and the judge is told
    )
    max_failures: Positive = 5  # requests in a row that fail after their retries; then the run stops
    attacks: Count = 20  # questions that get every attack of evaluation/attacks.py; 0 = none
