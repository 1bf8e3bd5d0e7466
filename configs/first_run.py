"""The recipe to start with: PaliGemma-3B on one data set and one card with 24 GB, from data to report.

    python -m radvqa_jax.main --config configs/first_run.py:vqa_rad --workdir runs/vqa_rad \
        --config.data.manual_dir=FOLDER \
        --config.model.checkpoint=paligemma-3b-mix-448.npz --config.model.tokenizer=paligemma_tokenizer.model

    --config configs/first_run.py:vqa_rad    VQA-RAD without the training rows that show a test image (the default)
    --config configs/first_run.py:slake      English questions of SLAKE
    --config configs/first_run.py:path_vqa   PathVQA
    --config configs/first_run.py:pmc_vqa    PMC-VQA, version 1, with the options in the prompt; evaluated on the 2,000
                                             questions that were checked by hand

Machine: one card with 24 GB (RTX 3090 or 4090, L4). One stage: LoRA of rank 16 on the attention and MLP of the language
model and on the attention of the vision tower; the projector is trained whole; three epochs (PMC-VQA: one) in batches
of 16. See what it needs on your card before you download anything:
    python -m radvqa_jax.main --config configs/fit.py --workdir runs/fit --config.fit.resolutions="()" \
        --config.experiment=configs/first_run.py:slake --config.target=rtx4090
This recipe repeats no paper's figures. The report gives accuracy with n and interval, next to the accuracy of the
question alone, with another case's image, and with a blank image. In the official split of VQA-RAD, 202 of 203 test
images are also in the training set, so that figures of papers on that split are not comparable with these.
"""

from typing import Any

import ml_collections

from radvqa_jax.config import LANGUAGE_ATTENTION, LANGUAGE_MLP, TOWER_ATTENTION, default_config, source, stage

TRAINED_ON: dict[str, dict[str, Any]] = {
    "vqa_rad": {"dataset": "vqa_rad", "builder_config": "strict"},
    "slake": {"dataset": "slake"},
    "path_vqa": {"dataset": "path_vqa"},
    "pmc_vqa": {"dataset": "pmc_vqa"},
}
ASKED: dict[str, dict[str, Any]] = TRAINED_ON | {"pmc_vqa": {"dataset": "pmc_vqa", "builder_config": "v1_clean"}}


def get_config(data: str = "vqa_rad") -> ml_collections.ConfigDict:
    if data not in TRAINED_ON:
        raise ValueError(f"configs/first_run.py:{data} is unknown. Give one of {', '.join(TRAINED_ON)}.")
    config = default_config()
    config.mode = "job"
    config.model.variant = "paligemma-3b-448"

    stage2 = config.stages.stage2 = stage()
    stage2.sources = (source(**TRAINED_ON[data]),)
    stage2.lora.rank = 16
    stage2.lora.alpha = 32.0
    stage2.lora.targets = ((f"{TOWER_ATTENTION}|{LANGUAGE_ATTENTION}|{LANGUAGE_MLP}", "lora"), (".*", "none"))
    stage2.train = ((r".*/lora_[ab]", "train:lora"), (r"img/head/.*", "train:head"), (".*", "freeze"))
    stage2.epochs = 1.0 if data == "pmc_vqa" else 3.0
    stage2.batch_size, stage2.accumulate = 4, 4
    stage2.optim.learning_rate = 1e-4
    stage2.optim.schedule = "cosine"
    stage2.optim.warmup_steps = 20
    stage2.optim.weight_decay = 0.01

    if data == "pmc_vqa":
        config.data.prompt, config.data.seq_len = "answer en {question} {choices}", 256
    config.eval.source = source(split="test", **ASKED[data])
    config.eval.train_source = source(**TRAINED_ON[data])
    return config
