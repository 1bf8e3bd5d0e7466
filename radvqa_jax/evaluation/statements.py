"""A statement read as the answer to a yes/no question: "no midline shift" to "Is the trachea midline?" is a yes.

A statement answers by presence (the finding in question is present or not), by opposites (terms/polarity.tsv: enlarged
and normal in size, midline and shifted), or as a whole (nothing is abnormal). It must be about the same side, level and
size (terms/exclusive.tsv). Anything less certain gives no answer.
"""

import functools
import re
from typing import Literal, NamedTuple

from radvqa_jax.evaluation import exclusive, terms

_POLAR = re.compile(
    r"(?:\w+ ){0,3}?(?:is|are|was|were|do|does|did|can|could|has|have|will|would|should|any|evidence)\b", re.IGNORECASE
)
_WH = re.compile(r"\b(?:what|which|where|who|whom|how|why|when)\b", re.IGNORECASE)
_NEGATORS = set("no not never without absent absence none nor neither lack lacks lacking negative free nothing".split())
_NUMBER = re.compile(r"(?:\W|\d|\bzero\b)+", re.IGNORECASE)  # says how many, not whether
_HEDGE = re.compile(
    r"\b(?:possibl\w+|may|might|could|perhaps|maybe|suspicious|suspected|cannot (?:be )?(?:exclud|rul)\w*"
    r"|can not (?:be )?(?:exclud|rul)\w*"
    r"|rule out|questionable|equivocal|unclear|uncertain|if|whether|unsure|history of|should be|would be)\b"
)
_GENERIC = set(
    """image picture scan study film photograph view exam examination patient evidence sign seen visible visualized
    identified noted present presence appear appears appearing look looks show shows shown showing demonstrate
    demonstrates demonstrated reveal reveals see any there is are was were be been of in on the this that these
    those it its acute significant obvious definite apparent evident at all a an to and or with by from have has
    had do does doe did contain include can could within you i we here detected observed found indicate suggest
    consistent finding discernible gross clear overt large small used use
    using given administered which as well entire his her their patients clearly well
    appropriately evidenced indicating suggesting suggestive also both side""".split()
)
_EXTENT = set("left right bilateral multiple diffuse focal patchy mild moderate severe scattered extensive".split())
# Nouns that many structures share: the left lobe of the liver is not that of the thyroid.
_PARTS = set(
    "lobe pole side region area aspect part portion zone field wall size shape angle margin border head tail".split()
)
_DEGREES = set("poorly barely hardly partially partly incompletely scarcely".split())  # nearly a denial
# Nothing is wrong; "acute disease" and the like stand for any abnormality.
_NOTHING = re.compile(
    r"\b(?:no|without|not (?:show|demonstrate|reveal|have)|free of|absence of|lack of|negative for"
    r"|nothing)\b(?: (?:any|evidence of|signs? of|obvious"
    r"|significant|acute|apparent|visible|definite|focal|gross|other|cardiopulmonary|intracranial|pulmonary"
    r"|radiographic|clear|evident|detectable|major))*"
    r" (?:abnormal(?:ity|ities)?|disease|patholog(?:y|ic|ical|ies)|findings?|process|lesions?)\b(?! (?:in|on|of|at"
    r"|to)\b(?! the (?:image|scan|film|study|picture|chest x)))"
)
_NORMAL = 0  # the pair of normal and abnormal, the first line of the table
_BREAK = re.compile(r"[.;:\n]+\s?|,\s|\s-\s|\bbut\b|\bhowever\b|\bwhile\b|\balthough\b")
_PREPOSITIONS = set("in on of at within under above below around along over near with to behind inside".split())

_IDLE = _GENERIC | _NEGATORS | _PREPOSITIONS


class _Pairs(NamedTuple):
    good: list[tuple[str, int]]  # phrase, index of its pair
    bad: list[tuple[str, int]]
    implied: set[int]  # pairs whose good side "normal" says
    words: set[str]  # of all phrases


@functools.cache
def _pairs() -> _Pairs:
    rows = terms.rows("polarity")
    good, bad = (
        [
            (" ".join(terms.canonical(phrase)), pair)
            for pair, row in enumerate(rows)
            for phrase in terms.split(row[side])
        ]
        for side in ("as it should be", "not as it should be")
    )
    implied = {pair for pair, row in enumerate(rows) if row["normal says so"] == "yes"}
    return _Pairs(good, bad, implied, {word for phrase, _ in (*good, *bad) for word in phrase.split()})


def _phrases(words: str, table: list[tuple[str, int]]) -> dict[int, str]:
    """{pair: its longest phrase that occurs}."""
    found: dict[int, str] = {}
    for phrase, pair in table:
        if f" {phrase} " in words and len(phrase) > len(found.get(pair, "")):
            found[pair] = phrase
    return found


