"""Questions by template: the fields of a row, asked in several ways, without a language model.

MedM asks five things of each MedPix image (findings, diagnosis, discussion, the image as a whole, history), in one of
several wordings; these and the short fields that all data sets share are here. Short fields give open questions, yes/no
questions and multiple choice, whose wrong answers are other values of the same field in the same data set.
"""

import hashlib
import random
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from radvqa_jax.synthesis.candidates import Kind
from radvqa_jax.synthesis.images import Image
from radvqa_jax.synthesis.replies import Draft, one_line

OPTIONS = 4


class Template(NamedTuple):
    """The questions about one field."""

    field: str
    open: tuple[str, ...]  # wordings
    closed: tuple[str, ...] = ()  # wordings with {value} or {a_value}; empty = the field is not a vocabulary
    visible: bool = True  # whether the image alone suffices for the answer


TEMPLATES: dict[str, Template] = {
    # MedM's five.
    "findings": Template(
        "case_findings",
        ("What are the findings?", "Which findings can be seen?", "What does a radiologist find here?"),
    ),
    "diagnosis": Template(
        "case_diagnosis",
        ("What is the most likely diagnosis?", "Which diagnosis fits this image?", "What disease is shown?"),
    ),
    "discussion": Template(
        "topic_disease_discussion",
        (
            "What is known about the disease that is shown?",
            "How would you discuss this disease?",
            "What should one know about this condition?",
        ),
        visible=False,
    ),
    "image": Template("caption", ("What does this image show?", "Describe the image.", "What can be seen?")),
    "history": Template(
        "case_history",
        ("What is the history of the patient?", "What brought the patient here?", "What is known of the patient?"),
        visible=False,
    ),
    # Fields that all data sets share.
    "modality": Template(
        "modality",
        ("Which imaging modality is this?", "How was this image taken?", "What kind of scan is shown?"),
        ("Is this {a_value} image?", "Was this image taken by {value}?"),
    ),
    "plane": Template(
        "plane",
        ("In which plane is this image?", "Which view is shown?", "What is the plane of this image?"),
        ("Is this {a_value} view?", "Is the plane {value}?"),
    ),
    "organ": Template(
        "organ",
        ("Which part of the body is shown?", "What body region is in the image?", "Which organ or region is imaged?"),
        ("Does the image show the {value}?", "Is this an image of the {value}?"),
    ),
    "location": Template(
        "location", ("Where is the abnormality?", "Which location is affected?", "Where is the lesion?")
    ),
    # Fields of the procedural images' lesions.
    "finding": Template(
        "finding",
        ("Which abnormality is visible?", "What kind of lesion is shown?", "What is abnormal here?"),
        ("Is there {a_value}?", "Can {a_value} be seen?"),
    ),
    "side": Template(
        "side",
        ("On which side is the lesion?", "Which side is affected?", "Which side shows the abnormality?"),
        ("Is the lesion on the {value}?", "Is the {value} side affected?"),
    ),
    "size": Template(
        "size",
        ("How large is the lesion?", "What is the size of the abnormality?", "How big is the abnormality?"),
        ("Is the lesion {value}?", "Is it {a_value} abnormality?"),
    ),
}
MEDM = ("findings", "diagnosis", "discussion", "image", "history")
# The values that data sets use for unknown, such as MedPix's plane "other view (see caption)".
_UNSAID = re.compile(
    r"\b(?:see caption|other|unknown|unspecified|not (?:specified|given|available)|n/?a)\b", re.IGNORECASE
)
_AN = ("a", "e", "i", "o", "X-ray", "x-ray", "MR")  # "an ex-ray", "an em-ar-eye"


class Written(NamedTuple):
    """A pair from a template, with its provenance."""

    draft: Draft
    wording_sha256: str
    visible: bool


def fill(wording: str, value: str) -> str:
    """A wording filled with a value, and the article if it has one.

    >>> fill("Is there {a_value}?", "effusion"), fill("Is this {a_value} view?", "coronal")
    ('Is there an effusion?', 'Is this a coronal view?')
    """
    return wording.format(value=value, a_value=f"{'an' if value.startswith(_AN) else 'a'} {value}")


def find_span(caption: str, value: str) -> str:
    """The words of a caption that state a value, in the caption's spelling; empty if there are none.

    >>> find_span("Axial CT of the abdomen.", "axial")
    'Axial'
    >>> find_span("X-ray with a fracture.", "CT")
    ''
    """
    found = re.search(rf"(?<!\w){re.escape(value)}(?!\w)", caption, re.IGNORECASE) if value else None
    return found[0] if found else ""


def write_templates(
    image: Image,
    *,
    names: Sequence[str],
    kinds: Sequence[tuple[str, float]],
    pairs: int,
    values: Mapping[str, Sequence[str]],
    seed: int,
) -> list[Written]:
    """At most `pairs` pairs about one image, no template twice; the same for the same arguments.

    Args:
        image: its fields are the answers.
        names: of TEMPLATES; templates whose field the row lacks are left out.
        kinds: (kind, share); if no template of a drawn kind is left, another one is asked as an open question.
        pairs: their number.
        values: field -> every value in the data set, for questions whose answer is no and for wrong options.
        seed: of the draw.
    """
    rng = random.Random(f"{seed}\ntemplates\n{image.dataset}\n{image.image_id}")
    values = {field: [value for value in known if not _UNSAID.search(value)] for field, known in values.items()}
    left = [name for name in names if _value(image, TEMPLATES[name].field)]
    rng.shuffle(left)
    written = []
    for kind in rng.choices([kind for kind, _ in kinds], [share for _, share in kinds], k=pairs):
        if not left:
            break
        fitting = [name for name in left if kind == "open" or _has_others(TEMPLATES[name], values)]
        name = (fitting or left)[0]
        left.remove(name)
        written.append(_write(image, name, kind if fitting else "open", values=values, rng=rng))
    return written


def _value(image: Image, field: str) -> str:
    """The value of a field; empty for a short field whose value means unknown."""
    value = one_line(str(image.row.get(field) or ""))
    is_word = any(template.field == field and template.closed for template in TEMPLATES.values())
    return "" if is_word and _UNSAID.search(value) else value


def _has_others(template: Template, values: Mapping[str, Sequence[str]]) -> bool:
    return bool(template.closed) and len(values.get(template.field, ())) > 1


def _write(image: Image, name: str, kind: str, *, values: Mapping[str, Sequence[str]], rng: random.Random) -> Written:
    template = TEMPLATES[name]
    right = _value(image, template.field)
    others = [value for value in values.get(template.field, ()) if value != right]
    choices: tuple[str, ...] = ()
    answer, asked = right, right
    settled: Kind = "open"
    if kind == "closed":
        settled = "closed"
        wording = rng.choice(template.closed)
        if rng.random() < 0.5:
            asked = rng.choice(others)
        answer = "yes" if asked == right else "no"
    else:
        wording = rng.choice(template.open)
        if kind == "multiple_choice":
            settled = "multiple_choice"
            drawn = [right, *rng.sample(others, min(OPTIONS - 1, len(others)))]
            rng.shuffle(drawn)
            choices = tuple(drawn)
    support = find_span(image.row["caption"], right)
    draft = Draft(fill(wording, asked), answer, settled, name, choices, support)
    return Written(draft, hashlib.sha256(wording.encode()).hexdigest(), template.visible)
