"""Each rule on pairs that it must reject, and on similar pairs that it must accept."""

import pytest

from radvqa_jax.synthesis.rules import Limits, Wording, text_rules

RULES = text_rules(Limits(question_words=40, answer_words=60, leak=0.6))
OPTIONS = ("nodule", "cyst", "fracture", "effusion")

# rule -> (question, answer)
CAUGHT = {
    "history": [
        ("What is the patient's medical history?", "Hypertension"),
        ("Why was the CT done?", "The patient presented with fever and cough."),
        ("What treatment was given?", "Antibiotics"),
        ("What is seen after the fall?", "A fracture"),
        ("What changed since the previous exam?", "The mass has grown"),
        ("What does the biopsy show?", "A carcinoma"),
        ("What is the finding in this patient with abdominal pain?", "Appendicitis"),
        ("What was seen two weeks ago?", "An effusion"),
        ("Which symptom is expected?", "Weakness"),
    ],
    "age": [
        ("What is seen in this 45-year-old man?", "A mass"),
        ("How old is the patient?", "Adult"),
        ("What is seen in this 3 month old child?", "Dislocation"),
        ("What is shown?", "A fracture in a patient in her sixties"),
        ("What does this 62F have?", "A nodule"),
        ("What does the CT of an elderly patient show?", "Atrophy"),
        ("Who is it?", "A woman aged 70"),
    ],
    "date": [
        ("When was the image taken?", "12/03/2004"),
        ("What was found in 2011?", "A mass"),
        ("When was this scan made?", "On March 3"),
        ("What is seen on postoperative day 3?", "Fluid"),
    ],
    "measurement": [
        ("How large is the mass?", "3.5 cm"),
        ("How large is the mass?", "About 12mm"),
        ("How large is the mass?", "Three centimeters"),
        ("How large is the mass?", "4 x 5"),
        ("What is the diameter of the aorta?", "Large"),
        ("What does the lesion measure?", "It is small"),
        ("How dense is it?", "45 HU"),
        ("How much of the lung is involved?", "50%"),
    ],
    "code": [
        ("What is the ACR code?", "Lung"),
        ("What is shown?", "C0040405"),
        ("Which image is it?", "MPX1109_synpic28526"),
        ("What is the ICD-10 code?", "J18.9"),
        ("What is case number 45?", "A mass"),
    ],
    "name": [
        ("Who read the image?", "Dr. Smith"),
        ("What is the source?", "Courtesy of the authors"),
        ("Where was it taken?", "Mayo Hospital"),
        ("What is the patient's name?", "Unknown"),
    ],
    "caption_wording": [
        ("What does the caption say?", "A mass"),
        ("What is mentioned?", "A mass"),
        ("According to the text, what is seen?", "A mass"),
        ("What is seen in Figure 2?", "A mass"),
        ("What does image B show?", "A mass"),
        ("What is seen?", "A mass, as described in the report"),
    ],
    "filler": [
        ("What is seen?", "Sure! A mass is seen."),
        ("Q1: What is seen?", "A mass"),
        ("What is seen?", "Here is the answer: a mass"),
        ("What is seen?", "As an AI language model I see a mass"),
        ("What is seen?", "**A mass**"),
        ("What is seen?", "Replace this - DESCRIPTION OF THE IMAGE OR FINDINGS."),
        ("2. What is seen?", "A mass"),
    ],
    "unanswered": [
        ("What is seen?", "Unknown"),
        ("What is seen?", "N/A"),
        ("What is seen?", "It cannot be determined from the image."),
        ("What is seen?", "Not visible."),
        ("What is seen?", "No information is available"),
    ],
    "leak": [
        ("What is the left-sided pleural effusion?", "Left pleural effusion"),
        ("What kind of lesion is the nodule?", "nodule"),
        ("What modality is this CT scan?", "CT"),
    ],
    "form": [
        ("Is there a mass?", "A mass"),
        ("What is seen?", "Yes"),
        ("", "A mass"),
        ("What is seen?", " "),
        ("A mass in the lung", "CT"),
    ],
    "length": [("What " * 41, "A mass"), ("What is seen?", "mass " * 61)],
    "language": [
        ("Welche Auffälligkeit ist in der Leber zu sehen?", "Eine Zyste"),
        ("¿Qué se ve en el lado izquierdo de la imagen?", "Un quiste"),
        ("这是什么?", "肿瘤"),
    ],
}
LEFT_ALONE = [
    ("What abnormality is seen in the left kidney?", "A small cyst"),
    ("Is there a fracture?", "No, the bone is intact."),
    ("How large is the lesion?", "large"),
    ("Is the nodule on the left or the right?", "left"),
    ("What does the image show?", "No acute abnormality."),
    ("Does this image show the knee?", "Yes"),
    ("What imaging modality was used to take this image?", "CT"),
    ("Is this image a CT?", "yes"),
    ("Which vertebra is fractured?", "L4"),
    ("What is the weighting of this MRI?", "T2-weighted"),
    ("Describe the finding.", "Thickening of the bowel wall with pulmonary hypertension"),
    ("What is seen in the right upper lobe?", "A hernia mesh"),
    ("Is the wall thickness increased?", "Yes"),
    ("Which of the patient's lungs is collapsed?", "The right lung"),
    ("What can be seen?", "Diverticula were noted in the sigmoid colon."),
]


@pytest.mark.parametrize(
    ("rule", "question", "answer"), [(rule, *pair) for rule, pairs in CAUGHT.items() for pair in pairs]
)
def test_a_rule_rejects_its_pairs(rule: str, question: str, answer: str) -> None:
    assert RULES[rule][1](Wording(question, answer, "open"))


@pytest.mark.parametrize(("question", "answer"), LEFT_ALONE)
def test_a_plain_pair_breaks_no_rule(question: str, answer: str) -> None:
    kind = "closed" if answer.lower().startswith(("yes", "no,")) else "open"
    broken = {name: why for name, (_, rule) in RULES.items() if (why := rule(Wording(question, answer, kind)))}
    assert not broken


@pytest.mark.parametrize(
    ("choices", "answer", "fine"),
    [
        (OPTIONS, "cyst", True),
        (OPTIONS, "Cyst.", True),
        (OPTIONS, "abscess", False),
        (("cyst", "Cyst.", "nodule"), "nodule", False),
        (("cyst",), "cyst", False),
        ((*OPTIONS, "all of the above"), "cyst", False),
        (tuple("abcdefg"), "a", False),
    ],
)
def test_options_are_several_and_different_and_include_the_answer(
    choices: tuple[str, ...], answer: str, fine: bool
) -> None:
    pair = Wording("What is seen?", answer, "multiple_choice", choices)
    assert (RULES["options"][1](pair) == "") == fine


def test_treatment_may_be_asked_about_a_disease_but_not_about_a_patient() -> None:
    general = Wording("What is the treatment of achalasia?", "Balloon dilation", "open", from_image=False)
    patient = Wording("What treatment has the patient had?", "The patient underwent dilation", "open", from_image=False)
    assert not RULES["history"][1](general)
    assert RULES["history"][1](patient)
    assert RULES["history"][1](general._replace(from_image=True))
