"""What splits share: images by their pixels, cases by their ids, whole question-answer-image triplets."""

import hashlib
import itertools
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from radvqa_jax.data.image import decode_image
from radvqa_jax.data.sources import RowSource


class _Contents(NamedTuple):
    """What one split holds."""

    images: list[str]  # sha256 of the pixels, row by row
    cases: list[str]  # "" where the data set names none
    triplets: list[tuple[str, str, str]]


def _pixel_hash(data: bytes) -> str:
    pixels = decode_image(data)
    return hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).hexdigest()


def _normal(text: str) -> str:
    return " ".join(text.casefold().split())


def _contents(rows: RowSource, *, name: str, known: dict[str, str]) -> _Contents:
    """Returns what a split holds; `known` caches pixel hashes by the hash of the encoded bytes."""
    images, cases, triplets = [], [], []
    for row in rows:
        encoded = hashlib.sha256(row["image"]).hexdigest()
        if encoded not in known:
            try:
                known[encoded] = _pixel_hash(row["image"])
            except ValueError as error:
                raise ValueError(f"{name}, image {row['image_id']!r}: {error}") from error
        images.append(known[encoded])
        cases.append(row["case_id"])
        triplets.append((known[encoded], _normal(row["question"]), _normal(row["answer"])))
    return _Contents(images, cases, triplets)


def _describe(found: _Contents) -> dict[str, int]:
    return {
        "rows": len(found.images),
        "images": len(set(found.images)),
        "cases": len(set(found.cases) - {""}),
        "rows_without_case": found.cases.count(""),
        "repeated_triplets": sum(n - 1 for n in Counter(found.triplets).values()),
    }


def _compare(first: _Contents, second: _Contents) -> dict[str, int]:
    images = set(first.images) & set(second.images)
    cases = (set(first.cases) & set(second.cases)) - {""}
    triplets = set(first.triplets) & set(second.triplets)
    return {
        "images": len(images),
        "cases": len(cases),
        "triplets": len(triplets),
        # How much of the second split, usually the test split, was seen in the first.
        "rows_of_second_with_shared_image": sum(image in images for image in second.images),
        "rows_of_second_with_shared_case": sum(case in cases for case in second.cases),
        "rows_of_second_with_shared_triplet": sum(triplet in triplets for triplet in second.triplets),
    }


def audit(splits: Mapping[str, RowSource]) -> dict[str, Any]:
    """Returns what each split holds and what each two of them share.

    Two images are the same if their decoded pixels are; re-encoded or resized copies are not found. Two triplets are
    the same if their images are, and their questions and answers but for case and white space. Rows without a case
    share none.

    The result has `splits`: {name: rows, images, cases, rows_without_case, repeated_triplets}; `shared`: a list of
    {first, second, images, cases, triplets, rows_of_second_with_shared_image, …_case, …_triplet}; and `clean`: whether
    nothing is shared.
    """
    known: dict[str, str] = {}
    contents = {name: _contents(rows, name=name, known=known) for name, rows in splits.items()}
    shared = [
        {"first": first, "second": second} | _compare(contents[first], contents[second])
        for first, second in itertools.combinations(contents, 2)
    ]
    return {
        "splits": {name: _describe(found) for name, found in contents.items()},
        "shared": shared,
        "clean": not any(pair[kind] for pair in shared for kind in ("images", "cases", "triplets")),
    }


def format_report(report: Mapping[str, Any]) -> str:
    """Returns the report of `audit` as a few lines of text."""
    lines = []
    for name, split in report["splits"].items():
        cases = f"{split['cases']} cases"
        if split["rows_without_case"]:
            cases += f" ({split['rows_without_case']} rows name none)"
        lines.append(
            f"{name}: {split['rows']} rows, {split['images']} images, {cases}, "
            f"{split['repeated_triplets']} repeated question-answer-image triplets"
        )
    for pair in report["shared"]:
        first, second = pair["first"], pair["second"]
        size = report["splits"][second]
        lines.append(
            f"{second} vs {first}: {pair['images']} of {size['images']} images, "
            f"{pair['cases']} of {size['cases']} cases and {pair['triplets']} triplets are also in {first}; "
            f"{pair['rows_of_second_with_shared_image']} of {size['rows']} rows ask about an image of {first}"
        )
    if len(report["splits"]) > 1:
        lines.append("No leak found." if report["clean"] else "LEAK: scores on shared images or cases are not unseen.")
    return "\n".join(lines)
