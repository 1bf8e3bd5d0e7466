"""MedEvalKit's accuracy on SLAKE, VQA-RAD and PMC-VQA, by rule (its option `use_llm_judge` is off).

Source: alibaba-damo-academy/MedEvalKit, utils/utils.py, utils/SLAKE/SLAKE.py, utils/VQA_RAD/VQA_RAD.py and
utils/PMC_VQA/PMC_VQA.py, commit 9b12e3b34232a8779cc1275417bf4f72f03d28e0, with mathruler 0.1.0. Checked against that
code: tests/evaluation/protocols.json. A question with choices is scored as PMC-VQA's, one whose `source` names SLAKE as
SLAKE's, any other as VQA-RAD's.

Known flaws:
- Yes and no are matched as parts of words: "The image is normal" is a right "no", and "Yes, abnormal" is not an answer,
  because "abnormal" contains "no".
- SLAKE writes "Yes" and "No"; the rule for yes and no expects "yes" and "no", so it is never used there: a closed
  reply must equal the reference, and "Yes, it is" is wrong.
- Multiple choice: a reply that is neither a letter nor an option counts as the option with the most similar characters,
  so every reply chooses one, even a refusal.
- A VQA-RAD question is closed if its reference is yes or no; the data set's own flag is not read.
- Its table divides the open accuracy once more by the number of open questions. Here it is the accuracy.
- Its table swaps three names: its "recall" is F1, its "F1" is precision, its "precision" is recall. They are not given
  here.
- An empty open reply ends the original with an exception. Here it is wrong.
"""

import difflib

from radvqa_jax.evaluation.protocols.boxed import last_boxed
from radvqa_jax.schema import Record

NAME = "medevalkit"
LABEL = "MedEvalKit (rules)"
VERSION = "alibaba-damo-academy/MedEvalKit@9b12e3b"
METRICS = ("accuracy", "closed", "open")

_MARKS = (
    "**answer**:",
    "**answer**",
    "*answer*:",
    "**answer:**",
    "answer is",
    "answer:",
    "\u7b54\u6848:",
    "final answer",
    "final answer is",
)


def _tagged(text: str) -> str:
    """The texts between answer tags, joined; the whole text if there are no tags."""
    found, end = [], 0
    while (start := text.find("<answer>", end)) >= 0 and (end := text.find("</answer>", start)) >= 0:
        found.append(text[start + len("<answer>") : end])
    return " ".join(found).strip() or text


def _unwrap(text: str) -> str:
    """The part of a sample's reply that is scored: the last box, or the tagged answer."""
    boxed = last_boxed(text)
    if boxed is not None and boxed != "None":
        return boxed
    return _tagged(text) if "<answer>" in text else text


def parse_response(text: str) -> str:
    """The lower-case reply after its last answer mark; a text with the word "boxed" and no box is `None`."""
    text = text.lower()
    if "boxed" in text:
        boxed = last_boxed(text)
        text = "None" if boxed is None else boxed
    elif "<answer>" in text:
        text = _tagged(text)
    for mark in _MARKS:
        text = text.rsplit(mark, 1)[-1]
    return text


def _flat(text: str) -> str:
    return parse_response(text).replace("\n", "").replace(".", "")


def judge_yes_no(reference: str, text: str) -> bool:
    """Whether a reply contains exactly one of "yes" and "no", and that one is the reference."""
    said = _flat(text)
    return ("yes" in said) != ("no" in said) and reference.lower() in said


def _most_similar(options: list[str], text: str) -> int:
    """The option with the largest difflib ratio above 0, the first of several."""
    ratios = [difflib.SequenceMatcher(None, option, text).ratio() for option in options]
    return max(range(len(options)), key=lambda index: (ratios[index], -index))


def judge_choice(options: list[str], reference: str, text: str) -> bool:
    """Whether a reply chooses the reference, a letter or the text of an option (see above)."""
    letters = [chr(97 + index) for index in range(len(options))]
    text = text.lower()
    paragraphs = text.split("\n\n")
    if paragraphs[0] in letters:
        text = paragraphs[0]
    elif (last := paragraphs[-1].split(".")[0]) in letters:
        text = last
    options, reference = [option.lower() for option in options], reference.strip().lower()
    text = parse_response(text).strip().lower().replace("\n", "")
    said = text.split(".")[0].split(":")[-1]
    if said == reference:
        return True
    if said in letters:
        return options[letters.index(said)] == reference
    if said in options:
        return reference in letters and said == options[letters.index(reference)]
    index = _most_similar(options, text)
    return reference in (letters[index], options[index])


def _accuracy(right: bool, column: str) -> dict[str, float]:
    return {"accuracy": float(right), column: float(right)}


def score(record: Record, answer_type: str) -> dict[str, float]:
    """`accuracy`, and `closed` or `open` with the same value; for multiple choice `accuracy` alone."""
    reference, text = record.reference, record.predictions[0]
    if record.choices:
        return {"accuracy": float(judge_choice(list(record.choices), reference, text))}
    text = _unwrap(text)
    if "slake" not in record.source.lower():
        reference, text = reference.lower().strip(), text.lower().strip()
        if reference in ("yes", "no"):
            return _accuracy(judge_yes_no(reference, text), "closed")
        return _accuracy(bool(text) and parse_response(text) == reference, "open")
    if answer_type == "open":
        return _accuracy(bool(text) and parse_response(text) == reference.lower(), "open")
    right = judge_yes_no(reference, text) if reference in ("yes", "no") else _flat(text) == reference.lower()
    return _accuracy(right, "closed")
