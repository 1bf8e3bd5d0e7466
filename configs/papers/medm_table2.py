"""MedM, table 2: 50 answers per organ, read by the authors. Readers can repeat it; no program can compute it."""

from radvqa_jax.config import PaperTable, paper_row

TABLE = PaperTable(
    "MedM",
    "Table 2",
    "Answers by organ, as the authors read them",
    rows=(
        paper_row(
            "PaliGemma, with stage 1",
            "MedPix",
            "medm_stage2.py:mixed",
            change=("run_stages=('stage1','stage2')",),
            beside=tuple(
                (organ, "accuracy") for organ in ("Chest", "Gastrointestinal", "Musculoskeletal", "Brain and Neuro")
            ),
            unlike=("which questions were read, and how they were drawn, is not stated",),
        ),
        paper_row("LLaVA-Med, as MedM ran it", "MedPix", why="LLaVA-Med is another system"),
    ),
)
