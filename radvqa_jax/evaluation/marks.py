"""Finds the statement of the answer in a reply ("answer: …", "the answer is …", "I choose …"), unless it is voided.

A mark that is denied, doubted, hypothetical or withdrawn marks nothing ("I doubt that the answer is yes", "If it were
bright, the answer would be B", "My previous answer was B"), and neither does a sentence that only talks about an answer
("The answer is based on the opacity").
"""

import functools
import re
from typing import NamedTuple

_NOUN = (
    r"(?:answer|ans|options?|choice|letter|diagnosis|impression|conclusion|assessment|response|solution|selection"
    r"|pick)"
)
_RANK = r"(?:final|correct|right|best|most likely|likeliest|most probable|likely|probable|primary|leading|my|overall)"
_COPULA = r"(?:is|was|are|would be|should be|will be|must be|has to be|remains|=|->|\u2192|:|-(?=\s))"
_MARK = re.compile(
    rf"\b(?:{_RANK}\s)?{_NOUN}\b(?:\s(?:here|to (?:this|the|your) question|for (?:this|the) \w{{1,20}}|choice))?"
    rf"[\s*\"']{{0,3}}(?P<verb>{_COPULA})[\s*\":=']{{0,4}}"
    r"|\b(?:i(?:'d|'ll| would| will| must| have to)?|(?:therefore|thus|so|hence),?)\s"
    r"(?:(?:now|still|finally|rather|therefore|then) )?"
    r"(?:choose|pick|select|go with|opt for|change (?:my|the) answer (?:from .{1,40} )?to)\s(?:option\s)?[*\"']{0,3}"
    r"|(?:^|(?<=[\n.!?;] )|(?<=\n))[-*#\s]{0,4}(?:result|output|final|correction|corrected|dx|findings?"
    r"|summary)\s?:\s?"
    r"|\u7b54\u6848\s?(?:\u662f|\u4e3a|\u61c9\u662f|\u5e94\u4e3a|\u5e94\u662f|\u5e94\u8be5\u662f)?\s?:?\s?"
    r"|(?:^|(?<=\n))(?:\u56de\u7b54|\u7b54|\u7ed3\u8bba|\u8bca\u65ad)\s?:\s?",
    re.IGNORECASE,
)
_BREAK = re.compile(r"[.!?]\s+|\n+|[\u3002\uff1b]\s*")
_ABBREVIATED = re.compile(r"\b(?:vs|No|Dr|i\.e|e\.g|approx|Fig)$")
_SHORT = ("vs", "No", "Dr", "approx", "Fig")  # the ones that end in two letters
# A text without any of these has no mark.
_HINTS = (
    "ans|option|choice|letter|diagnos|impression|conclusion|assessment|response|solution|select|pick|choos|go with"
    "|opt |chang|result|output|final|correct|dx|finding|summary|\u7b54|\u7ed3\u8bba|\u8bca\u65ad"
).split("|")
_HINT = re.compile("|".join(_HINTS), re.IGNORECASE)
_DENIED = re.compile(
    r"\b(?:not|never|neither|nor|cannot|doubt|unlikely|incorrect|wrong|false|improbable|hardly|worst|no longer"
    r"|(?:least|less) (?:likely|probable)"
    r"|untrue|mistake|mistaken|deny|disagree)\b|n't\b|\u4e0d(?!\u540c)|\u5e76\u975e",
    re.IGNORECASE,
)
_DOUBTED = re.compile(
    r"\b(?:(?:not|never) (?:think|believe|say|agree|mean|claim|true|the case|sure|certain|convinced|clear)|doubt"
    r"|unlikely|false|untrue|wrong|no (?:way|chance|possibility)|impossible|improbable"
    r"|incorrect|disagree|deny)\b|n't (?:think|believe|say|agree|mean|claim|true|the case|sure|certain|convinced"
    r"|clear)\b",
    re.IGNORECASE,
)
_HAD = r"(?:^|(?<=[,;] ))had (?:the|it|there|this|that|these|those|they|we|i|he|she)\b"  # "Had it been bright, …"
_SUPPOSED = re.compile(
    r"\b(?:if|unless|were|whether|suppose|supposing|assuming|assume|in case|otherwise|might|may|could)\b"
    rf"|{_HAD}",
    re.IGNORECASE,
)
_CONTRAST = re.compile(r"[,;]\s(?:but|however|yet|though)\b", re.IGNORECASE)
_ON_CONDITION = re.compile(r"(?:[^\s,.;]+\s){1,4}(?<!even )(?:only )?(?:if|unless|provided|assuming)\b", re.IGNORECASE)
_FORCED = re.compile(
    r"\bif (?:i|we) (?:had|have|were|must|were forced|had been forced)(?: forced)? ?to (?:choose|guess|pick|answer"
    r"|select|decide)\b,?|\bif forced(?: to \w{1,10})?\b,?",
    re.IGNORECASE,
)
_EARLIER = re.compile(
    r"\b(?:previous(?:ly)?|earlier|initial(?:ly)?|original(?:ly)?|former|prior|old|first|at first|another|other)\b",
    re.IGNORECASE,
)
_POINTED = re.compile(r"\b(?:this|that|these|each|every|either|which|any|no|such)\s?$", re.IGNORECASE)
# What follows "the answer is" where the sentence only talks about it.
_ABOUT = re.compile(
    r"(?:based|because|supported|best supported|determined|derived|consistent|clear|obvious|given|explained|due"
    r"|found|seen|shown|visible"
    r"|correct|wrong|incorrect|false|justified|confirmed|uncertain|unknown|unclear|in (?:line|the)\b.*|as follows"
    r"|also|therefore"
    r"|provided|below|above|likely because|that (?:it|this|we|i)|to be|subject|evident|possible|ruled|excluded"
    r"|eliminated|needed|required"
    r"|under|limited|available|supports?|implied|a matter)\b",
    re.IGNORECASE,
)
_REFUSED = re.compile(
    r"(?:not|never|neither|n't|unlikely|hardly|anything but|no longer|either|whether|other than)\b", re.IGNORECASE
)
_WITHDRAWN = re.compile(
    r"^(?:(?:but|however|wait|no|actually|sorry|hmm|oh)\b[, ]*)*(?:(?:this|that|it|the above|my (?:previous "
    r"|first )?answer|which|the (?:previous |first |above )?answer)(?: above)?"
    r" (?:is|was|seems|would be) (?:wrong|incorrect|false|untrue|mistaken|a mistake|not (?:right|correct|true"
    r"|the answer))"
    r"|(?:scratch|ignore|disregard|forget) (?:that|this|it|the above|my)|i (?:was|am|take that) (?:wrong|mistaken"
    r"|back)|on second thou?ght)",
    re.IGNORECASE,
)
_HEADING = re.compile(
    r"\W{0,4}(?:the |my )?(?:final |correct |best )?(?:answer|diagnosis|impression)\W{0,4}", re.IGNORECASE
)
_MOST = 12  # the last marks of a sentence, which are judged
_NEAR = 300  # characters before and after a mark that are read
_REASON = re.compile(
    r"(?:^|\n)[\s*#-]{0,4}(?:brief )?(?:explanation|reason(?:s|ing)?|rationale|justification|notes?|evidence"
    r"|comments?|details?|discussion|analysis"
    r"|disclaimer|\u89e3\u91ca|\u539f\u56e0|\u7406\u7531|\u8bf4\u660e|\u5206\u6790)(?: for (?:the|my) answer)?\s?:",
    re.IGNORECASE,
)


