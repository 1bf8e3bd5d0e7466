"""The yes or no of an English reply: as a word, or by a statement compared with its question.

"No abnormality is seen" is a no to "Is there an abnormality?" and a yes to "Is this normal?". If that is not
certain, nothing is read.
"""

import functools
import re
from collections.abc import Sequence
from typing import Literal

from radvqa_jax.evaluation import marks, statements
from radvqa_jax.evaluation.normalize import contract, fold, normalize

Answer = Literal["yes", "no"]

_YES, _NO = {"yes", "yeah", "yep", "yup"}, {"no", "nope"}
_WORDS = _YES | _NO
_CONJUNCTIONS = {"and", "or", "nor"}
_SUBJECTS = {"it", "there", "this", "that", "these", "those", "the", "i", "he", "she", "they", "we", "because", "since"}
_SUBJECTS |= {
    "as",
    "you",
    "my",
    "his",
    "her",
    "their",
    "its",
    "but",
    "not",
    "is",
    "does",
    "cannot",
    "can",
    "sir",
    "thanks",
}
_NEGATORS = {
    "not",
    "never",
    "neither",
    "nor",
    "either",
    "unable",
    "whether",
    "if",
    "without",
    "doubt",
    "deny",
    "unlikely",
}
_NEGATORS |= {"wrong", "incorrect", "false", "untrue", "disagree", "hardly", "instead", "rather", "except", "anything"}
_CLAUSES = re.compile(r"[.,;:!?()\[\]{}<>\"*_/|\n\r\u2014\u2015]+|\s-+(?:\s|$)|^\s*-+\s")
_LETTER, _CLAUSE_WORD = re.compile(r"[^\W_]"), re.compile(r"[^\W_]+(?:-[^\W_]+)*")
_IDIOMS = re.compile(r"\b(?:no (?:doubt|question|wonder|problem)\b|without (?:a |any )?(?:doubt|question)\b)")
_HEDGES = {"maybe", "perhaps", "possibly", "probably", "unclear", "unsure", "uncertain", "indeterminate"}
_FILLERS = set(
    "but i am it is this that not very so sure certain about though really quite a bit of the to be or hard say tell "
    "entirely completely fully know do and yes no likely".split()
)
# "Yes is wrong", "No would be incorrect", "yes can be excluded": a word that the reply only mentions is not the answer.
_TALKED_ABOUT = re.compile(
    r"(?:is|was|would be|seems|looks|cannot be|can not be|can be|may be|must be) "
    r"(?:(?:the |an? )?(?:\w+ )?(?:wrong|incorrect|false|untrue|excluded|ruled|rejected|unlikely|mistaken|mistake"
    r"|inaccurate)|not )"
)
_REFUSAL = re.compile(
    r"\b(?:as ai\b|as (?:base )?(?:vlm|(?:large )?language model|ai)|not trained to"
    r"|(?:unable|not able) to (?:\w+ )?(?:answer|determin|provid|assist|help|tell|say|assess|evaluat|view|access"
    r"|process|diagnos|interpret"
    r"|analyz|comment|offer|identify|give|confirm)\w*"
    r"|can not (?:be )?(?:\w+ly )?(?:answer|determin|provid|assist|help|tell|say|assess|evaluat|view|access|process"
    r"|diagnos"
    r"|interpret|analyz|comment|offer|confirm)\w*"
    r"|(?:do|does) not (?:know|have (?:enough|sufficient|the ability|access))"
    r"|no (?:images?|pictures?|scans?) (?:\w+ ){0,2}(?:provided|given|attached|available|uploaded)"
    r"|no (?:idea|opinion|way to)|insufficient information|not enough information)"
)
# A refusal of the question itself, after a yes or a no; "the exact size cannot be determined" is not one.
_REFUSED_WHOLE = re.compile(
    r"^(?:(?:but|sorry|unfortunately|however|and) )*(?:(?:i|we|it|this|that|answer|question|image|scan)(?: am"
    r"| is)? )?"
    r"(?:can not|unable to|not able to|do not know|not trained)(?: be)?(?: \w+ly)?"
    r"(?: (?:answer|determin|tell|say|assess|evaluat|diagnos|interpret|analyz|comment|know|confirm)\w*)?"
    r"(?: (?:this|that|it|if|whether|from|based|with|without|on|question|image|scan|answer|sure|for|certain)\b.*)?$"
)


_MOST = 24  # clauses that are read: half from the start, half from the end
_OPENING = 1_000  # characters within which a refusal begins


def is_refusal(text: str) -> bool:
    """Whether the reply declines to answer.

    >>> is_refusal("Sorry, as a base VLM I am not trained to answer this question."), is_refusal("No pneumonia")
    (True, False)
    """
    return bool(_REFUSAL.search(normalize(text[:_OPENING])))


