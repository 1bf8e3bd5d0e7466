"""MedM, stage 2: LoRA on the attention of both towers, on written questions (Shourya et al. 2025).

    python -m radvqa_jax.main --config configs/medm_stage2.py --workdir runs/medm_stage2 \
        --config.stage2.init_from=runs/medm_stage1/stage1 \
        --config.model.checkpoint=paligemma-3b-mix-448.npz --config.model.tokenizer=paligemma_tokenizer.model

Machine: one H100. The paper gives no rank; rank 8 and alpha 32 on query, key, value and output are in its authors'
saved adapters. Their ROCO + MedPix run was best after 9 epochs. ROCOv2 and MedPix 2.0 have captions and no questions:
they are written and checked first (configs/write_questions.py), and without them this file ends with the command that
writes them.

What is trained on:
    --config configs/medm_stage2.py:mixed      questions of ROCOv2 and MedPix, every row equally often (the default)
    --config configs/medm_stage2.py:rising     the share of MedPix rises over the last fifth, from none to one half
    --config configs/medm_stage2.py:roco       questions of ROCOv2 alone
    --config configs/medm_stage2.py:pmc_vqa    PMC-VQA alone, which has questions of its own
    --config configs/medm_stage2.py:captions   the captions of both sets, mixed: what the questions are worth
    --config configs/medm_stage2.py:captions_rising
The paper mixes MedPix into ROCO and gives neither a ratio nor a schedule, so both readings of annealing can be run.
MedPix is cut to the locations with at least 100 images, as in the paper (4.3).

Evaluation is the paper's: five answers a question (temperature 1, top-k 40), and samples of 200 (score.sample_size).
    python -m radvqa_jax.main --config configs/medm_stage2.py --config.mode=predict --workdir runs/medm_stage2 \
        --config.adapter=runs/medm_stage2/stage2 --config.model.checkpoint=FILE --config.model.tokenizer=FILE
answers the test questions of MedPix, closed and open; mode=judge judges the open ones, and mode=score has the table by
organ. The paper's other rows: --config.eval.source.builder_config=rocov2_questions, or :pmc_vqa.
"""

from typing import Any

import ml_collections

from radvqa_jax.config import ATTENTION_WEIGHTS, default_config, source, where

VARIANTS = ("mixed", "rising", "roco", "pmc_vqa", "captions", "captions_rising")
# Of MedPix, the locations that are common in it; annealing reinforces what is common (4.3).
COMMON = {"field": "location", "min_count": 100, "count_by": "images"}
RISING = {"anneal": "linear", "points": ((0.8, 0.0), (1.0, 1.0))}


def written(name: str, split: str = "train", **fields: Any) -> ml_collections.ConfigDict:
    """Returns the questions that were written about a data set."""
    return source(dataset="written", builder_config=f"{name}_questions", split=split, **fields)


def captions(name: str, split: str = "train", **fields: Any) -> ml_collections.ConfigDict:
    """Returns the captions of a data set."""
    return source(dataset=name, split=split, task="caption", **fields)


def get_config(variant: str = "mixed") -> ml_collections.ConfigDict:
    if variant not in VARIANTS:
        raise ValueError(f"configs/medm_stage2.py:{variant} is unknown. Give one of {', '.join(VARIANTS)}.")
    config = default_config()
    config.mode = "train"
    config.stages = ("stage2",)
    config.model.variant = "paligemma-3b-448"
    config.data.seq_len = 128

    stage2 = config.stage2
    kind = captions if variant.startswith("captions") else written
    if variant == "pmc_vqa":
        stage2.sources = (source(dataset="pmc_vqa", split="train"),)
    elif variant == "roco":
        stage2.sources = (written("rocov2"),)
    elif variant.endswith("rising"):
        stage2.sources = (kind("rocov2"), kind("medpix_2", where=(where(**COMMON),), **RISING))
    else:
        stage2.weight_by = "row"
        stage2.sources = (kind("rocov2"), kind("medpix_2", where=(where(**COMMON),)))
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
    asked = source(dataset="pmc_vqa", split="test") if variant == "pmc_vqa" else kind("medpix_2", "test")
    config.eval.source = asked
    learn = source(dataset="pmc_vqa", split="train") if variant == "pmc_vqa" else kind("medpix_2")
    config.eval.train_source = learn
    return config
