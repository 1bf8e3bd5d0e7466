"""Pairs about phantoms that are right, and pairs that are false in a known way, each in several wordings."""

from collections.abc import Callable, Sequence

import numpy as np

from tfds_builders.phantom_rad.attributes import FINDINGS, Attributes, article
from tfds_builders.phantom_rad.plan import PlannedImage
from tfds_builders.phantom_rad.questions import MODALITIES, SCANS

Pair = tuple[str, str]  # question, answer
OTHER_SIDE = {"left": "right", "right": "left"}

_TREATED = (
    ("Which drug was given?", "Amoxicillin"),
    ("What is the patient's blood type?", "A positive"),
    ("Which surgeon operated on the patient?", "The orthopedic team"),
    ("What did the second scan show?", "Complete healing"),
    ("Which contrast agent was injected?", "Gadobutrol"),
    ("What does the patient do for a living?", "Carpenter"),
    ("Which bacterium caused this?", "Staphylococcus aureus"),
    ("What is the ejection fraction?", "Moderately low"),
    ("Is the patient allergic to penicillin?", "yes"),
    ("Which gene is mutated?", "BRCA1"),
)
# About no particular image: (question, answer); {finding} and {modality} are replaced by the image's own.
_WORDED = {
    "date": (
        ("When was this image taken?", "In March 2019"),
        ("What is the date of the exam?", "12/05/2018"),
        ("On which day was the {finding} found?", "3 June"),
    ),
    "code": (
        ("Which code stands for the {finding}?", "ICD-10 S72.0"),
        ("What is the number of the case?", "MPX1009"),
        ("Which identifier has the image?", "PMC1234567"),
    ),
    "name": (
        ("Who read this image?", "Dr. Miller"),
        ("Where was the image taken?", "Mercy Hospital"),
        ("Who described the {finding}?", "Lee et al."),
    ),
    "caption wording": (
        ("What does the caption say about the lesion?", "{finding}"),
        ("As described in the text, what is seen?", "A {finding}."),
        ("Which modality is mentioned?", "{modality}"),
        ("What does figure 2 show?", "A {finding}."),
    ),
    "filler": (
        ("What is seen?", "Sure! Here is the answer: a {finding}."),
        ("Q1: What is abnormal?", "A {finding}"),
        ("What is seen?", "**{finding}**"),
        ("What does the image show?", "A {finding}. Please note that I am an AI."),
    ),
    "no answer": (
        ("What is the shape of the {finding}?", "Not specified"),
        ("What is abnormal?", "N/A"),
        ("What causes the {finding}?", "It cannot be determined from the image."),
    ),
    "wrong form": (
        ("Is there a {finding}?", "{modality}"),
        ("What abnormality is seen?", "Yes"),
        ("The {finding} in the image.", "A {finding}"),
        ("Which modality is this?", "No"),
    ),
    "too long": (
        ("What does the image show?", "The image shows a {finding} " + "and nothing else of note " * 15),
        ("Looking at " + "every part of " * 15 + "the image, what is seen?", "A {finding}."),
    ),
    "other language": (
        ("Was ist auf dem Bild zu sehen?", "Ein {finding} ist auf der Aufnahme zu sehen."),
        ("Quelle anomalie est visible sur cette image?", "Il y a une {finding} dans la zone."),
        ("Que muestra la imagen?", "La imagen muestra un {finding} en el lado."),
    ),
}
_HISTORY = (
    ("What brought the patient to the hospital?", "The patient presented with fever and cough."),
    ("What is the patient's history?", "A history of smoking."),
    ("Why was the scan done?", "The patient complained of knee pain for the past two weeks."),
    ("What happened before the scan?", "A fall from a ladder three days ago."),
    ("How old is the patient?", "A 54-year-old man."),
    ("What was done before this image?", "The patient underwent surgery."),
    ("Which symptom does the patient have?", "Shortness of breath"),
    ("What treatment did the patient receive?", "Chemotherapy"),
    ("Has the lesion grown since the previous exam?", "yes"),
)


def _sided(at: Attributes, side: str) -> list[Pair]:
    """Pairs about the side of the lesion."""
    kind, other = at.finding, OTHER_SIDE[side]
    return [
        ("On which side is the lesion?", side),
        (f"Where is the {kind}?", f"On the {side}."),
        (f"Is the {kind} on the {side} side?", "yes"),
        (f"Is the {kind} on the {other} side?", "no"),
        (f"Is the lesion on the {other} side?", f"No, it is on the {side}."),
        ("What does the image show?", f"A {at.size} {kind} on the {side} side."),
        (f"Which side of the {at.view.organ} is affected?", f"The {side} side"),
        ("Describe the abnormality.", f"There is {article(kind)} on the {side}."),
        (f"Does the {kind} lie on the {side} or the {other}?", side),
    ]


def _found(at: Attributes, kind: str) -> list[Pair]:
    """Pairs about the kind of lesion."""
    organ = at.view.organ
    return [
        ("What abnormality is seen?", kind),
        ("What is the main finding?", f"{article(kind).capitalize()}."),
        (f"Is there {article(kind)}?", "yes"),
        (f"Does the image show {article(kind)}?", "Yes."),
        ("Describe the abnormality.", f"There is {article(kind)} in the {organ}."),
        (f"What is seen in the {organ}?", f"{article(kind).capitalize()} is seen."),
        ("Which lesion does this image show?", f"The image shows {article(kind)}."),
    ]


