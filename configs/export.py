"""Exports an adapter, or the model with the adapter merged, for other libraries.

    python -m radvqa_jax.main --config configs/export.py --workdir runs/export \
        --config.model.checkpoint=FILE.npz --config.model.tokenizer=FILE.model --config.adapter=runs/s2/stage2 \
        --config.export.format=peft

Formats: peft (an adapter folder for transformers, vLLM and others), huggingface (a folder with the merged model) and
big_vision (the merged model as a native npz). A Hugging Face folder as model.checkpoint has its own tokenizer. The
export is read again and compared with the model in memory, and gets a model card; see docs/export.md. No accelerator is
needed.
"""

from radvqa_jax.config import default_config


def get_config():
    config = default_config()
    config.mode = "export"
    return config
