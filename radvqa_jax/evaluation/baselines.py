"""Baselines that do not see the image: the question or the options alone, a blank image, another case's image.

A score means little without them. On SLAKE a text-only guess reaches 54 %. Rows are dicts with the common features of
tfds_builders/features.py.
"""

import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import PIL.Image

from radvqa_jax.evaluation.choices import option_texts
from radvqa_jax.evaluation.normalize import normalize
from radvqa_jax.schema import Record

Row = Mapping[str, Any]
BLANK = "blank"  # `image_used` of answers to a blank image


def to_record(row: Row, *, predictions: Sequence[str], run: str, image_used: str = "") -> Record:
    """The record of a row: its ids, question, reference and groups, and the given answers."""
    groups = {field: row[field] for field in ("answer_type", "question_type", "organ", "modality", "plane", "source")}
    return Record(
        question_id=row["question_id"],
        image_id=row["image_id"],
        question=row["question"],
        reference=row["answer"],
        predictions=list(predictions),
        logprobs=[],
        choices=[str(choice) for choice in row["choices"]],
        image_used=image_used,
        run=run,
        language=row.get("language", ""),
        **groups,
    )


class _Answers:
    """Counts of each answer in the training rows: by question, by answer type, and in all rows."""

    def __init__(self, train_rows: Iterable[Row]):
        self.question: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.answer_type: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.all: Counter[str] = Counter()
        forms: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for row in train_rows:
            answer = normalize(row["answer"])
            if not answer or not row["question"]:  # a caption row, or a row without an answer
                continue
            forms[answer][row["answer"]] += 1
            for counter in (self.question[normalize(row["question"])], self.answer_type[row["answer_type"]], self.all):
                counter[answer] += 1
        if not self.all:
            raise ValueError(
                "The blind baselines need training rows with a question and an answer, and got none. "
                "Set eval.train_source to the training split of the evaluated data set."
            )
        # The answer keeps the spelling that is most frequent in the training rows.
        self.written = {answer: min(seen, key=lambda form: (-seen[form], form)) for answer, seen in forms.items()}

    def best(self, levels: Sequence[Counter[str]], choices: Sequence[str]) -> str:
        """The most frequent answer of the first level that has one; with choices, among those.

        Ties go to the answer that is more frequent in all training rows, then to the alphabet.
        """
        options = dict(zip(option_texts(choices), choices, strict=True))
        for level in levels:
            seen = [answer for answer in level if not options or answer in options]
            if seen:
                answer = min(seen, key=lambda answer: (-level[answer], -self.all[answer], answer))
                return options.get(answer, self.written[answer])
        return choices[0]  # no option occurs as an answer in training


def question_only(train_rows: Iterable[Row], test_rows: Iterable[Row]) -> list[Record]:
    """Answers that never see an image: the training split's most frequent answer to the same question.

    A question that was not asked in training gets the majority answer of its answer type, or of all rows. If the row
    offers choices, only those count.
    """
    answers = _Answers(train_rows)
    records = []
    for row in test_rows:
        levels = [answers.question.get(normalize(row["question"]), Counter()), answers.answer_type[row["answer_type"]]]
        answer = answers.best([*levels, answers.all], [str(choice) for choice in row["choices"]])
        records.append(to_record(row, predictions=[answer], run="question_only"))
    return records


def majority(train_rows: Iterable[Row], test_rows: Iterable[Row]) -> list[Record]:
    """The most frequent training answer of each row's answer type, or of all rows; within the row's choices."""
    answers = _Answers(train_rows)
    records = []
    for row in test_rows:
        levels = [answers.answer_type[row["answer_type"]], answers.all]
        answer = answers.best(levels, [str(choice) for choice in row["choices"]])
        records.append(to_record(row, predictions=[answer], run="majority"))
    return records


def longest_option(test_rows: Iterable[Row]) -> list[Record]:
    """The option with the most characters, the first of several; for rows with choices only.

    Authors of options make the right one longer more often than chance.
    """
    return [
        to_record(row, predictions=[max(map(str, row["choices"]), key=len)], run="longest_option")
        for row in test_rows
        if len(row["choices"])
    ]


