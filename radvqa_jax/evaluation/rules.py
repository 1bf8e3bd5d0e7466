"""The verdicts on one answer: `exact` (normalised equality) and `radvqa` (with radiology terms and sentence frames).

Both read the cleaned reply (clean.py) and the answer that it states (marks.py). They differ in what they accept:
`exact` accepts a stated yes or no, an option by letter or by its text, and the reference in normal form; `radvqa` also
accepts a statement that answers a yes/no question, other words for the same thing (terms/), and a sentence that states
just the reference. Neither searches a reply for the reference.
"""

import re
from typing import Literal, NamedTuple, get_args

from radvqa_jax.evaluation import chinese, chinese_closed, choices, frames, marks, normalize, polarity
from radvqa_jax.evaluation.clean import clean
from radvqa_jax.schema import Record

Outcome = Literal["correct", "incorrect", "unparsed"]
Column = Literal["exact", "radvqa"]
COLUMNS: tuple[Column, ...] = get_args(Column)
# The opening of a sentence that chooses an option: no label, some words, a verb.
_STATES = re.compile(
    r"(?![A-Z][.):])(?:\w+[ -]){1,8}?(?:is|are|was|shows?|has|have|depicts?|demonstrates?|reveals?|represents?"
    r"|suggests?|indicates?|see)\b",
    re.IGNORECASE,
)
_SHOWN = 200  # characters of an open answer that a verdict keeps


class Verdict(NamedTuple):
    """A rule's verdict on one prediction."""

    outcome: Outcome
    rule: str  # "yes/no", "choice" or "whole answer"
    read: str  # the answer that the rule read; empty if unparsed


class Verdicts(NamedTuple):
    """The verdicts of both columns on one prediction; every table prints both."""

    exact: Verdict
    radvqa: Verdict


def _compared(rule: str, read: str | None, reference: str) -> Verdict:
    if read is None:
        return Verdict("unparsed", rule, "")
    return Verdict("correct" if read == reference else "incorrect", rule, read)


def _reference_option(record: Record) -> int:
    texts = choices.option_texts(record.choices)
    written = normalize.normalize(record.reference)
    found = texts.index(written) if written in texts else choices.parse_choice(record.reference, record.choices)
    if found is None:
        raise ValueError(
            f"Question {record.question_id!r}: the reference {record.reference!r} is not among the choices "
            f"{record.choices}. Correct the row where the data set is built, or leave the choices empty."
        )
    return found


def _choice(record: Record, reply: str, column: Column, language: str) -> Verdict:
    texts, reference = choices.option_texts(record.choices), _reference_option(record)
    wide = column == "radvqa"
    form = frames.key if wide else normalize.normalize
    if language == "zh":
        reply, form = chinese.choice_text(reply), chinese.key if wide else chinese.plain
    chosen = choices.parse_choice(reply, record.choices, record.question, form=form)
    if chosen is None and set(texts) == {"yes", "no"}:
        answer = polarity.parse_yes_no(reply, record.question, by_statement=wide)
        chosen = texts.index(answer) if answer else None
    elif chosen is None and wide:
        chosen = _framed_option(record, reply, language)
    # Two options with the same text are one option.
    return _compared("choice", None if chosen is None else texts[chosen], texts[reference])


def _framed_option(record: Record, reply: str, language: str) -> int | None:
    """The one option that a reply states in a sentence: "This is pneumonia", "The modality is MRI"."""
    stated = marks.stated(reply, record.question)
    if stated.withdrawn or len(reply) > frames.LONGEST:
        return None
    says = chinese.says_framed if language == "zh" else frames.says
    bare = choices.bare_options(record.choices)
    # "A: MRI" contradicts itself, and "a patient with CT" states nothing.
    parts = [part for part in frames.candidates(stated) if language == "zh" or _STATES.match(part)]
    found = {index for index, option in enumerate(bare) if any(says(option, part, record.question) for part in parts)}
    return found.pop() if len(found) == 1 else None


def _yes_no(record: Record, reply: str, reference: str, column: Column, language: str) -> Verdict:
    wide = column == "radvqa"
    read = chinese_closed.parse_yes_no if language == "zh" and chinese.has_han(reply) else polarity.parse_yes_no
    return _compared("yes/no", read(reply, record.question, by_statement=wide), reference)


def _shown(text: str, column: Column) -> str:
    """An open answer as verdicts write it: the items of a list are sorted, because their order has no meaning."""
    said = text[: 2 * _SHOWN]
    items = frames.items(said) if column == "radvqa" else sorted(normalize.answer_items(said))
    return "; ".join(items) or normalize.comparable(said)


def _opening(reply: str) -> str:
    """The sentence in which a reply may refuse: its first one, or the next after a word of regret."""
    first, *rest = marks.sentences(reply) or ("",)
    return (
        " ".join([first, *rest[:1]])
        if len(first.split()) < 3 and re.match(r"\W*(?:sorry|unfort|apolog|as )", first, re.I)
        else first
    )


