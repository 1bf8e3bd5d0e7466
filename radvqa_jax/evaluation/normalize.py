"""The normal form in which English answers are compared, and lists without order."""

import functools
import itertools
import re
import unicodedata

from radvqa_jax.evaluation import numbers

# Quotation marks, dashes and ligatures that NFKC leaves as they are.
_TYPOGRAPHY = str.maketrans(
    dict.fromkeys("\u2018\u2019`", "'")
    | dict.fromkeys("\u201c\u201d", '"')
    | dict.fromkeys("\u2010\u2011\u2013\u2212", "-")
    | {
        "\u0153": "oe",
        "\u0152": "Oe",
        "\u00e6": "ae",
        "\u00c6": "Ae",
        "\u00d7": "x",
        "\u2044": "/",
        "\u2248": "~",
        "\u2032": "'",
        "\u2033": '"',
    }
)
# British stems and their replacements, each with a part that every match contains: `in` is far cheaper than a search.
# They apply to both sides, so a stem only has to be unambiguous.
_SPELLING = [
    (part, re.compile(pattern), american)
    for part, pattern, american in [
        ("our", r"(tum|col|behavi|lab|od|neighb|harb|vap|hum)our", r"\1or"),
        ("oe", r"\boe(?=dema|soph|str)", "e"),
        ("haem", r"haem", "hem"),
        ("aemi", r"aemi", "emi"),
        ("paed", r"paed", "ped"),
        ("anaes", r"anaes", "anes"),
        ("gynaec", r"gynaec", "gynec"),
        ("aetio", r"\baetio", "etio"),
        ("caec", r"\bcaec", "cec"),
        ("faec", r"\bfaec", "fec"),
        ("foet", r"\bfoet", "fet"),
        ("coeli", r"\bcoeli", "celi"),
        ("oea", r"(?<=rrh)oea", "ea"),
        ("oea", r"(?<=pn)oea", "ea"),
        ("leucocyt", r"leucocyt", "leukocyt"),
        ("artefact", r"artefact", "artifact"),
        ("grey", r"\bgrey\b", "gray"),
        ("centred", r"\bcentred\b", "centered"),
        ("ageing", r"\bageing\b", "aging"),
        ("mould", r"\bmould", "mold"),
        ("sulph", r"sulph", "sulf"),
        ("caesar", r"caesar", "cesar"),
        ("ys", r"(anal|paral|dial|catal)ys(?=e[sd]?\b|ing)", r"\1yz"),
        ("ll", r"(label|signal|channel|tunnel|cancel)l(?=ed|ing)", r"\1"),
        ("ray", r"\bx[ -]?rays?\b", "x ray"),
        ("re", r"(?:(?<=cent)|(?<=fib)|(?<=calib)|(?<=lit)|(?<=met))re(?=s?\b)", "er"),
        ("is", r"\b(visual|local|general|hospital|character|catheter)is(?=e|ing|ation)", r"\1iz"),
    ]
]
_CONTRACTIONS = [
    (re.compile(r"\bcan(?:'t|not)\b"), "can not"),
    (re.compile(r"\bwon't\b"), "will not"),
    (re.compile(r"n't\b"), " not"),
    (re.compile(r"\bi'm\b"), "i am"),
]

# A letter after one of these is a name, not an article: hepatitis A, type A dissection.
_NAMED = set(
    "hepatitis type group vitamin influenza class grade stage category factor hemophilia arrow label panel figure "
    "image option choice zone segment stanford weber subtype point structure letter series lesion area region".split()
)
_ARTICLES = {"a", "an", "the"}
_SUPERSCRIPTS = str.maketrans("\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079\u207b", "0123456789-")
_SUPERSCRIPT = re.compile("(?:(?<=[0-9])|(?<=[cm]m))[\u2070\u00b9\u00b2\u00b3\u2074-\u2079\u207b]+")
_VULGAR = re.compile("(?<=[0-9])(?=[\u00bc-\u00be\u2150-\u215e])")  # 5\u00bd is 5 1/2, not 51/2
_ABBREVIATED = re.compile(r"\b(?:[a-z]\.){2,}")
_WITH = [(re.compile(r"\bw/o\b"), "without"), (re.compile(r"\bw/ ?(?=[a-z])"), "with "), (re.compile(r"&"), " and ")]
# A point, slash and colon stay inside a number, a minus before one, a caret before a power; other marks separate words.
_MARKS = re.compile(
    r"(?<!\d)[./:^]|[./:](?!\d)|\^(?![\d-])|(?<!\S)-(?!\d)|(?<=[^\s^])-(?!\d)|(?<=[^\s\d^])-|[<>≤≥±](?!-?\d)|[^\w\s%<>≤≥±+./:^-]"
)
# The same separators for a text without digits and carets, in a quarter of the time.
_PLAIN_MARKS, _DIGIT_OR_CARET = re.compile(r"[^\w\s%+]"), re.compile(r"[\d^]")
_ITEMS = re.compile(r"[,;\n\t\u3001]|\band\b|\bplus\b|\bas well as\b")
_OR = re.compile(r"\b(?:or|nor)\b")
_NEGATED = re.compile(r"^(?:no|not|without|absent|absence of|negative for|free of|denies|neither|nor)\b")


