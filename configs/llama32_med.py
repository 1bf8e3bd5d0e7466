"""LLaMA32-Med on PaliGemma: captions, then questions; LoRA of rank 32 on every linear weight (Dong et al. 2026).

    python -m radvqa_jax.main --config configs/llama32_med.py:slake --workdir runs/llama32_med \
        --config.model.checkpoint=paligemma-3b-mix-448.npz --config.model.tokenizer=paligemma_tokenizer.model

Machine: one H100. Stage 1 reads 59,958 captions three times, in batches of 32: 5,622 steps. Stage 2 reads its questions
three times. Prepare ROCOv2 and the data set of stage 2 first (configs/build_data.py).

Stage 2:
    --config configs/llama32_med.py:slake      English questions of SLAKE (the default)
    --config configs/llama32_med.py:vqa_rad    VQA-RAD, its official split
    --config configs/llama32_med.py:path_vqa   PathVQA
    --config configs/llama32_med.py:mixed      all three, every row equally often; evaluated on SLAKE
    --config configs/llama32_med.py:captions   stage 1 alone, evaluated on 1,000 captions of the test split (table 2)
The ablations of table 3, after a comma (`:slake,qlora`):
    without_stage1   without the captions
    without_role     without a radiologist in the templates
    without_tower    without adapters in the vision tower
    qlora            with frozen weights in four bits (NF4)

The paper's accuracies in %, closed / open / all (table 1): SLAKE 91.2 / 81.4 / 84.6, PathVQA 92.4 / 33.7 / 63.1,
VQA-RAD 81.7 / 57.5 / 70.9. SLAKE, all questions (table 3): without stage 1 79.1, without role 82.4, without the tower's
adapters 80.4, QLoRA 81.8. Captions (table 2): judged 3.80 of 5, BLEU 0.047, recall 0.358, BERTScore 0.8467.

Unlike the paper: PaliGemma-3B at 448 px instead of LLaMA 3.2 Vision 11B at 512; the reply is the answer alone, without
the opener "The answer is:". The paper does not say, and this recipe chooses: batch 32, alpha 32, no dropout, no
warm-up, each data set on its own, and a stage 2 that continues with the adapters of stage 1.

Contradictions in the paper: "closed" means yes/no, not SLAKE's own flag (355 and 416 of 1,061). The overall zero-shot
figure on PathVQA (31.3 %) does not follow from its parts (about 22.7 %). One figure of memory, 20.4 GB, is given for
LoRA and QLoRA; 16-bit weights alone need 21.6 GB, so it must be QLoRA's. In the official split of VQA-RAD, 202 of 203
test images are also in the training set; :vqa_rad accepts that by name, and the report shows it.
"""

from typing import Any

import ml_collections

from radvqa_jax.config import TOWER_ATTENTION, TOWER_MLP, default_config, source, stage

ROLE = "You are an expert radiologist."
PROMPT = ROLE + " Answer the following medical question concisely: {question}"
CAPTION_PROMPT = ROLE + " Describe accurately what you see in this medical image."
# The paper does not give the wording of its template without a role.
GENERIC_PROMPT = "Answer the following question: {question}"
GENERIC_CAPTION_PROMPT = "Describe what you see in this image."
QUESTIONS = ("slake", "vqa_rad", "path_vqa")
VARIANTS = (*QUESTIONS, "mixed", "captions")
ABLATIONS = ("without_stage1", "without_role", "without_tower", "qlora")


def set_stages(config: Any) -> None:
    """Sets what both stages share: adapters everywhere, AdamW, a cosine schedule, three epochs (appendix B)."""
    config.run_stages = ("stage1", "stage2")
    for name in config.run_stages:
        made = config.stages[name] = stage()
        made.lora.rank = 32
        made.lora.alpha = 32.0
        made.lora.targets = ((".*", "lora"),)
        made.train = ((r".*/lora_[ab]", "train:lora"), (".*", "freeze"))
        made.epochs = 3.0
        made.batch_size, made.accumulate = 4, 8
        made.optim.schedule = "cosine"
        made.optim.weight_decay = 0.01
    config.stages.stage1.optim.learning_rate = 2e-4
    config.stages.stage2.optim.learning_rate = 4e-5
    config.stages.stage1.sources = (source(dataset="rocov2", task="caption", prompt=CAPTION_PROMPT),)


def set_questions(config: Any, data: str) -> None:
    """Sets the training data of stage 2, and the evaluated questions."""
    names = QUESTIONS if data == "mixed" else (data,)
    config.stages.stage2.sources = tuple(source(dataset=name) for name in names)
    config.stages.stage2.weight_by = "row"
    asked = "slake" if data == "mixed" else data
    config.eval.source, config.eval.train_source = source(dataset=asked, split="test"), source(dataset=asked)
    if "vqa_rad" in names:
        config.audit.accept = ("vqa_rad:train~vqa_rad:test",)


def set_captions(config: Any) -> None:
    """Sets stage 1 alone, evaluated on the captions of 1,000 test images."""
    config.run_stages = ("stage1",)
    config.eval.source = source(dataset="rocov2", split="test", task="caption", prompt=CAPTION_PROMPT, limit=1000)
    config.eval.train_source = source(dataset="rocov2", task="caption", prompt=CAPTION_PROMPT)
    config.decode.max_new_tokens = 128


def ablate(config: Any, ablation: str) -> None:
    """Sets one row of table 3."""
    if ablation == "without_stage1":
        config.run_stages = ("stage2",)
    elif ablation == "without_role":
        config.data.prompt = GENERIC_PROMPT
        config.stages.stage1.sources[0].prompt = GENERIC_CAPTION_PROMPT
    elif ablation == "without_tower":
        rules = ((TOWER_ATTENTION, "none"), (TOWER_MLP, "none"), (".*", "lora"))
        config.stages.stage1.lora.targets = config.stages.stage2.lora.targets = rules
    elif ablation == "qlora":
        config.model.quantize = "nf4"


def get_config(variant: str = "slake") -> ml_collections.ConfigDict:
    data, _, ablation = variant.partition(",")
    if data not in VARIANTS or ablation not in ("", *ABLATIONS):
        raise ValueError(
            f"configs/llama32_med.py:{variant} is unknown. Give one of {', '.join(VARIANTS)}; after a comma one of "
            f"{', '.join(ABLATIONS)}."
        )
    config = default_config()
    config.mode = "train"
    config.model.variant = "paligemma-3b-448"
    config.data.seq_len = 256
    config.data.prompt = PROMPT
    set_stages(config)
    if data == "captions":
        set_captions(config)
    else:
        set_questions(config, data)
    ablate(config, ablation)
    return config
