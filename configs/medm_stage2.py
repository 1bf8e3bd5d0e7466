"""MedM, stage 2: LoRA on the attention of both towers, on written questions (Shourya et al. 2025).

    python -m radvqa_jax.main --config configs/medm_stage2.py --workdir runs/medm_stage2 \
        --config.stages.stage2.init_from=runs/medm_stage1/stage1 \
        --config.model.checkpoint=paligemma-3b-mix-448.npz --config.model.tokenizer=paligemma_tokenizer.model

Machine: one H100. Without stages.stage2.init_from, stage 2 starts from the base, the paper's "without stage 1". With
--config.run_stages="('stage1','stage2')", stage 1 of configs/medm_stage1.py is trained first (`:roco,attention,zh`: on
the Chinese questions). The authors' ROCO + MedPix run was best after 9 epochs. ROCOv2 and MedPix 2.0 have captions but
no questions: write and check these first (configs/write_questions.py). If they are missing, the error gives the
command.

Training data:
    --config configs/medm_stage2.py:mixed      questions of ROCOv2 and MedPix, every row equally often (the default)
    --config configs/medm_stage2.py:rising     the share of MedPix rises over the last fifth, from none to one half
    --config configs/medm_stage2.py:roco       questions of ROCOv2 alone
    --config configs/medm_stage2.py:medpix     questions of MedPix alone
    --config configs/medm_stage2.py:pmc_vqa    PMC-VQA alone, which has its own questions
    --config configs/medm_stage2.py:captions   the captions of both sets, mixed, to see the effect of the questions
    --config configs/medm_stage2.py:captions_rising
The paper mixes MedPix into ROCO and gives neither a ratio nor a schedule, so both readings of annealing can be run.
MedPix is restricted to the locations with at least 100 images, as in the paper (4.3).

Places of the adapters, after a comma (`:roco,code`). The authors describe them in four ways, which differ:
    attention      "attention heads in both the vision tower and the language model", without a rank (the paper, 4.4);
                   rank 8 and alpha 32 are those of the authors' saved adapters (the default)
    attention_mlp  "attention heads and d_ffn", with an icon at the projector (picture Stage2.png)
    report         rank 12, alpha 32; q, k, v, o, up and down without gate (the authors' report). Here gate and up are
                   one weight, so that gate also has an adapter
    code           rank 8, alpha 32; q, k, v, o, gate, up, down (their code), which by name also matches q, k and v of
                   the vision tower. The size of a saved adapter (45.3 MB) agrees only with this one
Their code trains on a base in 4 bits, which the paper does not say: --config.model.quantize=nf4.

The paper's accuracies in % (table 1), without and with stage 1: PMC-VQA 32.22, 33.15; ROCO 32.25, 34.00; ROCO + MedPix
39.53, 41.48. Tables 4 and 5 have other figures for the same models (71 and 74 of 200 for the mix). Their ROCO is
version 1 (65,400 rows), and their MedPix has 671 cases, not 12,000. All figures: evaluation/paper_figures.json.

Evaluation as in the paper: five answers per question (temperature 1, top-k 40), and samples of 200 (score.sample_size).
    python -m radvqa_jax.main --config configs/medm_stage2.py --config.mode=predict --workdir runs/medm_stage2 \
        --config.adapter=runs/medm_stage2/stage2 --config.model.checkpoint=FILE --config.model.tokenizer=FILE
answers the test questions of MedPix, closed and open; mode=judge judges the open ones, and mode=score gives the table
by organ. :roco asks the questions of ROCOv2; :pmc_vqa asks the 2,000 that were checked by hand, with their options.
"""

from pathlib import Path
from typing import Any

import ml_collections

from radvqa_jax.config import (
    ATTENTION_WEIGHTS,
    LANGUAGE_ATTENTION,
    LANGUAGE_MLP,
    TOWER_QKV,
    default_config,
    load_experiment,
    source,
    stage,
    where,
)

VARIANTS = ("mixed", "rising", "roco", "medpix", "pmc_vqa", "captions", "captions_rising")
# The common locations of MedPix: annealing reinforces what is common (4.3).
COMMON = {"field": "location", "min_count": 100, "count_by": "images"}
RISING = {"anneal": "linear", "points": ((0.8, 0.0), (1.0, 1.0))}
# Name -> rank, and the rules that choose the linear weights with an adapter.
NONE = (".*", "none")
ADAPTERS = {
    "attention": (8, ((ATTENTION_WEIGHTS, "lora"), NONE)),
    "attention_mlp": (8, ((".*", "lora"),)),  # all linear weights
    "report": (12, ((f"{TOWER_QKV}|{LANGUAGE_ATTENTION}|{LANGUAGE_MLP}", "lora"), NONE)),
    "code": (8, ((f"{TOWER_QKV}|{LANGUAGE_ATTENTION}|{LANGUAGE_MLP}", "lora"), NONE)),
}


def written(name: str, split: str = "train", **fields: Any) -> ml_collections.ConfigDict:
    """The questions that were written about a data set."""
    return source(dataset="written", builder_config=f"{name}_questions", split=split, **fields)


def captions(name: str, split: str = "train", **fields: Any) -> ml_collections.ConfigDict:
    """The captions of a data set."""
    return source(dataset=name, split=split, task="caption", **fields)


def set_data(config: Any, variant: str) -> None:
    """Sets the training data of stage 2, and the evaluated questions or captions."""
    kind = captions if variant.startswith("captions") else written
    stage2, evaluated = config.stages.stage2, config.eval
    evaluated.source, evaluated.train_source = kind("medpix_2", "test"), kind("medpix_2")
    if variant == "pmc_vqa":
        config.data.prompt, config.data.seq_len = "answer en {question} {choices}", 256
        stage2.sources = (source(dataset="pmc_vqa", split="train"),)
        evaluated.source = source(dataset="pmc_vqa", builder_config="v1_clean", split="test")
        evaluated.train_source = source(dataset="pmc_vqa", split="train")
    elif variant == "roco":
        stage2.sources = (written("rocov2"),)
        evaluated.source, evaluated.train_source = written("rocov2", "test"), written("rocov2")
    elif variant == "medpix":
        stage2.sources = (written("medpix_2", where=(where(**COMMON),)),)
    elif variant.endswith("rising"):
        stage2.sources = (kind("rocov2"), kind("medpix_2", where=(where(**COMMON),), **RISING))
    else:
        stage2.weight_by = "row"
        stage2.sources = (kind("rocov2"), kind("medpix_2", where=(where(**COMMON),)))


def get_config(variant: str = "mixed") -> ml_collections.ConfigDict:
    data, adapters, stage1, *more = (*variant.split(","), "", "")[: max(3, variant.count(",") + 1)]
    adapters, stage1 = adapters or "attention", stage1 or "en"
    if data not in VARIANTS or adapters not in ADAPTERS or more:
        raise ValueError(
            f"configs/medm_stage2.py:{variant} is unknown. Give one of {', '.join(VARIANTS)}; after a comma one of "
            f"{', '.join(ADAPTERS)}; after another one a variant of configs/medm_stage1.py."
        )
    config = default_config()
    config.mode = "train"
    config.run_stages = ("stage2",)
    config.stages.stage1 = load_experiment(f"{Path(__file__).with_name('medm_stage1.py')}:{stage1}").stages.stage1
    config.model.variant = "paligemma-3b-448"
    config.data.seq_len = 128

    stage2 = config.stages.stage2 = stage()
    stage2.lora.rank, stage2.lora.targets = ADAPTERS[adapters]
    stage2.lora.alpha = 32.0
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
    set_data(config, data)
    return config
