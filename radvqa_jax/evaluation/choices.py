"""The option that a reply to a multiple-choice question chooses, by letter or by text.

A rule reads one option or none, and never looks for the right one. A reply that names every option chooses none, an
option that is denied or only weighed is not chosen, and the first letter of a species name is not an option letter.
"""

import re
from collections.abc import Callable, Sequence

from radvqa_jax.evaluation import marks
from radvqa_jax.evaluation.normalize import fold, normalize

_LABEL = re.compile(r"[\W_]*(?:(?i:answer|option|choice|letter)\b[\W_]*)?([A-Za-z])(?![A-Za-z0-9'])")
_LABELLED = re.compile(rf"{_LABEL.pattern}(?:([\W_]+)(.*))?", re.DOTALL)
_BEHIND = re.compile(r"(.*\w)\W*[(\[](?:option )?([A-Za-z])[)\]]\W*", re.DOTALL)
_LETTERS, _TWO_LETTERS = re.compile(r"[A-Za-z]"), re.compile(r"[A-Za-z]{2}")
# What may follow a label that opens a line, before a reason or a remark.
_FOLLOWS = re.compile(
    r"\s?[)\].:*,;\u3002\u3001\uff0c]|\s+[-\u2013\u2014]+\s|\s+is\s+(?:the\s+|most\s+)?(?:correct|right|best|answer"
    r"|likely|appropriate)"
    r"|\s+(?:because|since|as|due to|given)\b|\s+\(|\s?/\s?(?=[A-Za-z])|\s+(?:and|or|&)\s"
)
# A remark about a labelled option that begins like this speaks against it.
_REMARK_DENIES = re.compile(
    r"(?:(?:this|that|it|which|the|option|answer|choice|[a-z])\s){0,3}(?:(?:is|was|are|does|do|did|can|could|should"
    r"|would|will|may|has|have|seems|looks|appears|be)\s?)*"
    r"(?:\w+ly\s)?(?:not\b|n't\b|never\b|cannot\b|no\b(?!\s\w)|wrong|incorrect|false|untrue|excluded|eliminated"
    r"|ruled out|rule out|unlikely|less likely|least likely"
    r"|dismissed|rejected|inconsistent|incompatible|implausible|impossible|improbable|contradict|inaccurate"
    r"|irrelevant|inappropriate|unrelated|out\b"
    r"|(?:be\s)?(?:excluded|eliminated|ruled out|dismissed|rejected|discarded|discounted))"
)
_DENIES_LATER = re.compile(
    r"\b(?:incorrect|wrong|false|excluded|ruled out|not (?:the )?(?:correct|right|best|answer))\b"
)
_WEIGHS = re.compile(
    r"\b(?:possible|plausible|possibly|maybe|perhaps|could be|might be|may be|likely|unlikely|more likely"
    r"|less likely|also)\b",
    re.IGNORECASE,
)
_OTHER_THAN = re.compile(
    r",?\s*\b(?:(?:and|but) )?(?:not|rather than|instead of|over|versus|as opposed to)\s+(?:option\s+"
    r"|choice\s+)?[(\[]?[A-Z]\b[)\]]?(?:\s+(?:or|and|nor)\s+[(\[]?[A-Z]\b[)\]]?)*"
)
_NOT_BUT = re.compile(
    r"(?:it(?:'s| is) )?not\s+(?P<out>[^,.;]{1,60}?),?\s+(?:but(?: rather)?|rather|it is|it's"
    r"|instead)\s+(?P<in>.{1,300})",
    re.IGNORECASE | re.DOTALL,
)
_NOT_LETTER = re.compile(r"[Nn]ot\s(?:option\s)?[(\[]?[A-Z][)\]]?,\s(?P<in>[(\[]?[A-Z][)\]]?)[.!\s]*")
# "So B.", "This is a B", "I think it's option B": a sentence around nothing but a label.
_AROUND = re.compile(
    r"(?:(?:therefore|thus|so|hence|overall|finally|consequently|in conclusion|in summary)\b,?\s+)?"
    r"(?:(?:i(?:'d| would) say|i (?:think|believe|say|vote|choose|pick|select|guess)(?: that| for)?"
    r"|my (?:answer|choice|pick)(?: is)?)\s+)?"
    r"(?:(?:this|that|it|the answer|the correct (?:answer|option)|the best (?:answer|option))"
    r"(?:'s|\s+(?:is|must be|should be|would be|has to be))(?:\s+an?)?\s+)?"
    r"(?:(?:clearly|definitely|most likely|probably|likely|the|option|choice|answer|letter)\s+){0,3}"
    r"[(\[\"']?([A-Za-z])[)\]\"']?[.!\s]*",
    re.IGNORECASE,
)
_IS_IT = re.compile(
    r"\s+(?:it is|is it|is my (?:answer|choice)|is the (?:correct |right |best )?(?:answer|option|choice)"
    r"|is correct|is right|fits (?:best|well)|is (?:the )?best(?: (?:fit|choice|match|candidate|answer|option))?"
    r"|is (?:the )?most likely(?: (?:answer|option))?)[.!\s]*",
    re.IGNORECASE,
)
# Epithets of species that reports abbreviate ("C. difficile"); any other lower-case word after "C. " also counts as
# one.
_SPEAKS = set(
    """because since as due given this that it the there these those a an is are was which with based on in no not
    so i we he she they if when and or but shows showing consistent likely most suggesting indicates findings
    image high low""".split()
)
_COMMENT = re.compile(r"^[\W_]*([A-Za-z])\s?[).:\]]\s*(?=\S)")