class Stated(NamedTuple):
    """The answer that a reply states."""

    text: str  # the text after the last valid mark, or the reply without sentences that only void or argue
    marked: bool
    withdrawn: bool  # the answer is withdrawn later
    after: tuple[str, ...] = ()  # the sentences after a marked answer


def _hints(text: str) -> tuple[str, ...] | None:
    """The hints that a text holds; None if letters of other scripts also match by their case."""
    if not text.isascii():
        return None
    lower = text.lower()
    return tuple(hint for hint in _HINTS if hint in lower)


def _may_mark(sentence: str, hints: tuple[str, ...] | None) -> bool:
    if hints is None:
        return bool(_HINT.search(sentence))
    lower = sentence.lower() if hints else ""
    return any(hint in lower for hint in hints)


def _ends(text: str, stop: re.Match[str]) -> bool:
    """Whether a full stop ends a sentence, as it does not in "vs. ", "A. CT" and "C. difficile"."""
    before = text[max(0, stop.start() - 8) : stop.start()]
    last = before[-2:]
    if len(last) == 2 and last.isascii() and last.isalpha() and not before.endswith(_SHORT):  # most stops
        return True
    if _ABBREVIATED.search(before):
        return False
    letter = re.search(r"(?:^|[^A-Za-z0-9'])([A-Za-z])$", before)
    if not letter:
        return True
    labels = bool(re.search(r"[\w:,*\"(] [A-Za-z]$", before))  # "Answer: C. My …"
    return labels and text[stop.end() : stop.end() + 1].isupper()


