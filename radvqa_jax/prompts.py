"""The one wording of prompts for training, evaluation and saliency.

PaliGemma's mix checkpoints know `answer en {question}` and `caption en` (docs of big_vision's PaliGemma README).
MedM trained with "answer " and tested with "answer en "; here both read the same template.
"""

from collections.abc import Mapping

SEPARATOR = "\n"  # between prefix and suffix; tokenised apart, as big_vision does


def vqa_prefix(question: str, *, template: str = "answer en {question}") -> str:
    """Returns the prefix for a question; white space is collapsed, so that no newline acts as the separator.

    >>> vqa_prefix(" Is there\\n a mass? ")
    'answer en Is there a mass?'
    """
    if "{question}" not in template:
        raise ValueError(f"data.prompt={template!r} must contain {{question}}; without it no question is asked.")
    return template.replace("{question}", " ".join(question.split()))


def caption_prefix(language: str = "en") -> str:
    """Returns the prefix that asks for a caption.

    >>> caption_prefix()
    'caption en'
    """
    return f"caption {language}"


def row_text(row: Mapping[str, str], *, task: str, template: str) -> tuple[str, str]:
    """Returns (prefix, suffix) of a data set row for the task `vqa` or `caption`."""
    if task == "vqa":
        return vqa_prefix(row["question"], template=template), " ".join(row["answer"].split())
    if task == "caption":
        return caption_prefix(row.get("language") or "en"), " ".join(row["caption"].split())
    raise ValueError(f"task={task!r} is unknown. Give `vqa` or `caption`.")
