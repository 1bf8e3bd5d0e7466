"""Med-Idefics, the figures without numbers: 1 and 4."""

from radvqa_jax.config import PaperTable, paper_row

TABLE = PaperTable(
    "Med-Idefics",
    "other figures",
    "Figures without a number",
    rows=(
        paper_row("Figure 1", "examples", why="two answers; report.html shows ours, drawn at random"),
        paper_row("Figure 4", "loss of training", why="curves; losses.jsonl and TensorBoard hold those of each stage"),
    ),
)
