"""MedM, its open questions: is SLAKE what helps in stage 1, does resolution matter, does the vision tower?

The paper's conclusion names the last as not studied; it prints nothing of any of them. Each row changes one thing
against the first. The share of annealing, with seeds and learning curves: configs/ablations.py:annealing.
"""

from radvqa_jax.config import PaperRow, PaperTable, paper_row

BOTH = ("run_stages=('stage1','stage2')",)
MEASURED = (("overall", "accuracy"), ("closed", "accuracy"), ("open", "accuracy"), ("overall", "judged accuracy"))
LANGUAGE_ALONE = (
    r"stages.stage2.lora.targets=(('llm/.*/(q_einsum|kv_einsum|qkv_einsum|attn_vec_einsum)/w','lora'),('.*','none'))"
)


def asked(name: str, recipe: str, *change: str) -> PaperRow:
    return paper_row(name, "ROCOv2", recipe, change=(*BOTH, *change), beside=MEASURED)


TABLE = PaperTable(
    "MedM",
    "Section 6",
    "Stage 1 on another set, resolution, vision tower",
    rows=(
        asked("as the paper has it", "medm_stage2.py:roco"),
        asked("stage 1 on both languages of SLAKE", "medm_stage2.py:roco,attention,all"),
        asked("stage 1 on VQA-RAD, strict split", "medm_stage2.py:roco,attention,vqa_rad"),
        asked("stage 1 on captions of ROCOv2", "medm_stage2.py:roco,attention,captions"),
        paper_row("without stage 1", "ROCOv2", "medm_stage2.py:roco", beside=MEASURED),
        asked("224 px", "medm_stage2.py:roco", "model.resolution=224"),
        asked("896 px", "medm_stage2.py:roco", "model.resolution=896"),
        asked("no adapter in the vision tower", "medm_stage2.py:roco", LANGUAGE_ALONE),
    ),
    unlike=("each at one seed",),
)
