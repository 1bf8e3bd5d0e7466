"""Text rules that scoring rests on: one normal form, whole-word yes/no, quantities, and lists without order.

They are written for English. Every rule either reads one thing in a reply or returns None; none of them looks for the
reference inside the reply, so that a reply which names every option wins nothing.
"""

import functools
import re
import unicodedata
from collections.abc import Sequence
from decimal import Decimal
from typing import Literal

# Quotation marks, dashes and ligatures that NFKC leaves as they are.
_TYPOGRAPHY = str.maketrans(
    dict.fromkeys("\u2018\u2019`", "'")
    | dict.fromkeys("\u201c\u201d", '"')
    | dict.fromkeys("\u2010\u2011\u2013\u2212", "-")
    | {"\u0153": "oe", "\u0152": "Oe", "\u00e6": "ae", "\u00c6": "Ae", "\u00d7": "x", "\u2044": "/", "\u2248": "~"}
)
# British stems and what they become; applied to both sides, so that a stem only has to be unambiguous.
_SPELLING = [
    (re.compile(pattern), american)
    for pattern, american in [
        (r"(tum|col|behavi|lab|od|neighb|harb|vap|hum)our", r"\1or"),
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
        (r"\bcentred\b", "centered"),
        (r"\bageing\b", "aging"),
        (r"\bmould", "mold"),
        (r"sulph", "sulf"),
        (r"caesar", "cesar"),
        (r"(anal|paral|dial|catal)ys(?=e[sd]?\b|ing)", r"\1yz"),
        (r"(label|signal|channel|tunnel|cancel)l(?=ed|ing)", r"\1"),
        (r"\bx[ -]?rays?\b", "x ray"),
        (r"(?:(?<=cent)|(?<=fib)|(?<=calib)|(?<=lit)|(?<=met))re(?=s?\b)", "er"),
        (r"\b(visual|local|general|hospital|character|catheter)is(?=e|ing|ation)", r"\1iz"),
    ]
]
_ANY_SPELLING = re.compile("|".join(pattern.pattern for pattern, _ in _SPELLING))
_NUMBERS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen twenty""".split()
_NUMBER = {word: str(value) for value, word in enumerate(_NUMBERS)}
_ARTICLES = {"a", "an", "the"}
_UNITS = r"(?:%|mm|cm|ml|mg|kg|hu|kvp?|m|g|l)"
_UNIT_WORDS = [
    (re.compile(rf"(?<=\d)[ -]?{pattern}\b"), f" {unit}")
    for pattern, unit in [
        (r"(?:per ?cent)", "%"),
        (r"(?:millimeters?|mms)", "mm"),
        (r"(?:centimeters?|cms)", "cm"),
        (r"(?:milliliters?|mls|cc)", "ml"),
        (r"(?:hounsfield units?)", "hu"),
    ]
]
# Units of one kind, in terms of its smallest.
_SMALLEST = {"mm": ("mm", 1), "cm": ("mm", 10), "m": ("mm", 1000), "ml": ("ml", 1), "l": ("ml", 1000)}
_SMALLEST |= {"mg": ("mg", 1), "g": ("mg", 1000), "kg": ("mg", 1_000_000)}
_QUANTITY = re.compile(r"(?<![\w.])(-?\d+(?:\.\d+)?) (mm|cm|m|ml|l|mg|g|kg)(?!\w)")
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
    r"|can not (?:be )?(?:answer|determin|provid|assist|help|tell|say|assess|evaluat|view|access|process|diagnos"
    r"|interpret|analyz|comment|offer)\w*"
    r"|(?:do|does) not know|no (?:images?|pictures?|scans?) (?:\w+ ){0,2}(?:provided|given|attached|available|uploaded)"
    r"|no (?:idea|opinion|way to))"
)
_IDIOMS = re.compile(r"\b(?:no (?:doubt|question)\b|without (?:a |any )?doubt\b)")  # neither yes nor no
_MARK = re.compile(
    r"\b(?:answer|ans|option|choice)\b[\s*_\"]*(?:is\b|was\b|would be\b|should be\b|:|=|-\s)[\s*_\":=]*"
    r"|<answer>|\bI (?:would )?(?:choose|pick|select)\b",
    re.IGNORECASE,
)
# What wraps an answer in LaTeX and in tags: the innermost first.
_LATEX = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}")
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{([^{}]*)\}")


def fold(text: str) -> str:
    """Returns text without typographic variants, accents on Latin letters, and invisible characters; case is kept."""
    if text.isascii():  # most is, and this is most of the time that scoring takes
        return text.replace("`", "'")
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
    text = fold(text).casefold().replace("_", " ")
    for pattern, replacement in _CONTRACTIONS:
        text = pattern.sub(replacement, text)
    for pattern, american in _SPELLING if _ANY_SPELLING.search(text) else ():
        text = pattern.sub(american, text)
    text = re.sub(r"\b(?:[a-z]\.){2,}", lambda match: match[0].replace(".", "") + " ", text)  # P.A. is PA
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)  # 1,000
    text = re.sub(r"(?<!\S)\.(?=\d)", "0.", text)  # .5
    text = re.sub(r"(?<=\d)(\.\d*?)0+(?!\d)", r"\1", text)  # 5.0, 2.50
    for pattern, unit in _UNIT_WORDS:
        text = pattern.sub(unit, text)
    text = re.sub(r"(?<=\d) ?x ?(?=\d)", " x ", text)  # 3x4
    text = re.sub(rf"(?<=\d)(?={_UNITS}(?!\w))", " ", text)
    text = re.sub(r"(?:\b(?:about|approximately|approx\.?|around|roughly)\s+|~\s*)(?=\d)", "", text)
    # A point and a slash stay inside a number and a minus before one; every other mark separates words.
    text = re.sub(r"(?<!\d)[./]|[./](?!\d)|(?<!\S)-(?!\d)|(?<=\S)-|[^\w\s%<>≤≥+./-]", " ", text)
    words = [_NUMBER.get(word, word) for word in text.split()]
    return " ".join([*(word for word in words[:-1] if word not in _ARTICLES), *words[-1:]])


def explicit_answer(text: str) -> str:
    """Returns what follows the last "answer:", "answer is" and the like, or the whole text if there is none.

    >>> explicit_answer("Answer: A. No, the final answer is: **D**")
    'D**'
    """
    if "\\" in text:
        text = _BOXED.sub(r" answer: \1\n", _LATEX.sub(r"\1", text))
    after = _MARK.split(text.replace("</answer>", "\n"))
    return after[-1] if re.search(r"\w", after[-1]) else text


def comparable(text: str) -> str:
    """Returns the normal form with every length, volume and mass in its smallest unit.

    >>> comparable("A mass of 5 cm"), comparable("5 centimetres"), comparable("50mm")
    ('mass of 50 mm', '50 mm', '50 mm')
    """

    def smallest(match: re.Match[str]) -> str:
        unit, factor = _SMALLEST[match[2]]
        value = (Decimal(match[1]) * factor).normalize()
        return f"{value:f} {unit}"

    return _QUANTITY.sub(smallest, normalize(text))


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
    parts = re.split(r",(?!\d)|(?<!\d),|;|\band\b|&", fold(text).casefold())
    return frozenset(item for part in parts if (item := comparable(part)))


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
            if not opens and (_NEGATORS | _NO) & set(words[:index]):
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
    text = explicit_answer(fold(text).casefold())
    if is_refusal(text) or _UNSURE.search(normalize(text)):
        return None
    text = _IDIOMS.sub(" ", re.sub(r"\bno\.\s*(?=\d)", "number ", text))
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
