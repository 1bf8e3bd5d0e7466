"""Decides whether an open answer states exactly the reference: in other words, in another order, or in a sentence.

A frame consists of words that add no content: words of reporting ("the image shows") and words from the question.
Everything else in an answer must be the reference, so an answer that names several things, denies, doubts or adds
something never equals one that does not. Numbers, negations and what a question offers to choose from are
never part of a frame.
"""

import functools
import itertools
import re

from radvqa_jax.evaluation import marks, terms
from radvqa_jax.evaluation.normalize import answer_items, comparable

LONGEST = 600  # characters of an answer that may be the reference and its frame

_FUNCTION = set("of in on at within inside into onto for from with by its their his her".split())
_REPORT = _FUNCTION | set(
    """they them he she multiple aspect part portion there is are was were be been being it this that these those
    which as also here appear appears seem seems look looks like show shows showed shown showing demonstrate
    demonstrates demonstrated demonstrating reveal reveals revealed depict depicts depicted display displays
    displayed indicate indicates indicated suggest suggests suggestive consistent compatible represent
    represents represented see seen visible visualized visualize identified identify observed observe noted note
    located location situated found present presence evidence image picture scan film patient finding using used
    taken obtained acquired performed most likely probably probable appearance i we can think believe would say
    has have having based given provided diagnosis answer final impression conclusion therefore thus so overall
    due because condition pathology called known described characterized termed measure measures
    measuring measured size sized diameter dimension dimensions involve involved involving affect affected""".split()
)
# Words that change the meaning anywhere: they are never part of a frame, even if the question has them.
_NEGATION = set(
    "no not never neither nor none without absent absence negative unlikely cannot rather except but".split()
)
_GUARDED = _NEGATION | set("or and possible possibly maybe may might could vs versus".split())
_ORDERED = _NEGATION | set("to than from between above below under over behind if before after versus vs into".split())
_MODIFIERS = set("left right bilateral anterior posterior superior inferior medial lateral upper lower middle".split())
_REGION = set(
    "chest abdomen brain head neck pelvis spine skull knee hip hand wrist foot ankle shoulder elbow heart".split()
)
_ASKS_MODALITY = re.compile(
    r"\b(?:modality|what (?:kind|type|sort) of (?:imag|scan|study|film|x|exam|radiolog|mri|ct|picture)\w*"
    r"|how (?:was|is|were) th\w+ (?:image|scan|picture|film|study)"
    r"|imaging (?:technique|method)|what (?:image|scan|imaging|technique)|which (?:scan|imaging|technique))",
    re.IGNORECASE,
)
_GLOSS = re.compile(r"\s*[(\[]([^()\[\]]{1,200})[)\]]")
_DENIAL = re.compile(
    r"\b(?:not|no|never|without|wrong|incorrect|false|unlikely|excluded|ruled out|rule out|absent|or|versus|vs"
    r"|possibl\w+|maybe|perhaps|either)\b|n't\b|\?",
    re.IGNORECASE,
)
# The start of a reason, a remark or a denial.
_TAIL = re.compile(
    r",?\s(?:because|since|due to|owing to|based on|as (?:it|the|there|this|we|shown|seen|indicated|evidenced|can"
    r"|they)|given (?:that|the)|which|suggesting|indicating|suggestive"
    r"|consistent with|with evidence|as opposed to|rather than|instead of|compared to)\s|,\s(?:not|and not)\s"
    r"|\s[-\u2013\u2014]+\s|\u2014|:\s|,\s(?:as|where|so|evidenced|seen|shown)\s",
    re.IGNORECASE,
)
_NEXT = re.compile(
    r"(?:or|and|also|alternatively|another|additionally|furthermore|moreover|possibly|perhaps|maybe|but|however"
    r"|either|other|differential|next|otherwise)\b|[-*\u2022]|\d+[.)]",
    re.IGNORECASE,
)
_ADDS = re.compile(
    r"\b(?:also|additionally|as well|in addition|could also|may also|alternatively|differential|too)\b", re.IGNORECASE
)
_VERB = re.compile(
    r"\b(?:is|are|was|were|has|have|had|be|been|can|could|may|might|would|should|will|do|does|did|shows?|showed"
    r"|seen|appears?|appeared|demonstrates?"
    r"|suggests?|indicates?|reveals?|noted|visible|present|located|because|since|due|based|represents?|supports?"
    r"|confirms?|lies?|means?|helps?|reflects?|explains?|corresponds?|fits?|matches|accounts?|points?|includes?|requires?"
    r"|favou?rs?|relates?|refers?|occurs?|makes?|gives?|\w+ed|\w+ing)\b",
    re.IGNORECASE,
)
_QUESTION = re.compile(
    r"(?:is|are|was|were|do|does|did|can|could|what|which|where|how|why|should|has|have)\b[^.!?\n]*\?\s*$",
    re.IGNORECASE,
)
_THANKS = re.compile(r"(?:thank|hope|please|let me|note|disclaimer)\b", re.IGNORECASE)
_CONCLUDES = re.compile(
    r"^(?:therefore|thus|so|hence|overall|in (?:conclusion|summary|short)|to summari[sz]e|consequently)\b,?\s*",
    re.IGNORECASE,
)