def option_texts(choices: Sequence[str]) -> list[str]:
    """The options in normal form, without their letters if every option begins with its own.

    >>> option_texts(["A: Chest CT", "B: Brain MRI"])
    ['chest ct', 'brain mri']
    """
    return [normalize(text) for text in bare_options(choices)]


def bare_options(choices: Sequence[str]) -> list[str]:
    """The options as written, without their letters if every option begins with its own."""
    labelled = [re.match(rf"\s*\(?{chr(65 + i)}\s*[).:\uff1a\u3001]\s*", choice) for i, choice in enumerate(choices)]
    if all(labelled):
        return [choice[match.end() :] for choice, match in zip(choices, labelled, strict=True) if match]
    return list(choices)


_SLASHED = re.compile(r"\s?/\s?(?=[A-Z]\s?[:.)])")  # "A: possible / B: more likely"
# The parts of a line: sentences, and conclusions from them (", so B").
_PART = re.compile(r"[.;](?<=\w\w.)\s|\s?\.{3}\s|,\s(?=(?:so|therefore|thus|hence)\b)")


_MOST = 32  # lines and parts of a reply that are read, half of them the first and half the last


class _Options:
    """The options of one question, and how a line names one of them."""

    def __init__(self, choices: Sequence[str], form: Callable[[str], object]):
        if len(choices) > 26:
            raise ValueError(f"A question may have 26 choices, one a letter; got {len(choices)}.")
        texts = bare_options(choices)
        plain = [normalize(text) for text in texts]
        self.form = form
        self._wholes: dict[str, int | None] = {}  # the same lines are read in several ways
        self.longest = 2 * max((len(text) for text in texts), default=0) + 40  # a longer text cannot be an option
        self.index: dict[object, int] = {text: plain.index(text) for text in plain if text}
        forms = [form(text) for text in texts]
        # A form that two different options share identifies neither.
        same = {f for i, f in enumerate(forms) if any(f == g and plain[i] != plain[j] for j, g in enumerate(forms))}
        self.wide = {f: plain.index(text) for f, text in zip(forms, plain, strict=True) if f and text and f not in same}
        letters = [chr(65 + i) for i in range(len(plain))]
        # Where an option is itself a letter ("which arrow, A or B?"), a letter means that text, not a position.
        by_text = any(letter.casefold() in self.index for letter in letters)
        first = [self.index.get(text, i) for i, text in enumerate(plain)]
        self.letter = {} if by_text else dict(zip(letters, first, strict=True))

    def named(self, text: str) -> int | None:
        """The option with this text."""
        if len(text) > self.longest:
            return None
        if (plain := normalize(text)) in self.index:
            return self.index[plain]
        return self.wide.get(self.form(text)) if text else None

    def label(self, letter: str) -> int | None:
        return self.letter.get(letter.upper())

    def whole(self, line: str) -> int | None:
        """The option that makes up a whole line: its text, its letter, or both in either order."""
        if line not in self._wholes:
            self._wholes[line] = self._whole(line)
        return self._wholes[line]

    def _whole(self, line: str) -> int | None:
        match = _LABELLED.fullmatch(line)
        index = self.label(match[1]) if match else None
        rest = (match[3] or "") if match else ""
        # In "A: MRI" the A is a label, although the normal form takes it for an article.
        labelled = (
            index is not None and normalize(rest) == normalize(line) and bool((match[2] if match else "").strip())
        )
        if not labelled and (named := self.named(line)) is not None:
            return named
        behind = _BEHIND.fullmatch(line) if "(" in line or "[" in line else None
        if behind:  # "Normal chest (D)"
            named = self.named(behind[1])
            return named if named is not None and named == self.label(behind[2]) else None
        return index if index is not None and (not rest.strip() or self.named(rest) == index) else None

    def lists(self, part: str) -> set[int | None]:
        """The options that a part of a list names: one by its text, or several by letters alone."""
        pieces = [piece for line in (_SLASHED.split(part) if "/" in part else (part,)) for piece in line.split("; ")]
        if found := {index for piece in pieces if (index := self.whole(piece)) is not None}:
            return set(found)
        letters = [] if _TWO_LETTERS.search(part) else _LETTERS.findall(part)
        return {self.label(letter) for letter in letters}

    def lead(self, line: str) -> set[int]:
        """The options that a line labels, if it opens with a label ("D. …", "(D) …", "D is correct").

        A label that is denied, or comes after "not", counts for nothing.
        """
        opening = _LABEL.match(line)
        if not opening or self.label(opening[1]) is None:
            return set()
        follows = _FOLLOWS.match(line, opening.end())
        if not follows or self._is_species(line, opening):
            return set()
        rest = _OTHER_THAN.sub("", line[opening.end() :])
        remark = rest.lstrip(" ).:*],;-\u2013\u2014/")
        first = re.split(r"[.;]\s|\b(?i:because|since)\b", remark)[0]
        if _REMARK_DENIES.match(first.casefold()) or _DENIES_LATER.search(first.casefold()):
            return set()
        before = re.split(r"\b(?i:because|since|due to|given)\b", rest)[0]
        labels = re.findall(r"(?<![\w'])([A-Za-z])(?=[)\].:*]|\s*$)", before)
        labels += re.findall(r"(?<![\w'])([A-Z])(?=\s*[,;/&]|\s+(?:and|or)\b)", before)
        labels += re.findall(r"(?:^\s*[,/&]|\b(?:and|or)\b)\s*[(\[]?([A-Z])\b", before)
        found = {self.letter[label.upper()] for label in [opening[1], *labels] if label.upper() in self.letter}
        named = {self.named(part) for part in (rest, first)}
        return found | {index for index in named if index is not None}

    def _is_species(self, line: str, opening: re.Match[str]) -> bool:
        """Whether the letter begins a species name: "C. difficile infection"."""
        word = re.match(r"\.\s+([a-z]{3,})", line[opening.end(1) :])
        rest = line[opening.end(1) :].lstrip(" .")
        if not word or word[1] in _SPEAKS or not opening[1].isupper():
            return False
        return self.named(rest) is None and self.named(re.split(r"[.;,(]", rest)[0]) is None

    def around(self, sentence: str) -> int | None:
        """The option of a sentence that holds a label and nothing else: "So B.", "This is a B"."""
        text = _OTHER_THAN.sub("", sentence)
        if match := _AROUND.fullmatch(text.strip(" *\"'")):
            # A lone "a" or "I" at the end of a sentence is a word.
            return self.label(match[1]) if match[1].isupper() or match[0].strip(" .()[]") == match[1] else None
        opening = _LABEL.match(text)
        if opening and _IS_IT.fullmatch(text, opening.end()) and self.label(opening[1]) is not None:
            return self.label(opening[1])
        return None


