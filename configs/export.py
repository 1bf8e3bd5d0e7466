"""An adapter for other libraries, or the model with it merged.

    python -m radvqa_jax.main --config configs/export.py --workdir runs/export \
        --config.model.checkpoint=FILE.npz --config.model.tokenizer=FILE.model --config.adapter=runs/s2/stage2 \
        --config.export.format=peft

Formats: peft (an adapter folder for transformers, vLLM and others), huggingface (a whole folder) and big_vision (a
native npz). A Hugging Face folder as model.checkpoint brings its own tokenizer. The export is read again and compared
with the model in memory, and a model card is written; see docs/export.md. No accelerator is needed.
"""

from radvqa_jax.config import default_config


def get_config():
    config = default_config()
    config.mode = "export"
    return config