def _plain(text: str) -> str:
    """The canonical words, with double negations of normal and abnormal resolved."""
    words = " ".join(terms.canonical(text)).replace("pneumoperitoneum", "pneumoperitoneum air")
    return re.sub(r"\bnot abnormal\b", "normal", re.sub(r"\b(?:not|no longer) normal\b", "abnormal", words))


class _Asked(NamedTuple):
    """A yes/no question: the words that it asks about, and its last word of content before a place is named."""

    words: str
    content: frozenset[str]
    key: str
    place: frozenset[str]  # the words from the place on
    good: dict[int, str]
    bad: dict[int, str]


@functools.lru_cache(maxsize=4096)
def _ask(question: str) -> _Asked | None:
    last = [part for part in re.split(r"(?<=[?.!])\s+", question.strip()) if re.search(r"\w", part)][-1:]
    text = last[0] if last else ""
    if not _POLAR.match(text) or _WH.search(text) or re.search(r"\b(?:or|than|vs)\b|\d", text.casefold()):
        return None
    words = _plain(text)
    if _NEGATORS & set(words.split()):
        return None
    padded = f" {words} "
    good = _phrases(padded, _pairs().good)
    bad = _phrases(padded, _pairs().bad)
    good = {pair: phrase for pair, phrase in good.items() if not any(phrase in other.split() for other in bad.values())}
    key, content, place = "", [], []
    placed = False
    for word in words.split():
        placed = placed or (bool(content) and word in _PREPOSITIONS)
        if word not in _GENERIC and word not in _PREPOSITIONS:
            content.append(word)
            key = key if placed else word
        if placed:
            place.append(word)
    return _Asked(words, frozenset(content), key, frozenset(place), good, bad)


def _content(words: list[str]) -> list[str]:
    return [word for word in words if word not in _IDLE]


def _covers(words: list[str], asked: _Asked, *, whole: bool, named: str = "") -> bool:
    """Whether a clause says enough on the sides, levels and sizes of its question.

    Args:
        words: the words of the clause.
        asked: the question.
        whole: the clause is about all of its subject, as a denial and "the lungs are clear" are. Then it may not be
            narrower than the question. Otherwise the clause may not be wider: "an effusion" need not be a large one.
        named: the phrase of the question that the clause answers.
    """
    required = exclusive.required()
    mine, theirs = required & set(words), required & set(asked.words.split())
    if whole:
        mine -= exclusive.sizes()  # "No large pneumothorax" is a no in reports
    if "bilateral" in mine and not (whole and _NEGATORS & set(words)):
        mine |= {"left", "right"}
    if whole:
        return mine - {"bilateral", "left", "right"} <= theirs if {"left", "right"} <= mine else mine <= theirs
    missing = theirs - mine - set(named.split())
    if not missing:
        return True
    rest = set(_content(words)) - _pairs().words - required
    # "There is a mass" answers "Is there a mass in the left lung?", "opacified" answers "Is the left lung opacified?".
    return (missing <= asked.place and not rest & asked.place) or (not rest and "there" not in asked.words.split())


def _shares_subject(content: set[str], asked: _Asked, *, whole: bool) -> bool:
    """Whether the statement is about the subject of the question, or about the image as a whole."""
    idle = _pairs().words | exclusive.required() | _EXTENT
    mine, theirs = (
        (words | {"heart"} if "cardiomegaly" in words else words) - idle for words in (content, asked.content)
    )
    if not theirs:  # "The heart is normal" does not call the image normal
        kinds = {word for term in terms.of_kind("modality") for word in term.split()}
        return not (whole and _NORMAL in asked.good and mine - kinds)
    named, asked_for = mine - _PARTS, theirs - _PARTS
    if not mine or not (named and asked_for):
        return not mine or bool(mine & theirs)
    return named <= asked_for or asked_for <= named


def _by_opposites(
    words: str, content: set[str], negated: bool, asked: _Asked
) -> Literal["yes", "no", "about another"] | None:
    """Reads a word of the question, or its opposite, in the statement."""
    padded = f" {words} "
    good, bad = _phrases(padded, _pairs().good), _phrases(padded, _pairs().bad)

    def denies(phrase: str) -> bool:  # "not well defined" is negated by "not", not by its own words
        return negated and bool(_NEGATORS & set(padded.replace(f" {phrase} ", " ").split()))

    readings: set[bool] = set()
    for pair in asked.good:
        if pair in bad and bad[pair] not in asked.words:
            readings.add(denies(bad[pair]))
        elif pair in good:
            readings.add(not denies(good[pair]))
    for pair in asked.bad:
        if pair in bad:
            readings.add(not denies(bad[pair]))
        elif pair in good or (_NORMAL in good and pair in _pairs().implied):
            readings.add(denies(good.get(pair, "")))
    if len(readings) != 1:
        return None
    agrees = readings.pop()
    whole = agrees if asked.good else not agrees
    named = " ".join((*asked.good.values(), *asked.bad.values()))
    same = _shares_subject(content, asked, whole=whole) and _covers(words.split(), asked, whole=whole, named=named)
    if asked.good and asked.bad:
        return None
    if not same:
        return "about another"
    return "yes" if agrees else "no"


