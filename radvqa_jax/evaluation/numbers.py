"""Numbers and their notation in one form: units, bounds, ranges, fractions, powers, times and vertebral levels.

Texts that differ in meaning keep different forms: `>5 mm` and `≥5 mm`, `1:2` and `1 2`, `2-3` and `2, 3`, `12.10.2010`
and `12.1.201`. Every pattern reads a text once, from left to right.
"""

import itertools
import re
from decimal import Decimal
from fractions import Fraction

_SMALL = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen""".split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split()
_WORDS = {word: str(value) for value, word in enumerate(_SMALL)}
_WORDS |= {word: str(10 * value) for value, word in enumerate(_TENS, start=2)}
_WORDS |= {
    f"{tens}{joint}{word}": str(10 * value + unit)
    for value, tens in enumerate(_TENS, start=2)
    for unit, word in enumerate(_SMALL[1:10], start=1)
    for joint in ("-", " ")
}
_WORDS |= {
    word: f"{value}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(value, 'th') }" for value, word in enumerate(_ORDINALS, start=1)
}
_WORD = re.compile(rf"\b(?:{'|'.join(sorted(_WORDS, key=len, reverse=True))})\b")
# Every number word holds one of these.
_STEMS = tuple(
    dict.fromkeys(
        [*_SMALL[:13], "fifteen", "twent", "thir", "fort", "fift", *_ORDINALS[:3], "eighth", "ninth", "twelf"]
    )
)
_ROMAN = {roman: str(value) for value, roman in enumerate("i ii iii iv v vi vii viii ix".split(), start=1)}
# A Roman number counts only after what it numbers: "iv contrast" means intravenous.
_NUMBERED = r"type|grade|stage|class|category|cn|cranial nerve|zone|level|factor|phase|segment|bi-?rads"
_ROMAN_NUMBER = re.compile(rf"\b({_NUMBERED})(\s)({'|'.join(sorted(_ROMAN, key=len, reverse=True))})\b")

_UNIT_WORDS = [
    (re.compile(rf"(?<=\d)[ -]?(?:{pattern})(?![\w^])"), f" {unit}")
    for pattern, unit in [
        (r"per ?cent", "%"),
        (r"(?:square|sq\.?) ?(?:millimeters?|mm)|mm\^?2|mm sq", "sqmm"),
        (r"(?:square|sq\.?) ?(?:centimeters?|cm)|cm\^?2|cm sq", "sqcm"),
        (r"(?:cubic|cu\.?) ?(?:centimeters?|cm)|cm\^?3|cc", "ml"),
        (r"(?:cubic|cu\.?) ?(?:millimeters?|mm)|mm\^?3", "cumm"),
        (r"millimeters?|mms", "mm"),
        (r"centimeters?|cms", "cm"),
        (r"meters?", "m"),
        (r"milliliters?|mls", "ml"),
        (r"liters?", "l"),
        (r"milligrams?|mgs", "mg"),
        (r"kilograms?|kgs", "kg"),
        (r"grams?", "g"),
        (r"hounsfield units?", "hu"),
        (r"teslas?|t", "tesla"),
        (r"minutes?|mins?", "min"),
        (r"hours?|hrs?", "h"),
        (r"years?|yrs?", "year"),
    ]
]
UNITS = r"(?:%|sqmm|sqcm|cumm|mm|cm|ml|mg|kg|hu|kvp?|tesla|m|g|l)"
_GLUED = re.compile(rf"(?<=\d)(?={UNITS}(?![\w^]))")
# Units of one kind, in terms of its smallest.
_SMALLEST = {"mm": ("mm", 1), "cm": ("mm", 10), "m": ("mm", 1000), "ml": ("ml", 1), "l": ("ml", 1000)}
_SMALLEST |= {"mg": ("mg", 1), "g": ("mg", 1000), "kg": ("mg", 1_000_000), "sqmm": ("sqmm", 1), "sqcm": ("sqmm", 100)}
_MEASURE = r"(?:sqmm|sqcm|mm|cm|ml|mg|kg|m|l|g)(?![\w^])"
_VALUE = r"\d{1,30}(?:\.\d{1,30})?"
# One number, or several that share the unit behind the last: a range, a product, a tolerance.
_QUANTITY = re.compile(
    rf"(?<![\w./:^])-?{_VALUE}(?: {_MEASURE})?(?: (?:to|x) {_VALUE}(?: {_MEASURE})?"
    rf"| ±{_VALUE}(?: {_MEASURE})?){{0,3}}"
)
_PART = re.compile(rf"(?P<value>{_VALUE})(?: (?P<unit>{_MEASURE}))?")

# Before case is lost: a capital M before a unit is mega ("5 Mg"), unless the whole unit is in capitals.
_MEGA = re.compile(r"(?<=\d)( ?)M(?=(?:[gms]|Hz|Sv|Bq|Gy|V|W)(?!\w))")
_PRIME = re.compile(r"(?<![\w\"'])(\d{1,3}) ?'(?![a-z])(?: ?(\d{1,2}(?:\.\d{1,2})?) ?(?:\"|''|in\b|inches\b)?)?")
_ZEROS = re.compile(r"(?<![\d.])(\d+)\.(\d+)(?![\d]|\.\d)")
_BOUNDS = [
    (re.compile(rf"\b(?:{pattern}) (?=[\d.])(?!\d+(?:st|nd|rd|th)\b)"), sign)
    for pattern, sign in [
        (
            r"(?:greater|larger|bigger|longer|wider|more) than or equal to|at least|(?:no|not) (?:less|smaller) than",
            "≥",
        ),
        (r"(?:less|smaller|fewer|shorter) than or equal to|at most|(?:no|not) (?:more|greater|larger) than|up to", "≤"),
        (r"(?:greater|larger|bigger|longer|wider|more|older) than|over|exceeding", ">"),
        (r"(?:less|smaller|fewer|shorter|lower|younger) than|under|below", "<"),
    ]
]
_OR_MORE = re.compile(
    rf"(?<![\w.])({_VALUE}(?: {UNITS})?) (?:or|and) (more|greater|larger|above|over|less|smaller|fewer|below|under)\b"
)
_SIGNS = [
    (re.compile(r"> ?=|= ?>|⩾|≧"), "≥"),
    (re.compile(r"< ?=|= ?<|⩽|≦"), "≤"),
    (re.compile(r"\+ ?/ ?-|\+-"), "±"),
    (re.compile(r"([<>≤≥±]) (?=[\d.])"), r"\1"),
    (re.compile(r"(?<=[\w%])(?=[±])"), " "),
]
_ABOUT = re.compile(r"(?:\b(?:about|approximately|approx\.?|around|roughly|circa|ca\.?)\s|~\s?)(?=[\d<>≤≥.])")
_BETWEEN = re.compile(rf"\bbetween ({_VALUE}(?: ?{UNITS})?) and (?=\d)|\bfrom ({_VALUE}(?: ?{UNITS})?) to (?=\d)")
_DATE = r"(?<![\w./-])\d{1,4}([-/])\d{1,2}\1\d{1,4}(?![\w/-])"
_RANGE = re.compile(rf"{_DATE}|(?<![\w./-])({_VALUE})( {UNITS})? ?- ?(?={_VALUE}(?![\w./-]|-\d)|{_VALUE} ?{UNITS})")
_SPINE = r"[ctls]"
_LEVELS = re.compile(
    rf"(?<![\w.])({_SPINE})[ -]?(\d{{1,2}}) ?(?:-|/|\bto\b) ?(?:({_SPINE})[ -]?)?(\d{{1,2}})(?![\w/.]|-\d)"
    r"|(?<![\w.-])([a-z])(\d{1,2})-([a-z]?)(\d{1,2})(?![\w/]|-\d)"
)
_LEVEL = re.compile(r"(?<![\w.])(?<!\d )([ctls])[ -](\d{1,2})(?![\w.]|/\d)")
_NAMED_LEVEL = re.compile(
    r"\b(\d{1,2})(?:st|nd|rd|th) (cervical|thoracic|lumbar|sacral)(?: (?:vertebral? )?(?:body|vertebra|spine))?\b"
)
_MIXED = re.compile(rf"(?<![\w./])(?:(\d{{1,4}}) )?(\d{{1,3}})/(\d{{1,3}})(?![\w/.])(?=(?: ?{UNITS}(?!\w))?)")
_THOUSANDS, _LIST_COMMA = re.compile(r"(?<=\d),(?=\d{3}(?!\d))"), re.compile(r"(?<=\d),(?=\d)")  # 1,000 and 2,3
_BARE_POINT = re.compile(r"(?<![\w.)])\.(?=\d)")  # .5
_SPACED_COLON = re.compile(r"(?<=\d) : (?=\d)")
# The beginning of every match of `_UNIT_WORDS`, `_SIGNS` and `_BOUNDS`, or a part of it.
_UNIT_HINT = re.compile(r"\d[ -]?(?:per|sq|cu|m[mielg]|c[mec]|li|k[ig]|gr|h[or]|te|t(?![\w^])|y[er])")
_SIGN_HINT = re.compile(r"[<>≤≥±⩾≧⩽≦+]")
_BOUND_HINTS = ("than", "equal to", "at least", "at most", "up to", "over", "exceeding", "under", "below")
_ASCII_DIGIT = re.compile("[0-9]")
_TIMES = re.compile(rf"(?<=\d)( ?{UNITS})? ?(?:x|by|\*) ?(?=\d)")


def has_digit(text: str) -> bool:
    """Whether a text holds a digit, superscripts included."""
    if text.isascii():
        return bool(_ASCII_DIGIT.search(text))
    return any(character.isdigit() for character in text)


def mark_case(text: str) -> str:
    """Writes out a meaning that only a capital letter carries, before case is lost: mega, not milli."""
    return _MEGA.sub(r"\1mega", text) if "M" in text else text


def _level(match: re.Match[str]) -> str:
    if match[1]:
        return f"{match[1]}{match[2]} to {match[3] or match[1]}{match[4]}"
    return f"{match[5]}{match[6]} to {match[7] or match[5]}{match[8]}"


def _fraction(match: re.Match[str]) -> str:
    whole, top, bottom = match[1], int(match[2]), int(match[3])
    unit = re.match(rf" ?{UNITS}(?!\w)", match.string[match.end() :][:8])
    if not 0 < top < bottom or not (whole or unit):  # 3/2, a date, or a share like "1/2" that adds nothing
        return match[0]
    value = Fraction(top, bottom) + int(whole or 0)
    decimal = Decimal(value.numerator) / Decimal(value.denominator)
    return f"{decimal.normalize():f}" if len(str(decimal)) < 12 else match[0]


def _bound(match: re.Match[str]) -> str:
    return ("≥" if match[2] in ("more", "greater", "larger", "above", "over") else "≤") + match[1]


def _trim(match: re.Match[str]) -> str:
    decimals = match[2].rstrip("0")
    return f"{match[1]}.{decimals}" if decimals else match[1]


def write(text: str) -> str:
    """Writes the numbers of a lower-case text in one notation.

    >>> write("l4/5"), write("2 cm - 3 cm"), write("greater than 5.0mm"), write("1 1/2 cm")
    ('l4 to l5', '2 cm to 3 cm', '>5 mm', '1.5 cm')
    """
    if any(stem in text for stem in _STEMS):
        text = _WORD.sub(lambda m: _WORDS[m[0]], text)
    text = _ROMAN_NUMBER.sub(lambda m: f"{m[1]}{m[2]}{_ROMAN[m[3]]}", text)
    if not has_digit(text):
        return text
    # Each pattern runs only on a text that contains a part that it requires: `in` costs a fraction of a search.
    if "," in text:
        text = _LIST_COMMA.sub(", ", _THOUSANDS.sub("", text))
    if "." in text:
        text = _BARE_POINT.sub("0.", text)
    if "'" in text:
        text = _PRIME.sub(lambda m: f"{m[1]} ft {m[2]} in" if m[2] else f"{m[1]} ft", text)
    for pattern, unit in _UNIT_WORDS if _UNIT_HINT.search(text) else ():
        text = pattern.sub(unit, text)
    text = _GLUED.sub(" ", text)
    for pattern, sign in _SIGNS if _SIGN_HINT.search(text) else ():
        text = pattern.sub(sign, text)
    for pattern, sign in _BOUNDS if any(part in text for part in _BOUND_HINTS) else ():
        text = pattern.sub(sign, text)
    text = _OR_MORE.sub(_bound, _ABOUT.sub("", text))
    if "/" in text:
        text = _MIXED.sub(_fraction, text)
    if "." in text:
        text = _ZEROS.sub(_trim, text)
    if "cal" in text or "thoracic" in text or "lumbar" in text or "sacral" in text:
        text = _NAMED_LEVEL.sub(lambda m: f"{m[2][0]}{m[1]}", text)
    if "-" in text or "/" in text or "to" in text:
        text = _LEVELS.sub(_level, text)
    text = _LEVEL.sub(r"\1\2", text)
    if "between" in text or "from" in text:
        text = _BETWEEN.sub(lambda m: f"{m[1] or m[2]} to ", text)
    if "-" in text:
        text = _RANGE.sub(lambda m: m[0] if m[1] else f"{m[2]}{m[3] or ''} to ", text)
    if "x" in text or "by" in text or "*" in text:
        text = _TIMES.sub(r"\1 x ", text)
    return _SPACED_COLON.sub(":", text) if " : " in text else text


def _smallest(match: re.Match[str]) -> str:
    """A quantity in its smallest unit; numbers without a unit take the unit of the last."""
    parts = list(_PART.finditer(match[0]))
    last = parts[-1]["unit"]
    if last is None:
        return match[0]
    kind = _SMALLEST[last][0]
    units = [part["unit"] or last for part in parts]
    if any(_SMALLEST[unit][0] != kind for unit in units):
        return match[0]
    joints = [re.sub(r"[^xto± ]", "", match[0][a.end() : b.start()]) for a, b in itertools.pairwise(parts)]
    values = [f"{(Decimal(p['value']) * _SMALLEST[u][1]).normalize():f}" for p, u in zip(parts, units, strict=True)]
    sign = "-" if match[0].startswith("-") else ""
    return sign + "".join(a + b for a, b in zip(values, [*joints, ""], strict=True)) + f" {kind}"


def smallest_units(text: str) -> str:
    """A normal form with every length, area, volume and mass in its smallest unit.

    >>> smallest_units("5 x 4 cm"), smallest_units("2 to 3 cm")
    ('50 x 40 mm', '20 to 30 mm')
    """
    return _QUANTITY.sub(_smallest, text) if has_digit(text) else text
