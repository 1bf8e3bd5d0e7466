"""Converts a checkpoint: a native npz to a Hugging Face folder, or the other way round.

    python -m radvqa_jax.main --config configs/convert.py --workdir runs/convert \
        --config.model.checkpoint=FILE.npz --config.model.tokenizer=FILE.model

    … --config.model.checkpoint=FOLDER --config.convert.format=big_vision

Writes runs/convert/huggingface (or big_vision), reads it again and compares every leaf bit for bit with what was
written. One leaf is in memory at a time (the largest of a 3B model in bfloat16 has 2.4 GB). No accelerator is needed.
See docs/weights.md.
"""

from radvqa_jax.config import default_config


def get_config():
    config = default_config()
    config.mode = "convert"
    return config