def _by_presence(words: list[str], negated: bool, asked: _Asked) -> Literal["yes", "no"] | None:
    """Reads whether the finding in question is stated or denied."""
    content = _content(words)
    content += ["left", "right"] if "bilateral" in content else []
    if not _covers(words, asked, whole=negated):
        return None
    if (
        not negated
        and not asked.good
        and {"present", "seen", "visible", "noted"} & set(words)
        and set(words) <= _GENERIC
    ):
        return "yes"
    if negated and len({"not", *words}) > 1 and set(words) <= _GENERIC | _NEGATORS:  # "none", "not seen"
        return None if asked.good else "no"
    if negated:
        heads = _denied(words)
        if heads & asked.content or (heads and heads <= _GENERIC and set(content) & asked.content):
            return "no"
        return None
    if not content or asked.key not in content or _DEGREES & set(words) - set(asked.words.split()):
        return None
    return "yes" if set(content) <= asked.content or asked.content <= set(content) else None


def _denied(words: list[str]) -> set[str]:
    """The heads of the phrases that a clause denies: the last words of nouns after "no", or of a negated predicate."""
    heads: set[str] = set()
    for index, word in enumerate(words):
        if word not in _NEGATORS:
            continue
        run: list[str] = []
        for following in words[index + 1 :]:
            if following in _PREPOSITIONS and run and not set(run) <= _GENERIC:
                break
            if following in ("or", "and", "nor"):
                heads |= set(run[-1:])
                run = []
            elif (
                following in ("is", "are", "was", "were", "be", "seen", "visible", "present", "noted", "identified")
                and run
            ):
                break
            elif following not in _PREPOSITIONS:
                run.append(following)
        content = [w for w in run if w not in _GENERIC]
        heads |= set(content[-1:]) if content else {w for w in words[:index] if w not in _GENERIC}
    return heads


def asks_something(question: str) -> bool:
    """Whether a question names anything with which a statement could be compared; "Is it?" does not."""
    words = _plain(question).split()
    return any(word not in _GENERIC and word not in _PREPOSITIONS for word in words)


def read(text: str, question: str) -> Literal["yes", "no"] | None:
    """The answer of a statement to a yes/no question, or None if it is not certain.

    >>> read("No fracture is seen.", "Is there a rib fracture?"), read("No fracture is seen.", "Is there a mass?")
    ('no', None)
    >>> read("No midline shift.", "Is the trachea midline?"), read("The heart is small.", "Is the heart enlarged?")
    ('yes', None)
    """
    asked = _ask(question)
    if asked is None:
        return None
    found: set[str] = set()
    if text.rstrip().endswith("?") or _NUMBER.fullmatch(text):
        return None
    for clause in _BREAK.split(text[:1000])[:6]:
        if not re.search(r"\w", clause):
            continue
        reading = _read_clause(clause, asked)
        if reading is not None:
            found.add(reading)
        elif not found and _HEDGE.search(clause) and set(_plain(clause).split()) & asked.content:
            return None  # a doubt about the finding in question leaves the answer open
    return "yes" if found == {"yes"} else "no" if found == {"no"} else None


def _read_clause(clause: str, asked: _Asked) -> Literal["yes", "no"] | None:
    if _HEDGE.search(clause):
        return None
    words = _plain(clause)
    listed = words.split()
    nothing = _NOTHING.search(clause) or re.fullmatch("normal|no abnormality", words)
    negated = bool(_NEGATORS & set(listed))
    if exclusive.contradicts(listed, asked.words.split()):
        return None
    content = set(_content(listed))
    if nothing:
        before = set(_plain(clause[: nothing.start()]).split())
        about = _NORMAL not in asked.good or _shares_subject(content & before, asked, whole=True)
        if not about or not _covers(listed, asked, whole=True):
            return None
        if _NORMAL in asked.good:
            return "yes"
        return "no" if asked.bad or "lesion" in asked.content else None
    if sum(word in _NEGATORS for word in listed) > 1 and "not" in listed:
        return None
    if reading := _by_opposites(words, content, negated, asked):
        return None if reading == "about another" else reading
    return _by_presence(listed, negated, asked)
