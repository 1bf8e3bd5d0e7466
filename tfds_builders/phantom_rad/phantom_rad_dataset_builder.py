"""The TFDS builder of phantom_rad: synthetic, radiology-like images with questions, captions and lesion masks."""

import dataclasses
import io
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import tensorflow_datasets as tfds

from tfds_builders.features import common_features, common_row
from tfds_builders.phantom_rad.attributes import SOURCE, caption
from tfds_builders.phantom_rad.plan import PlannedImage, draw_image, plan_split
from tfds_builders.phantom_rad.render import encode_png


@dataclasses.dataclass(kw_only=True)
class PhantomRadConfig(tfds.core.BuilderConfig):
    """The number of images of each split, and the seed that determines everything."""

    train: int
    validation: int
    test: int
    seed: int = 0


class Builder(tfds.core.GeneratorBasedBuilder):
    """SYNTHETIC radiographs, CT and MRI slices drawn by a program; no patient is shown."""

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES = {  # noqa: RUF012 the form that TFDS asks for
        "1.1.0": "The features split and location; images and questions are those of 1.0.0.",
        "1.0.0": "First release.",
    }
    BUILDER_CONFIGS = [  # noqa: RUF012
        PhantomRadConfig(
            name="default",
            description="SYNTHETIC: 3,300 images, about 19,500 questions.",
            train=3000,
            validation=100,
            test=200,
        ),
        PhantomRadConfig(name="tiny", description="SYNTHETIC: 40 images, for tests.", train=24, validation=8, test=8),
    ]

    @property
    def _config(self) -> PhantomRadConfig:
        config = self.builder_config
        assert isinstance(config, PhantomRadConfig)
        return config

    def _info(self) -> tfds.core.DatasetInfo:
        """The features: those that all data sets share, and the lesion's mask and attributes."""
        features = common_features(
            # One channel: with the common (None, None, None) TFDS cannot decode grey images without TensorFlow.
            image=tfds.features.Image(shape=(None, None, 1), doc="encoded PNG, 8 bits, grey"),
            mask=tfds.features.Image(shape=(None, None, 1), doc="255 on the lesion, 0 elsewhere; size of the image"),
            finding=tfds.features.Text(doc="kind of lesion; empty if there is none"),
            side=tfds.features.Text(doc="the patient's left or right; empty without a lesion or a visible side"),
            size=tfds.features.Text(doc="small or large; empty if there is no lesion"),
        )
        return self.dataset_info_from_configs(features=features)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        """A generator per split; nothing is downloaded."""
        config = self._config
        return {
            "train": self._generate_examples("train", config.train),
            "validation": self._generate_examples("validation", config.validation),
            "test": self._generate_examples("test", config.test),
        }

    def _generate_examples(self, split: str, images: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields (question_id, row), one row per question."""
        seed = self._config.seed
        planned = plan_split(split, images, seed=seed)
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # drawing releases the GIL most of the time
            drawn = pool.map(partial(_draw_files, seed=seed), planned)
            for item, (image, mask) in zip(planned, drawn, strict=True):
                yield from _rows(item, split, image=image, mask=mask)


def _draw_files(item: PlannedImage, *, seed: int) -> tuple[bytes, bytes]:
    """The PNG files of an image and of its lesion's mask."""
    phantom = draw_image(item, seed=seed)
    return encode_png(phantom.image), encode_png(phantom.mask)


def _rows(item: PlannedImage, split: str, *, image: bytes, mask: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields (question_id, row) of every question about an image."""
    attributes = item.attributes
    for index, question in enumerate(item.questions):
        row = common_row(
            io.BytesIO(image),
            image_id=item.image_id,
            case_id=item.case_id,
            question_id=item.question_id(index),
            question=question.question,
            answer=question.answer,
            answer_type="closed" if question.closed else "open",
            question_type=question.question_type,
            modality=attributes.view.modality,
            organ=attributes.view.organ,
            plane=attributes.view.plane,
            caption=caption(attributes),
            source=SOURCE,
            split=split,
            language="en",
            yes_no=question.closed,
        )
        lesion = {"finding": attributes.finding, "side": attributes.side, "size": attributes.size}
        yield row["question_id"], row | lesion | {"mask": io.BytesIO(mask)}
