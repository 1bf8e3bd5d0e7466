"""PMC-VQA from its official files: multiple-choice questions about figures of articles, versions 1 and 2.

The README in this folder has the rules.
"""

import dataclasses
import re
from collections.abc import Mapping

import tensorflow_datasets as tfds

from tfds_builders.builder import OfficialFilesBuilder, Reading, Row
from tfds_builders.features import common_row, is_yes_no
from tfds_builders.official_files import OfficialFiles
from tfds_builders.right_choice import LETTERS, settle, strip_prefix

HUB = "https://huggingface.co/datasets/xmcmic/PMC-VQA/resolve/main"
CHOICES = tuple(f"Choice {letter}" for letter in LETTERS)
COLUMNS = ("Figure_path", "Question", *CHOICES, "Answer")

INSTRUCTIONS = """\
Get PMC-VQA from https://huggingface.co/datasets/xmcmic/PMC-VQA (no registration) and give the folder that holds
  v1:        train.csv  test.csv        and images.zip (about 19 GB), or what is in it
  v1_clean:  test_clean.csv             and images.zip, or what is in it
  v2:        train_2.csv  test_2.csv    and images_2.zip (about 2.2 GB), or what is in it
as manual_dir: --config.data.manual_dir=FOLDER.
"""


@dataclasses.dataclass
class PmcVqaConfig(tfds.core.BuilderConfig):
    """The tables of each split, and the places of their images."""

    tables: Mapping[str, tuple[str, ...]] = dataclasses.field(
        default_factory=dict
    )  # split -> possible names; the first that exists is read
    images: str = "images.zip"
    labelled: bool = True  # Answer is the text and Answer_label the letter; otherwise Answer is the letter


class Builder(OfficialFilesBuilder):
    """PMC-VQA, rows in the order of the official files."""

    BUILDER_CONFIGS = [  # noqa: RUF012 read by TFDS
        PmcVqaConfig(
            name="v1",
            description="Version 1. Its test set is the unchecked one, the paper's test-initial.",
            tables={"train": ("train.csv",), "test": ("test.csv",)},
        ),
        PmcVqaConfig(
            name="v1_clean",
            description="The 2,000 questions of version 1's test set that were checked by hand, the paper's test.",
            tables={"test": ("test_clean.csv",)},
        ),
        PmcVqaConfig(
            name="v2",
            description="Version 2: non-compound figures, with captions.",
            tables={"train": ("train_2.csv", "train2.csv"), "test": ("test_2.csv", "test2.csv")},
            images="images_2.zip",
            labelled=False,
        ),
    ]
    HOMEPAGE = "https://huggingface.co/datasets/xmcmic/PMC-VQA"
    SOURCE = "PMC-VQA"
    MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS

    @property
    def _config(self) -> PmcVqaConfig:
        config = self.builder_config
        assert isinstance(config, PmcVqaConfig)
        return config

    @classmethod
    def urls(cls, config: str) -> Mapping[str, str]:
        chosen = next(one for one in cls.BUILDER_CONFIGS if one.name == config)
        return {name: f"{HUB}/{name}" for name in (*(names[0] for names in chosen.tables.values()), chosen.images)}

    def missing(self, files: OfficialFiles) -> list[str]:
        absent = [names[0] for names in self._config.tables.values() if not files.first(*names)]
        images = any(name.endswith(".jpg") for name in files.names())
        return absent + ([] if images else [self._config.images])

    def read(self, reading: Reading) -> None:
        config = self._config
        required = (*COLUMNS, "Answer_label") if config.labelled else (*COLUMNS, "Caption")
        for split, names in config.tables.items():
            reading.start(split)
            table = reading.files.read_csv(reading.files.first(*names), required=required)
            for number, raw in enumerate(table):
                row, fault = read_row(raw, split, number, config=config, reading=reading)
                reading.add(split, row, raw=raw, fault=fault)


def read_row(
    raw: dict[str, str], split: str, number: int, *, config: PmcVqaConfig, reading: Reading
) -> tuple[Row, str]:
    """A row of a table, and the reason why it cannot be used, or an empty string."""
    question_id = f"{config.name}-{split}-{number}"  # the tables have no ids of their own
    note = reading.rejects.row(split, question_id)
    # White space at the edges is normal in version 2, so that it is not noted.
    choices = [strip_prefix(raw[column], letter, note=note) for column, letter in zip(CHOICES, LETTERS, strict=True)]
    letter = raw["Answer_label" if config.labelled else "Answer"].strip().upper()
    text = raw["Answer"].strip() if config.labelled else ""
    index = LETTERS.find(letter) if len(letter) == 1 else len(LETTERS)
    right = settle(choices, index=index if letter else None, answer=text, note=note)
    figure = note.path(raw["Figure_path"].strip(), "Figure_path")
    row = common_row(
        figure.rsplit("/", 1)[-1],
        image_id=figure.rsplit("/", 1)[-1].rsplit(".", 1)[0],
        case_id=article(figure),
        question_id=question_id,
        question=raw["Question"].strip(),
        answer=right.answer,
        answer_type="closed",
        caption=raw.get("Caption", "").strip(),
        source=f"{Builder.SOURCE} {config.name}",
        split=split,
        language="en",
        yes_no=is_yes_no(right.answer),
        choices=choices,
        answer_index=right.index,
    )
    return row, right.fault


def article(figure: str) -> str:
    """The PubMed Central id that a figure's name begins with; empty if there is none.

    >>> article("PMC0000002_Fig4_11.jpg"), article("figure.jpg")
    ('PMC0000002', '')
    """
    match = re.match(r"PMC\d+", figure.rsplit("/", 1)[-1])
    return match[0] if match else ""
