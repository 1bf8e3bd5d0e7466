"""One image or DICOM file and a question: the answer, five samples and their agreement, and a viewer of what was read.

    python -m radvqa_jax.main --config configs/ask.py --workdir runs/ask --config.ask.image=FILE \
        --config.ask.question="Is there a fracture?"

Machine: one CPU core, under a minute. The embedded tiny model has seen drawings only, so its answers are worth nothing:
it is there to see the parts work. For a real model, the same command with its files:

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
    config.adapter_accept = ("data.seq_len",)  # a question may be longer than those that the adapter was trained on
    config.decode.max_new_tokens = 16
    return config
