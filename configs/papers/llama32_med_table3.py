"""LLaMA32-Med, table 3: five ablations on SLAKE, all questions."""

from radvqa_jax.config import PaperTable, paper_row

TABLE = PaperTable(
    "LLaMA32-Med",
    "Table 3",
    "Ablations on SLAKE",
    rows=(
        paper_row("fine-tuned", "SLAKE", "llama32_med.py:slake"),
        paper_row("without stage 1", "SLAKE", "llama32_med.py:slake,without_stage1"),
        paper_row(
            "without role prompt",
            "SLAKE",
            "llama32_med.py:slake,without_role",
            unlike=("the wording of the template without a role is chosen here",),
        ),
        paper_row("without tuning the vision encoder", "SLAKE", "llama32_med.py:slake,without_tower"),
        paper_row("QLoRA", "SLAKE", "llama32_med.py:slake,qlora"),
    ),
    unlike=("PaliGemma-3B instead of LLaMA 3.2 Vision 11B", "448 px instead of 512"),
)
