"""Finds what the data sets of an experiment share: images (exactly or nearly), cases, questions; and what leaks."""

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from radvqa_jax.config import SUSPECT_BITS
from radvqa_jax.data.image_hashes import ImageHashes, load_hashes, near_pairs
from radvqa_jax.data.rows import RowSource
from radvqa_jax.data.set_facts import Texts, normal, read_texts, set_facts
from tfds_builders.catalogue import TABLE

# MedPix numbers its pictures; MedPix 2.0, VQA-RAD and others keep the number in the name of the file.
MEDPIX_PICTURE = re.compile(r"synpic(\d+)", re.IGNORECASE)
# The kinds of sharing between a trained and an evaluated set that count as leaks. Questions may recur.
LEAKS = ("images", "near_images", "medpix_pictures", "cases", "triplets")
# Images that one program drew of one anatomy resemble each other: the closest of phantom_rad's train and test are 16
# bits apart and show other lesions. Between two such sets only copies count.
DRAWN_BITS = 8
FLOAT = re.compile(r"^(\d+)\.0+$", re.ASCII)  # a whole number, written as a float
SHORT_NUMBER = 5  # most digits of a number with which a table counts its cases; hospitals give patients longer ones
LISTED_PAIRS = 50  # of nearly equal images
LISTED_SUSPECTS = 12  # of the closest pairs up to SUSPECT_BITS, for a person to look at; they do not count as leaks


class _Contents(NamedTuple):
    """The content of one set, row by row."""

    images: list[str]  # sha256 of the pixels; "" for a row without an image
    hashes: ImageHashes
    pictures: list[str]  # number of the picture in MedPix, or ""
    cases: list[str]  # "" if the data set names none
    questions: list[str]
    triplets: list[tuple[str, str, str]]
    drawn: bool  # by a program, as its rows' source says


def _case(case: str, rows: RowSource) -> str:
    """The id by which a case is compared with those of other sets.

    A bare number identifies a case only within its data set, and a short one only within its table; PMC123 or MPX0001
    is the same case in any data set. Capitals do not count, nor does the final `.0` of a number, which pandas writes.
    Leading zeros, which Excel removes, do not count if the rest is long: 0012345678 is 12345678, but 007 and 7 may be
    two patients.
    """
    case = FLOAT.sub(r"\1", case.casefold())
    if not case.isdigit():
        return case
    dataset, rest = rows.source.dataset, case.lstrip("0")
    case = rest if len(rest) > SHORT_NUMBER else case
    of_table = dataset == TABLE and len(case) <= SHORT_NUMBER
    return f"{dataset}/{rows.fingerprint['builder_config']}/{case}" if of_table else f"{dataset}/{case}"


def _contents(rows: RowSource, texts: Texts) -> _Contents:
    hashes = load_hashes(rows)
    images = [hashes.exact[number] if number >= 0 else "" for number in hashes.of_row.tolist()]
    found = [MEDPIX_PICTURE.search(image_id) for image_id in texts.image_id]
    questions = [normal(question) for question in texts.question]
    answers = [normal(answer) for answer in texts.answer]
    return _Contents(
        images,
        hashes,
        [match.group(1) if match else "" for match in found],
        [_case(case, rows) for case in texts.case_id],
        questions,
        list(zip(images, questions, answers, strict=True)),
        drawn=all("synthetic" in source.split() for source in rows.column("source")),
    )


def _bits(first: _Contents, second: _Contents, near_bits: int) -> int:
    """The number of bits by which nearly equal images of two sets may differ."""
    return min(near_bits, DRAWN_BITS) if first.drawn and second.drawn else near_bits


