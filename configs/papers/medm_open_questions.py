"""MedM, open questions: the data of stage 1, the resolution, adapters in the vision tower, conversations.

The paper reports no figure for any of them; its conclusion names the vision tower as not studied. Each row on ROCOv2
changes one thing compared with the first row. On SLAKE, the questions about an image are asked in a conversation or
alone. configs/ablations.py:turns gives accuracy by turn, and both models with a blank image;
configs/ablations.py:annealing varies the share of annealing, with seeds and learning curves.
"""

from typing import Any

from radvqa_jax.config import PaperRow, PaperTable, SourceConfig, paper_row

BOTH = ("run_stages=('stage1','stage2')",)
MEASURED = (("overall", "accuracy"), ("closed", "accuracy"), ("open", "accuracy"), ("overall", "judged accuracy"))
LANGUAGE_ALONE = (
    r"stages.stage2.lora.targets=(('llm/.*/(q_einsum|kv_einsum|qkv_einsum|attn_vec_einsum)/w','lora'),('.*','none'))"
)


def asked(name: str, recipe: str, *change: str) -> PaperRow:
    return paper_row(name, "ROCOv2", recipe, change=(*BOTH, *change), beside=MEASURED)


PROMPT = "{history} answer en {question}"
IN_A_ROW = (f"data.prompt={PROMPT}", "data.history=references", "data.seq_len=256")
SLAKE = {"source": SourceConfig("slake", split="test"), "train_source": SourceConfig("slake")}


def turns(name: str, *change: str, **asked: Any) -> PaperRow:
    beside = (*MEASURED[:3], ("overall", "contradictory pairs"))
    return paper_row(name, "SLAKE", "medm_stage2.py:roco", change=(*BOTH, *change), beside=beside, **SLAKE, **asked)


TABLE = PaperTable(
    "MedM",
    "Section 6",
    "Stage 1 on another set, resolution, vision tower, questions in a row",
    rows=(
        asked("as the paper has it", "medm_stage2.py:roco"),
        asked("stage 1 on both languages of SLAKE", "medm_stage2.py:roco,attention,all"),
        asked("stage 1 on VQA-RAD, strict split", "medm_stage2.py:roco,attention,vqa_rad"),
        asked("stage 1 on captions of ROCOv2", "medm_stage2.py:roco,attention,captions"),
        paper_row("without stage 1", "ROCOv2", "medm_stage2.py:roco", beside=MEASURED),
        asked("224 px", "medm_stage2.py:roco", "model.resolution=224"),
        asked("896 px", "medm_stage2.py:roco", "model.resolution=896"),
        asked("no adapter in the vision tower", "medm_stage2.py:roco", LANGUAGE_ALONE),
        turns("trained and asked alone"),
        turns("trained alone, own answers", history="own", prompt=PROMPT, seq_len=256),
        turns("trained in a row, asked alone", *IN_A_ROW, history="none"),
        turns("trained in a row, reference answers", *IN_A_ROW, history="references"),
        turns("trained in a row, own answers", *IN_A_ROW, history="own"),
        turns("trained in a row, own answers, blank image", *IN_A_ROW, history="own", image="blank"),
    ),
    unlike=("each at one seed",),
)
