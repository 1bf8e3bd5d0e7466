"""Wordings that were written without knowledge of the checks' patterns: false ones of ten kinds, and right ones.

In a wording {s} is the lesion's side and {o} the other one, {k} the lesion and {n} another, {M} the modality and {W}
another, {g} the organ, {p} the plane, {z} the size; a capital letter begins with one.
"""

import random

import pytest

from radvqa_jax.config import ChecksConfig
from radvqa_jax.synthesis import suite
from radvqa_jax.synthesis.checks import Checked, Item, run_checks
from radvqa_jax.synthesis.planted import make_candidate, phantom_evidence
from tfds_builders.phantom_rad.attributes import FINDINGS, Attributes
from tfds_builders.phantom_rad.plan import plan_split

Pair = tuple[str, str]
OFF = ("blind_lookup", "balance", "duplicate")  # they look at sets of pairs
PAIRS = 100  # of each kind
FALSE: dict[str, list[Pair]] = {
    "wrong side": [
        ("In which half of the image does the abnormality lie?", "The {o} half"),
        ("Is the {s} side normal?", "Yes, the {k} is on the {o}."),
        ("Where exactly is the {k} situated?", "{O}-sided"),
        ("Point out the laterality of the {k}.", "{o}"),
        ("Does the {k} involve the {o} side?", "Yes"),
        ("Which side would you look at to see the {k}?", "Look at the {o} side"),
        ("Is it true that the {k} sits on the {s}?", "No"),
        ("The {k} lies in the {o} {g}, doesn't it?", "Yes"),
        ("Is the {o} {g} involved?", "Yes, by a {k}."),
        ("What can be said about the side of the {k}?", "It lies {o}wards."),
        ("Which {g} side harbours the lesion?", "{o} side"),
        ("Describe the position of the {k}.", "It projects over the {o} side of the {g}."),
        ("Is the {k} right-sided or left-sided?", "{O}-sided"),
        ("Is the {k} bilateral?", "Yes, bilateral"),
        ("Which side is spared?", "The {s} side is spared."),
        ("On what side do you find the {k}?", "{O}"),
        ("State the side of the finding.", "{O} side"),
        ("Is the lesion to the {o} of the midline?", "Yes."),
        ("Does the {k} occupy the {s} side?", "No, it does not."),
        ("Location of the {k}?", "{o} part of the {g}"),
    ],
    "wrong modality": [
        ("What technique produced this picture?", "{W}"),
        ("Is this a {W} scan?", "Yes"),
        ("Would a radiologist call this {W}?", "Yes, it is {W}."),
        ("Which scanner was used?", "A {W} scanner"),
        ("Identify the type of examination.", "{W} of the {g}"),
        ("Was {M} used here?", "No, {W} was used."),
        ("How was the {g} imaged?", "With {W}"),
        ("What is the imaging technique?", "This is {W} imaging."),
        ("Name the study.", "{W} {g}"),
        ("Is this image an example of {W}?", "yes"),
        ("By which method was this obtained?", "By means of {W}"),
        ("Is it a {M}?", "No"),
        ("What sort of study is this?", "{W} study"),
        ("Which of the modalities is shown?", "{W}"),
        ("What does the {W} reveal?", "{K}"),
        ("Does this {W} show the {g}?", "Yes"),
        ("Could this be {W}?", "Yes, this is {W}."),
        ("Specify the modality.", "{W}."),
        ("Tell the imaging modality of the picture.", "The modality is {W}"),
        ("Is the {g} seen on {W}?", "Yes"),
    ],
    "invented finding": [
        ("What pathology does the {g} harbour?", "A {n}"),
        ("Do you see a {n}?", "Yes, clearly."),
        ("Which finding stands out?", "{N}"),
        ("Is a {n} demonstrated?", "Yes"),
        ("Besides the {g}, what is visible?", "A {n} is visible."),
        ("What is the abnormality called?", "{n}"),
        ("Can one recognise a {n} on the image?", "Yes"),
        ("What would you report?", "There is a {n} of the {g}."),
        ("Is there evidence of {n}?", "Yes"),
        ("What does the arrow-free region show?", "{N} in the {g}"),
        ("Name one abnormality in this image.", "{N}"),
        ("Is the {n} located in the {g}?", "Yes"),
        ("What is the diagnosis?", "{N}"),
        ("Which lesion can be appreciated?", "A {n}"),
        ("What type of lesion is depicted?", "{N}"),
        ("Does this show a {n} or nothing abnormal?", "a {n}"),
        ("Is this consistent with a {n}?", "Yes"),
        ("Are features of a {n} present?", "Yes"),
        ("What has to be mentioned first in this image?", "The {n}"),
        ("How would you characterise the {n}?", "A {z} {n}"),
    ],
    "history": [
        ("What complaint led to this scan?", "Chest tightness"),
        ("Why did the person come to the clinic?", "Because of persistent headache"),
        ("What did the patient report?", "Pain after exercise"),
        ("Which operation had been performed earlier?", "A knee replacement"),
        ("Does the patient smoke?", "Yes"),
        ("What medication does the patient take?", "Aspirin"),
        ("Was there an injury?", "Yes, a car crash"),
        ("How long have the symptoms lasted?", "Two weeks"),
        ("Which illness does the patient suffer from since childhood?", "Asthma"),
        ("Is the patient pregnant?", "No"),
        ("What was the reason for the examination?", "Suspected infection after travel"),
        ("What did the previous scan show?", "No change"),
        ("Has the patient been operated on?", "Yes"),
        ("What are the patient's symptoms?", "Numbness of the arm"),
        ("Was the patient febrile?", "Yes"),
        ("What did the blood tests show?", "Raised CRP"),
        ("How was the patient treated afterwards?", "With antibiotics"),
        ("Did the patient fall?", "Yes, from a horse"),
        ("Who referred the patient?", "The family doctor"),
        ("Is there a family history of cancer?", "Yes"),
    ],
    "measurement": [
        ("How big is the {k} in millimetres?", "12"),
        ("What is the size of the {k}?", "About 2 cm"),
        ("What is the {k}'s diameter?", "1.5 centimetres"),
        ("Does the {k} exceed 3 cm?", "Yes"),
        ("What is the attenuation of the {k}?", "45 HU"),
        ("How thick is the wall?", "4mm"),
        ("What volume does the {k} have?", "20 ml"),
        ("What is the slice thickness?", "5 mm"),
        ("What does the {k} measure across?", "Roughly two centimeters"),
        ("Which size has the {k}?", "3 by 4 cm"),
        ("What is the angle?", "35 degrees"),
        ("How far is the {k} from the midline?", "1 cm"),
        ("What share of the {g} is involved?", "30 %"),
        ("What tube voltage was used?", "120 kVp"),
        ("At what field strength was it taken?", "1.5 T"),
        ("Estimate the length of the {k}.", "Approximately half an inch"),
        ("How large is the {k}?", "0.8cm in diameter"),
        ("Is the {k} smaller than ten millimetres?", "No"),
        ("What is the SUV of the {k}?", "7.2"),
        ("What are the dimensions of the {k}?", "2 x 3 x 4 cm"),
    ],
    "leaking": [
        ("What is the name of the {k} that is seen?", "{K}"),
        ("Which {M} modality was used for this {M}?", "{M}"),
        ("Where is the {s}-sided {k}?", "On the {s} side"),
        ("The {z} {k} has what size?", "{Z}"),
        ("In which part of the body is this {g} image?", "{g}"),
        ("This {p} image is in which plane?", "{p}"),
        ("What {k} is this?", "A {k}"),
        ("Which organ is shown in this picture of the {g}?", "The {g}"),
        ("On which side is the {k} on the {s}?", "{S}"),
        ("What is the lesion, a {k}, called?", "{k}"),
        ("Looking at the {M}, which technique was used?", "{M}"),
        ("What kind of {k} can be seen?", "{K}"),
        ("Describe the {k} on the {s} side.", "A {k} on the {s} side"),
        ("What finding, such as {k}, is there?", "{K}."),
        ("What does the {M} of the {g} depict?", "The {g}"),
        ("Which body part does the {g} {M} cover?", "{g}"),
        ("What abnormality, namely a {k}, is visible?", "{k}"),
        ("What is seen in the {g}, where there is a {k}?", "A {k}"),
        ("Is this {p} view axial, or what else is it?", "{p}"),
        ("Which view does the {p} projection show?", "{p} view"),
    ],
    "date": [
        ("When was this taken?", "In March 2019"),
        ("What is the date of the exam?", "12/05/2018"),
        ("In which year was the image acquired?", "2020"),
        ("On which day was the scan?", "Monday, 3 June"),
        ("When was the follow-up?", "Jan 4th"),
        ("Was this acquired before 2015?", "Yes"),
        ("What is the acquisition date?", "2016-08-01"),
        ("Which month is given?", "October"),
        ("When did it start?", "Last summer"),
        ("At what time was the image taken?", "14:35"),
    ],
    "name": [
        ("Who read the image?", "Dr. Miller"),
        ("Which hospital took it?", "Mercy Hospital"),
        ("Where was it acquired?", "University of Vienna"),
        ("Who is the patient?", "Mrs Jane Doe"),
        ("Who owns the image?", "Courtesy of John Smith, MD"),
        ("Which radiologist signed?", "Professor A. Weber"),
        ("What institution is named?", "Charité Berlin"),
        ("Who wrote this?", "Lee et al."),
        ("Which clinic did it?", "The Mayo Clinic"),
        ("What is the patient called?", "Mr. Brown"),
    ],
    "code": [
        ("What is the ICD code?", "S72.0"),
        ("What is the accession number?", "A123456"),
        ("What is the image id?", "synpic12345"),
        ("Which CUI applies?", "C0040405"),
        ("What is the ACR code?", "6.3661"),
        ("Which identifier is given?", "MPX1009"),
        ("What is the file name?", "PMC1234567_fig2.jpg"),
        ("What link is shown?", "https://example.org/x"),
        ("What is the patient number?", "Patient ID 55321"),
        ("Which code describes it?", "SNOMED 125605004"),
    ],
    "caption wording": [
        ("What does the caption say?", "{K}"),
        ("According to the report, what is seen?", "{K}"),
        ("As described in the text, where is the {k}?", "{s}"),
        ("What is mentioned about the {k}?", "It is {z}"),
        ("What does figure 2 show?", "{K}"),
        ("What do the authors point out?", "A {k}"),
        ("What does the legend tell?", "{K}"),
        ("Based on the description, what is the modality?", "{M}"),
        ("What is stated in the findings section?", "{K}"),
        ("What information is provided about the {g}?", "A {k}"),
    ],
}
RIGHT: list[Pair] = [
    ("What kind of scan is this?", "{M}"),
    ("Name the technique that was used.", "{M}"),
    ("Was this made with {M}?", "Yes"),
    ("Was this made with {W}?", "No"),
    ("Which region of the body do we see?", "The {g}"),
    ("Does this show the {g}?", "Yes, the {g} is shown."),
    ("What lesion do you recognise?", "A {k}"),
    ("Is there a {k} in the {g}?", "Yes"),
    ("Is a {n} visible?", "No"),
    ("Can you make out a {n}?", "No, there is none."),
    ("On what side do you find the {k}?", "{S}"),
    ("Is the {k} on the {s}?", "Yes"),
    ("Is the {k} on the {o}?", "No"),
    ("Where is the {k}?", "On the {s} side of the {g}"),
    ("Describe the {k}.", "A {z} {k} on the {s}"),
    ("How big is the lesion?", "It is {z}."),
    ("Is the {k} {z}?", "Yes"),
    ("Which plane is displayed?", "{P}"),
    ("What is the orientation of the slice or projection?", "{p}"),
    ("Is this a {p} image?", "Yes"),
    ("What abnormality can be appreciated on the {s} side?", "{K}"),
    ("Does the image look normal?", "No"),
    ("Is anything abnormal?", "Yes, a {k}."),
    ("Is the lesion left-sided or right-sided?", "{S}-sided"),
    ("What is the main observation?", "A {z} {k}"),
    ("Which side would you call abnormal?", "The {s}"),
    ("What would you report?", "A {z} {k} on the {s} side."),
    ("Name the body part.", "{G}"),
    ("Is it {W} or {M}?", "{M}"),
    ("What is the diagnosis?", "{K}"),
]


