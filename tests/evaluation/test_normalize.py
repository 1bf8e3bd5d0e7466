"""Reading answers: every known trap, and properties for any text."""

import random

import pytest

from radvqa_jax.evaluation import numbers
from radvqa_jax.evaluation.choices import option_texts, parse_choice
from radvqa_jax.evaluation.clean import clean
from radvqa_jax.evaluation.marks import stated
from radvqa_jax.evaluation.normalize import answer_items, comparable, normalize
from radvqa_jax.evaluation.polarity import is_refusal, parse_yes_no

CHOICES = ["CT", "MRI", "Pneumonia", "Normal chest"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("5cm", "5.0 cm"),
        (".5 cm", "0.5cm"),
        ("1,000 mL", "1000ml"),
        ("Two", "2"),
        ("T2-weighted", "t2 weighted"),
        ("The left  Lung.", "left lung"),
        ("P.A.", "PA"),
        ("Oesophageal tumours", "esophageal tumors"),
        ("oedema", "\u0153dema"),
        ("Anaemia", "anemia"),
        ("dyspnoea; diarrhoea", "dyspnea diarrhea"),
        ("centre", "center"),
        ("Ménière's", "menieres"),
        ("isn\u2019t", "is not"),
        ("cannot", "can't"),
        ("**Left**", "left"),
        ("\uff39\uff45\uff53", "yes"),
        ("le\u200bft", "left"),
        ("X-rays", "xray"),
        ("behaviour; analysed; caesarean", "behavior analyzed cesarean"),
        ("3 x 4 cm", "3x4cm"),
        ("approximately 5 millimetres", "5mm"),
        ("~5 per cent", "5%"),
        ("\u00bd", "1/2"),
        ("seventeen", "17"),
    ],
)
def test_the_same_answer_has_one_form(one: str, other: str) -> None:
    assert normalize(one) == normalize(other) != ""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("contrast", "no contrast"),
        ("contrast", "without contrast"),
        ("normal", "not normal"),
        ("5 cm", "0.5 cm"),
        ("1.5 cm", "15 cm"),
        ("-50 HU", "50 HU"),
        ("<5 mm", ">5 mm"),
        ("hepatitis A", "hepatitis B"),
        ("hepatitis A", "hepatitis"),
        ("T1", "T1+C"),
    ],
)
def test_other_answers_keep_other_forms(one: str, other: str) -> None:
    assert normalize(one) != normalize(other)


def test_normal_form_is_a_fixed_point() -> None:
    rng = random.Random(0)
    pieces = [
        "the",
        "A",
        "5",
        ".",
        ",",
        "-",
        " ",
        "cm",
        "n't",
        "'",
        "tumour",
        "%",
        "É",
        "P.A.",
        "1,000",
        "_",
        "\u2013",
        "no",
    ]
    for _ in range(2000):
        text = "".join(rng.choices(pieces, k=rng.randint(0, 8)))
        assert normalize(normalize(text)) == normalize(text), text


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Yes", "yes"),
        ("no.", "no"),
        ("Yes, abnormal", "yes"),
        ("No, it is normal", "no"),
        ("No fracture is seen", "no"),
        ("**No**", "no"),
        ("Yes, there is no fracture", "yes"),
        ("yes there is no fracture", "yes"),
        ("Yes \u2013 abnormal", "yes"),
        ("I would say no", "no"),
        ("The answer is: **No**", "no"),
        ("Answer: yes. Final answer: no", "no"),
        ("answer en is there a mass?\nno", "no"),
        ("No, I cannot see any fracture", "no"),
        ("No, image is normal", "no"),
        ("No, this is probably normal", "no"),
        ("\uff39\uff45\uff53", "yes"),
        # neither
        ("Normal", None),
        ("The image is normal", None),
        ("note the clips", None),
        ("I know", None),
        ("non-contrast", None),
        ("eyes", None),
        ("There is no fracture", None),
        ("The heart is normal, no effusion", None),
        ("Vertebra No. 5", None),
        ("", None),
        (" ?! ", None),
        # both
        ("yes and no", None),
        ("Yes or no", None),
        ("yes no", None),
        ("yes/no", None),
        ("Yes\nNo", None),
        ("No! Yes!", None),
        ("normal yes note no", None),
        # hedged or negated
        ("Maybe", None),
        ("Probably yes", None),
        ("Yes, probably", None),
        ("Yes, but I'm not sure", None),
        ("not yes", None),
        ("I cannot say no", None),
        ("neither yes nor no", None),
        ("The answer is not yes", None),
        # refusals
        ("No image was provided.", None),
        ("No idea", None),
        ("I am unable to answer. No.", None),
        ("Sorry, as a base VLM I am not trained to answer this question.", None),
    ],
)
def test_yes_no(text: str, answer: str | None) -> None:
    assert parse_yes_no(clean(text)) == answer


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("Answer: **D**", 3),
        ("D", 3),
        ("(c)", 2),
        ("C.", 2),
        ("c) pneumonia", 2),
        ("**B**: MRI", 1),
        ("Option B", 1),
        ("option (b)", 1),
        ("B is correct", 1),
        ("The correct option is C", 2),
        ("pneumonia", 2),
        ("The answer is pneumonia.", 2),
        ("The normal chest.", 3),
        ("MRI. The signal is high.", 1),
        ("I look at the signal.\n\nD", 3),
        ("Answer: A\nNo. Answer: B", 1),
        ("Answer: D. Because option A is wrong", 3),
        # neither
        ("", None),
        ("normal", None),
        ("It is pneumonia", None),
        ("A mass is seen", None),
        ("all of the above", None),
        ("E", None),
        # several
        ("A, B, C, D", None),
        ("A B C D", None),
        ("A and B", None),
        ("(A) or (B)", None),
        ("A/B", None),
        ("Answer: A or B", None),
        ("CT, MRI", None),
        ("CT MRI Pneumonia Normal chest", None),
        ("A. CT B. MRI C. Pneumonia D. Normal chest", None),
        ("A. CT\nB. MRI\nC. Pneumonia\nD. Normal chest", None),
        ("a. ct b. mri", None),
        # a letter next to the text of another option
        ("D. Pneumonia", None),
        ("A: MRI", None),
        ("A. MRI", None),
        # every option, one a sentence
        ("CT. MRI. Pneumonia. Normal chest", None),
        ("CT; MRI; Pneumonia; Normal chest", None),
    ],
)
def test_choice(text: str, index: int | None) -> None:
    assert parse_choice(clean(text), CHOICES) == index


