"""Makes a folder with images and a table, like a hospital's, to try configs/own_data.py without your own data.

    python scripts/make_own_data.py FOLDER --images 100

The images are phantoms (tfds_builders/phantom_rad), not patients. `questions.csv` has the columns image, question,
answer, case_id, modality, organ and ward; `ward` stands for a column that the builder does not know. `made_with.txt`
has the settings.
"""

import argparse
import csv
import io
from collections.abc import Mapping
from pathlib import Path

from radvqa_jax.command_line.script import run_script
from radvqa_jax.files import atomic_write
from tfds_builders.phantom_rad.plan import draw_image, plan_split
from tfds_builders.phantom_rad.render import encode_png

BEGUN = "made_with.txt"  # the settings of a folder
WARDS = ("north", "south")


def _check_begun(folder: Path, now: Mapping[str, str]) -> None:
    """Raises ValueError if the folder was begun with other settings."""
    if not (folder / BEGUN).is_file():
        return
    lines = (folder / BEGUN).read_text(encoding="utf-8").splitlines()
    before = {name: value for name, _, value in (line.partition("=") for line in lines)}
    if other := [name for name in now if before.get(name) != now[name]]:
        told = "; ".join(f"{name}={before.get(name)} then, {name}={now[name]} now" for name in other)
        raise ValueError(
            f"{folder} was begun with other settings ({told}). Give a new folder, or the settings of then."
        )


def make(folder: Path, *, images: int, seed: int = 0) -> int:
    """Writes the folder and returns the number of questions.

    Raises:
        ValueError: if the folder was begun with other settings, or has another questions.csv; nothing is changed.
    """
    _check_begun(folder, now := {"--images": str(images), "--seed": str(seed)})
    rows, items = [], list(plan_split("train", images, seed=seed))
    for item in items:
        path = f"images/{item.image_id}.png"
        view, ward = item.attributes.view, WARDS[item.patient % len(WARDS)]
        for question in item.questions:
            rows.append([path, question.question, question.answer, item.case_id, view.modality, view.organ, ward])
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(["image", "question", "answer", "case_id", "modality", "organ", "ward"])
    table.writerows(rows)
    questions, content = folder / "questions.csv", text.getvalue().encode()
    if questions.exists() and questions.read_bytes() != content:
        raise ValueError(f"{questions} is there already, with other content. Give a new folder.")
    (folder / "images").mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / BEGUN, "w", private=False) as file:
        file.write("".join(f"{name}={value}\n" for name, value in now.items()))
    for item in items:
        with atomic_write(folder / f"images/{item.image_id}.png", "wb", private=False) as file:
            file.write(encode_png(draw_image(item, seed=seed).image))
    with atomic_write(questions, "wb", private=False) as file:
        file.write(content)
    return len(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.images < 1:
        parser.error(f"--images={args.images} must be at least 1.")
    if args.seed < 0:
        parser.error(f"--seed={args.seed} must be at least 0.")
    try:
        count = make(args.folder, images=args.images, seed=args.seed)
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        parser.error(f"{args.folder} cannot be written ({error}). Give a folder that is new or can be written to.")
    print(f"{args.images} images and {count} questions are in {args.folder}")


if __name__ == "__main__":
    run_script(main)