def letter_frequency(train_rows: Iterable[Row], test_rows: Iterable[Row]) -> list[Record]:
    """The option whose letter is right most often in training; for rows with choices only.

    Training rows with the same number of options count; if there are none, all rows with choices count, as far as the
    letter is offered. Ties, and training without choices, give the first option.
    """
    by_size: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for row in train_rows:
        options = option_texts([str(choice) for choice in row["choices"]])
        if (answer := normalize(row["answer"])) in options:
            by_size[len(options)][options.index(answer)] += 1
    all_sizes = sum(by_size.values(), Counter())
    records = []
    for row in test_rows:
        if choices := [str(choice) for choice in row["choices"]]:
            seen = by_size.get(len(choices), all_sizes)
            letter = max(range(len(choices)), key=lambda index: (seen[index], -index))
            records.append(to_record(row, predictions=[choices[letter]], run="letter_frequency"))
    return records


def blank_image() -> bytes:
    """A PNG without content: 8 x 8 pixels of middle grey (128 of 255), near 0 where images are in [-1, 1]."""
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (8, 8), (128, 128, 128)).save(buffer, format="PNG")
    return buffer.getvalue()


def distinct(prompts: Iterable[str]) -> tuple[list[int], list[int]]:
    """The indices of the first row with each prompt, and for each row the position of its prompt among them.

    With a blank image the model sees the prompt alone, so each distinct prompt is answered once.

    >>> distinct(["a", "b", "a"])
    ([0, 1], [0, 1, 0])
    """
    order: dict[str, int] = {}
    first, which = [], []
    for index, prompt in enumerate(prompts):
        if prompt not in order:
            order[prompt] = len(first)
            first.append(index)
        which.append(order[prompt])
    return first, which


def agreeing(rows: Sequence[Row], others: Sequence[int], *, by: Sequence[str] = ("modality", "organ")) -> int:
    """The number of rows whose other image agrees with their own in all of `by`."""
    keys = [tuple(row[field] for field in by) for row in rows]
    return sum(keys[index] == keys[other] for index, other in enumerate(others))


def swap_images(rows: Iterable[Row], *, seed: int, by: Sequence[str] = ("modality", "organ")) -> list[int]:
    """For each row, the index of a row whose image is shown instead: another image of another case.

    It is drawn uniformly from the images that agree in all of `by`, else in fewer of these fields (the last is dropped
    first), else from all others. The same rows and seed give the same draw. An empty case_id says nothing about the
    case.

    Raises:
        ValueError: if a row has no other image of another case.
    """
    rng = np.random.default_rng(seed)
    ids: list[tuple[str, str]] = []
    keys: list[tuple[str, ...]] = []
    groups: dict[tuple[str, ...], dict[str, int]] = {}  # the first fields of `by` -> image_id -> its first row
    for index, row in enumerate(rows):
        ids.append((row["image_id"], row["case_id"]))
        keys.append(tuple(row[field] for field in by))
        for length in range(len(by) + 1):
            groups.setdefault(keys[index][:length], {}).setdefault(row["image_id"], index)
    candidates = {key: list(images.values()) for key, images in groups.items()}

    def differs(index: int, other: int) -> bool:
        (image, case), (other_image, other_case) = ids[index], ids[other]
        return image != other_image and not (case and case == other_case)

    def draw(index: int) -> int:
        for length in range(len(by), -1, -1):
            indices = candidates[keys[index][:length]]
            for _ in range(16):  # most first draws already differ; listing all that differ would be quadratic
                if differs(index, other := indices[rng.integers(len(indices))]):
                    return other
            if others := [other for other in indices if differs(index, other)]:
                return others[rng.integers(len(others))]
        raise ValueError(
            f"Image {ids[index][0]!r} (case {ids[index][1]!r}) cannot be swapped: {len(ids)} rows hold no image of "
            "another case. Evaluate on more rows, or set eval.swapped=False."
        )

    return [draw(index) for index in range(len(ids))]