def _open(record: Record, reply: str, column: Column) -> Verdict:
    reference = record.reference
    plain, items = normalize.comparable(reference), normalize.answer_items(reference)
    stated = marks.stated(reply, record.question)
    if reply.startswith("?") and not reference.startswith("?"):  # a clinician's "query pneumothorax"
        stated = stated._replace(withdrawn=True)
    if frames.gives_more(stated):
        stated = stated._replace(text=f"{stated.text}\n{stated.after[0]}")
    # "The treatment of choice is …" may itself be the answer, so the reply is also read with its marks.
    for text in dict.fromkeys((reply, stated.text)):
        asks = text.endswith("?") and not reference.endswith("?")  # "pneumonia?"
        if len(text) <= frames.LONGEST + len(reference) and not stated.withdrawn and not asks:
            read = normalize.comparable(text)
            if read == plain or (items and normalize.answer_items(text) == items):
                return Verdict("correct", "whole answer", _shown(reference, column) or read)
    if column == "radvqa" and not stated.withdrawn:
        wanted = [reference, *frames.without_gloss(reference)]
        if any(frames.says(want, text, record.question) for text in frames.candidates(stated) for want in wanted):
            return Verdict("correct", "whole answer", _shown(reference, column))
    shown = _shown(stated.text, column)
    if not shown or stated.withdrawn or polarity.is_refusal(_opening(reply)):
        return Verdict("unparsed", "whole answer", "")
    return Verdict("incorrect", "whole answer", shown[:_SHOWN])


def _open_chinese(record: Record, reply: str, column: Column) -> Verdict:
    stated = marks.stated(reply, record.question)
    texts = [] if stated.withdrawn else list(dict.fromkeys((reply, stated.text)))
    right = any(chinese.says(record.reference, t, record.question, exact=column == "exact") for t in texts)
    said = stated.text[: frames.LONGEST]
    read = "; ".join(sorted(chinese.key(said))) or chinese.plain(said)
    if not right and (not read or stated.withdrawn or chinese.is_refusal(reply)):
        return Verdict("unparsed", "whole answer", "")
    return Verdict("correct" if right else "incorrect", "whole answer", read[:_SHOWN])


def _verdict(record: Record, reply: str, column: Column, language: str) -> Verdict:
    if record.choices:
        return _choice(record, reply, column, language)
    if language == "zh":
        if reference := chinese_closed.reference_polarity(record.reference, record.question):
            return _yes_no(record, reply, reference, column, language)
        return _open_chinese(record, reply, column)
    reference = normalize.normalize(record.reference)
    said = reference if reference in ("yes", "no") else _said_with_reason(record.reference)
    if said in ("yes", "no"):
        return _yes_no(record, reply, said, column, language)
    return _open(record, reply, column)


def _said_with_reason(reference: str) -> str | None:
    """The yes or no of a reference that adds a reason to it ("No, it is normal")."""
    first = normalize.normalize(re.split(r"[,.;:(]|\s-\s", reference)[0])
    return polarity.parse_yes_no(reference) if first in ("yes", "no") else None


def language_of(record: Record, prediction: str = "") -> str:
    """The language whose rules a record needs: en or zh.

    A record without a language is Chinese if its question, reference or prediction contains Chinese characters, else
    English.

    Raises:
        ValueError: naming a language without rules.
    """
    said = (record.language or "").strip().casefold().replace("_", "-").split("-")[0]
    if not said:
        text = f"{record.question}{record.reference}{prediction}{''.join(record.choices)}"
        return "zh" if chinese.has_han(text) else "en"
    known = {"english": "en", "eng": "en", "chinese": "zh", "zho": "zh", "chi": "zh", "cn": "zh", "mandarin": "zh"}
    said = known.get(said, said)
    if said not in ("en", "zh"):
        raise ValueError(
            f"Question {record.question_id!r} is in the language {record.language!r}, for which there are no scoring "
            "rules; known: en, zh. Leave its rows out, or have a judge score them (mode=judge)."
        )
    return said


def check_reference(record: Record) -> None:
    """Raises ValueError if the reference is empty or is not text: then no answer can be right."""
    if not isinstance(record.reference, str):
        raise ValueError(
            f"Question {record.question_id!r}: the reference must be a text; got {record.reference!r}. "
            "Correct the row where the data set is built."
        )
    if not normalize.normalize(record.reference):
        raise ValueError(
            f"Question {record.question_id!r} has the empty reference {record.reference!r}; no answer can be right. "
            "Reject the row where the data set is built."
        )


def _columns(record: Record, prediction: object, columns: tuple[Column, ...]) -> list[Verdict]:
    check_reference(record)
    if not isinstance(prediction, str):
        raise ValueError(
            f"Question {record.question_id!r}: a prediction must be a text; got {prediction!r}. "
            "Write an empty text where the system gave no answer."
        )
    record = record._replace(question=record.question or "", prompt=record.prompt or "", choices=record.choices or [])
    language = language_of(record, prediction)
    reply = clean(prediction, question=record.question, prompt=record.prompt)
    return [_verdict(record, reply, column, language) for column in columns]


def column_verdict(record: Record, prediction: object, column: Column) -> Verdict:
    """The verdict of one column; see `verdicts`."""
    return _columns(record, prediction, (column,))[0]


def verdicts(record: Record, prediction: object) -> Verdicts:
    """Both verdicts on a prediction.

    - A question with choices: the one option that the prediction chooses, by letter or by text.
    - A reference that is yes or no: the yes or no that the prediction gives.
    - Otherwise the whole answer, lists without order. Nothing is matched by containment.

    An empty prediction or a refusal is unparsed, unless the reference is a refusal.

    Raises:
        ValueError: if the reference is empty or is not among the choices, if the prediction is not text, or if there
            are no rules for the language.
    """
    return Verdicts(*_columns(record, prediction, COLUMNS))


def verdict(record: Record, prediction: object) -> Verdict:
    """The verdict of the main column, `radvqa`; see `verdicts`."""
    return column_verdict(record, prediction, "radvqa")
