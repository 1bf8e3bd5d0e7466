"""A case shows the region that its row marks: a mask, boxes that the question names, or nothing with the reason."""

import csv
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from radvqa_jax.config import Config, DataConfig, DecodeConfig, SaliencyConfig, SourceConfig
from radvqa_jax.data.rows import RowSource
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.saliency.gallery import Gallery, write_cases
from radvqa_jax.saliency.marked_regions import draw_boxes
from radvqa_jax.saliency.viewer_cases import Shown
from radvqa_jax.schema import Record

pytestmark = pytest.mark.slow

HEIGHT, WIDTH = 40, 64


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def mask_png(height: int = HEIGHT, width: int = WIDTH, *, marked: bool) -> bytes:
    mask = np.zeros((height, width), np.uint8)
    mask[5:15, 10:30] = 255 * marked
    return png(mask)


def row(**changes: Any) -> dict[str, Any]:
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    return {"question": "is the heart large", "answer": "yes", "image": png(image)} | changes


BOXES = {"boxes": [[0.25, 0.5, 0.75, 1.0], [0.0, 0.0, 0.25, 0.25]], "box_labels": ["Heart", "Left Lung"]}
ROWS = [
    row(mask=mask_png(marked=True)),
    row(mask=mask_png(marked=False)),
    row(**BOXES, mask=mask_png(marked=True)),
    row(**BOXES, question="is it normal"),
    row(mask=mask_png(HEIGHT, 8, marked=True)),
    row(),
    row(answer="left " * 60),  # longer than the model's own answer may be
]


@pytest.fixture(scope="module")
def made(
    worded: tuple[PaliGemma, dict[str, Any]], tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Gallery]:
    folder = tmp_path_factory.mktemp("gallery")
    records = [Record(f"q{i}", f"i{i}", r["question"], r["answer"], ["left left"], [0.0]) for i, r in enumerate(ROWS)]
    records[1] = records[1]._replace(token_ids=[tokenizer.encode("left left")], ended=[False])
    config = Config(
        data=DataConfig(seq_len=40),
        decode=DecodeConfig(max_new_tokens=8),
        saliency=SaliencyConfig(methods=("raw", "rollout_vision", "raw_centred"), patches=("marked", "1,1,2,2")),
    )
    fake = SourceConfig(dataset="fake", split="test", task="vqa")
    rows = RowSource(ROWS, indices=range(len(ROWS)), source=fake, fingerprint={}, encoded=("image", "mask"))
    shown = {"base": Shown("before", *worded)}
    return folder, write_cases(
        shown, rows, records={"base": records}, tokenizer=tokenizer, config=config, folder=folder
    )


def test_a_mask_or_the_boxes_that_are_named_are_shown_and_measured(made: tuple[Path, Gallery]) -> None:
    _, gallery = made
    mask, boxes = gallery.cases[0].mask, gallery.cases[2].mask
    assert mask is not None and mask.sum() == 10 * 20
    # The box of the heart alone, and not the mask that comes with it.
    assert np.array_equal(boxes, draw_boxes(BOXES["boxes"][:1], HEIGHT, WIDTH))
    for index in (0, 2):
        assert "is in the marked region" in gallery.shown[index].caption
        assert "marked region" not in dict(gallery.cases[index].facts)


@pytest.mark.parametrize(
    ("index", "why"),
    [
        (1, "none: nothing is marked"),
        (3, "none: no box is named in question or answer"),
        (4, "none: the mask is 40 x 8 pixels and the image 40 x 64"),
        (5, "none: no mask and no boxes"),
    ],
)
def test_without_a_marked_region_the_case_says_why(made: tuple[Path, Gallery], index: int, why: str) -> None:
    _, gallery = made
    assert gallery.cases[index].mask is None
    assert dict(gallery.cases[index].facts)["marked region"] == why
    assert "marked region" not in gallery.shown[index].caption


def test_figures_are_written_for_the_screen_and_for_a_paper(made: tuple[Path, Gallery]) -> None:
    folder, gallery = made
    assert len(gallery.cases) == len(ROWS)
    for number in range(len(ROWS)):
        for stem in (f"q{number}", f"q{number}_heads"):
            assert (folder / f"{stem}.png").read_bytes().startswith(b"\x89PNG")
            pdf = (folder / f"{stem}.pdf").read_bytes()
            assert pdf.startswith(b"%PDF") and b"/Font" in pdf
    assert gallery.cases[0].other == "yes"  # the answer differs from the reference


def test_a_cut_answer_and_one_that_was_encoded_again_say_so(made: tuple[Path, Gallery]) -> None:
    folder, gallery = made
    cut, again = gallery.cases[1], gallery.cases[0]
    with np.load(folder / "q1.npz") as file:
        count = len(file["token_ids"])
        assert "</s>" not in file["words"].tolist()
    assert cut.notes == [f"The answer was cut after {count} tokens: the model did not end it."]
    assert cut.models[0].cut and not any(word.end for word in cut.words)
    assert f"The answer was cut after {count} tokens." in gallery.shown[1].caption
    assert again.notes[0].startswith("The record has no token ids, so the answer was encoded again")
    assert again.words[-1].end and not again.models[0].cut and "cut" not in gallery.shown[0].caption


def test_chosen_patches_are_covered_and_hidden_and_heads_have_a_table(made: tuple[Path, Gallery]) -> None:
    folder, gallery = made
    facts = dict(gallery.cases[0].facts)
    for name in ("patches marked covered", "patches marked not readable", "patches 1,1,2,2 covered"):
        assert re.fullmatch(
            r"log p of a token [+-]\d\.\d{3} \(\d+ patches; as many elsewhere [+-]\d\.\d{3}\)", facts[name]
        )
    assert dict(gallery.cases[5].facts)["patches marked"] == "none in this case"
    ratio = facts["before: log p of the answer less that of “yes”"]
    assert re.fullmatch(r"[+-]\d+\.\d{3}", ratio)
    rows = list(csv.DictReader((folder / "q0_shares.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 3 * 4 and list(rows[0])[2:] == ["image", "start", "question", "separator", "answer"]
    for row in rows:
        assert sum(float(row[key]) for key in list(row)[2:]) == pytest.approx(1, abs=1e-4)
    assert (folder / "q0_raw_centred.png").is_file()  # a map with a sign
