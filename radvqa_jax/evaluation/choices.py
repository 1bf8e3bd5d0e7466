"""The option that a reply to a multiple-choice question chooses, by letter or by text.

As in normalize.py, a rule reads one option or none, and never looks for the right one: a reply that names every option
chooses none.
"""

import re
from collections.abc import Sequence

from radvqa_jax.evaluation.normalize import explicit_answer, fold, normalize

_LABEL = r"[\W_]*(?:(?i:answer|option|choice)[\W_]+)?([A-Za-z])"  # "D", "(d)", "Option D", without what follows
# What may follow a label that opens a line.
_FOLLOWS = r"[)\].:*,;]|\s+-\s|\s+is\s+(?:the\s+)?(?:correct|right|best|answer)|\s+(?:because|since|not)\b"
_REJECTED = re.compile(
    r"\b(?:incorrect|wrong|false|excluded|unlikely|ruled out|not (?:the )?(?:correct|right|answer))\b"
)
_OTHER_THAN = re.compile(r"\b(?:not|rather than|instead of)\s+(?:option\s+)?\(?[A-Z]\b\)?")


def option_texts(choices: Sequence[str]) -> list[str]:
    """Returns the options in normal form, without their letters if every option begins with its own.

    >>> option_texts(["A: Chest CT", "B: Brain MRI"])
    ['chest ct', 'brain mri']
    """
    labelled = [re.match(rf"\s*\(?{chr(65 + i)}\s*[).:]\s*", choice) for i, choice in enumerate(choices)]
    if all(labelled):
        return [normalize(choice[match.end() :]) for choice, match in zip(choices, labelled, strict=True) if match]
    return [normalize(choice) for choice in choices]


class _Options:
    """The options of one question, and how a line names one of them."""

    def __init__(self, choices: Sequence[str]):
        if len(choices) > 26:
            raise ValueError(f"A question may have 26 choices, one a letter; got {len(choices)}.")
        texts = option_texts(choices)
        self.index = {text: texts.index(text) for text in texts if text}
        letters = [chr(65 + i) for i in range(len(texts))]
        # Where an option is itself a letter ("which arrow, A or B?"), a letter means that text, not a position.
        by_text = any(letter.casefold() in self.index for letter in letters)
        first = [self.index.get(text, i) for i, text in enumerate(texts)]
        self.letter = {} if by_text else dict(zip(letters, first, strict=True))

    def whole(self, line: str) -> int | None:
        """Returns the option that a whole line is: its text, its letter, or both in either order."""
        text = normalize(line)
        match = re.fullmatch(rf"{_LABEL}(?:([\W_]+)(.*))?", line)
        index = self.letter.get(match[1].upper()) if match else None
        rest = normalize(match[3] or "") if match else ""
        # In "A: MRI" the A is a label, although the normal form takes it for an article.
        labelled = index is not None and rest == text and bool((match[2] if match else "").strip())
        if text in self.index and not labelled:
            return self.index[text]
        if behind := re.fullmatch(r"(.*\w)\W*[(\[]([A-Za-z])[)\]]\W*", line):  # "Normal chest (D)"
            named = self.index.get(normalize(behind[1]))
            return named if named is not None and named == self.letter.get(behind[2].upper()) else None
        return index if index is not None and (not rest or self.index.get(rest) == index) else None

    def lead(self, line: str) -> set[int]:
        """Returns the options that a line labels, if it opens with a label ("D. …", "(D) …", "D is correct").

        A label that is called wrong, or comes after "not", counts for nothing.
        """
        opening = re.match(rf"{_LABEL}(?={_FOLLOWS})", line)
        if not opening or opening[1].upper() not in self.letter:
            return set()
        rest = _OTHER_THAN.sub("", line[opening.end() :])
        first = re.split(r"[.;]\s|\b(?i:because|since)\b", rest.lstrip(" ).:*]"))[0]
        if _REJECTED.search(first.casefold()):
            return set()
        labels = re.findall(r"(?<![\w'])([A-Za-z])(?=[)\].:*]|\s*$)", rest)
        labels += re.findall(r"(?<![\w'])([A-Z])(?=\s*[,;/&]|\s+(?:and|or)\b)", rest)
        found = {self.letter[label.upper()] for label in [opening[1], *labels] if label.upper() in self.letter}
        named = {self.index.get(normalize(part)) for part in (rest, first)}
        return found | {index for index in named if index is not None}


def parse_choice(text: str, choices: Sequence[str]) -> int | None:
    """Returns the index of the option that a reply chooses, by letter or by text, or None.

    The last explicit answer ("Answer: **D**") wins over what was said before it. A reply that names several options,
    or a letter beside the text of another option, chooses none. An option that only occurs inside a sentence is not
    chosen.

    >>> parse_choice("Answer: **D**", ["CT", "MRI", "PET", "X-ray"]), parse_choice("CT or MRI", ["CT", "MRI"])
    (3, None)
    """
    options = _Options(choices)
    lines = [line for line in explicit_answer(fold(text)).splitlines() if re.search(r"\w", line)]
    if not lines:
        return None
    sentences = [part for line in lines for part in re.split(r"(?<=\w\w)[.;]\s", line)]
    found = {index for part in (*lines, *sentences) if (index := options.whole(part)) is not None}
    if options.whole(lines[0]) is None:
        found |= options.lead(lines[0])
    return found.pop() if len(found) == 1 else None
