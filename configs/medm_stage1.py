"""MedM, stage 1: trains only the projector of PaliGemma-3B mix-448, on SLAKE (Shourya et al. 2025, 4.4, table 3).

    python -m radvqa_jax.main --config configs/medm_stage1.py --workdir runs/medm_stage1 \
        --config.model.checkpoint=paligemma-3b-mix-448.npz --config.model.tokenizer=paligemma_tokenizer.model

Machine: one H100. Five epochs of the English questions (4,919) in batches of 6 x 16 = 96: about 260 optimizer steps.
Prepare SLAKE first (configs/build_data.py).

    --config configs/medm_stage1.py:en         English questions, in training and evaluation (the default)
    --config configs/medm_stage1.py:zh         Chinese questions
    --config configs/medm_stage1.py:all        both, which matches the paper's count of about 14,000 pairs
    --config configs/medm_stage1.py:vqa_rad    the strict split of VQA-RAD instead, to see whether SLAKE is what helps
    --config configs/medm_stage1.py:captions   the captions of ROCOv2 instead

The paper's figures: SLAKE, closed questions, 79.00 ± 2.75 % over five runs on samples of 200 (table 1), and 0.26 in
table 5 for the same model. Loss by epoch: 0.863, 0.531, 0.401, 0.321, 0.278 (source files of the authors' report).

Contradictions: the paper trains the projector alone; the authors' report gives one LoRA configuration for all models;
no code of this stage is public. Neither the prompt nor the language is given. With :all, images of SLAKE's test set in
one language are in its training set in the other (70 of the English test set). The run stops there, and the error says
how to accept that.
"""

import ml_collections

from radvqa_jax.config import default_config, source, stage

DATA = {
    "en": source(dataset="slake", builder_config="en", split="train"),
    "zh": source(dataset="slake", builder_config="zh", split="train"),
    "all": source(dataset="slake", builder_config="all", split="train"),
    "vqa_rad": source(dataset="vqa_rad", builder_config="strict", split="train"),
    "captions": source(dataset="rocov2", split="train", task="caption"),
}


def get_config(data: str = "en") -> ml_collections.ConfigDict:
    if data not in DATA:
        raise ValueError(f"configs/medm_stage1.py:{data} is unknown. Give one of {', '.join(DATA)}.")
    config = default_config()
    config.mode = "train"
    config.model.variant = "paligemma-3b-448"
    config.data.seq_len = 128
    if data == "zh":
        config.data.prompt = "answer zh {question}"

    stage1 = config.stages.stage1 = stage()
    stage1.sources = (DATA[data],)
    stage1.train = ((r"img/head/.*", "train:head"), (".*", "freeze"))
    stage1.epochs = 5.0
    stage1.batch_size, stage1.accumulate = 6, 16
    stage1.optim.learning_rate = 1e-5
    stage1.optim.schedule = "constant"
    stage1.optim.weight_decay = 0.0
    stage1.label_smoothing = 0.0

    language = data if data in ("zh", "all") else "en"
    config.eval.source = source(dataset="slake", builder_config=language, split="test")
    config.eval.train_source = source(dataset="slake", builder_config=language, split="train")
    return config
