"""Text rules that scoring rests on: one normal form, whole-word yes/no, option letters, and lists without order.

They are written for English. Every rule either reads one thing in a reply or returns None; none of them looks for the
reference inside the reply, so that a reply which names every option wins nothing.
"""

import functools
import re
import unicodedata
from collections.abc import Sequence
from typing import Literal

# Quotation marks, dashes and ligatures that NFKC leaves as they are.
_TYPOGRAPHY = str.maketrans(
    dict.fromkeys("\u2018\u2019`", "'")
    | dict.fromkeys("\u201c\u201d", '"')
    | dict.fromkeys("\u2010\u2011\u2013\u2212", "-")
    | {"\u0153": "oe", "\u0152": "Oe", "\u00e6": "ae", "\u00c6": "Ae"}
)
# British stems and what they become; applied to both sides, so that a stem only has to be unambiguous.
_SPELLING = [
    (re.compile(pattern), american)
    for pattern, american in [
        (r"tumour", "tumor"),
        (r"colour", "color"),
        (r"\boe(?=dema|soph|str)", "e"),
        (r"haem", "hem"),
        (r"aemi", "emi"),
        (r"paed", "ped"),
        (r"anaes", "anes"),
        (r"gynaec", "gynec"),
        (r"\baetio", "etio"),
        (r"\bcaec", "cec"),
        (r"\bfaec", "fec"),
        (r"\bfoet", "fet"),
        (r"\bcoeli", "celi"),
        (r"(?<=rrh)oea", "ea"),
        (r"(?<=pn)oea", "ea"),
        (r"leucocyt", "leukocyt"),
        (r"artefact", "artifact"),
        (r"\bgrey\b", "gray"),
        (r"(?:(?<=cent)|(?<=fib)|(?<=calib)|(?<=lit)|(?<=met))re(?=s?\b)", "er"),
        (r"\b(visual|local|general|hospital|character|catheter)is(?=e|ing|ation)", r"\1iz"),
    ]
]
_NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve".split()
_NUMBER = {word: str(value) for value, word in enumerate(_NUMBERS)}
_ARTICLES = {"a", "an", "the"}
_UNITS = r"(?:%|mm|cm|ml|mg|kg|hu|kvp?|m|g|l)"
_CONTRACTIONS = [
    (re.compile(r"\bcan(?:'t|not)\b"), "can not"),
    (re.compile(r"\bwon't\b"), "will not"),
    (re.compile(r"n't\b"), " not"),
    (re.compile(r"\bi'm\b"), "i am"),
    (re.compile(r"'"), ""),
]

_YES, _NO = {"yes", "yeah", "yep", "yup"}, {"no", "nope"}
_CONJUNCTIONS = {"and", "or", "nor"}
_SUBJECTS = {"it", "there", "this", "that", "these", "those", "the", "i", "he", "she", "they", "we"}
_NEGATORS = {"not", "never", "neither", "nor", "either", "unable", "whether", "if", "without"}
_CLAUSES = re.compile(r"[.,;:!?()\[\]{}<>\"*_/|\n\r\u2014\u2015]+|\s-+(?:\s|$)|^\s*-+\s")
_UNSURE = re.compile(r"\b(?:unsure|uncertain|indeterminate|not (?:sure|certain)|not know|hard to (?:say|tell))\b")
_HEDGES = {"maybe", "perhaps", "possibly", "probably", "unclear"}
_REFUSAL = re.compile(
    r"\b(?:as ai\b|as (?:base )?(?:vlm|language model)|not trained to|(?:unable|not able) to"
    r"|can not (?:be )?(?:answer|determin|provid|assist|help|tell|say|assess|evaluat|view|access|process|diagnos)\w*"
    r"|(?:do|does) not know|no (?:images?|pictures?|scans?) (?:\w+ ){0,2}(?:provided|given|attached|available|uploaded)"
    r"|no (?:idea|opinion|way to))"
)
_LABEL = r"[\W_]*(?:(?i:option|choice)[\W_]+)?([A-Za-z])"  # "D", "(d)", "Option D", without what follows
_MARK = re.compile(r"\b(?:answer|option|choice)\b[\s*_\"]*(?:is\b|was\b|would be\b|:|=)[\s*_\":=]*", re.IGNORECASE)


