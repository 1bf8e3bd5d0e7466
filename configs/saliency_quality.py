"""Measures attention maps against lesion masks, on synthetic images with the tiny model.

    python -m radvqa_jax.main --config configs/saliency_quality.py --workdir runs/quality \
        --config.adapter=runs/demo/stage2

configs/demo.py writes runs/demo (bash scripts/demo.sh). Without an adapter, the base model is measured. Machine: two
CPU cores, some minutes, half of them for training on shuffled images. Expect runs/quality/saliency_quality.html, which
first lists the maps that are no better than chance. For the demo's model, expect all maps to be above chance, and none
above an edge detector, which also finds these lesions.
"""

import ml_collections

from radvqa_jax.config import default_config, source, stage, use_embedded_model


def get_config() -> ml_collections.ConfigDict:
    config = default_config()
    config.mode = "saliency_quality"
    use_embedded_model(config)

    config.data.data_dir = "~/.cache/radvqa_jax/data"
    config.data.seq_len = 20  # as in configs/demo.py, which trains the measured adapter
    config.eval.source.dataset = "phantom_rad"
    config.decode.max_new_tokens = 8

    # The mask marks the lesion. Modality, plane and organ can be seen in the whole image.
    config.quality.question_types = ("abnormality", "finding", "side", "size")
    config.quality.shuffled_image_steps = 150

    # For the control on shuffled images: stage 2 of configs/demo.py, at a constant learning rate.
    stage2 = config.stages.stage2 = stage()
    stage2.sources = (source(dataset="phantom_rad"),)
    stage2.lora.rank = 16
    stage2.train = ((r".*/lora_[ab]", "train:lora"), (r"img/head/.*", "train:head"), (".*", "freeze"))
    stage2.batch_size, stage2.accumulate = 32, 1
    stage2.optim.learning_rate = 3e-3
    stage2.optim.b2 = 0.98
    stage2.log_every = 25
    return config