def _near(first: _Contents, second: _Contents, *, bits: int) -> dict[str, Any]:
    """The pairs of different images within `bits`, and the closest ones beyond for a person to look at."""
    bits = _bits(first, second, bits)
    pairs = near_pairs(first.hashes, second.hashes, bits=max(bits, SUSPECT_BITS))
    exact = set(first.hashes.exact)
    found: set[int] = set()  # images of the second set; an exactly shared image is not counted again
    listed: list[dict[str, Any]] = []
    suspects: list[dict[str, Any]] = []
    for a, b, distance in pairs:
        entry = {"first": first.hashes.image_ids[a], "second": second.hashes.image_ids[b], "bits": distance}
        if distance <= bits:
            listed.append(entry)
            if second.hashes.exact[b] not in exact:
                found.add(b)
        else:
            suspects.append(entry)
    rows = [index for index, number in enumerate(second.hashes.of_row.tolist()) if number in found]
    return {
        "near_images": len(found),
        "rows_of_second_with_near_image": len(rows),
        "near_pairs": listed[:LISTED_PAIRS],
        "suspects": suspects[:LISTED_SUSPECTS],
    }


def _compare(first: _Contents, second: _Contents, *, bits: int) -> dict[str, Any]:
    shared: dict[str, Any] = {}
    for kind, ours, theirs in (
        ("image", first.images, second.images),
        ("medpix_picture", first.pictures, second.pictures),
        ("case", first.cases, second.cases),
        ("question", first.questions, second.questions),
        ("triplet", first.triplets, second.triplets),
    ):
        both: set[Any] = (set(ours) & set(theirs)) - {""}
        if kind == "triplet":
            both = {triplet for triplet in both if triplet[0]}
        shared[f"{kind}s"] = len(both)
        # How much of the second set, usually the test set, was seen in the first.
        shared[f"rows_of_second_with_shared_{kind}"] = sum(item in both for item in theirs)
    return shared | _near(first, second, bits=bits)


def _pairs(names: Sequence[str], trained: set[str], evaluated: set[str]) -> list[tuple[str, str, bool]]:
    """(first, second, whether sharing is a leak); the trained one first. A set that is both is its own pair."""
    pairs = [(name, name, True) for name in names if name in trained and name in evaluated]
    for a, b in itertools.combinations(names, 2):
        first, second = (b, a) if b in trained and a in evaluated and a not in trained else (a, b)
        crosses = (a in trained and b in evaluated) or (b in trained and a in evaluated)
        pairs.append((first, second, crosses))
    return pairs


def audit(
    sets: Mapping[str, RowSource], *, trained: Sequence[str], evaluated: Sequence[str], near_bits: int
) -> dict[str, Any]:
    """The content of each set, and what each two of them share.

    Two images are the same if their decoded pixels are, and nearly the same if at most `near_bits` of 256 bits of their
    perceptual hashes differ. `medpix_pictures` are shared by their number in MedPix, whatever the changes to the file.
    Two triplets are the same if their images are the same, and their questions and answers too, ignoring case and white
    space.

    Args:
        sets: {name: rows}.
        trained: names of the sets for training.
        evaluated: names of the sets for evaluation.
        near_bits: see above.

    The result has `splits`: {name: what set_facts gives, and images, cases, repeated_triplets, near_pairs_within, …};
    `shared`: a list of {first, second, images, near_images, medpix_pictures, cases, questions, triplets,
    rows_of_second_with_…, near_pairs, suspects, leak}, where `leak` names what a trained and an evaluated set share;
    and `clean`: whether there is no leak.
    """
    texts = {name: read_texts(rows) for name, rows in sets.items()}
    contents = {name: _contents(rows, texts[name]) for name, rows in sets.items()}
    shared = []
    for first, second, crosses in _pairs(list(sets), set(trained), set(evaluated)):
        found = _compare(contents[first], contents[second], bits=near_bits)
        leak = [kind for kind in LEAKS if crosses and found[kind]]
        shared.append({"first": first, "second": second, "leak": leak} | found)
    splits = {}
    for name, held in contents.items():
        within = near_pairs(held.hashes, held.hashes, bits=_bits(held, held, near_bits))
        splits[name] = {
            "trained": name in trained,
            "evaluated": name in evaluated,
            "images": len(held.hashes.exact),
            "rows_without_image": held.images.count(""),
            "medpix_pictures": len(set(held.pictures) - {""}),
            "cases": len(set(held.cases) - {""}),
            "rows_without_case": held.cases.count(""),
            "repeated_triplets": len(held.triplets) - len(set(held.triplets)),
            "near_pairs_within": sum(a < b for a, b, _ in within),
            **set_facts(texts[name], images=held.images),
        }
    return {"splits": splits, "shared": shared, "clean": not any(pair["leak"] for pair in shared)}