def _fold(text: str) -> str:
    """Returns text without typographic variants, accents on Latin letters, and invisible characters; case is kept."""
    text = unicodedata.normalize("NFKD", text)
    kept = [c for c in text if not "\u0300" <= c <= "\u036f" and unicodedata.category(c) != "Cf"]
    return unicodedata.normalize("NFKC", "".join(kept)).translate(_TYPOGRAPHY)


@functools.lru_cache(maxsize=1 << 16)
def normalize(text: str) -> str:
    """Returns the form in which answers are compared: lower case, American, without articles and punctuation.

    Negation words stay. Numbers keep their sign and decimals, units stand apart, small number words become digits.
    An article that is the last word stays, for it may be a name (option A, hepatitis A).

    >>> normalize("The  left-sided Tumour, 5.0cm!")
    'left sided tumor 5 cm'
    >>> normalize("There isn't a fracture."), normalize("A")
    ('there is not fracture', 'a')
    """
    text = _fold(text).casefold().replace("_", " ")
    for pattern, replacement in _CONTRACTIONS:
        text = pattern.sub(replacement, text)
    for pattern, american in _SPELLING:
        text = pattern.sub(american, text)
    text = re.sub(r"\b(?:[a-z]\.){2,}", lambda match: match[0].replace(".", "") + " ", text)  # P.A. is PA
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)  # 1,000
    text = re.sub(r"(?<!\S)\.(?=\d)", "0.", text)  # .5
    text = re.sub(r"(?<=\d)(\.\d*?)0+(?!\d)", r"\1", text)  # 5.0, 2.50
    text = re.sub(rf"(?<=\d)(?={_UNITS}(?!\w))", " ", text)
    # A point stays inside a number and a minus before one; every other mark separates words.
    text = re.sub(r"(?<!\d)\.|\.(?!\d)|(?<!\S)-(?!\d)|(?<=\S)-|[^\w\s%<>≤≥+.-]", " ", text)
    words = [_NUMBER.get(word, word) for word in text.split()]
    return " ".join([*(word for word in words[:-1] if word not in _ARTICLES), *words[-1:]])


def explicit_answer(text: str) -> str:
    """Returns what follows the last "answer:", "answer is" and the like, or the whole text if there is none.

    >>> explicit_answer("Answer: A. No, the final answer is: **D**")
    'D**'
    """
    after = _MARK.split(text)
    return after[-1] if re.search(r"\w", after[-1]) else text


def is_refusal(text: str) -> bool:
    """Returns whether the reply declines to answer.

    >>> is_refusal("Sorry, as a base VLM I am not trained to answer this question."), is_refusal("No pneumonia")
    (True, False)
    """
    return bool(_REFUSAL.search(normalize(text)))


def answer_items(text: str) -> frozenset[str]:
    """Returns the items of a list without order; a comma inside a number does not separate.

    >>> sorted(answer_items("Left lung, the heart and ribs"))
    ['heart', 'left lung', 'ribs']
    """
    parts = re.split(r",(?!\d)|(?<!\d),|;|\band\b|&", _fold(text).casefold())
    return frozenset(item for part in parts if (item := normalize(part)))


