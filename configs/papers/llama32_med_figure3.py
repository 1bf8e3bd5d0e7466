"""LLaMA32-Med, figure 3: the same two stages on other backbones. A bar chart; the text gives some of its values."""

from radvqa_jax.config import PaperTable, paper_row

WHY = "another backbone; this package computes PaliGemma and PaliGemma 2"
LEAK = ("the official split: 202 of 203 test images are also trained on, in the paper, too",)

TABLE = PaperTable(
    "LLaMA32-Med",
    "Figure 3",
    "Other backbones, all questions",
    rows=(
        paper_row("fine-tuned", "SLAKE", "llama32_med.py:slake"),
        paper_row("fine-tuned", "VQA-RAD", "llama32_med.py:vqa_rad", unlike=LEAK),
        *(paper_row(model, "VQA-RAD", why=WHY) for model in ("LLaVA", "Qwen2.5-VL-7B", "Gemma3-4B")),
    ),
    unlike=("PaliGemma-3B instead of LLaMA 3.2 Vision 11B", "448 px instead of 512"),
)
