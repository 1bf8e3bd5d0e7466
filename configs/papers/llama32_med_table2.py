"""LLaMA32-Med, table 2: captions of 1,000 test images of ROCOv2 after stage 1, by a judge and by word metrics.

One row more has the scores of the same model with a blank image.
"""

from radvqa_jax.config import PaperTable, paper_row

METRICS = tuple(("overall", metric) for metric in ("BLEU", "recall", "BERTScore"))

TABLE = PaperTable(
    "LLaMA32-Med",
    "Table 2",
    "Captions of ROCOv2",
    rows=(
        paper_row("fine-tuned", "ROCOv2", "llama32_med.py:captions"),
        paper_row("zero-shot", "ROCOv2", "llama32_med.py:captions", base=True),
        paper_row("fine-tuned, blank image", "ROCOv2", "llama32_med.py:captions", image="blank", beside=METRICS),
    ),
    unlike=(
        "PaliGemma-3B instead of LLaMA 3.2 Vision 11B",
        "other 1,000 images, drawn here",
        "BLEU of the corpus (sacreBLEU), recall of words, BERTScore of the model that is given: the paper states none",
    ),
)
