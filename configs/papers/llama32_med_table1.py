"""LLaMA32-Med, table 1: accuracy by string match on three test sets. "Closed" means a yes/no reference."""

from radvqa_jax.config import PaperTable, paper_row

READ = "open answers were read by three clinicians; report.review_rows writes the sheet for them (docs/scoring.md)"
SOTA = "nine other systems, copied from their own papers, whose closed and open questions are defined otherwise"
LEAK = ("the official split: 202 of 203 test images are also trained on, in the paper, too",)

TABLE = PaperTable(
    "LLaMA32-Med",
    "Table 1",
    "String match on SLAKE, PathVQA and VQA-RAD",
    rows=(
        paper_row("zero-shot", "SLAKE", "llama32_med.py:slake", base=True),
        paper_row("zero-shot", "PathVQA", "llama32_med.py:path_vqa", base=True),
        paper_row("zero-shot", "VQA-RAD", "llama32_med.py:vqa_rad", base=True),
        paper_row("fine-tuned", "SLAKE", "llama32_med.py:slake"),
        paper_row("fine-tuned", "PathVQA", "llama32_med.py:path_vqa"),
        paper_row("fine-tuned", "VQA-RAD", "llama32_med.py:vqa_rad", unlike=LEAK),
        paper_row(
            "fine-tuned on all three",
            "SLAKE",
            "llama32_med.py:mixed",
            beside=tuple((column, "accuracy, string match") for column in ("closed", "open", "overall")),
            unlike=("the paper does not say whether stage 2 is one for each set or one for all",),
        ),
        paper_row("other systems", "", why=SOTA),
    ),
    unlike=("PaliGemma-3B instead of LLaMA 3.2 Vision 11B", "448 px instead of 512"),
)
