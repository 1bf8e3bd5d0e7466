"""MedM, table 4: ROUGE and BLEU without stage 1, of texts that contain the prompt; judged accuracy of one sample."""

from radvqa_jax.config import PaperTable, paper_row

TABLE = PaperTable(
    "MedM",
    "Table 4",
    "Metrics of words, without stage 1",
    rows=(
        paper_row("PaliGemma", "MedPix", "medm_stage2.py:medpix"),
        paper_row("PaliGemma", "ROCOv2", "medm_stage2.py:roco"),
        paper_row("PaliGemma", "ROCO + MedPix", "medm_stage2.py:mixed"),
        paper_row("PaliGemma", "PMC-VQA", "medm_stage2.py:pmc_vqa"),
    ),
    unlike=("the questions are written by this package; the paper's are another model's",),
)