def _read_clause(words: Sequence[str], *, first: bool) -> set[str]:
    """Returns which of yes, no stand as answers in one clause, and "unsure" if one of them is negated."""
    found: set[str] = set()
    verdict_words = _YES | _NO
    for index, word in enumerate(words):
        if word not in verdict_words:
            continue
        near = [w for w in (*words[:index][-2:], *words[index + 1 : index + 3]) if w not in _CONJUNCTIONS]
        after = words[index + 1 : index + 2]
        # "no" before a noun is a negation, not the answer, unless the reply opens with it.
        opens = index == 0 and (first or word in _YES or not after or after[0] in _SUBJECTS)
        ends = index == len(words) - 1
        if opens or ends or any(w in verdict_words for w in near):
            found.add("yes" if word in _YES else "no")
            if not opens and _NEGATORS & set(words[:index]):
                found.add("unsure")
    return found


def parse_yes_no(text: str) -> Literal["yes", "no"] | None:
    """Returns the yes or no that a reply gives, or None: neither, both, hedged, or a refusal.

    Only whole words count, and only where they stand as the answer: they open the reply, make up or end a clause, or
    follow "answer:". A "no" inside a sentence ("there is no fracture") is a negation: whether it means yes or no
    depends on the question, and is not guessed.

    >>> parse_yes_no("Yes, abnormal"), parse_yes_no("Normal; note the clips"), parse_yes_no("yes and no")
    ('yes', None, None)
    """
    text = explicit_answer(_fold(text).casefold())
    if is_refusal(text) or _UNSURE.search(normalize(text)):
        return None
    text = re.sub(r"\bno\.\s*(?=\d)", "number ", text)
    for pattern, replacement in _CONTRACTIONS:
        text = pattern.sub(replacement, text)
    clauses = [words for part in _CLAUSES.split(text) if (words := re.findall(r"[^\W_]+(?:-[^\W_]+)*", part))]
    found: set[str] = set()
    for index, words in enumerate(clauses):
        reading = _read_clause(words, first=index == 0)
        if _HEDGES & set(words) and (reading or not found or len(words) <= 2):
            return None
        found |= reading
    if found == {"yes"}:
        return "yes"
    return "no" if found == {"no"} else None


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
        """Returns the option that a whole line is: its text, its letter, or its letter and text."""
        text = normalize(line)
        match = re.fullmatch(rf"{_LABEL}(?:([\W_]+)(.*))?", line)
        index = self.letter.get(match[1].upper()) if match else None
        rest = normalize(match[3] or "") if match else ""
        # In "A: MRI" the A is a label, although the normal form takes it for an article.
        labelled = index is not None and rest == text and bool((match[2] if match else "").strip())
        if text in self.index and not labelled:
            return self.index[text]
        return index if index is not None and (not rest or self.index.get(rest) == index) else None

    def lead(self, line: str) -> set[int]:
        """Returns the options that a line labels, if it opens with a label ("D. …", "(D) …", "D is correct")."""
        follows = r"[)\].:*,;]|\s+-\s|\s+is\s+(?:the\s+)?(?:correct|right|best|answer)"
        opening = re.match(rf"{_LABEL}(?={follows})", line)
        if not opening or opening[1].upper() not in self.letter:
            return set()
        rest = line[opening.end() :]
        labels = re.findall(r"(?<![\w'])([A-Za-z])(?=[)\].:*]|\s*$)", rest)
        labels += re.findall(r"(?<![\w'])([A-Z])(?=\s*[,;/&]|\s+(?:and|or)\b)", rest)
        found = {self.letter[label.upper()] for label in [opening[1], *labels] if label.upper() in self.letter}
        named = {self.index.get(normalize(part)) for part in (rest, re.split(r"[.;]\s", rest.lstrip(" ).:*]"))[0])}
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
    lines = [line for line in explicit_answer(_fold(text)).splitlines() if re.search(r"\w", line)]
    if not lines:
        return None
    sentences = [part for line in lines for part in re.split(r"(?<=\w\w)[.;]\s", line)]
    found = {index for part in (*lines, *sentences) if (index := options.whole(part)) is not None}
    if options.whole(lines[0]) is None:
        found |= options.lead(lines[0])
    return found.pop() if len(found) == 1 else None
