"""Writes question-answer pairs from the captions and cases of prepared data sets.

    python -m radvqa_jax.main --config configs/write_questions.py --workdir runs/questions

This uses templates alone, on phantoms. With a language model behind an OpenAI-compatible endpoint, on ROCOv2:

    python -m radvqa_jax.main --config configs/write_questions.py:rocov2 --workdir runs/rocov2_questions \
        --config.synthesis.chat.base_url=http://127.0.0.1:8000/v1 --config.synthesis.chat.model=NAME

To see ten prompts and the cost of all of them first: --config.synthesis.writing.dry_run=True. A run that was stopped or
killed continues with the same command; nothing is asked twice. docs/synthesis.md describes the questions.

Machine: any; the speed depends on the endpoint.
"""

import ml_collections

from radvqa_jax.config import default_config, source


def get_config(dataset: str = "phantom_rad") -> ml_collections.ConfigDict:
    config = default_config()
    config.mode = "write_questions"
    config.synthesis.name = f"{dataset}_questions"
    config.synthesis.sources = (source(dataset=dataset),)
    return config
