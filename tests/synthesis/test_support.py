"""Support by words: sentences as radiologists and models write them, and whether the caption supports each pair."""

import pytest

from radvqa_jax.synthesis.support import Evidence, find_span, support

CYST = "Axial CT of the abdomen with a small cyst on the left."
LUNGS = "Chest radiograph shows a right lower lobe consolidation and a small left pleural effusion. No pneumothorax."
KNEE = "Sagittal T2-weighted MRI of the right knee demonstrates a complete tear of the anterior cruciate ligament."
BRAIN = "Non-contrast head CT without evidence of hemorrhage, mass or midline shift."
RENAL = "Ultrasound shows bilateral hydronephrosis, more severe on the right; the bladder is normal."
PLAIN = "Coronal reconstruction of the pelvis."

SUPPORTED = [
    (CYST, "Which side is the cyst on?", "The left side."),
    (CYST, "What is seen in this CT scan?", "A small cyst on the left"),
    (CYST, "Is the cyst on the right?", "No, it is on the left."),
    (CYST, "Is the cyst on the left or on the right?", "left"),
    (CYST, "How big is the cyst?", "It is small."),
    (CYST, "Is there a fracture?", "No"),
    (CYST, "Is this scan normal?", "no"),
    (LUNGS, "Where is the consolidation?", "In the right lower lobe."),
    (LUNGS, "On which side is the pleural effusion?", "left"),
    (LUNGS, "Is there a pneumothorax?", "No."),
    (LUNGS, "What abnormality is seen in the right lower lobe?", "Consolidation"),
    (LUNGS, "What type of image is this?", "A chest X-ray"),
    (LUNGS, "Does the x-ray show a left-sided effusion?", "Yes"),
    (LUNGS, "Is a pleural effusion present?", "Yes, a small one on the left."),
    (KNEE, "Which ligament is torn?", "The anterior cruciate ligament"),
    (KNEE, "Which knee is shown?", "The right knee"),
    (KNEE, "What imaging modality was used?", "MRI"),
    (KNEE, "What is the plane of the image?", "Sagittal"),
    (BRAIN, "Is there intracranial hemorrhage?", "No"),
    (BRAIN, "Is a mass visible?", "No mass is visible."),
    (BRAIN, "What does the head CT show?", "No hemorrhage, mass or midline shift."),
    (RENAL, "What abnormality is seen in both kidneys?", "Bilateral hydronephrosis"),
    (RENAL, "Does the sonogram show hydronephrosis?", "Yes, on both sides."),
]
NOT_SUPPORTED = [
    (CYST, "Which side is the cyst on?", "The right side."),
    (CYST, "Is the cyst on the right?", "Yes."),
    (CYST, "Is the cyst on the left?", "No, it is on the right."),
    (CYST, "What is seen?", "A small cyst on the right"),
    (CYST, "Is there a cyst?", "No cyst is seen."),
    (CYST, "How big is the cyst?", "It is large."),
    (CYST, "Is there a nodule?", "Yes"),
    (CYST, "Where is the fracture?", "On the left."),
    (CYST, "What does this MRI show?", "A small cyst on the left"),
    (CYST, "What was the imaging technique?", "Magnetic resonance imaging"),
    (CYST, "Is this a CT?", "No, it is an MRI."),
    (CYST, "Which organ contains the cyst?", "The spleen"),
    (CYST, "Is the image normal?", "yes"),
    (LUNGS, "Where is the consolidation?", "In the left lower lobe."),
    (LUNGS, "On which side is the pleural effusion?", "right"),
    (LUNGS, "Where is the consolidation?", "In the right upper lobe."),
    (LUNGS, "Is there a pneumothorax?", "Yes"),
    (LUNGS, "What does the radiograph show?", "A pneumothorax"),
    (LUNGS, "Is there an effusion?", "No"),
    (LUNGS, "What modality was used?", "Computed tomography"),
    (LUNGS, "What is the cause of the effusion?", "Cardiac failure"),
    (KNEE, "Which knee is shown?", "The left knee"),
    (KNEE, "Which ligament is torn?", "The posterior cruciate ligament"),
    (KNEE, "Is the tear complete or partial?", "partial"),
    (KNEE, "What is the weighting of the image?", "T1"),
    (KNEE, "What is the plane of the image?", "Coronal"),
    (BRAIN, "What does the CT show?", "An intracranial hemorrhage"),
    (BRAIN, "Is there a midline shift?", "Yes, to the left."),
    (RENAL, "On which side is the hydronephrosis more severe?", "On the left"),
    (RENAL, "What does the ultrasound show?", "Bladder calculus"),
    (PLAIN, "What modality is this?", "CT"),
    (PLAIN, "Is there a fracture?", "no"),
    (PLAIN, "Which side is shown?", "left"),
]
LEAST = 0.6


@pytest.mark.parametrize(("caption", "question", "answer"), SUPPORTED)
def test_a_pair_that_the_caption_states_is_supported(caption: str, question: str, answer: str) -> None:
    found = support(question, answer, caption, least=LEAST)
    assert found.verdict == "supported", found


@pytest.mark.parametrize(("caption", "question", "answer"), NOT_SUPPORTED)
def test_a_pair_that_the_caption_does_not_state_is_not_supported(caption: str, question: str, answer: str) -> None:
    found = support(question, answer, caption, least=LEAST)
    assert found.verdict != "supported"
    assert found.reason


def test_the_evidence_of_a_row_is_its_caption_and_the_fields_of_its_image() -> None:
    row = {
        "caption": "A mass.",
        "modality": "MRI",
        "plane": "lateral",
        "cui_names": ["Liver", ""],
        "case_history": "fell",
    }
    evidence = Evidence.of(row | {"topic_disease_discussion": "Treated with surgery."})
    assert evidence.text() == "A mass.\nMRI\nlateral view\nLiver"
    assert evidence.text(literature=True).endswith("Treated with surgery.")


@pytest.mark.parametrize(
    ("span", "there"), [("a SMALL cyst", True), ("small left cyst", False), ("", False), ("cys", False)]
)
def test_a_span_is_found_word_for_word(span: str, there: bool) -> None:
    assert find_span(span, CYST) == there
