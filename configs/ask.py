"""Asks one question about an image or DICOM file: the answer, five samples, their agreement, and attention maps.

    python -m radvqa_jax.main --config configs/ask.py --workdir runs/ask --config.ask.image=FILE \
        --config.ask.question="Is there a fracture?"

Machine: one CPU core, under a minute. The embedded tiny model has only seen drawings, so its answers mean nothing: it
only shows that the parts work. For a real model, give its files in the same command:

    … --config.model.variant=paligemma-3b-448 --config.model.checkpoint=FILE.npz --config.model.tokenizer=FILE.model \
        --config.adapter=runs/s2/stage2
"""

import ml_collections

from radvqa_jax.config import default_config, use_embedded_model


def get_config() -> ml_collections.ConfigDict:
    config = default_config()
    config.mode = "ask"
    use_embedded_model(config)
    config.data.seq_len = 96
    config.adapter_accept = ("data.seq_len",)  # a question may be longer than those of the adapter's training
    config.decode.max_new_tokens = 16
    return config