def _fill(pair: Pair, at: Attributes, rng: random.Random) -> Pair:
    words = {
        "k": at.finding,
        "s": at.side,
        "o": {"left": "right", "right": "left"}[at.side],
        "g": at.view.organ,
        "M": at.view.modality,
        "W": rng.choice([name for name in ("CT", "MRI", "X-ray") if name != at.view.modality]),
        "n": rng.choice([kind for kind in FINDINGS if kind != at.finding]),
        "z": at.size,
        "p": at.view.plane,
    }
    words |= {name.upper(): text.capitalize() for name, text in words.items() if name in "ksognzp"}
    return pair[0].format(**words), pair[1].format(**words)


def _check(wordings: list[Pair], *, n: int) -> list[Checked]:
    rng = random.Random(1)
    images = [image for image in plan_split("validation", 400, seed=11) if image.attributes.side]
    items = []
    for number in range(n):
        image = images[7 * number % len(images)]
        pair = _fill(wordings[number % len(wordings)], image.attributes, rng)
        items.append(Item(make_candidate(image, pair), phantom_evidence(image)))
    return run_checks(items, suite.all_checks(ChecksConfig(), known=[]), off=OFF)


@pytest.mark.parametrize("kind", FALSE)
def test_false_pairs_in_other_words_are_caught(kind: str) -> None:
    checked = _check(FALSE[kind], n=PAIRS)
    escaped = [(c.item.candidate.question, c.item.candidate.answer) for c in checked if c.accepted]
    assert len(escaped) <= 0.05 * len(checked), escaped[:5]


def test_right_pairs_in_other_words_pass() -> None:
    checked = _check(RIGHT, n=6 * PAIRS)
    lost = [(c.item.candidate.question, c.item.candidate.answer, c.failed) for c in checked if not c.accepted]
    assert len(lost) <= 0.02 * len(checked), lost[:5]
