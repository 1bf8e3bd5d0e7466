"""The judge with a server from another project: `transformers serve` with a tiny random Llama."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from radvqa_jax.config import JudgeConfig
from radvqa_jax.evaluation.judge import judge
from radvqa_jax.evaluation.judge_scores import score_judge
from radvqa_jax.files import read_jsonl, write_jsonl
from radvqa_jax.schema import Record
from tests.serving import serve

pytestmark = [pytest.mark.slow, pytest.mark.torch]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
RECORDS = [Record(f"q{i}", f"i{i}", "Where is it?", "left", ["left" if i else "right"], []) for i in range(2)]


def make_llama(folder: Path) -> None:
    """Writes a Llama of 30,000 random weights with a byte tokenizer and a chat template."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    symbols = ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={symbol: i for i, symbol in enumerate(symbols)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    ends = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **ends)
    wrapped.chat_template = TEMPLATE
    wrapped.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(symbols), max_position_embeddings=8192, bos_token_id=0, eos_token_id=1, **sizes)
    LlamaForCausalLM(config).save_pretrained(folder)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The fields of a judge's configuration for a server that runs while the tests do."""
    folder = tmp_path_factory.mktemp("llama")
    make_llama(folder)
    with serve(folder) as fields:
        yield fields


def test_a_model_that_talks_nonsense_gives_no_verdict_and_no_loss(served: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    write_jsonl(path, [record.to_json() for record in RECORDS])
    config = JudgeConfig(max_tokens=24, attacks=0, attempts=2, concurrency=1, **served)
    judged = judge(RECORDS, predictions=path, config=config, cache=tmp_path / "cache.jsonl")
    for record in RECORDS:
        line = judged.find(record)
        assert line is not None and line.state == "unjudged" and line.attempts == 2
        assert line.why.startswith("no verdict: not one JSON object")
    scores = score_judge(judged, RECORDS, resamples=20, seed=0)
    assert scores["overall"] == {"accuracy": None, "score": None, "unjudged": 2}
    replies = read_jsonl(tmp_path / "cache.jsonl")
    assert len(replies) == 4 and all(row["tokens"] > 100 for row in replies)  # prompt and reply were counted
    # At temperature 0 it gives the same replies again; from the cache, no request is sent.
    judge(RECORDS, predictions=path, config=config, cache=tmp_path / "cache.jsonl")
    path.with_name("again.jsonl").write_bytes(path.read_bytes())
    judge(RECORDS, predictions=path.with_name("again.jsonl"), config=config, cache=tmp_path / "other.jsonl")
    assert [row["text"] for row in read_jsonl(tmp_path / "other.jsonl")] == [row["text"] for row in replies]


def test_an_absent_model_is_named(served: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    write_jsonl(path, [record.to_json() for record in RECORDS])
    config = JudgeConfig(attacks=0, retries=0, max_failures=1, **(served | {"model": "nobody/nothing"}))
    with pytest.raises(ValueError, match=r"0 of 2 are judged and kept"):
        judge(RECORDS, predictions=path, config=config, cache=tmp_path / "cache.jsonl")
