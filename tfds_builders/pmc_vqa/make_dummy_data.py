"""Writes dummy_data/: PMC-VQA's official layout, very small, with every known defect of the real files planted.

python -m tfds_builders.pmc_vqa.make_dummy_data

The texts and the images are made up: smooth noise, nothing of the real data set.
"""

from pathlib import Path

from tfds_builders.dummy import csv_text, encode, noise, write, zip_bytes

V1_COLUMNS = ("Figure_path", "Question", "Answer", "Choice A", "Choice B", "Choice C", "Choice D", "Answer_label")
V2_COLUMNS = (
    *("index", "Figure_path", "Caption", "Question", "Choice A", "Choice B", "Choice C", "Choice D"),
    *("Answer", "split"),
)


def v1(figure: str = "PMC1_F1.jpg", **fields: str) -> dict[str, str]:
    """A row of version 1; a defect is planted by `fields`."""
    base = {"Figure_path": figure, "Question": "What is shown?", "Answer": "Focal uptake", "Answer_label": "B"}
    texts = ("Diffuse uptake", "Focal uptake", "No uptake", "Stage A: early")  # the last contains "A:"
    choices = {f"Choice {letter}": f"{letter}:{text}" for letter, text in zip("ABCD", texts, strict=True)}
    return base | choices | {key.replace("_of_", " "): value for key, value in fields.items()}


def v2(index: int, figure: str = "PMC2_Fig4_11.jpg", **fields: str) -> dict[str, str]:
    """A row of version 2; a defect is planted by `fields`."""
    base = {"index": str(index), "Figure_path": figure, "Caption": "Axial CT, arrow.", "split": "train"}
    choices = {"Choice A": " A: Green ", "Choice B": " B: Red ", "Choice C": " C: Blue ", "Choice D": " D: Yellow"}
    return base | choices | {"Question": " Which colour? ", "Answer": "B"} | fields


def tables() -> dict[str, str]:
    """{file: text}, one planted defect each."""
    train = [
        v1(),
        v1(Answer="Stage A: early", Answer_label="D"),
        v1(Answer="No uptake"),  # the text names C, the letter B
        v1(Answer="Some uptake"),  # none of the choices
        v1(Answer_label=""),  # the text alone
        v1(Answer="", Answer_label=""),  # neither
        v1(Answer_label="E"),
        v1("PMC404_F1.jpg"),  # the image is absent
        v1(Question='What is\nshown, "here"?', Choice_of_A=" A:Diffuse uptake"),  # a line end in a field
        v1(Question=""),
        v1(Choice_of_A="B:Diffuse uptake"),  # the letter of another choice
    ]
    clean = [v1("PMC3_F2.jpg", Answer="No uptake", Answer_label="C")]
    return {
        "train.csv": csv_text(V1_COLUMNS, train),
        "test.csv": csv_text(V1_COLUMNS, [*clean, v1("PMC3_F2.jpg")]),
        "test_clean.csv": csv_text(V1_COLUMNS, clean),
        "train_2.csv": csv_text(V2_COLUMNS, [v2(35), v2(35, Answer=" C "), v2(36, Answer="Red")]),  # index occurs twice
        "test_2.csv": csv_text(V2_COLUMNS, [v2(1, "PMC2_Fig4_12.jpg", split="test")]),
    }


def main(root: Path = Path(__file__).parent / "dummy_data") -> None:
    """Writes the folder."""
    for name, text in tables().items():
        write(root / name, text)
    figures = [encode(noise(seed), quality=80) for seed in range(4)]
    first = {"images/PMC1_F1.jpg": figures[0], "images/figures/PMC3_F2.jpg": figures[1]}  # two depths
    write(root / "images.zip", zip_bytes(first | {"__MACOSX/images/._PMC1_F1.jpg": b""}))
    second = {"figures/PMC2_Fig4_11.jpg": figures[2], "figures/PMC2_Fig4_12.jpg": figures[3]}
    write(root / "images_2.zip", zip_bytes(second))


if __name__ == "__main__":
    main()
