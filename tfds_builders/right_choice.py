"""The right choice of a multiple-choice question from a letter or number, a text, or both."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from tfds_builders.rejects import RowRejects

LETTERS = "ABCD"
PREFIX = re.compile(r"\s*([A-D])\s*:\s*")  # matched only at the start: "Stage A: early" keeps its "A:"

LETTERED = re.compile(r"\s*\(?([A-Za-z])\s*[).:\uff1a\u3001]\s*")  # the start of an option: "B. left", "(B) left"


class Settled(NamedTuple):
    """The right choice, or the reason why there is none."""

    answer: str = ""
    index: int = -1
    fault: str = ""


def misplaced_letter(choices: Sequence[str]) -> str:
    """The fault if all options have letters and these are not those of their places; otherwise an empty string.

    Letters are those from A on in any order, a later run of the alphabet, or begin with A and B and leave some out.
    Others may be of names.

    >>> misplaced_letter(["B. left", "A. right"]), misplaced_letter(["A. left", "B. right"])
    ('option 1 is lettered B', '')
    >>> misplaced_letter(["b) left", "a) right"])
    'option 1 is lettered B'
    >>> misplaced_letter(["B. left", "C. right"]), misplaced_letter(["A. left", "B. right", "D. both"])
    ('option 1 is lettered B', 'option 3 is lettered D')
    >>> misplaced_letter(["B. fragilis", "E. coli"]), misplaced_letter(["C. difficile", "B. fragilis"])
    ('', '')
    """
    found = [match[1].upper() for choice in choices if (match := LETTERED.match(choice))]
    own = [chr(ord("A") + place) for place in range(len(choices))]
    if found == own or len(found) != len(own) or len(own) < 2:
        return ""
    places = [ord(letter) for letter in found]
    run = list(range(min(places), min(places) + len(places)))
    is_run = places == run or (sorted(places) == run and min(found) == own[0])
    leaves_out = found[:2] == own[:2] and places == sorted(set(places))
    if not is_run and not leaves_out:
        return ""
    at = next(place for place, letter in enumerate(found) if letter != own[place])
    return f"option {at + 1} is lettered {found[at]}"


def strip_prefix(raw: str, letter: str, *, note: RowRejects) -> str:
    """A choice without its letter and without white space at the edges: ` B: Red ` gives `Red`.

    The authors write choices so, and it is not noted; the letter of another choice is noted.
    """
    match = PREFIX.match(raw)
    text = (raw[match.end() :] if match else raw).strip()
    if match and match[1] != letter:
        note.repaired(f"Choice {letter}", "choice has the letter of another", before=raw, after=text)
    return text


def find_choice(choices: Sequence[str], answer: str) -> list[int]:
    """The places of the choices with this text, with or without their letters.

    >>> find_choice(["A: left", "B: right"], "Right"), find_choice(["left", "right"], "")
    ([1], [])
    """
    for texts in (choices, [*map(_without_letter, choices)]):
        if found := [place for place, text in enumerate(texts) if answer and _plain(text) == _plain(answer)]:
            return found
    return []


def settle(choices: Sequence[str], *, index: int | None, answer: str, note: RowRejects) -> Settled:
    """The right choice. The index decides; the answer's text must not name another choice.

    Args:
        choices: the texts.
        index: the authors' letter or number from 0; None if they give none.
        answer: the authors' text of the right choice; empty if they give none.
        note: records a missing index, and an answer that is not one of the choices.
    """
    named = find_choice(choices, answer)
    if index is None:
        if len(named) != 1:
            return Settled(fault="the right choice is not named")
        note.repaired("answer_index", "the letter is missing; the text decides", before=None, after=named[0])
        return Settled(choices[named[0]], named[0])
    if not 0 <= index < len(choices):
        return Settled(fault="the right choice is none of them")
    if not choices[index]:
        return Settled(fault="the right choice is empty")
    if named and index not in named:
        return Settled(fault="the letter and the text name different choices")
    if answer and not named:
        note.repaired(
            "answer", "the text is none of the choices; the letter decides", before=answer, after=choices[index]
        )
    return Settled(choices[index], index)


def _without_letter(choice: str) -> str:
    """The text of a choice behind its letter, which may be wrong; `E. coli` is compared whole before."""
    match = LETTERED.match(choice)
    return choice[match.end() :] if match else choice


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