def say(pair: Mapping[str, Any], kind: str) -> str:
    """The number of shared things of a kind, in words: `202 images`, `1 medpix picture`."""
    name = kind.replace("_", " ")
    return f"{pair[kind]} {name if pair[kind] != 1 else name.removesuffix('s')}"


# The part of the second set that each kind of leak affects, and its name for readers.
_TOUCHED = {
    "images": ("rows_of_second_with_shared_image", "ask about an image that {first} shows, too"),
    "near_images": ("rows_of_second_with_near_image", "ask about an image that is nearly one of {first}"),
    "medpix_pictures": ("rows_of_second_with_shared_medpix_picture", "ask about a MedPix picture that {first} holds"),
    "cases": ("rows_of_second_with_shared_case", "ask about a case that {first} holds"),
    "triplets": ("rows_of_second_with_shared_triplet", "stand in {first} with image, question and answer"),
}


def consequences(report: Mapping[str, Any]) -> list[str]:
    """Gives the number of questions that each leak affects: one sentence for each pair, the worst kind first."""
    said = []
    for pair in report["shared"]:
        if pair["first"] == pair["second"] and pair["leak"]:
            said.append(f"All {report['splits'][pair['second']]['rows']} questions of {pair['second']} are trained on.")
            continue
        touched = [(pair[_TOUCHED[kind][0]], _TOUCHED[kind][1]) for kind in pair["leak"]]
        if touched:
            rows, what = max(touched, key=lambda found: found[0])
            total = report["splits"][pair["second"]]["rows"]
            said.append(f"{rows} of {total} questions of {pair['second']} {what.format(first=pair['first'])}.")
    return said


def _describe_split(name: str, split: Mapping[str, Any]) -> str:
    cases = f"{split['cases']} cases"
    if split["rows_without_case"]:
        cases += f" ({split['rows_without_case']} rows name none)"
    line = (
        f"{name}: {split['rows']} rows, {split['images']} images, {cases}, "
        f"{split['repeated_triplets']} repeated question-answer-image triplets"
    )
    if split["medpix_pictures"]:
        line += f"; {split['medpix_pictures']} images come from MedPix"
    return line


def format_report(report: Mapping[str, Any]) -> str:
    """The report of `audit` as a few lines of text: each set, and what trained and evaluated sets share."""
    lines = [_describe_split(name, split) for name, split in report["splits"].items()]
    for pair in report["shared"]:
        first, second = pair["first"], pair["second"]
        size = report["splits"][second]
        said = (
            f"{second} vs {first}: {pair['images']} of {size['images']} images, {pair['near_images']} nearly, "
            f"{pair['cases']} of {size['cases']} cases and {say(pair, 'triplets')} are also in {first}; "
            f"{pair['rows_of_second_with_shared_image']} of {size['rows']} rows ask about an image of {first}, "
            f"{pair['rows_of_second_with_shared_question']} ask a question of it word for word"
        )
        if pair["medpix_pictures"]:
            said += f"; in both: {say(pair, 'medpix_pictures')}"
        lines.append(said)
    crossing = [pair for pair in report["shared"] if pair["leak"]]
    if crossing:
        lines.append("LEAK: scores on what training has seen do not show what a model does on unseen images or cases.")
    elif report["shared"]:
        lines.append("No leak found.")
    return "\n".join(lines)