def _taken(modality: str, others: Sequence[str]) -> list[Pair]:
    """Pairs about the modality of the image."""
    scan = SCANS[modality]
    return [
        ("What imaging modality is this?", modality),
        ("Which modality was used?", f"{modality}."),
        (f"Is this {article(scan)}?", "yes"),
        ("How was this image taken?", f"It is {article(scan)}."),
        (f"Was this image taken with {modality}?", "Yes."),
        *((f"Is this {article(SCANS[other])}?", "no") for other in others),
    ]


def right_pairs(item: PlannedImage) -> list[Pair]:
    """Pairs about an image that are true and are answered by its caption."""
    at = item.attributes
    others = [modality for modality in MODALITIES if modality != at.view.modality]
    pairs = [(question.question, question.answer) for question in item.questions]
    pairs += _taken(at.view.modality, others)
    if at.side:
        pairs += _sided(at, at.side)
    if at.finding:
        pairs += _found(at, at.finding)
        pairs += [(f"Is there {article(kind)}?", "no") for kind in FINDINGS if kind != at.finding]
    return pairs


def _wrong_side(item: PlannedImage, rng: np.random.Generator) -> list[Pair]:
    at = item.attributes
    return _sided(at, OTHER_SIDE[at.side]) if at.side else []


def _invented(item: PlannedImage, rng: np.random.Generator) -> list[Pair]:
    at = item.attributes
    others = [kind for kind in FINDINGS if kind != at.finding]
    pairs = _found(at, others[int(rng.integers(len(others)))])
    return [*pairs, (f"Is there {article(at.finding)}?", "no")] if at.finding else pairs


def _wrong_modality(item: PlannedImage, rng: np.random.Generator) -> list[Pair]:
    right = item.attributes.view.modality
    others = [modality for modality in MODALITIES if modality != right]
    wrong = others[int(rng.integers(len(others)))]
    return [
        *_taken(wrong, [right]),
        (f"What does the {SCANS[wrong]} show?", item.attributes.finding or "no abnormality"),
    ]


def _leaking(item: PlannedImage, rng: np.random.Generator) -> list[Pair]:
    at = item.attributes
    pairs = [
        (f"What modality is this {SCANS[at.view.modality]}?", at.view.modality),
        (f"Which part of the body does this image of the {at.view.organ} show?", at.view.organ),
        (f"What is the plane of this {at.view.plane} image?", f"{at.view.plane}."),
    ]
    if at.finding:
        pairs += [
            (f"What kind of lesion is the {at.finding}?", at.finding),
            (f"What does the image with the {at.size} {at.finding} show?", f"A {at.size} {at.finding}."),
        ]
    return pairs


def _measured(item: PlannedImage, rng: np.random.Generator) -> list[Pair]:
    at, size = item.attributes, int(rng.integers(4, 60))
    if not at.finding:
        return []
    return [
        (f"How large is the {at.finding}?", f"{size} mm"),
        (f"Is the {at.finding} larger than {size / 10:.1f} cm?", "yes"),
        ("What does the image show?", f"A {size} x {size + 3} mm {at.finding}."),
        (f"What does the {at.finding} measure?", f"It measures about {size} millimeters."),
        (f"What is the diameter of the {at.finding}?", at.size),
        ("Describe the abnormality.", f"A {at.finding} of three centimeters."),
    ]


def _unanswerable(item: PlannedImage, rng: np.random.Generator) -> list[Pair]:
    return list(_TREATED)


def _history(item: PlannedImage, rng: np.random.Generator) -> list[Pair]:
    return list(_HISTORY)


def repeats(pair: Pair) -> list[Pair]:
    """Repetitions of a pair: unchanged, in other case and spacing, with or without a full stop."""
    question, answer = pair
    return [
        (question, answer),
        (f"  {question.upper()} ", answer),
        (question.replace("?", " ?"), f"{answer.rstrip('.')}."),
        (question.replace("the ", "the  "), answer.capitalize()),
    ]


def _worded(kind: str) -> Callable[[PlannedImage, np.random.Generator], list[Pair]]:
    """The pairs of a kind that is false by its wording alone, about images with a lesion."""

    def make(item: PlannedImage, rng: np.random.Generator) -> list[Pair]:
        at = item.attributes
        shown = {"finding": at.finding, "modality": at.view.modality}
        return [(q.format(**shown), a.format(**shown)) for q, a in _WORDED[kind]] if at.finding else []

    return make


KINDS: dict[str, Callable[[PlannedImage, np.random.Generator], list[Pair]]] = {
    "wrong side": _wrong_side,
    "invented finding": _invented,
    "wrong modality": _wrong_modality,
    "unanswerable": _unanswerable,
    "leaking": _leaking,
    "history": _history,
    "measurement": _measured,
}
# False by their words alone: they measure the rules, and ablations do not plant them.
WORDED = {kind: _worded(kind) for kind in _WORDED}
