"""Med-Idefics, figure 2: a table of seven rows, with three word metrics and a physician's reading; and related rows.

The paper scores the first 400 of 451 test questions. Its single stage also differs in epochs and prompt; the row
"one change" isolates the effect of stage 1. The paper's authors read the answers to Med-HALT's questions by eye; here
the share of refusals is counted, with a blank image.
"""

from radvqa_jax.config import PaperTable, SourceConfig, paper_row

PROMPT = "Answer briefly. {question}"
EXPERT = (
    "You are an expert radiologist evaluating the case, answer the question succinctly based on the medical image. "
    "{question}"
)
PATH = {
    "source": SourceConfig(dataset="path_vqa", split="test"),
    "train_source": SourceConfig(dataset="path_vqa"),
    "unlike": ("the whole test split; the paper asks 400 questions of it",),
}
INVENTED = {
    "source": SourceConfig(dataset="med_halt", builder_config="fake"),
    "prompt": "Answer briefly. {question} {choices}",
    "seq_len": 512,
    "image": "blank",
    "beside": (("overall", "refused"), ("overall", "made up")),
    "unlike": ("all invented questions, with their options and a blank image; the paper read five answers by eye",),
}
METRICS = tuple(("overall", metric) for metric in ("containment of the reference", "set F1", "BLEU-1"))
BARE = tuple((column, f"{metric}, no punctuation") for column, metric in METRICS)
TWO = "med_idefics.py:two_stages"

TABLE = PaperTable(
    "Med-Idefics",
    "Figure 2",
    "Variants on VQA-RAD and PathVQA",
    rows=(
        paper_row("Idefics2, base", "VQA-RAD", TWO, base=True, beside=BARE),
        paper_row("stage 1 only", "VQA-RAD", TWO, without=("stage2",)),
        paper_row("single stage", "VQA-RAD", "med_idefics.py:single_stage", prompt=PROMPT),
        paper_row("two stages", "VQA-RAD", TWO, beside=BARE),
        paper_row("two stages, expert prompt", "VQA-RAD", TWO, prompt=EXPERT),
        paper_row("two stages, another image", "VQA-RAD", TWO, image="swapped_any"),
        paper_row("Idefics2, base", "PathVQA", TWO, base=True, **PATH),
        paper_row("two stages", "PathVQA", TWO, **PATH),
        paper_row("one change: without stage 1", "VQA-RAD", "med_idefics.py:one_change", beside=METRICS),
        paper_row("two stages", "Med-HALT", TWO, **INVENTED),
        paper_row("base", "Med-HALT", TWO, base=True, **INVENTED),
    ),
    unlike=(
        "PaliGemma-3B instead of Idefics2-8B, also for the base",
        "all 451 test questions; the paper scores the first 400",
        "ROCOv2 instead of ROCO v1",
        "the official split: 202 of 203 test images are also trained on, in the paper, too",
    ),
)