def fold(text: str) -> str:
    """Text without typographic variants, accents on Latin letters, and invisible characters; case is kept."""
    if text.isascii():  # most text is ASCII, and this step dominates the time of scoring
        return text.replace("`", "'")
    text = _SUPERSCRIPT.sub(lambda match: "^" + match[0].translate(_SUPERSCRIPTS), _VULGAR.sub(" ", text))
    text = unicodedata.normalize("NFKD", text)
    kept = [c for c in text if not "\u0300" <= c <= "\u036f" and unicodedata.category(c) != "Cf"]
    return unicodedata.normalize("NFKC", "".join(kept)).translate(_TYPOGRAPHY)


def contract(text: str) -> str:
    """A lower-case text with its contractions in full: "isn't" is "is not"."""
    for pattern, replacement in _CONTRACTIONS if "'" in text or "cannot" in text else ():
        text = pattern.sub(replacement, text)
    return text


def _prepare(text: str) -> str:
    """The folded, lower-case text with contractions, spelling and numbers in one form; marks stay."""
    text = contract(numbers.mark_case(fold(text)).casefold().replace("_", " "))
    for part, pattern, american in _SPELLING:
        if part in text:
            text = pattern.sub(american, text)
    for pattern, word in _WITH if "/" in text or "&" in text else ():
        text = pattern.sub(word, text)
    if "." in text:
        text = _ABBREVIATED.sub(lambda match: match[0].replace(".", "") + " ", text)  # P.A. is PA
    return numbers.write(text)


def _normalize(text: str) -> str:
    text = _prepare(text).replace("'", "")
    marks = _MARKS if _DIGIT_OR_CARET.search(text) else _PLAIN_MARKS
    words = marks.sub(" ", text).split()
    kept: list[str] = []
    for index, word in enumerate(words):
        if word not in _ARTICLES or index == len(words) - 1 or (word == "a" and kept and kept[-1] in _NAMED):
            kept.append(word)
    return " ".join(kept)


@functools.lru_cache(maxsize=1 << 16)
def normalize(text: str) -> str:
    """The form in which answers are compared: lower case, American, without articles and punctuation.

    Negation words stay. Numbers have one notation (numbers.py), number words become digits. An article that is a
    name stays: one that is the last word (option A), or follows a word like hepatitis, type or vitamin.

    >>> normalize("The  left-sided Tumour, 5.0cm!")
    'left sided tumor 5 cm'
    >>> normalize("There isn't a fracture."), normalize("A"), normalize("hepatitis A infection")
    ('there is not fracture', 'a', 'hepatitis a infection')
    """
    found = _normalize(text)
    # Removing a mark between digits and letters may join them ("T, 5"), so this repeats until nothing changes.
    for _ in range(3 if numbers.has_digit(found) else 0):
        if (again := _normalize(found)) == found:
            break
        found = again
    return found


def comparable(text: str) -> str:
    """The normal form with every length, area, volume and mass in its smallest unit.

    >>> comparable("A mass of 5 cm"), comparable("5 centimetres"), comparable("50mm")
    ('mass of 50 mm', '50 mm', '50 mm')
    """
    return numbers.smallest_units(normalize(text))


@functools.lru_cache(maxsize=1 << 12)
def answer_items(text: str) -> frozenset[str]:
    """The items of a list without order; a comma inside a number does not separate.

    A negation applies to its own item, and to a list joined by "or". If it may apply to more ("no mass and
    fracture"), the text stays one item, so its order counts.

    >>> sorted(answer_items("Left lung, the heart and ribs"))
    ['heart', 'left lung', 'ribs']
    >>> sorted(answer_items("no mass or fracture")), sorted(answer_items("no mass and fracture"))
    (['no fracture', 'no mass'], ['no mass and fracture'])
    """
    text = _prepare(text)
    parts = [part for piece in _ITEMS.split(text) if (part := piece.strip(" .:"))]
    items: list[str] = []
    for part in parts:
        first, *others = (comparable(piece) for piece in (_OR.split(part) if "or" in part else (part,)))
        negator = _NEGATED.match(first)
        if others and negator:
            items += [first, *(f"{negator[0]} {other}" for other in others if other)]
        else:
            items.append(comparable(part))
    items = [item for item in items if item]
    negated = [bool(_NEGATED.match(item)) for item in items]
    if any(earlier and not later for earlier, later in itertools.pairwise(negated)):
        return frozenset({comparable(text)})
    return frozenset(items)
