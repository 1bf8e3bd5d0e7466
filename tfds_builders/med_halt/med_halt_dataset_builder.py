"""Med-HALT's reasoning tests from their official tables: multiple choice in text only, to measure hallucination.

The README in this folder has the rules.
"""

import ast
import collections
import dataclasses
from collections.abc import Mapping
from typing import Any

import tensorflow_datasets as tfds

from tfds_builders.builder import OfficialFilesBuilder, Reading, Row
from tfds_builders.features import common_row, is_yes_no
from tfds_builders.official_files import OfficialFiles
from tfds_builders.rejects import RowRejects
from tfds_builders.right_choice import Settled, settle

HUB = "https://huggingface.co/datasets/openlifescienceai/Med-HALT/resolve/main"
COLUMNS = ("id", "question", "options", "subject_name", "dataset", "split_type")
GOLD = ("correct_answer", "correct_index")
NOT_KNOWN = "I do not know"  # what the authors expect for invented questions
MAX_OPTIONS = 20_000  # characters: parsing a literal of any length could take any amount of memory
# Columns that Med-HALT alone has, and that not every table has.
EXTRA_TEXT = {
    "subject_name": "field of medicine; empty if not said",
    "topic_name": "topic; empty if not said",
    "exam_name": "examination; empty if not said",
    "year": "year of the examination; empty if not said",
    "dataset": "where the question was taken from",
    "split_type": "the split that the authors name in the row",
    "student_answer": "fct: the answer to be judged; empty otherwise",
    "proposed_answer": "fct: what the options call the correct answer; empty otherwise",
    "options": "the authors' options as they wrote them",
}

INSTRUCTIONS = """\
Get Med-HALT from https://huggingface.co/datasets/openlifescienceai/Med-HALT (no registration) and give the folder that
holds
  fake:  reasoning_fake/reasoning_fake.csv
  fct:   reasoning_FCT/reasoning_FCT.csv
  nota:  reasoning_nota/reasoning_nota.csv
as manual_dir: --config.data.manual_dir=FOLDER.
"""


@dataclasses.dataclass
class MedHaltConfig(tfds.core.BuilderConfig):
    """The table to read, and whether it names right answers."""

    table: str = ""
    gold: bool = True


class Builder(OfficialFilesBuilder):
    """Med-HALT, rows in the order of the official table. There are no images."""

    BUILDER_CONFIGS = [  # noqa: RUF012 read by TFDS
        MedHaltConfig(name="fake", description="Invented questions.", table="reasoning_fake", gold=False),
        MedHaltConfig(name="fct", description="False confidence: judge a proposed answer.", table="reasoning_FCT"),
        MedHaltConfig(name="nota", description="None of the other options is right.", table="reasoning_nota"),
    ]
    HOMEPAGE = "https://huggingface.co/datasets/openlifescienceai/Med-HALT"
    SOURCE = "Med-HALT"
    MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS

    @property
    def _config(self) -> MedHaltConfig:
        config = self.builder_config
        assert isinstance(config, MedHaltConfig)
        return config

    @classmethod
    def urls(cls, config: str) -> Mapping[str, str]:
        table = next(one.table for one in cls.BUILDER_CONFIGS if one.name == config)
        return {f"{table}.csv": f"{HUB}/{table}/{table}.csv"}

    def extra_features(self) -> dict[str, Any]:
        return {name: tfds.features.Text(doc=doc) for name, doc in EXTRA_TEXT.items()}

    def missing(self, files: OfficialFiles) -> list[str]:
        name = f"{self._config.table}.csv"
        return [] if files.first(name) else [f"{self._config.table}/{name}"]

    def read(self, reading: Reading) -> None:
        config = self._config
        required = (*COLUMNS, *GOLD) if config.gold else COLUMNS
        # The release has one split of that name. It is a test: nothing in it is meant for training.
        reading.start("train")
        met: collections.Counter[str] = collections.Counter()
        for raw in reading.files.read_csv(reading.files.first(f"{config.table}.csv"), required=required):
            identity = raw["id"].strip()
            met[identity] += 1
            note = reading.rejects.row("train", identity if met[identity] == 1 else f"{identity}-{met[identity]}")
            if met[identity] > 1:  # only in `fake` are ids known to be unique
                note.repaired("id", "id occurs again", before=identity, after=note.identity)
            row, fault = read_row(raw, config=config, note=note)
            reading.add("train", row, raw=raw, fault=fault)


def read_row(raw: dict[str, str], *, config: MedHaltConfig, note: RowRejects) -> tuple[Row, str]:
    """A row of the table, and the reason why it cannot be used, or an empty string."""
    try:
        options = read_options(raw["options"])
    except ValueError as error:
        options, right = {}, Settled(fault=f"options cannot be read: {error}")
    else:
        right = _gold(raw, options, note=note) if config.gold else _not_known(options, note=note)
    choices = [options[key] for key in numbers(options)] if right.index >= 0 else []
    common = common_row(
        None,
        question_id=note.identity,
        question=note.text(raw["question"], "question"),
        answer=right.answer,
        answer_type="closed",
        question_type=config.name,
        source=Builder.SOURCE,
        split="train",
        language="en",
        yes_no=is_yes_no(right.answer),
        choices=choices,
        answer_index=right.index,
    )
    extra = {name: raw.get(name, "").strip() for name in EXTRA_TEXT} | {"options": raw["options"]}
    proposed = next((text for key, text in options.items() if not key.isdecimal()), "")
    return common | extra | {"proposed_answer": proposed}, right.fault


def read_options(cell: str) -> dict[str, str]:
    """{key: text} of a cell, which is a dict in Python's notation, not JSON; it is never executed.

    >>> read_options("{'0': 'Dance', '1': \\"it's\\"}")
    {'0': 'Dance', '1': "it's"}
    """
    if len(cell) > MAX_OPTIONS:
        raise ValueError(f"{len(cell)} characters, more than {MAX_OPTIONS}")
    try:
        value = ast.literal_eval(cell.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"not a dict of plain values ({type(error).__name__})") from error
    if not (isinstance(value, dict) and all(isinstance(text, str | int | float) for text in value.values())):
        raise ValueError("not a dict of texts")
    return {str(key): str(text).strip() for key, text in value.items()}


def numbers(options: Mapping[str, str]) -> list[str]:
    """The keys that are numbers, in numeric order; other keys are not options.

    >>> numbers({"10": "k", "2": "b", "correct answer": "b"})
    ['2', '10']
    """
    return sorted((key for key in options if key.isdecimal()), key=int)


def _gold(raw: dict[str, str], options: dict[str, str], *, note: RowRejects) -> Settled:
    """The right choice that the table names; its index is a key of the options."""
    keys = numbers(options)
    key = raw["correct_index"].strip().removesuffix(".0")
    index = (keys.index(key) if key in keys else len(keys)) if key else None
    return settle([options[k] for k in keys], index=index, answer=raw["correct_answer"].strip(), note=note)


def _not_known(options: dict[str, str], *, note: RowRejects) -> Settled:
    """The choice that says "I do not know"; without one, the question is asked without choices."""
    texts = [options[key].casefold() for key in numbers(options)]
    if NOT_KNOWN.casefold() in texts:
        index = texts.index(NOT_KNOWN.casefold())
        return Settled(options[numbers(options)[index]], index)
    note.repaired("options", f"no option says {NOT_KNOWN!r}; asked without choices", before=dict(options), after=[])
    return Settled(NOT_KNOWN)