def test_options_that_are_letters_are_read_as_text() -> None:
    assert parse_choice("A", ["B", "A"]) == 1
    assert option_texts(["A: CT", "B: MRI"]) == ["ct", "mri"]
    assert parse_choice("B", ["A: CT", "B: MRI"]) == 1


def test_more_options_than_letters() -> None:
    with pytest.raises(ValueError, match=r"26 choices.*got 27"):
        parse_choice("A", [str(i) for i in range(27)])


def test_units_of_one_kind_compare() -> None:
    assert comparable("5.60 cm") == comparable("56 mm") != comparable("56 cm")
    assert comparable("0.5 l, then 2 kg") == comparable("500ml then 2000 g")
    assert comparable("T2 5") == "t2 5" and comparable("-1.5 cm") == "-15 mm"


def test_lists_have_no_order() -> None:
    assert answer_items("Liver, the spleen and kidneys") == answer_items("kidneys; spleen, liver")
    assert answer_items("liver, spleen") != answer_items("liver, spleen, kidneys")
    assert answer_items("1,000 ml") == {"1000 ml"}
    assert answer_items(" , and ") == frozenset()


def test_the_last_explicit_answer_counts() -> None:
    assert stated("Answer: left. The final answer is: right").text == "right"
    assert stated("left. Answer: ").text == "left."


@pytest.mark.parametrize(
    "text", ["I cannot answer this.", "I don't know", "I'm unable to tell", "As an AI, I can't say"]
)
def test_refusals(text: str) -> None:
    assert is_refusal(text)
    assert not is_refusal("No acute findings; nothing to report")


def test_every_number_word_and_unit_is_read():
    # The patterns run only where a part that they need occurs; no word may lack it.
    for word, digits in numbers._WORDS.items():
        assert normalize(f"level {word} mass") == f"level {digits} mass", word
    units = {
        "%": "per cent", "sqmm": "square millimeters", "sqcm": "sq cm", "cumm": "cu mm", "ml": "cc|mls|milliliters",
        "mm": "millimeters|mms", "cm": "cms|centimeter", "m": "meter", "l": "liters", "mg": "milligrams|mgs",
        "kg": "kgs|kilograms", "g": "grams", "hu": "hounsfield units", "tesla": "t|teslas", "min": "mins|minute",
        "h": "hrs|hours", "year": "yrs|years",
    }  # fmt: skip
    for words, unit in [(words, unit) for unit, listed in units.items() for words in listed.split("|")]:
        assert normalize(f"5 {words}") == normalize(f"5-{words}") == f"5 {unit}", words
