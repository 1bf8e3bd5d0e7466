"""Draws a folder as a hospital might keep one: images and a table, to try configs/own_data.py without data of your own.

    python scripts/make_own_data.py FOLDER --images 100

The images are phantoms (tfds_builders/phantom_rad), not patients. `questions.csv` has the columns image, question,
answer, case_id, modality, organ and ward; the last is a column of no known meaning.
"""

import argparse
import csv
from pathlib import Path

from tfds_builders.phantom_rad.plan import draw_image, plan_split
from tfds_builders.phantom_rad.render import encode_png

WARDS = ("north", "south")


def make(folder: Path, *, images: int, seed: int = 0) -> int:
    """Writes the folder and returns the number of questions."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for item in plan_split("train", images, seed=seed):
        path = f"images/{item.image_id}.png"
        (folder / path).write_bytes(encode_png(draw_image(item, seed=seed).image))
        view, ward = item.attributes.view, WARDS[item.patient % len(WARDS)]
        for question in item.questions:
            rows.append([path, question.question, question.answer, item.case_id, view.modality, view.organ, ward])
    with (folder / "questions.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["image", "question", "answer", "case_id", "modality", "organ", "ward"])
        table.writerows(rows)
    return len(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.images < 1:
        parser.error(f"--images={args.images} must be at least 1.")
    try:
        count = make(args.folder, images=args.images, seed=args.seed)
    except OSError as error:
        parser.error(f"{args.folder} cannot be written ({error}). Give a folder that is new or can be written to.")
    print(f"{args.images} images and {count} questions are in {args.folder}")


if __name__ == "__main__":
    main()
