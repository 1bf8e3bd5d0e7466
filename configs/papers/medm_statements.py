"""MedM, 4.4: the adapters as each of the authors' four descriptions places them, and a base in 4 bits as in their code.

The paper reports no figures for them. Each row uses another description than the first; the last also rounds the base.
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
