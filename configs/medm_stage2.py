"""MedM, stage 2: LoRA on the attention of both towers, on ROCOv2 annealed with MedPix 2.0 (Shourya et al. 2025).

    python -m radvqa_jax.main --config configs/medm_stage2.py --workdir runs/medm_stage2 \
        --config.stage2.init_from=runs/medm_stage1/stage1 \
        --config.model.checkpoint=paligemma-3b-mix-448.npz --config.model.tokenizer=paligemma_tokenizer.model

Machine: one H100. The paper gives no rank; rank 8 and alpha 32 on query, key, value and output are in its authors'
saved adapters. Their ROCO + MedPix run was best after 9 epochs. Both sets have captions and no questions: until
questions are written from them the stage learns to caption. Needs the data sets prepared (configs/build_data.py).

Annealing: the paper mixes MedPix into ROCO and gives neither a ratio nor a schedule. Both readings can be run:
    --config configs/medm_stage2.py:mixed    as published: every row of both sets equally often, all along (the default)
    --config configs/medm_stage2.py:rising   MedPix's share rises over the last fifth of training, from none to one half
MedPix is cut to the locations with at least 100 images, as in the paper (4.3).
"""

import ml_collections

from radvqa_jax.config import ATTENTION_WEIGHTS, default_config, source, where


def get_config(annealing: str = "mixed") -> ml_collections.ConfigDict:
    if annealing not in ("mixed", "rising"):
        raise ValueError(f"configs/medm_stage2.py:{annealing} is unknown. Give :mixed or :rising.")
    config = default_config()
    config.mode = "train"
    config.stages = ("stage2",)
    config.model.variant = "paligemma-3b-448"
    config.data.seq_len = 128

    stage2 = config.stage2
    common = (where("location", min_count=100, count_by="images"),)
    if annealing == "mixed":
        stage2.weight_by = "row"
        medpix = source(dataset="medpix_2", split="train", task="caption", where=common)
    else:
        rise = {"anneal": "linear", "points": ((0.8, 0.0), (1.0, 1.0))}
        medpix = source(dataset="medpix_2", split="train", task="caption", where=common, **rise)
    stage2.sources = (source(dataset="rocov2", split="train", task="caption"), medpix)
    stage2.lora.rank = 8
    stage2.lora.alpha = 32.0
    stage2.lora.targets = ((ATTENTION_WEIGHTS, "lora"), (".*", "none"))
    stage2.train = ((r".*/lora_[ab]", "train:lora"), (".*", "freeze"))
    stage2.epochs = 9.0
    stage2.batch_size, stage2.accumulate = 6, 16
    stage2.optim.learning_rate = 1e-5
    stage2.optim.schedule = "constant"
    stage2.optim.weight_decay = 0.0
    stage2.label_smoothing = 0.0

    config.decode.samples = 5
    config.decode.temperature = 1.0
    config.decode.top_k = 40
    config.decode.max_new_tokens = 128
    config.eval.source = source(dataset="medpix_2", split="test", task="caption")
    config.eval.train_source = source(dataset="medpix_2", split="train", task="caption")
    return config
