"""MedM, table 5: as table 4, with stage 1. SLAKE has 0.26 here and 0.79 in table 1."""

from radvqa_jax.config import PaperTable, SourceConfig, paper_row

BOTH = ("run_stages=('stage1','stage2')",)

TABLE = PaperTable(
    "MedM",
    "Table 5",
    "Metrics of words, with stage 1",
    rows=(
        paper_row(
            "PaliGemma, stage 1",
            "SLAKE",
            "medm_stage1.py:en",
            source=SourceConfig(dataset="slake", split="test"),
            train_source=SourceConfig(dataset="slake"),
        ),
        paper_row("PaliGemma, with stage 1", "MedPix", "medm_stage2.py:medpix", change=BOTH),
        paper_row("PaliGemma, with stage 1", "ROCOv2", "medm_stage2.py:roco", change=BOTH),
        paper_row("PaliGemma, with stage 1", "ROCO + MedPix", "medm_stage2.py:mixed", change=BOTH),
        paper_row("PaliGemma, with stage 1", "PMC-VQA", "medm_stage2.py:pmc_vqa", change=BOTH),
    ),
    unlike=("the questions are written by this package; the paper's are another model's",),
)