def _options_weighed(lines: Sequence[str], options: _Options) -> bool:
    """Whether a reply goes through the options one by one, with a remark on each."""
    labels = {match[1].upper() for line in lines if (match := _COMMENT.match(line))}
    return len(labels & set(options.letter)) > 1


def parse_choice(
    text: str, choices: Sequence[str], question: str = "", *, form: Callable[[str], object] = normalize
) -> int | None:
    """The index of the option that a cleaned reply chooses, by letter or by text, or None.

    The last explicit answer ("Answer: D") wins over earlier ones. A reply that names several options, or a
    letter next to the text of another option, chooses none. An option that only occurs inside a sentence is not chosen.

    >>> parse_choice("Answer: D", ["CT", "MRI", "PET", "X-ray"]), parse_choice("CT or MRI", ["CT", "MRI"])
    (3, None)

    Args:
        text: the reply, cleaned.
        choices: the options.
        question: what was asked.
        form: the form in which the texts of options are compared in addition to the normal form.
    """
    options = _Options(choices, form)
    stated = marks.stated(fold(text), question)
    if stated.withdrawn:
        return None
    body = stated.text
    if stated.marked:
        body = re.sub(r"^(?:most likely|likely|probably|clearly|definitely)\s", "", body, flags=re.IGNORECASE)
    if match := _NOT_BUT.fullmatch(body.strip()) or _NOT_LETTER.fullmatch(body.strip()):
        body = match["in"]
    whole = [piece for line in body.split("\n") for piece in (_SLASHED.split(line) if "/" in line else [line])]
    lines = [line for line in whole if re.search(r"\w", line)]
    if not lines:
        return None
    if len(lines) > _MOST:
        lines = [*lines[: _MOST // 2], *lines[-_MOST // 2 :]]
    parts = [part for line in lines for part in _PART.split(line)]
    if len(parts) > _MOST:
        parts = [*parts[: _MOST // 2], *parts[-_MOST // 2 :]]
    if stated.marked:
        chosen = _marked(lines, parts, options)
        # A mark before a list of the options ("Answer: A. CT\nB. MRI") chooses none.
        return None if any(options.lists(part) - {chosen} for part in stated.after) else chosen
    concluded = [index for part in parts if (index := options.around(part)) is not None]
    weighed = _options_weighed([*lines, *parts], options)
    if weighed:
        last = options.around(parts[-1])
        return last if last is not None and len(concluded) == 1 else None
    found = {index for part in (*lines, *parts) if (index := options.whole(part)) is not None} | set(concluded)
    if options.whole(lines[0]) is None and not concluded:
        found |= options.lead(lines[0])
    if not found and (index := _before_reason(lines[0], options)) is not None:
        found = {index}
    return found.pop() if len(found) == 1 else None


def _marked(lines: Sequence[str], parts: Sequence[str], options: _Options) -> int | None:
    """The option that follows a mark; only the mark's line counts."""
    line = lines[0]
    if len({index for part in lines if (index := options.whole(part)) is not None}) > 1:
        return None
    for reading in (options.whole(line), options.around(line)):
        if reading is not None:
            return reading
    found = options.lead(line) | {index for part in parts if (index := options.whole(part)) is not None}
    if not found and (index := _before_reason(line, options)) is not None:
        found = {index}
    return found.pop() if len(found) == 1 else None


def _before_reason(line: str, options: _Options) -> int | None:
    """The option whose text precedes a reason, a gloss or a denial: "MRI, because …"."""
    cut = re.split(
        r",?\s(?:because|since|due to|based on|as (?:it|the|there|this)|given)\b|\s[-\u2013\u2014]+\s|\u2014"
        r"|,\s(?:not|rather than)\s|\s(?:rather than|instead of)\s"
        r"|\s\((?![A-Za-z]\))",
        line,
        maxsplit=1,
    )
    if len(cut) == 2 and options.named(re.sub(r"^not\s", "", cut[1])) is not None:
        return options.named(cut[0])
    if len(cut) < 2 or _REMARK_DENIES.match(cut[1].casefold()) or _DENIES_LATER.search(cut[1].casefold()):
        return None
    return options.named(cut[0])