@functools.lru_cache(maxsize=64)
def sentences(text: str) -> tuple[str, ...]:
    """The sentences and lines of a text, without their separators.

    >>> sentences("Answer: B. It is bright.\\nC. difficile")
    ('Answer: B.', 'It is bright.', 'C. difficile')
    """
    found, start = [], 0
    for stop in _BREAK.finditer(text):
        if stop[0][0] == "." and not _ends(text, stop):
            continue
        found.append(text[start : stop.end()].strip())
        start = stop.end()
    found.append(text[start:].strip())
    return tuple(sentence for sentence in found if sentence)


def _holds(before: str, mark: re.Match[str], after: str, question: str) -> bool | None:
    """Whether a mark gives an answer: True, False (it denies one), None (the sentence only talks about one)."""
    before, after = _FORCED.sub(" ", before), after.lstrip(" *\"'(")
    # "…, but the answer is no": the part before was only weighed.
    if not (mark["verb"] or "").casefold().startswith("would"):
        before = _CONTRAST.split(before)[-1]
    # The words before the mark in its own clause.
    clause = re.split(r"[,;:()\u2014\uff0c]|\b(?:so|but|therefore|thus|hence|and|because)\b", before)[-1].strip()
    denied = _DENIED.search(f"{clause} {mark[0]}")
    # "Which is least likely?" is answered by "the least likely answer is".
    if denied and denied[0].casefold() not in question.casefold():
        return False
    if _DOUBTED.search(before) and not re.search(r"\b(?:but|so|therefore|thus|hence)\b|;", before.casefold()):
        return False
    verb, colon = (mark["verb"] or "").casefold(), re.search(r"[:=]", mark[0])
    if _EARLIER.search(clause) or (_SUPPOSED.search(before) and not colon):
        return False
    if _REFUSED.match(after) or _ON_CONDITION.match(after):
        return False
    talks = verb[:1].isalpha() and not colon and (_POINTED.search(before) or _ABOUT.match(after))
    return None if talks else True


def contrast(after: str) -> str:
    """Reads "not A but B" as B."""
    found = re.match(
        r"(?:not|n't)\s(?:option\s)?[^,.;]{1,60}?,?\s(?:but|it is|it's)\s(?:rather\s)?(.+)", after, re.IGNORECASE
    )
    return found[1] if found else ""


def _read(sentence: str, question: str, hints: tuple[str, ...] | None) -> tuple[str, bool, bool]:
    """The answer that a sentence marks, whether it has marks, and whether the last continues on the next line."""
    marks = list(_MARK.finditer(sentence)) if _may_mark(sentence, hints) else []
    if len(marks) > _MOST:  # no sentence states that many answers; the limit bounds the time
        marks = marks[-_MOST:]
    if not marks:
        heading = len(sentence) < 40 and bool(_HEADING.fullmatch(sentence))
        return "", heading, heading
    judged = [
        (_holds(sentence[: m.start()][-_NEAR:], m, sentence[m.end() :][:_NEAR], question), m.start(), m.end())
        for m in marks
    ]
    told = [mark for mark in judged if mark[0] is not None]
    if not told:
        return "", True, False
    given = ""
    for (holds, _, end), following in zip(told, [*(start for _, start, _ in told[1:]), len(sentence)], strict=True):
        said = sentence[end:following].strip()
        if holds is False:
            given = contrast(sentence[end:].lstrip(" *\"'")) or given
        elif re.search(r"\w", said):
            given = said
        elif following == len(sentence):
            return given, True, True
    return given, True, False


@functools.lru_cache(maxsize=256)
def stated(text: str, question: str = "") -> Stated:
    """The answer that a cleaned reply states.

    >>> stated("Answer: C. My previous answer was B.").text, stated("I doubt that the answer is yes").text
    ('C.', '')
    >>> stated("The answer is B, because this option is best supported.").text
    'B, because this option is best supported.'
    """
    reason = _REASON.search(text, 1) if "\n" in text else None
    # Reasons may come first: the text after them is searched only for a mark.
    spoken = text[: reason.start()] if reason and re.search(r"\w", text[: reason.start()]) else text
    parts, hints = sentences(text), _hints(text)
    given, last, unmarked, waits = "", -1, [], False
    for index, sentence in enumerate(parts):
        found, marked, waiting = _read(sentence, question, hints)
        if waits and not marked:  # the mark ended its line
            found, marked = sentence, True
        waits = waiting
        if found:
            given, last = found, index
        if not marked:
            unmarked.append(sentence)
    withdrawn = any(
        _WITHDRAWN.match(sentence) for sentence in parts[last + 1 :][:3] if last >= 0 or sentence != parts[0]
    )
    if given:
        return Stated(given, True, withdrawn, parts[last + 1 :])
    if len(unmarked) < len(parts):
        spoken = "\n".join(sentence for sentence in unmarked if sentence in spoken)
    return Stated(spoken.strip(), False, withdrawn)
