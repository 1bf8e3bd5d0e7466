"""MedM, table 1: accuracy without and with stage 1, in % of samples of 200. Tables 4 and 5 contradict it.

The two kinds of training differ only in the recipe's `run_stages`. Judged rows stay empty until a judge has read the
answers (mode=judge). In the paper, the judge saw neither the image nor the question.
"""

from radvqa_jax.config import PaperTable, SourceConfig, paper_row

BOTH = ("run_stages=('stage1','stage2')",)
OTHER = "LLaVA-Med is another system. For its figure, score its answers with mode=score"
WHICH = ("the questions of MedPix are asked; the paper does not say which set it asked",)
QUESTIONS = ("the questions are written by this package from ROCOv2; the paper's are of ROCO v1 and one a caption",)
LABELS = ("how the options were shown is not stated; here with letters, in the prompt",)

TABLE = PaperTable(
    "MedM",
    "Table 1",
    "Accuracy without and with stage 1",
    rows=(
        paper_row(
            "PaliGemma, stage 1",
            "SLAKE",
            "medm_stage1.py:en",
            source=SourceConfig(dataset="slake", split="test"),
            train_source=SourceConfig(dataset="slake"),
            unlike=("English alone; the paper trains on about 14,000 pairs, which is both languages",),
        ),
        paper_row("LLaVA-Med, as MedM ran it", "SLAKE", why=OTHER),
        paper_row("PaliGemma", "PMC-VQA", "medm_stage2.py:pmc_vqa", unlike=LABELS),
        paper_row("PaliGemma, with stage 1", "PMC-VQA", "medm_stage2.py:pmc_vqa", change=BOTH, unlike=LABELS),
        paper_row("LLaVA-Med, as MedM ran it", "PMC-VQA", why=OTHER),
        paper_row("PaliGemma", "ROCOv2", "medm_stage2.py:roco", unlike=QUESTIONS),
        paper_row("PaliGemma, with stage 1", "ROCOv2", "medm_stage2.py:roco", change=BOTH, unlike=QUESTIONS),
        paper_row("LLaVA-Med, as MedM ran it", "ROCOv2", why=OTHER),
        paper_row("PaliGemma", "ROCO + MedPix", "medm_stage2.py:mixed", unlike=WHICH),
        paper_row("PaliGemma, with stage 1", "ROCO + MedPix", "medm_stage2.py:mixed", change=BOTH, unlike=WHICH),
        paper_row("LLaVA-Med, as MedM ran it", "ROCO + MedPix", why=OTHER),
    ),
    unlike=("the base is not rounded to 4 bits; the authors' code does that, the paper does not say it",),
)
