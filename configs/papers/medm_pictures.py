"""MedM, the figures without numbers, 1 to 4 and 6 to 13; and table 3, which lists hyperparameters."""

from radvqa_jax.config import PaperTable, paper_row

MAPS = (
    "a picture of attention; mode=saliency draws the like (docs/saliency.md). The paper's map from image to response "
    "is zero by construction, its tool plots the transposed one"
)
DRAWN = "a drawing of the method"

TABLE = PaperTable(
    "MedM",
    "other figures",
    "Figures without a number",
    rows=(
        paper_row("Figures 1 and 2", "pipeline", why=DRAWN),
        paper_row("Figure 3", "four data sets", why="counts of the sets; mode=audit prints those of the prepared ones"),
        paper_row("Figure 4", "filters", why="a drawing; mode=write_questions says what each check caught"),
        paper_row("Figure 6", "judged answers", why="examples; mode=judge keeps each verdict with its reason"),
        paper_row("Figures 7, 11, 12 and 13", "attention", why=MAPS),
        paper_row("Figures 8 and 9", "prompts", why="their text is lost; synthesis/ has prompts of its own"),
        paper_row("Figure 10", "judge", why="the prompt of the judge; evaluation/judge_prompts.py has it, hardened"),
        paper_row("Table 3", "hyperparameters", why="they are in configs/medm_stage1.py and configs/medm_stage2.py"),
    ),
)
