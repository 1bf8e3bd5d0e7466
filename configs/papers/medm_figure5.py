"""MedM, figure 5: loss on held-out rows by epoch. Each curve is on its own data set, so that curves do not compare.

A recipe logs its curve if its stage has an `eval_source`; mode=fit_scaling fits a law to several (docs/scaling.md).
"""

from radvqa_jax.config import PaperTable, paper_row

WHY = (
    "a curve, and no score. Train with --config.stages.stage2.eval_source.dataset=… (stage1 for SLAKE) and read "
    "losses.jsonl; mode=fit_scaling fits several"
)
SETS = ("MedPix", "ROCOv2", "ROCO + MedPix", "PMC-VQA")

TABLE = PaperTable(
    "MedM",
    "Figure 5",
    "Loss on held-out rows",
    rows=(
        paper_row("PaliGemma, stage 1", "SLAKE", why=WHY),
        *(paper_row("PaliGemma, with stage 1", data, why=WHY) for data in SETS),
    ),
)
