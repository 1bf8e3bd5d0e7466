"""Are the maps any good: attention maps against lesion masks, on synthetic images, with the tiny model.

    python -m radvqa_jax.main --config configs/saliency_quality.py --workdir runs/quality \
        --config.adapter=runs/demo/stage2

runs/demo is what configs/demo.py leaves (bash scripts/demo.sh); without an adapter the base model is measured. Machine:
two CPU cores, some minutes, half of them for training on shuffled images. Expect runs/quality/saliency_quality.html,
which says first which maps are no better than chance. Of the demo's model expect all to be above chance, and none to be
above an edge detector, which finds these lesions as well.
"""

import ml_collections

from radvqa_jax.config import default_config, source, stage, use_embedded_model


def get_config() -> ml_collections.ConfigDict:
    config = default_config()
    config.mode = "saliency_quality"
    use_embedded_model(config)

    config.data.data_dir = "~/.cache/radvqa_jax/data"
    config.data.seq_len = 20  # as in configs/demo.py, whose adapter is measured
    config.eval.source.dataset = "phantom_rad"
    config.decode.max_new_tokens = 8

    # The mask marks the lesion; modality, plane and organ are to be seen everywhere.
    config.quality.question_types = ("abnormality", "finding", "side", "size")
    config.quality.shuffled_image_steps = 150

    # For the check with shuffled images: stage 2 as in configs/demo.py.
    stage2 = config.stages.stage2 = stage()
    stage2.sources = (source(dataset="phantom_rad"),)
    stage2.lora.rank = 16
    stage2.train = ((r".*/lora_[ab]", "train:lora"), (r"img/head/.*", "train:head"), (".*", "freeze"))
    stage2.batch_size, stage2.accumulate = 32, 1
    stage2.optim.learning_rate = 3e-3
    stage2.optim.b2 = 0.98
    stage2.log_every = 25
    return config
