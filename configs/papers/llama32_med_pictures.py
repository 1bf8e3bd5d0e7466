"""LLaMA32-Med, the figures without numbers: 1, 2, 4, 5 and 6."""

from radvqa_jax.config import PaperTable, paper_row

TABLE = PaperTable(
    "LLaMA32-Med",
    "other figures",
    "Figures without a number",
    rows=(
        paper_row("Figure 1", "architecture", why="a drawing of LLaMA 3.2 Vision, which this package does not compute"),
        paper_row("Figure 2", "prompts", why="they are in configs/llama32_med.py, without the opener of the reply"),
        paper_row("Figures 4 and 5", "examples", why="examples; report.html shows ours, drawn at random"),
        paper_row("Figure 6", "judge", why="the prompt of the judge; evaluation/judge_prompts.py has it, hardened"),
    ),
)
