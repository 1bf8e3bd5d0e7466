"""MedM, stage 1: only the projector of PaliGemma-3B mix-448 is trained, on SLAKE (Shourya et al. 2025, 4.4, table 3).

    python -m radvqa_jax.main --config configs/medm_stage1.py --workdir runs/medm_stage1 \
        --config.model.checkpoint=paligemma-3b-mix-448.npz --config.model.tokenizer=paligemma_tokenizer.model

Machine: one H100. Five epochs of the English questions (4,919; the paper trained on both languages, about 9,800) in
batches of 6 x 16 = 96: about 260 optimizer steps. Needs SLAKE prepared (configs/build_data.py).
"""

import ml_collections

from radvqa_jax.config import default_config, source


def get_config() -> ml_collections.ConfigDict:
    config = default_config()
    config.mode = "train"
    config.stages = ("stage1",)
    config.model.variant = "paligemma-3b-448"
    config.data.seq_len = 128

    stage1 = config.stage1
    stage1.sources = (source(dataset="slake", split="train"),)
    stage1.train = ((r"img/head/.*", "train:head"), (".*", "freeze"))
    stage1.epochs = 5.0
    stage1.batch_size, stage1.accumulate = 6, 16
    stage1.optim.learning_rate = 1e-5
    stage1.optim.schedule = "constant"
    stage1.optim.weight_decay = 0.0
    stage1.label_smoothing = 0.0

    config.eval.source = source(dataset="slake", split="test")
    config.eval.train_source = source(dataset="slake", split="train")
    return config
