"""Writes dummy_data/: Med-HALT's official layout, very small, with every known defect of the real files planted.

python -m tfds_builders.med_halt.make_dummy_data

The questions are made up.
"""

from pathlib import Path

from tfds_builders.dummy import csv_text, write

FAKE_COLUMNS = (
    *("id", "subject_name", "topic_name", "split_type", "dataset", "len", "year", "exam_name", "question", "options"),
)
GOLD_COLUMNS = ("id", "question", "options", "subject_name", "dataset", "split_type", "correct_answer", "correct_index")
OPTIONS = {"0": "Dance", "1": "It's song", "2": "I do not know"}


def row(identity: str, options: object = OPTIONS, **fields: str) -> dict[str, str]:
    """A row; its options are in Python's notation."""
    base = {"id": identity, "subject_name": "chemistry", "split_type": "train", "dataset": "headqa_en"}
    base |= {"question": f"In a bizarre {identity}?", "options": options if isinstance(options, str) else repr(options)}
    return base | fields


def tables() -> dict[str, str]:
    """{file: text}, one planted defect each."""
    fake = [
        row("f0", year="2013.0", exam_name="Cuaderno_2013_1_Q", topic_name="", len="60"),
        row("f1", {"0": "None"}, question=" Is it None? "),  # one option, and not the expected one; edges
        row("f2", {"1": "b", "0": "a", "10": "I do not know", "2": "c"}),  # keys out of order
        row("f3", "__import__('os').getcwd()"),  # not a value but code
        row("f4", '{"0": "a"'),  # cut short
    ]
    answers = {"0": "Aspirin", "1": "Insulin", "correct answer": "Insulin"}
    fct = [
        row("c0", answers, correct_answer="Insulin", correct_index="1", student_index="1", student_answer="Insulin"),
        row("c1", answers, correct_answer="Insulin", correct_index="0"),  # text and number disagree
        row("c2", answers, correct_answer="Insulin", correct_index="1.0"),
        row("c3", answers, correct_answer="Insulin", correct_index="7"),
    ]
    nota = [
        row("n0", {"0": "Aspirin", "1": "None of the above"}, correct_answer="None of the above", correct_index="1")
    ]
    return {
        "reasoning_fake/reasoning_fake.csv": csv_text(FAKE_COLUMNS, fake),
        "reasoning_FCT/reasoning_FCT.csv": csv_text((*GOLD_COLUMNS, "student_index", "student_answer"), fct),
        "reasoning_nota/reasoning_nota.csv": csv_text(GOLD_COLUMNS, nota),
    }


def main(root: Path = Path(__file__).parent / "dummy_data") -> None:
    """Writes the folder."""
    for name, text in tables().items():
        write(root / name, text)


if __name__ == "__main__":
    main()