@functools.lru_cache(maxsize=64)
def _clauses(text: str) -> list[list[str]]:
    text = _IDIOMS.sub(" ", re.sub(r"\bno\.\s?(?=\d)", "number ", text))
    text = contract(text)
    parts = [part for part in _CLAUSES.split(text) if _LETTER.search(part)]
    if len(parts) > _MOST:
        parts = [*parts[: _MOST // 2], *parts[-_MOST // 2 :]]
    return [_CLAUSE_WORD.findall(part) for part in parts]


def _read_clause(words: Sequence[str], *, first: bool) -> set[str]:
    """The answers in one clause: yes, no, both or neither, and "unsure" if one of them is negated."""
    if set(words) <= _WORDS and len({word in _YES for word in words}) == 1:  # "no no no"
        return {"yes" if words[0] in _YES else "no"}
    found: set[str] = set()
    negated = False
    for index, word in enumerate(words):
        if word in _WORDS:
            near = [
                w for w in (*words[max(0, index - 2) : index], *words[index + 1 : index + 3]) if w not in _CONJUNCTIONS
            ]
            after = words[index + 1 : index + 2]
            # "no" before a noun is a negation, not the answer, unless the reply opens with it.
            opens = index == 0 and (first or word in _YES or not after or after[0] in _SUBJECTS)
            ends = index == len(words) - 1
            if opens or ends or any(w in _WORDS for w in near):
                found.add("yes" if word in _YES else "no")
                if (not opens and negated) or _TALKED_ABOUT.match(" ".join(words[index + 1 : index + 8]) + " "):
                    found.add("unsure")
        negated = negated or word in _NEGATORS or word in _NO
    return found


def _takes_back(words: Sequence[str]) -> bool:
    """Whether a clause only hedges ("but I am not sure", "probably"), or refuses the question."""
    if len(words) > 40:
        return False
    text = " ".join(words)
    hedged = bool(_HEDGES & set(words)) or bool(
        re.search(r"\bnot (?:\w+ )?(?:sure|certain|know)\b|hard to (?:say|tell)", text)
    )
    return (hedged and set(words) <= _HEDGES | _FILLERS) or bool(
        _REFUSAL.search(text) and _REFUSED_WHOLE.match(normalize(text))
    )


def _said(clauses: list[list[str]]) -> set[str] | None:
    """The yes and no that are stated as words, or None if they are hedged or withdrawn."""
    found: set[str] = set()
    for index, words in enumerate(clauses):
        if (
            found
            and len(words) == 2
            and words[0] == "not"
            and {"yes" if words[1] in _YES else words[1]} & {"yes", "no"} - found
        ):
            continue  # "yes, not no"
        reading = _read_clause(words, first=index == 0)
        if reading and _HEDGES & set(words) and len(set(words) - _HEDGES - _FILLERS - _WORDS) < 2:
            return None
        if _takes_back(words) and (found or index == 0 or not reading):
            return None
        if not found and not reading and _REFUSAL.search(" ".join(words)):
            return None
        found |= reading
    return found


def _is_statement(clauses: list[list[str]]) -> bool:
    """Whether the reply opens with a "no" that denies a noun ("No fracture is seen")."""
    words = clauses[0] if clauses else []
    return len(words) > 1 and words[0] == "no" and words[1] not in _SUBJECTS | _WORDS


def parse_yes_no(text: str, question: str = "", *, by_statement: bool = True) -> Answer | None:
    """The yes or no that a cleaned reply gives, or None: neither, both, hedged, or a refusal.

    Only whole words count, and only as the answer: they open the reply, make up or end a clause, or follow
    "answer:". A statement ("there is no fracture") is read against the question; without a question only one
    that opens with "no" is, as no.

    >>> parse_yes_no("Yes, abnormal"), parse_yes_no("Normal; note the clips"), parse_yes_no("yes and no")
    ('yes', None, None)
    >>> parse_yes_no("No abnormality is seen.", "Is this a normal chest x-ray?")
    'yes'

    Args:
        text: the reply, cleaned.
        question: what was asked; empty if unknown.
        by_statement: False reads words alone.
    """
    stated = marks.stated(text, question)
    if stated.withdrawn:
        return None
    question = question if statements.asks_something(question) else ""
    said = fold(stated.text).casefold()
    clauses = _clauses(said)
    if not clauses:
        return None
    if _is_statement(clauses):
        if _REFUSAL.match(" ".join(clauses[0])):
            return None
        if by_statement and question:
            return statements.read(said, question)
        found = _said(clauses)
        return "no" if not question and found == {"no"} else None
    found = _said(clauses)
    if found is None or len(found) > 1:
        return None
    if found:
        return "yes" if "yes" in found else "no" if "no" in found else None
    if by_statement and question and not _REFUSAL.search(normalize(said[:_OPENING])):
        return statements.read(said, question)
    return None
