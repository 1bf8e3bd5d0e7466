"""The features that every data set here has in common, so that they can be mixed.

Missing is missing: an absent text is "", an absent index -1, and no value is invented. Ids are text.
"""

from typing import Any

import numpy as np
import tensorflow_datasets as tfds

# name -> what it holds
TEXT_FEATURES = {
    "image_id": "one id an image; rows that share an image share it",
    "case_id": "patient, study or article; empty if the data set does not say",
    "question_id": "unique in the data set",
    "question": "empty for caption rows",
    "answer": "as the authors wrote it, edge white space removed",
    "answer_type": "closed or open",
    "question_type": "the data set's own word: modality, plane, organ, presence, …",
    "modality": "X-ray, CT, MRI, …",
    "organ": "organ or body region",
    "plane": "axial, coronal, sagittal, frontal, lateral",
    "caption": "a description of the image",
    "source": "data set and release",
    "language": "en, zh",
}


def common_features(**extra: Any) -> tfds.features.FeaturesDict:
    """Returns the common features and those that a data set alone offers.

    `image` is stored as the encoded bytes of a file (PNG or JPEG), never re-encoded.
    """
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, None), doc="encoded PNG or JPEG"),
            **{name: tfds.features.Text(doc=doc) for name, doc in TEXT_FEATURES.items()},
            "yes_no": tfds.features.Scalar(np.bool_, doc="whether the reference is yes or no"),
            "choices": tfds.features.Sequence(tfds.features.Text(), doc="multiple choice; empty otherwise"),
            "answer_index": tfds.features.Scalar(np.int32, doc="index into choices; -1 if there are none"),
            **extra,
        }
    )


def common_row(image: Any, **fields: Any) -> dict[str, Any]:
    """Returns a row for `common_features`: given fields, and what is missing as missing."""
    row = dict.fromkeys(TEXT_FEATURES, "") | {"yes_no": False, "choices": [], "answer_index": -1, "image": image}
    unknown = sorted(set(fields) - set(row))
    if unknown:
        raise ValueError(f"Unknown common features {unknown}. Known: {sorted(row)}.")
    return row | fields
