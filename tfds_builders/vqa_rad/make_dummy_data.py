"""Writes dummy_data/: VQA-RAD's official layout, very small, with every known defect of the real files planted.

python -m tfds_builders.vqa_rad.make_dummy_data

The texts and the images are made up: smooth noise, nothing of the real data set.
"""

from pathlib import Path
from typing import Any

from tfds_builders.dummy import encode, json_text, noise, write
from tfds_builders.vqa_rad.vqa_rad_dataset_builder import IMAGE_FOLDER, JSON_NAME

IMAGES = ("synpic1.jpg", "synpic2.jpg", "synpic3.jpg", "synpic99.jpg")  # no row uses the last one


def row(qid: int | str, **fields: Any) -> dict[str, Any]:
    """One row in the official form, without a defect unless `fields` plants one; a field of None is absent."""
    base = {
        "qid": qid,
        "phrase_type": "freeform",
        "qid_linked_id": f"00000000-0000-0000-0000-{qid:>012}",
        "image_case_url": "https://medpix.nlm.nih.gov/case?id=case-1",
        "image_name": "synpic1.jpg",
        "image_organ": "HEAD",
        "evaluation": "not evaluated",
        "question": f"Is this question {qid}?",
        "question_rephrase": "NULL",
        "question_relation": "NULL",
        "question_frame": "NULL",
        "question_type": "PRES",
        "answer": "Yes",
        "answer_type": "CLOSED",
    }
    return {key: value for key, value in (base | fields).items() if value is not None}


def rows() -> list[dict[str, Any]]:
    """The rows, one planted defect each."""
    other = {"image_name": "synpic2.jpg", "image_case_url": "https://medpix.nlm.nih.gov/case?id=case-2"}
    chest = other | {"image_organ": "CHEST"}
    return [
        row("0"),  # the id is text
        row(1, answer=4, answer_type="OPEN", question_type="COUNT"),  # the answer is a number
        row(2, answer_type="CLOSED "),
        row(3, question_rephrase=None),  # absent
        row(4, question_type="PRES, POS", question_rephrase="Asked otherwise?", question_relation="strict agreement"),
        row(5, question_type="PRSE", **other),
        row(6, question_type="ATRIB", answer="Heart \tlungs", answer_type="OPEN", **chest),
        row(7, question_type="Other", question="Is it \twhite? ", question_frame=" Is it $white? ", **chest),
        row(8, answer=" on the left", answer_type="OPEN", question_type="POS", **chest),
        row(9, answer="left", question_type="POS", **chest),  # closed, and not yes or no
        row(10, phrase_type="para", **chest),
        row(11, phrase_type="para", question="IS THIS question 10?", answer="yes", **chest),  # doubles qid 10
        # Test: an image that is also in train, a triplet that is also in train, and an image of its own.
        row(12, phrase_type="test_freeform", answer="No", **chest),
        row(13, phrase_type="test_para", question="is this question 10?", **chest),
        row(14, phrase_type="test_freeform", image_name="synpic3.jpg", image_organ="ABD", answer="No"),
        # Rows that cannot be used.
        row(15, image_name="synpic404.jpg"),
        row(16, image_name="synpic13.jpg"),  # the file is cut short
        row(17, image_name="../VQA_RAD Dataset Public.json"),
        row(18, answer="NULL"),
        row(19, image_case_url="NULL"),  # kept, without a case
    ]


def main(root: Path = Path(__file__).parent / "dummy_data") -> None:
    """Writes the folder."""
    for seed, name in enumerate(IMAGES):
        write(root / IMAGE_FOLDER / name, encode(noise(seed, size=(40, 32)), quality=85))
    whole = (root / IMAGE_FOLDER / "synpic1.jpg").read_bytes()
    write(root / IMAGE_FOLDER / "synpic13.jpg", whole[:-80])
    write(root / JSON_NAME, json_text(rows()))


if __name__ == "__main__":
    main()
