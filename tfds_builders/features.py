"""The features that every data set here has in common, so that they can be mixed.

No value is invented: a missing text is "", a missing index is -1, and a missing image has no bytes. Each builder maps
its authors' notations for missing (`NULL`, `N/A`, an empty cell, an absent key); nothing is mapped here. Ids are text.

A data set without images (med_halt) has the same features: `image` is empty bytes and `image_id` is empty. Its rows can
be read, filtered and counted like all others; code that needs pixels checks `row["image_id"]` first.
"""

from typing import Any

import numpy as np
import tensorflow_datasets as tfds

# name -> what it holds
TEXT_FEATURES = {
    "image_id": "one id an image; rows that share an image share it; empty if the row has no image",
    "case_id": "patient, study or article; empty if the data set does not say",
    "question_id": "unique in the data set",
    "question": "empty for caption rows",
    "answer": "as the authors wrote it, edge white space removed; empty for caption rows",
    "answer_type": "closed or open; empty if the data set does not say",
    "question_type": "the data set's own word: modality, plane, organ, presence, …",
    "modality": "X-ray, CT, MRI, …",
    "organ": "organ or body region, in lower case",
    "location": "where in the body, in the authors' own words",
    "plane": "axial, coronal, sagittal, frontal, lateral, …",
    "caption": "a description of the image",
    "source": "data set and release",
    "split": "the official split: train, validation, test; it may differ from the split of a config that splits anew",
    "language": "en, zh",
}

# Language -> answers that are a yes or a no, in lower case.
YES_NO = {
    "en": frozenset({"yes", "no"}),
    "zh": frozenset({"是", "是的", "否", "不是", "不", "对", "不对", "有", "没有", "能", "不能", "会", "不会"}),
}


def is_yes_no(answer: str, *, language: str = "en") -> bool:
    """Whether the whole answer is a yes or a no.

    >>> is_yes_no("Yes"), is_yes_no("yes, on the left"), is_yes_no("不是", language="zh")
    (True, False, True)
    """
    return answer.strip().casefold() in YES_NO[language]


def common_features(**extra: Any) -> tfds.features.FeaturesDict:
    """The common features, and `extra` ones of one data set.

    `image` is stored as the encoded bytes of a file (PNG or JPEG, RGB or grey of 8 bits: images.py), never re-encoded.
    """
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(
                shape=(None, None, None), doc="encoded PNG or JPEG; no bytes if there is none"
            ),
            **{name: tfds.features.Text(doc=doc) for name, doc in TEXT_FEATURES.items()},
            "yes_no": tfds.features.Scalar(np.bool_, doc="whether the reference is yes or no"),
            "choices": tfds.features.Sequence(tfds.features.Text(), doc="multiple choice; empty otherwise"),
            "answer_index": tfds.features.Scalar(np.int32, doc="index into choices; -1 if there are none"),
            **extra,
        }
    )


def common_row(image: Any, **fields: Any) -> dict[str, Any]:
    """A row for `common_features`: the given fields, and the values that mean missing for all others.

    `image` is a path, the bytes of a file, a file object, or None for a row without an image.
    """
    row: dict[str, Any] = dict.fromkeys(TEXT_FEATURES, "")
    row |= {"yes_no": False, "choices": [], "answer_index": -1, "image": b"" if image is None else image}
    unknown = sorted(set(fields) - set(row))
    if unknown:
        raise ValueError(f"Unknown common features {unknown}. Known: {sorted(row)}.")
    return row | fields
