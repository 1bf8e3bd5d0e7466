"""Writes dummy_data/: PathVQA's official layout, very small, with every known defect of the real files planted.

python -m tfds_builders.path_vqa.make_dummy_data

The texts and the images are made up: smooth noise, nothing of the real data set.
"""

import pickle
from pathlib import Path
from typing import Any

from tfds_builders.dummy import encode, noise, write


def row(number: int, image: str, question: str, answer: str, *, kind: str = "other") -> dict[str, Any]:
    """One row in the official form that has types."""
    return {
        "answer_type": kind,
        "img_id": image,
        "label": {answer: 1},
        "question_id": 100001000 + number,
        "question_type": question.split()[0].lower() if kind == "other" else "yes/no",
        "sent": question,
    }


def tables() -> dict[str, list[dict[str, Any]]]:
    """{file: rows}, one planted defect each."""
    two = row(5, "train_0002", "What is seen?", "gland") | {"label": {"gland": 0.3, "duct": 1}}
    return {
        "train_vqa.pkl": [
            row(0, "train_0001", "Where is the lesion?", "in the liver"),
            row(1, "train_0001", "Is it  benign?", "yes", kind="yes/no"),  # two spaces
            row(2, "train_0002", "What is shown?", " Stain "),  # edges, capital
            row(2, "train_0002", "What is shown?", "stain"),  # an id that occurs twice
            row(4, "train_0404", "What is shown?", "stain"),  # the image is absent
            two,
            row(6, "train_0003", "What is shown?", "stain"),  # the image is cut short
        ],
        "val/val_qa.pkl": [{"image": "val_0001", "question": "Is it red?", "answer": "no"}],  # the simple form
        "test_vqa.pkl": [row(7, "test_0001", "Is it red?", "no", kind="yes/no")],
    }


def images() -> dict[str, bytes]:
    """{path: bytes}; no question is about the last."""
    modes = {"train_0001": "CMYK", "train_0002": "L", "train_0003": "RGB"}
    modes |= {"val_0001": "RGB", "test_0001": "RGB", "test_0002": "RGB"}
    files = {
        f"{name.split('_')[0]}/{name}.jpg": encode(noise(seed, mode=mode), quality=80)
        for seed, (name, mode) in enumerate(modes.items())
    }
    files["train/train_0003.jpg"] = files["train/train_0003.jpg"][:-60]
    return files


def main(root: Path = Path(__file__).parent / "dummy_data") -> None:
    """Writes the folder."""
    for name, rows in tables().items():
        write(root / "qas" / name, pickle.dumps(rows, protocol=2))
    for name, data in images().items():
        write(root / "images" / name, data)


if __name__ == "__main__":
    main()