@functools.cache
def _places() -> dict[str, list[str]]:
    """{word of a question: words for its location, which an answer may add}."""
    return {row["asked"]: terms.split(row["place"]) for row in terms.rows("places")}


def _asked(question: str) -> frozenset[str]:
    """The words of a question that an answer may repeat; alternatives that it offers are not among them."""
    words = list(terms.canonical(question[-LONGEST:]))
    offered: set[str] = set()
    for index, word in enumerate(words):
        if word in ("or", "versus", "vs"):
            before = itertools.takewhile(lambda word: word not in _REPORT, reversed(words[:index]))
            after = list(itertools.takewhile(lambda word: word not in _REPORT, words[index + 1 :]))
            after = [word for word in after if word.isdigit()] or after
            # "the mass cystic or solid" offers as many words as follow "or".
            offered |= {*after, *list(before)[: max(1, len(after))]}
    asked = set(words) - offered - _GUARDED
    if _ASKS_MODALITY.search(question):
        asked |= _REGION
    asked |= {part for whole, parts in _places().items() if whole in words for part in parts} - offered
    return frozenset(word for word in asked if not any(character.isdigit() for character in word))


def _item(words: tuple[str, ...], drop: frozenset[str] | set[str]) -> tuple[str, ...]:
    """The content of an item: its words without frame, sorted unless their order matters."""
    kept = [word for word in words if word not in drop]
    if _ORDERED & set(kept) or {"left", "right"} <= set(kept) or sum(w[0].isdigit() for w in kept) > 1:
        return tuple(kept)
    return tuple(sorted(kept))


@functools.lru_cache(maxsize=1 << 15)
def _words(text: str) -> tuple[tuple[str, ...], ...]:
    """The canonical words of each item of a list."""
    items = answer_items(re.sub(r"\bwith (?!(?:\w+ )?contrast)|\balong with\b", ", ", text, flags=re.IGNORECASE))
    found = sorted(words for item in items if (words := terms.canonical(item)))
    alone = [words for words in found if set(words) <= _MODIFIERS]
    if len(found) == 2 and len(alone) == 1:  # "frontal lobe, right"
        return ((*alone[0], *next(words for words in found if words not in alone)),)
    return tuple(found)


def items(text: str) -> list[str]:
    """The items of an answer in canonical words, sorted.

    >>> items("right side, left-sided")
    ['left', 'right']
    """
    return [" ".join(words) for words in _words(text)]


@functools.lru_cache(maxsize=1 << 15)
def key(text: str, drop: frozenset[str] = frozenset(_FUNCTION)) -> frozenset[tuple[str, ...]]:
    """The content of an answer, without order unless order matters; `drop` is left out.

    >>> key("the pancreatic head") == key("head of the pancreas")
    True
    >>> key("no mass and fracture") == key("fracture and no mass")
    False
    """
    items = frozenset(found for words in _words(text) if (found := _item(words, drop)))
    return frozenset({("bilateral",)}) if items == {("left",), ("right",)} else items


