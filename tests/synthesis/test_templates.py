"""Questions by template: only values that the fields give are asked about."""

from collections import Counter

import pytest

from radvqa_jax.synthesis.images import Image
from radvqa_jax.synthesis.templates import TEMPLATES, Written, write_templates

VALUES = {
    "modality": ["CT", "MRI", "X-ray"],
    "plane": ["axial", "coronal", "other view (see caption)"],
    "organ": ["chest", "knee"],
}
KINDS = (("open", 0.4), ("closed", 0.3), ("multiple_choice", 0.3))


def _write(number: int = 0, *, seed: int = 0, **row: str) -> list[Written]:
    shown = {"caption": "Axial CT of the chest.", "modality": "CT", "plane": "axial", "organ": "chest"} | row
    image = Image("d", "", "train", "train", "c", f"i{number}", shown)
    return write_templates(image, names=tuple(TEMPLATES), kinds=KINDS, pairs=4, values=VALUES, seed=seed)


def test_pairs_are_right_by_their_field_and_no_field_is_asked_twice() -> None:
    kinds: Counter[str] = Counter()
    for number in range(60):
        drafts = [one.draft for one in _write(number)]
        assert len({draft.question_type for draft in drafts}) == len(drafts) == 4
        for draft in drafts:
            kinds[draft.kind] += 1
            right = {"modality": "CT", "plane": "axial", "organ": "chest", "image": "Axial CT of the chest."}
            value = right[draft.question_type]
            if draft.kind == "closed":
                assert (draft.answer == "yes") == (value in draft.question)
            else:
                assert draft.answer == value
            assert (value in draft.choices) == (draft.kind == "multiple_choice")
            assert draft.support.casefold() == value.casefold()
    assert set(kinds) == {"open", "closed", "multiple_choice"} and min(kinds.values()) > 30
    assert _write(3) == _write(3) and _write(3) != _write(3, seed=1)


@pytest.mark.parametrize("unsaid", ["other view (see caption)", "unknown", "Other", "not specified", "N/A"])
def test_a_value_that_means_unknown_is_neither_asked_nor_offered(unsaid: str) -> None:
    for number in range(40):
        for draft in (one.draft for one in _write(number, plane=unsaid)):
            assert draft.question_type != "plane" and unsaid not in (draft.question, draft.answer, *draft.choices)
        offered = [text for one in _write(number) for text in (one.draft.question, *one.draft.choices)]
        assert not any("see caption" in text for text in offered)


def test_long_texts_may_use_such_words() -> None:
    image = Image("d", "", "train", "train", "c", "i", {"caption": "No other nodule is seen."})
    (one,) = write_templates(image, names=("image",), kinds=(("open", 1.0),), pairs=4, values={}, seed=0)
    assert one.draft.answer == "No other nodule is seen."
