"""VLMEvalKit's rules for multiple choice and for yes/no, without a judge (`exact_matching`).

Source: open-compass/VLMEvalKit, vlmeval/utils/matching_util.py (`can_infer`), vlmeval/dataset/utils/multiple_choice.py
(`eval_vanilla`) and vlmeval/dataset/utils/yorn.py (`YOrN_Extraction`), commit
e8e78f05f3080fe28154f2130321f17951c3be94. Checked against that code: tests/evaluation/protocols.json. That commit has no
SLAKE, VQA-RAD or PMC-VQA of its own: a file of theirs runs there as a custom data set of one of these two types. Its
short-answer type (PathVQA) asks a language model for every verdict and has no rule, so open questions have none here.

Known flaws:
- Multiple choice: a capital letter on its own is the choice, even the article in "A mass is seen"; only the last five
  words count for it, the rest is ignored. An option's text inside a sentence is chosen even where it
  is denied ("this is not MRI").
- Replies longer than twice the sum of the options' lengths are not searched for an option's text.
- Yes/no: "there is no doubt, it is abnormal" is No; any word "no" without a "yes" decides.
- An unreadable reply is wrong. The share of such replies is not reported.
"""

import re

from radvqa_jax.schema import Record

NAME = "vlmevalkit"
LABEL = "VLMEvalKit (exact matching)"
VERSION = "open-compass/VLMEvalKit@e8e78f0"
METRICS = ("multiple_choice", "yes_no")

_FAILED = "Failed to obtain answer via API"
_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_SPACED = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_VERBOSE = re.compile(r"(?:correct\s+)?answer\s+is\s+\**([ABCD])\**", re.IGNORECASE)
_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_FULL_STOP = re.compile(r"(?<!\d)\.(?!\d)")
_FULL_STOPS = 32  # the value of re.UNICODE, which the original passes as the count


def infer_letter(text: str, letters: str) -> str:
    """The option letter that a reply names, `Z` for a refusal, or an empty string."""
    if _FAILED in text:
        return ""
    if any(refusal in text for refusal in _REFUSALS):
        return "Z"
    words = text.translate(_SPACED).split()
    named = [letter for letter in letters if letter in words]
    if len(named) == 1 and words.index(named[0]) > len(words) - 5:
        return named[0]
    if not named and "Z" in words:
        return "Z"
    match = _VERBOSE.search(text)
    return match[1].upper() if match and match[1].upper() in letters else ""


def infer_text(text: str, options: list[str]) -> str:
    """The letter of the one option whose text a reply contains, or an empty string."""
    text = text.lower()
    if len(text) > 2 * sum(map(len, options)):
        return ""
    found = [index for index, option in enumerate(options) if option.lower() in text]
    return chr(65 + found[0]) if len(found) == 1 else ""


def yes_no(text: str) -> str:
    """`Yes` or `No` if a reply contains only that one of the two words, else `Unknown`."""
    text = text.lower()
    number = _COMMA_IN_NUMBER.search(text) is not None
    out = text
    for mark in _MARKS:
        if mark in text:
            out = out.replace(mark, "" if number or f"{mark} " in text or f" {mark}" in text else " ")
    words = _FULL_STOP.sub("", out, count=_FULL_STOPS).split()
    if ("yes" in words) == ("no" in words):
        return "Unknown"
    return "Yes" if "yes" in words else "No"


def score(record: Record, answer_type: str) -> dict[str, float]:
    """`multiple_choice` or `yes_no`; no value for a question for which VLMEvalKit has no rule."""
    text, reference = record.predictions[0], record.reference.strip()
    if record.choices:
        options = list(record.choices)
        letters = "".join(chr(65 + index) for index in range(len(options)))
        if reference in options:
            reference = letters[options.index(reference)]
        return {"multiple_choice": float((infer_letter(text, letters) or infer_text(text, options)) == reference)}
    if reference.lower() in ("yes", "no"):
        return {"yes_no": float(yes_no(text) == reference.capitalize())}
    return {}
