"""MedM, 4.4: where its adapters are, as each of its four statements has it; and a base in 4 bits, as its code has it.

The paper prints no figure of them. Each row changes one thing against the first.
"""

from radvqa_jax.config import PaperRow, PaperTable, paper_row

BOTH = ("run_stages=('stage1','stage2')",)
MEASURED = (("overall", "accuracy"), ("overall", "judged accuracy"))


def statement(name: str, adapters: str, *change: str) -> PaperRow:
    return paper_row(name, "ROCOv2", f"medm_stage2.py:roco,{adapters}", change=(*BOTH, *change), beside=MEASURED)


TABLE = PaperTable(
    "MedM",
    "Section 4.4",
    "Four statements of where the adapters are",
    rows=(
        statement("the paper: attention of both towers", "attention"),
        statement("a picture: attention and MLP of both towers, projector", "attention_mlp"),
        statement("the report: rank 12, its seven names", "report"),
        statement("the code: rank 8, its seven names", "code"),
        statement("the code, with its base in 4 bits", "code", "model.quantize=nf4"),
    ),
)
