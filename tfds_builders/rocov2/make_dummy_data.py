"""Writes dummy_data/: ROCOv2's official layout, very small, with every known defect of the real files planted.

python -m tfds_builders.rocov2.make_dummy_data

The texts and the images are made up: smooth noise, nothing of the real data set.
"""

from pathlib import Path

from tfds_builders.dummy import csv_text, encode, noise, write, zip_bytes


def identity(split: str, number: int) -> str:
    """An id in the official form."""
    return f"ROCOv2_2023_{split}_{number:06d}"


# (split, number) -> (caption, all concepts, those assigned by hand; None = no line)
ROWS: dict[tuple[str, int], tuple[str, str, str | None]] = {
    ("train", 1): ("CT, axial view.", "C0040405;C0856747", "C0040405"),
    ("train", 2): (" Röntgenbild.The next sentence. ", "C1306645", ""),  # edges, non-ASCII, no manual concept
    ("train", 4): ('He said "no", then.', "C1306645; C0817096", "C1306645"),  # a gap in the ids; quotes
    ("train", 5): ("The image is absent.", "C0040405", "C0040405"),
    ("valid", 1): ("MRI.", "C0024485", None),  # no line in the manual table
    ("test", 1): ("Grey.", "C0041618", "C0041618"),
    ("test", 9): ("", "C0041618", "C0041618"),  # no caption
}
NAMES = {"C0040405": "X-Ray Computed Tomography", "C1306645": "Plain x-ray", "C0024485": "Magnetic Resonance Imaging"}


def tables() -> dict[str, str]:
    """{file: text}."""
    files = {}
    for split in ("train", "valid", "test"):
        rows = {identity(*key): value for key, value in ROWS.items() if key[0] == split}
        captions = [{"ID": name, "Caption": value[0]} for name, value in rows.items()]
        concepts = [{"ID": name, "CUIs": value[1]} for name, value in rows.items()]
        manual = [{"ID": name, "CUIs": value[2]} for name, value in rows.items() if value[2] is not None]
        files[f"{split}_captions.csv"] = csv_text(("ID", "Caption"), captions)
        files[f"{split}_concepts.csv"] = csv_text(("ID", "CUIs"), concepts)
        files[f"{split}_concepts_manual.csv"] = csv_text(("ID", "CUIs"), manual)
    files["valid_captions.csv"] = files["valid_captions.csv"].replace("ID,Caption", "ID , Caption")  # stray spaces
    files["cui_mapping.csv"] = csv_text(
        ("CUI", "Canonical name"), [{"CUI": cui, "Canonical name": name} for cui, name in NAMES.items()]
    )
    terms = {
        "ID": identity("train", 1),
        "PMCID": "PMC1",
        "Attribution": "A. Author [CC BY]",
        "Link": "https://a.test/1",
    }
    files["license_information.csv"] = csv_text(("ID", "PMCID", "Attribution", "Link"), [terms])
    return files


def images() -> dict[str, bytes]:
    """{name: bytes}."""
    absent = ("train", 5)
    modes = {("train", 2): "CMYK", ("test", 1): "L"}
    return {
        f"{identity(*key)}.jpg": encode(noise(seed, mode=modes.get(key, "RGB")), quality=80)
        for seed, key in enumerate(ROWS)
        if key != absent
    }


def main(root: Path = Path(__file__).parent / "dummy_data") -> None:
    """Writes the folder."""
    for name, text in tables().items():
        write(root / name, text)
    train = {f"train/{name}": data for name, data in images().items() if "_train_" in name}
    clutter = {f"__MACOSX/{name}": b"" for name in train}
    write(root / "train_images.zip", zip_bytes(train | clutter))
    for name, data in images().items():
        if "_train_" not in name:
            write(root / name.split("_")[2] / name, data)


if __name__ == "__main__":
    main()
