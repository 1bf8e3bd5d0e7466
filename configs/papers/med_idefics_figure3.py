"""Med-Idefics, figure 3: the effect of the number of captions in stage 1. A curve without printed values."""

from radvqa_jax.config import PaperTable, paper_row

METRICS = tuple(("overall", metric) for metric in ("containment of the reference", "set F1", "BLEU-1"))

TABLE = PaperTable(
    "Med-Idefics",
    "Figure 3",
    "Number of captions in stage 1",
    rows=(
        paper_row("base", "VQA-RAD", "med_idefics.py:two_stages", base=True, beside=METRICS),
        paper_row("no caption", "VQA-RAD", "med_idefics.py:one_change", beside=METRICS),
        *(
            paper_row(f"{number:,} captions", "VQA-RAD", f"med_idefics.py:two_stages,{number}", beside=METRICS)
            for number in (7_000, 20_000)
        ),
        paper_row("55,000 captions", "VQA-RAD", "med_idefics.py:two_stages", beside=METRICS),
    ),
    unlike=("PaliGemma-3B instead of Idefics2-8B", "ROCOv2 instead of ROCO v1"),
)