def _squashed(text: str) -> str:
    """The normal form without spaces between letters: "gall bladder" is "gallbladder"."""
    return re.sub(r"(?<=[a-z]) (?=[a-z])", "", comparable(text))


def _one_side(short: str, full: str) -> bool:
    """Whether a list names its side once ("left ACA and MCA") where the other repeats it."""
    items, others = _words(short), _words(full)
    sides = {word for words in items for word in words} & {"left", "right"}
    if len(items) < 2 or len(sides) != 1:
        return False
    spread = frozenset(tuple(sorted({*words, *sides})) for words in items)
    return spread == frozenset(tuple(sorted(words)) for words in others)


def says(reference: str, answer: str, question: str = "") -> bool:
    """Whether an answer says the reference and nothing else.

    >>> says("female", "the patient is a female"), says("left", "left and right"), says("CT", "CT with contrast")
    (True, False, False)
    """
    if not answer or len(answer) > LONGEST:
        return False
    if key(reference) == key(answer) or _squashed(reference) == _squashed(answer):
        return bool(key(reference))
    if _one_side(reference, answer) or _one_side(answer, reference):
        return True
    asked = _asked(question) if question else frozenset()
    own = {word for words in _words(reference) for word in words}
    for drop in (frozenset(_REPORT - own), frozenset(_REPORT | (asked - own)), frozenset(_REPORT | asked)):
        said = key(reference, drop)
        if said and said == key(answer, drop):
            return True
    return False


def _is_reason(sentences: list[str], first: str) -> bool:
    """Whether the text after the first sentence argues for it, rather than giving more answers."""
    opening = first.casefold().split()[:2]
    for sentence in sentences:
        if _NEXT.match(sentence) or _ADDS.search(sentence) or not _VERB.search(sentence):
            return False
        if len(opening) == 2 and sentence.casefold().split()[:2] == opening and _VERB.search(first):
            return False
    return True


def _cut(text: str) -> str:
    """The text before its reason, its remark or its denial."""
    tail = _TAIL.search(text)
    return text[: tail.start()] if tail and re.search(r"\w", text[: tail.start()]) else text


def gives_more(stated: marks.Stated) -> bool:
    """Whether a marked answer is followed by more answers ("Answer: liver. Spleen."), not by a reason."""
    first = next(iter(stated.after), "")
    return bool(first) and not _THANKS.match(first) and not _is_reason([first], stated.text)


def without_gloss(text: str) -> list[str]:
    """The text without its part in brackets, if that part neither denies nor doubts; else an empty text."""
    glosses = [gloss[1] for gloss in _GLOSS.finditer(text[:LONGEST])]
    return [_GLOSS.sub("", text)] if glosses and not any(_DENIAL.search(gloss) for gloss in glosses) else []


def candidates(stated: marks.Stated) -> list[str]:
    """The parts of a reply that may be its answer: all of it, without a gloss, without the reasons after it."""
    text = stated.text
    if not text or _QUESTION.match(text):
        return []
    if contrast := marks.contrast(text):  # "not pneumonia but pneumothorax"
        return [contrast]
    found = [text]
    if bare := without_gloss(text):
        text = bare[0]
        found.append(text)
    parts = [part for sentence in marks.sentences(text) for part in sentence.split("; ")]
    if len(parts) > 1 and _CONCLUDES.match(parts[-1]):
        return [*found, _CONCLUDES.sub("", parts[-1])]
    if parts and _is_reason(parts[1:], parts[0]):
        first = _CONCLUDES.sub("", parts[0])
        found.append(first)
        if not _DENIAL.search(_remark(first)):
            found.append(_cut(first))
    # A question is not an answer.
    return [part for part in dict.fromkeys(found) if not part.rstrip(" )\"'").endswith("?")]


def _remark(first: str) -> str:
    """The part of a remark that could withdraw its answer: "pneumonia: ruled out", "left lung, which is wrong"."""
    rest = first[len(_cut(first)) :]
    return (
        ""
        if re.match(
            r",?\s(?:because|since|due|owing|based|as|given|rather|instead|(?:and )?not(?! (?:really|at all|sure"
            r"|certain|likely|exactly|quite|necessarily|correct|right|true|the answer)\b))\b",
            rest,
        )
        else rest
    )
