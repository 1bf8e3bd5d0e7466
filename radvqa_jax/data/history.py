"""The questions of an image asked in a row: the earlier turns in the prompt of each question.

A conversation consists of the questions about one image, in the order of the data set. {history} in the prompt is
replaced by the turns before a question (prompts.history_text has the wording), as many of the last ones as fit the text
length. A question that was asked before in the same words is not a turn of its repetition: with references it would
contain the answer. A question without an image stands alone.
"""

from collections.abc import Callable, Sequence
from typing import Any

from radvqa_jax.config import DataConfig
from radvqa_jax.data.packing import Rejected, pack, pack_prompt
from radvqa_jax.data.rows import Row, RowSource, Turn
from radvqa_jax.data.tokenizer import Tokenizer


def same_question(one: str, other: str) -> bool:
    """Whether two questions have the same words: case, white space and what is no letter or digit do not count.

    >>> same_question("Is there a mass?", " is there\\ta MASS"), same_question("Which side?", "Which plane?")
    (True, False)
    """
    first, second = ("".join(filter(str.isalnum, text.casefold())) for text in (one, other))
    return first == second


def earlier_numbers(image_ids: Sequence[str]) -> list[list[int]]:
    """For each row, the numbers of the earlier rows about its image; none where it has no image.

    >>> earlier_numbers(["a", "b", "a", "", "a", ""])
    [[], [], [0], [], [0, 2], []]
    """
    so_far: dict[str, list[int]] = {}
    found = []
    for number, image_id in enumerate(image_ids):
        found.append(list(so_far.get(image_id, ())) if image_id else [])
        so_far.setdefault(image_id, []).append(number)
    return found


class Conversations:
    """The conversations of a source; texts are read once, images are not."""

    def __init__(self, rows: RowSource, *, data: DataConfig, tokenizer: Tokenizer, answers: bool = False) -> None:
        """Takes rows, template and length; with `answers` a row's own answer must also fit, as in training."""
        self._rows = rows
        self._data = data
        self._tokenizer = tokenizer
        self._answers = answers
        self._texts = list(rows.texts())
        self._earlier = earlier_numbers([row["image_id"] for row in self._texts])

    def turns(self) -> list[list[int]]:
        """The numbers of the rows that are first questions about an image, of the second ones, and so on."""
        found: list[list[int]] = [[] for _ in range(max(map(len, self._earlier), default=-1) + 1)]
        for number, earlier in enumerate(self._earlier):
            found[len(earlier)].append(number)
        return found

    def ask(self, numbers: Sequence[int], said: Callable[[Row], str]) -> RowSource:
        """The rows of these numbers with their history; `said` gives the answer to an earlier row."""
        return self._rows.select(numbers).with_history([self._fitting(number, said) for number in numbers])

    def _fitting(self, number: int, said: Callable[[Row], str]) -> tuple[Turn, ...]:
        """The last of the earlier turns, as many as fit."""
        row = self._texts[number]
        turns = [
            Turn(before["question_id"], before["question"], said(before))
            for before in (self._texts[earlier] for earlier in self._earlier[number])
            if not same_question(before["question"], row["question"])
        ]
        while turns and not self._fits(row | {"_history": turns}):
            del turns[0]
        return tuple(turns)

    def _fits(self, row: Row) -> bool:
        prefix, suffix = self._rows.text(row, template=self._data.prompt)
        try:
            if self._answers:
                pack(self._tokenizer, prefix, suffix=suffix, seq_len=self._data.seq_len, overlong="reject")
            else:
                pack_prompt(self._tokenizer, prefix, seq_len=self._data.seq_len)
        except Rejected:
            return False
        return True


def reference(row: Row) -> str:
    """The reference answer of a row."""
    return row["answer"]


def with_references(rows: RowSource, *, data: DataConfig, tokenizer: Tokenizer, answers: bool = False) -> RowSource:
    """The rows with the earlier turns and their reference answers, which the fingerprint counts.

    Rows without history, by configuration or because they are captions, are returned unchanged.

    Args:
        rows: of one source.
        data: template, length, and whether there is a history.
        tokenizer: of the checkpoint.
        answers: whether the row's own answer must also fit, as in training.
    """
    if data.history == "none" or rows.source.task != "vqa":
        return rows
    asked = Conversations(rows, data=data, tokenizer=tokenizer, answers=answers).ask(range(len(rows)), reference)
    asked.fingerprint["history"] = count_turns(list(asked.texts()))
    return asked


def count_turns(rows: Sequence[Row]) -> dict[str, Any]:
    """Counts the earlier turns that the prompts of rows hold, and those that were left out, by reason.

    Keys: `questions`, `turns` (earlier questions in all), `shown`, `repeated` (the question itself, asked before) and
    `too_long` (the oldest ones, which did not fit).

    Args:
        rows: all of a source, in its order; `_history` of each holds the turns of its prompt.
    """
    turns = shown = repeated = 0
    for row, earlier in zip(rows, earlier_numbers([row["image_id"] for row in rows]), strict=True):
        turns += len(earlier)
        shown += len(row["_history"])
        repeated += sum(same_question(rows[number]["question"], row["question"]) for number in earlier)
    left = {"repeated": repeated, "too_long": turns - shown - repeated}
    return {"questions": len(rows), "turns": turns, "shown": shown, **left}
