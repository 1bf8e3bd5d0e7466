"""The prompts of training, evaluation and saliency, which all use the same wording.

PaliGemma's mix checkpoints know `answer en {question}` and `caption en` (PaliGemma's README in big_vision).
MedM trained with "answer " and tested with "answer en "; here both use the same template.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from radvqa_jax.trees import nearest

PLACEHOLDERS = ("{question}", "{choices}", "{history}")


def history_text(turns: Iterable[tuple[str, str]]) -> str:
    """Earlier questions and answers in one line, the oldest first: the text for {history} in a template.

    >>> history_text([("Is this a CT scan?", "yes"), ("Which plane?", " axial\\n")])
    'Is this a CT scan? yes. Which plane? axial.'
    """
    said = (" ".join(f"{question} {answer}".split()) for question, answer in turns)
    return " ".join(text if text.endswith((".", "!", "?")) else f"{text}." for text in said)


def check_template(template: str, field: str) -> None:
    """Raises ValueError if a template has no {question}, or a placeholder that nothing fills.

    A model would read such a placeholder as text. Other braces, such as those of JSON, are text.
    """
    if "{question}" not in template:
        raise ValueError(f"{field}={template!r} must contain {{question}}; without it no question is asked.")
    for found in re.finditer(r"\{\s*\w+\s*\}", template):
        if found[0] not in PLACEHOLDERS:
            raise ValueError(
                f"{field}={template!r}: nothing fills {found[0]}, and the model would read it as text."
                f"{nearest(found[0], PLACEHOLDERS)} A template may contain {', '.join(PLACEHOLDERS)}."
            )


def vqa_prefix(
    question: str,
    *,
    template: str = "answer en {question}",
    choices: Sequence[str] = (),
    history: Iterable[tuple[str, str]] = (),
) -> str:
    """The prefix for a question. White space is collapsed, so that no newline acts as the separator.

    A template may also contain {choices}, the options with letters, and {history}, the earlier questions and answers
    about the image. Both are empty if there are none.

    >>> vqa_prefix(" Is there\\n a mass? ")
    'answer en Is there a mass?'
    >>> vqa_prefix("Where?", template="answer en {question} {choices}", choices=["lung", "liver"])
    'answer en Where? A) lung B) liver'
    >>> vqa_prefix("Where?", template="{history} answer en {question}")
    'answer en Where?'
    """
    check_template(template, "data.prompt")
    offered = " ".join(f"{chr(ord('A') + number)}) {choice}" for number, choice in enumerate(choices))

    before = history_text(history)

    def fill(found: re.Match[str]) -> str:
        lead, name, follows = found.groups()
        if name is None:
            return before and before + follows
        text = " ".join((question if name == "{question}" else offered).split())
        return f"{lead}{text}" if text else ""

    # In one pass, so that braces in a question are never read as part of the template.
    return re.sub(r"( ?)(\{question\}|\{choices\})|\{history\}( ?)", fill, template)


def one_line(text: str) -> str:
    """A text with its white space collapsed, as answers are trained and compared.

    >>> one_line(" left\\n lung ")
    'left lung'
    """
    return " ".join(text.split())


def has_words(text: str) -> bool:
    """Whether a text contains a letter or a digit, and not only white space, marks or invisible characters.

    >>> has_words("Where?"), has_words(" \\u200b\\n"), has_words("?")
    (True, False, False)
    """
    return any(character.isalnum() for character in text)


def caption_prefix(language: str = "en") -> str:
    """The prefix that asks for a caption.

    >>> caption_prefix()
    'caption en'
    """
    return f"caption {language}"


def row_text(row: Mapping[str, Any], *, task: str, template: str, caption_prompt: str = "") -> tuple[str, str]:
    """(prefix, suffix) of a data set row for the task `vqa` or `caption`.

    `caption_prompt` is the prefix for captions; empty = `caption` and the row's language. If the row has `_history`, it
    holds the turns of `RowSource.with_history`.

    >>> row_text({"caption": "A chest."}, task="caption", template="", caption_prompt="Describe the image.")
    ('Describe the image.', 'A chest.')
    """
    if task == "vqa":
        turns = [(turn.question, turn.answer) for turn in row.get("_history", ())]
        prefix = vqa_prefix(row["question"], template=template, choices=row.get("choices", ()), history=turns)
        return prefix, one_line(row["answer"])
    if task == "caption":
        asked = one_line(caption_prompt) or caption_prefix(row.get("language") or "en")
        return asked, one_line(row["caption"])
    raise ValueError(f"task={task!r} is unknown. Give `vqa` or `caption`.")
