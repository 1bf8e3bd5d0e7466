"""All scores of one line of predictions, in a form that takes little memory; runs in a worker process.

A line that cannot be scored becomes an `Unscored` with its reason; nothing raises.
"""

import json
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from radvqa_jax import typed_json
from radvqa_jax.evaluation import llama32_med, rules
from radvqa_jax.evaluation.answer_types import answer_type
from radvqa_jax.evaluation.baselines import BLANK
from radvqa_jax.evaluation.clean import ends
from radvqa_jax.evaluation.protocols import PROTOCOLS
from radvqa_jax.evaluation.published import SYSTEMS
from radvqa_jax.schema import Record
from tfds_builders.right_choice import misplaced_letter

OUTCOMES: tuple[rules.Outcome, ...] = ("correct", "incorrect", "unparsed")
LONGEST = 40_000  # characters of an answer that every rule, protocol and metric reads; 8192 tokens have fewer
SHOWN = 1000  # characters of a text in verdicts.jsonl and verdicts.csv
# Groups of answers within a data set.
FIELDS = ("answer_type", "language", "question_type", "source", "organ", "modality", "plane")
UNNAMED = "answers"  # the data set of lines without a source
OTHER_IMAGES = (", another case's image", ", a blank image")  # suffix of a run's name if another image was shown
BLEU_COUNTS = "llama32_med bleu counts"
TEXTS = ("run", "source", "question_id", "image_id", "language", "answer_type", "answer_type_derived")
RULES = tuple(f"{column}{part}" for column in rules.COLUMNS for part in ("", "_rule", "_read"))
VALUES = tuple(f"{name}.{metric}" for name, protocol in PROTOCOLS.items() for metric in protocol.METRICS)


class Scored(NamedTuple):
    """One question of one run."""

    run: str
    image: str  # source and image_id, or question_id where the image is unknown
    key: str  # run, source and question_id
    groups: tuple[str, ...]  # the values of FIELDS
    outcomes: tuple[int, ...]  # index into OUTCOMES, one for each column of rules.COLUMNS
    values: dict[str, float]  # protocols and published metrics: `medevalkit.accuracy`, `medm.rouge1`; absent = no value
    answers: int  # number of answers; the first is scored here
    answer: int  # checksum of what `radvqa` read: equal for answers that say the same, and for all that are correct
    question: int  # checksum, whatever capitals and blanks; 0 if the line has no question
    reference: int  # checksum, whatever capitals and blanks
    row: dict[str, Any]  # a line of verdicts.jsonl
    shortened: bool = False  # the answer has more than LONGEST characters, and its two ends were read


class Unscored(NamedTuple):
    """A line without a score, and the reason."""

    line: int
    field: str  # empty = the whole line
    reason: str
    question_id: str  # empty if it could not be read
    text: str  # the beginning of the line


def run_of(record: Record) -> str:
    """The run of a record; a name of its own if another image than the question's was shown."""
    if record.image_used in ("", record.image_id):
        return record.run
    return record.run + OTHER_IMAGES[record.image_used == BLANK]


def dataset_of(source: str) -> str:
    """The data set that a source names: its first word."""
    return (source.split() or [UNNAMED])[0]


def said(verdict: rules.Verdict) -> str:
    """The reading of an answer, as text: equal for right answers, for the same reading, and for unparsed answers."""
    return f"{verdict.outcome}\t{verdict.read if verdict.outcome != 'correct' else ''}"


def problem(record: Record) -> tuple[str, str] | None:
    """The field and the reason why a well-formed record cannot be scored, or None."""
    if not record.question_id.strip():
        return "question_id", "is empty"
    texts = {"question": [record.question], "reference": [record.reference], "choices": record.choices}
    for field, parts in texts.items():
        if (length := sum(map(len, parts))) > LONGEST:
            return field, f"has {length:,} characters, and at most {LONGEST:,} are read"
    if wrong := misplaced_letter(record.choices):
        return (
            "choices",
            f"are in another order than their letters ({wrong}): does a letter mean the place or the label",
        )
    if not record.predictions:
        return "predictions", "holds no answer"
    for field in ("logprobs", "token_ids", "ended", "seeds"):
        if (count := len(getattr(record, field))) not in (0, len(record.predictions)):
            return field, f"has {count} values for {len(record.predictions)} answers"
    return None


