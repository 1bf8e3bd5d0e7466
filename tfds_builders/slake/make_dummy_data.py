"""Writes dummy_data/: SLAKE's official layout, very small, with every known defect of the real files planted.

python -m tfds_builders.slake.make_dummy_data

The texts and the images are made up: smooth noise, nothing of the real data set.
"""

from pathlib import Path
from typing import Any

from tfds_builders.dummy import encode, json_text, noise, write

# Four numbers without names are a corner and a size: read as two corners, the second box would end before it begins.
DETECTIONS: dict[int, Any] = {
    0: [{"Liver": [2, 4, 10, 8]}, {"Spleen": [12, 8, 5, 4]}],
    1: [
        {"label": "Lung", "xmin": 0, "ymin": 0, "xmax": 10, "ymax": 16},
        {"bbox": [1, 1, 5, 5]},
        {"Heart": [15, 2, 9, 4]},
    ],
    2: {"shapes": [{"label": "Brain", "points": [[5, 4], [15, 12]]}, {"label": "Tumor", "points": "none"}]},
}


def row(qid: int, image: int = 0, **fields: Any) -> dict[str, Any]:
    """One row in the official form, without a defect unless `fields` plants one."""
    base = {
        "img_id": image,
        "img_name": f"xmlab{image}/source.jpg",
        "question": f"Is this question {qid}?",
        "answer": "Yes",
        "q_lang": "en",
        "location": "Abdomen",
        "modality": "CT",
        "answer_type": "CLOSED",
        "base_type": "vqa",
        "content_type": "Organ",
        "triple": ["vhead", "_", "_"],
        "qid": qid,
    }
    merged = base | fields
    return dict(sorted(merged.items(), reverse=qid % 2 == 1))  # the order of keys varies


def splits() -> dict[str, list[dict[str, Any]]]:
    """{file: rows}, one planted defect each."""
    knowledge = {"base_type": "kvqa", "content_type": "KG", "triple": ["vhead", "effect", "ktail"]}
    chinese = {"q_lang": "zh"}
    return {
        "train.json": [
            row(0),
            row(1, answer="Lung", content_type="Organ"),  # closed, and not yes or no
            row(2, question="Does the picture contain liver?", answer=""),  # the empty answer
            row(3, question="Is this question 0?"),  # doubles qid 0
            row(4, 1, answer="Lung, Heart", answer_type="OPEN", modality="X-Ray", location="Chest_lung"),
            row(5, 1, answer="Treats pain", answer_type="OPEN", **knowledge),
            row(6, 404),  # the image is absent
            row(7, 3),  # the image is cut short
            row(8, 0, question="图中有肝脏吗?", answer="有", **chinese),
            row(9, 4, question="这是什么模态?", answer="磁共振", answer_type="OPEN", modality="MRI", **chinese),
        ],
        "validate.json": [
            row(10, 2, answer="No", modality="MRI", location="Brain_Tissue"),
            row(11, 0, question="图中有脾脏吗?", answer="没有", **chinese),  # an image of en train
        ],
        "test.json": [
            row(12, 4, answer="T2", modality="MRI", content_type="Modality", location="Pelvic Cavity"),  # of zh train
            row(13, 5, answer="Left", content_type="Position"),
            row(14, 1, question="这是肺吗?", answer="是", modality="X-Ray", location="Lung", **chinese),  # of en train
        ],
    }


def images() -> dict[str, bytes]:
    """{path: bytes} of images, masks and boxes."""
    files = {f"xmlab{n}/source.jpg": encode(noise(n), quality=80) for n in range(6)}
    files["xmlab3/source.jpg"] = files["xmlab3/source.jpg"][:-60]
    files["xmlab4/source.jpg"] = encode(noise(4, mode="RGBA"), "PNG")  # not what its name says
    files["xmlab0/mask.png"] = encode(noise(10, mode="L").point([level // 128 for level in range(256)]), "PNG")
    files["xmlab1/mask.png"] = encode(noise(11, mode="L", size=(8, 8)), "PNG")  # not the image's size
    files |= {f"xmlab{n}/detection.json": json_text(value).encode() for n, value in DETECTIONS.items()}
    files["xmlab5/detection.json"] = b'[{"Liver": [1, 2'
    files["xmlab0/question.json"] = b"[]\n"
    files["__MACOSX/xmlab0/._source.jpg"] = b"\x00\x05\x16\x07"
    return files


def main(root: Path = Path(__file__).parent / "dummy_data") -> None:
    """Writes the folder."""
    for name, rows in splits().items():
        write(root / name, json_text(rows))
    for name, data in images().items():
        write(root / "imgs" / "imgs" / name, data)  # nested, as one archive unpacks
    write(root / "mask.txt", "1: Liver\n")


if __name__ == "__main__":
    main()
