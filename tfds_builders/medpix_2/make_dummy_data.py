"""Writes dummy_data/: MedPix 2.0's official layout, very small, with every known defect of the real files planted.

python -m tfds_builders.medpix_2.make_dummy_data

The texts and the images are made up: smooth noise, nothing of the real data set.
"""

from pathlib import Path
from typing import Any

from tfds_builders.dummy import encode, json_text, jsonl_text, noise, write

CASE_KEYS = (
    *("Title", "History", "Exam", "Findings", "Differential Diagnosis", "Case Diagnosis", "Diagnosis By"),
    *("Treatment & Follow Up", "Discussion", "Media"),
)
TOPIC_KEYS = ("Title", "Disease Discussion", "ACR Code", "Category", "Keywords", "Reference", "External Links")


def case(uid: str, ct: list[str], mr: list[str], **fields: Any) -> dict[str, Any]:
    """One case in the official form; `fields` replace those of its `Case`."""
    return {
        "U_id": uid,
        "TAC": ct,
        "MRI": mr,
        "Case": {key: f"{key} of {uid}" for key in CASE_KEYS} | {"Media": None} | fields,
        "Topic": {key: f"{key} of {uid}" for key in TOPIC_KEYS} | {"External Links": None},
    }


def image(name: str, kind: str = "CT", **fields: Any) -> dict[str, Any]:
    """One image in the official form; `fields` replace those of the image or of its `Description`."""
    outer = {"Location": "Genitourinary", "Location Category": "Reproductive and Urinary System"}
    description = {
        "ACR Codes": "8.-1",
        "Age": "45",
        "Caption": f"Caption of {name}.",
        "Figure Part": None,
        "Modality": "CT - noncontrast",
        "Plane": "Axial",
        "Sex": "male",
    }
    inner = description | {key: value for key, value in fields.items() if key not in outer}
    outer |= {key: value for key, value in fields.items() if key in outer}
    return {"Type": kind, "U_id": name.split("_")[0], "image": name, "Description": inner, **outer}


def cases() -> dict[str, list[dict[str, Any]]]:
    """{split: cases}."""
    return {
        "train": [
            case("MPX1", ["MPX1_synpic1", "MPX1_synpic2"], [], Exam="N/A", History=None),  # both forms of missing
            case("MPX2", [], ["MPX2_synpic3"], Findings="A\x07finding\x1f."),  # control characters
        ],
        "dev": [case("MPX3", ["MPX3_synpic4"], ["MPX3_synpic5"])],
        "test": [case("MPX4", ["MPX4_synpic6"], [])],
    }


def images() -> dict[str, list[dict[str, Any]]]:
    """{split: images}, one planted defect each."""
    odd = {"Caption": "Axial CT.\nSecond line. ", "Age": "0", "Sex": "N/A"}
    head = {"Location": "Brain and Neuro", "Location Category": "Head"}
    return {
        "train": [
            image("MPX1_synpic1", Location="Left Blank"),  # the file is RGBA
            image("MPX1_synpic2", Caption="Caption of MPX1_synpic1.", Location="Bethesda, MD"),  # a repeated caption
            image("MPX2_synpic3", "MR", Plane=None, **head),
            image("MPX2_synpic404", "MR", **head),  # the file is absent
        ],
        "dev": [
            image("MPX3_synpic4", **odd, **{"Location": "Chest, Pulmonary", "Location Category": "Thorax"}),
            image("MPX3_synpic5", "MR", Caption="N/A", **head),
        ],
        "test": [image("MPX4_synpic6"), image("MPX9_synpic7")],  # the case of the last is absent
    }


def main(root: Path = Path(__file__).parent / "dummy_data") -> None:
    """Writes the folder."""
    tables = root / "splitted_dataset"
    for split, rows in cases().items():
        write(tables / f"data_{split}.jsonl", jsonl_text(rows))
    for split, rows in images().items():
        write(tables / f"descriptions_{split}.jsonl", jsonl_text(rows))
    halves = {"train": ["MPX1", "MPX2"], "train_1": ["MPX2"], "train_2": ["MPX1"], "dev": ["MPX3"], "test": ["MPX4"]}
    write(tables / "uid_list.json", json_text(halves))
    names = [row["image"] for rows in images().values() for row in rows if "404" not in row["image"]]
    for seed, name in enumerate(names):
        mode = "RGBA" if seed == 0 else "RGB"
        write(root / "images" / f"{name}.png", encode(noise(seed, mode=mode), "PNG"))
    stale = "Type,U_id,ID_Image,Img_Large,URL_Article_image\nTAC,MPX8,MPX8_synpic8,,\n"  # lists an absent image
    write(root / "images_overview.csv", stale)


if __name__ == "__main__":
    main()