def _published(record: Record, systems: Sequence[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for system in systems:
        found |= {f"{system}.{name}": float(value[0]) for name, value in SYSTEMS[system].per_answer([record]).items()}
    if "llama32_med" in systems:
        kind = "closed" if llama32_med.is_closed(record) else "open"
        found[f"llama32_med.string_match_{kind}"] = found["llama32_med.string_match"]
        counts = llama32_med.bleu_counts([record])[0]
        found |= {f"{BLEU_COUNTS} {number}": float(count) for number, count in enumerate(counts)}
    return found


def _checksum(text: str) -> int:
    return zlib.crc32(" ".join(text.casefold().split()).encode("utf-8", "replace"))


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def score_record(record: Record, *, published: Sequence[str] = ()) -> Scored:
    """The verdicts and values of a record's first answer.

    Every scorer reads only the beginning and the end of an answer of more than LONGEST characters, half of them each.

    Raises:
        ValueError: if a rule cannot be applied, for instance because the reference is not one of the choices.
    """
    shortened = len(record.predictions[0]) > LONGEST
    if shortened:
        record = record._replace(predictions=[ends(record.predictions[0], LONGEST), *record.predictions[1:]])
    answer, kind = record.predictions[0], answer_type(record)
    verdicts = rules.verdicts(record, answer)
    values = {}
    for name, protocol in PROTOCOLS.items():
        values |= {f"{name}.{metric}": value for metric, value in protocol.score(record, kind.value).items()}
    run, groups = run_of(record), (kind.value, *(getattr(record, field) for field in FIELDS[1:]))
    row: dict[str, Any] = {
        "run": run,
        **{name: getattr(record, name) for name in ("source", "question_id", "image_id", "language")},
        "answer_type": kind.value,
        "answer_type_derived": kind.derived,
    }
    for column, verdict in zip(rules.COLUMNS, verdicts, strict=True):
        row |= {column: verdict.outcome, f"{column}_rule": verdict.rule, f"{column}_read": _cut(verdict.read)}
    row |= dict.fromkeys(VALUES) | values
    row |= {name: _cut(text) for name, text in (("question", record.question), ("reference", record.reference))}
    row["prediction"] = _cut(answer)
    return Scored(
        run,
        record.cluster,
        f"{run}\t{record.source}\t{record.question_id}",
        groups,
        tuple(OUTCOMES.index(verdict.outcome) for verdict in verdicts),
        values | _published(record, published),
        len(record.predictions),
        zlib.crc32(said(verdicts.radvqa).encode("utf-8", "replace")),
        _checksum(record.question),
        _checksum(record.reference),
        row,
        shortened,
    )


def _unscored(number: int, field: str, reason: str, text: bytes) -> Unscored:
    shown = text[: 4 * SHOWN].decode("utf-8", "replace").strip()
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        row = None
    found = row.get("question_id") if isinstance(row, dict) else None
    return Unscored(number, field, reason, found if isinstance(found, str) else "", _cut(shown))


def score_line(line: typed_json.Line[Record], *, published: Sequence[str] = ()) -> Scored | Unscored:
    """Scores one line of a predictions file, or gives the reason why it has no score."""
    if line.error is not None or line.value is None:
        error = line.error or typed_json.JsonError("", "", "is empty")
        return _unscored(line.number, error.field, error.problem, line.text)
    if wrong := problem(line.value):
        return _unscored(line.number, *wrong, line.text)
    try:
        return score_record(line.value, published=published)
    except ValueError as error:
        return _unscored(line.number, "reference", str(error), line.text)
