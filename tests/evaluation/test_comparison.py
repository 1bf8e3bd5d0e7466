"""Paired comparison: known p values, whole images, Holm, and cells that do not exist."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from radvqa_jax.evaluation.comparison import compare_runs, flip_images, format_comparison, holm, mcnemar
from radvqa_jax.evaluation.scoring import pair
from radvqa_jax.schema import Record


def records(right: list[int], *, per_image: int = 1, **fields: Any) -> list[Record]:
    return [
        Record(str(i), str(i // per_image), "q", "yes", ["yes" if good else "no"], [], **fields)
        for i, good in enumerate(right)
    ]


def test_mcnemar_is_the_binomial_of_the_discordant() -> None:
    for only_a, only_b in [(0, 5), (3, 9), (7, 7), (20, 4)]:
        low, n = min(only_a, only_b), only_a + only_b
        assert mcnemar(only_a, only_b) == pytest.approx(min(1, 2 * stats.binom.cdf(low, n, 0.5)))
    assert mcnemar(0, 0) == 1.0


def test_flips_equal_mcnemar_where_each_question_has_its_own_image() -> None:
    difference = np.array([1.0] * 14 + [-1.0] * 4 + [0.0] * 30)
    p = flip_images(difference, np.arange(48), draws=40_000)
    assert p == pytest.approx(mcnemar(14, 4), abs=0.006)


def test_questions_about_one_image_are_one_observation() -> None:
    image = np.repeat(np.arange(6), 8)
    difference = np.repeat([1.0, 1.0, 1.0, 1.0, 1.0, -1.0], 8)
    assert mcnemar(40, 8) < 1e-5
    assert flip_images(difference, image) == pytest.approx(14 / 64, abs=0.02)  # 7 of 64 sign patterns, two-sided


def test_flips_reject_a_true_null_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    image = np.repeat(np.arange(25), 4)
    rejected = [
        flip_images((rng.integers(-1, 2, 25)[image] * (rng.random(100) < 0.7)).astype(float), image, draws=300, seed=i)
        < 0.05
        for i in range(400)
    ]
    assert 0.02 < np.mean(rejected) < 0.085


def test_holm_corrects_p_values() -> None:
    assert holm([0.01, 0.02, 0.03, 0.04]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert holm([0.04, 0.01]) == pytest.approx([0.04, 0.02]) and holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


def test_cells_have_counts_differences_and_p_values() -> None:
    a = records([1] * 30 + [0] * 10, per_image=2, organ="lung")
    b = records([1] * 22 + [0] * 16 + [1] * 2, per_image=2, organ="lung")
    a[:20] = [r._replace(organ="brain") for r in a[:20]]
    found = compare_runs(a, b[::-1], resamples=500, draws=500)
    overall = found["overall"]
    assert [overall[key] for key in ("n", "n_images", "both", "only_a", "only_b", "neither")] == [40, 20, 22, 8, 2, 8]
    assert overall["difference"]["value"] == pytest.approx(0.15) == overall["a"]["value"] - overall["b"]["value"]
    assert overall["p_mcnemar"] == pytest.approx(0.109375) and overall["odds_ratio"] == 4
    assert overall["cohen_g"] == pytest.approx(0.3) and "p_mcnemar_holm" not in overall
    assert list(found["by"]) == ["organ"] and list(found["by"]["organ"]) == ["brain", "lung"]  # the others are empty
    brain, lung = found["by"]["organ"].values()
    assert (brain["n"], brain["only_a"] + brain["only_b"], brain["p_mcnemar"]) == (20, 0, 1.0)
    assert brain["cohen_g"] is None and brain["odds_ratio"] is None
    assert lung["p_mcnemar_holm"] == pytest.approx(2 * lung["p_mcnemar"])
    text = format_comparison(found, a="one", b="two")
    assert text.startswith("A: one\nB: two\n") and "organ: brain" in text and "8:2" in text


def test_the_second_minus_the_first_is_the_negative() -> None:
    a, b = records([1, 0, 1, 1, 0, 1]), records([1, 1, 0, 0, 0, 1])
    there, back = compare_runs(a, b, resamples=200)["overall"], compare_runs(b, a, resamples=200)["overall"]
    assert there["difference"]["value"] == -back["difference"]["value"]
    assert (there["p_mcnemar"], there["p_images"]) == (back["p_mcnemar"], back["p_images"])


def test_two_systems_agree_which_image_a_question_is_about() -> None:
    a = records([1, 0, 1, 1, 0, 1], per_image=2)
    elsewhere = [[record._replace(image_id="z") for record in a], [*a[:-1], a[-1]._replace(image_id="0")]]
    elsewhere.append([record._replace(image_id={"0": "1", "1": "0"}.get(record.image_id, "2")) for record in a])
    for b in elsewhere:
        for one, two in ((a, b), (b, a)):
            with pytest.raises(ValueError, match=r"disagree .*: question '\d' is about image '.' in A and"):
                compare_runs(one, two, resamples=200)
    same = compare_runs(a, [record._replace(image_id="") for record in a], resamples=200)
    assert same == compare_runs(a, a, resamples=200) and same["said"] == []
    renamed = compare_runs(a, [record._replace(image_id=f"in/{record.image_id}.png") for record in a], resamples=200)
    assert renamed["overall"] == same["overall"]
    assert "3 of 3 images have other names in B: question '0' is about image '0' in A and 'in/0.png'" in (
        format_comparison(renamed, a="one", b="two")
    )


def test_other_images_and_further_answers_are_told() -> None:
    a = records([1, 0, 1, 1])
    shown = [
        record._replace(image_used=used) for record, used in zip(a, ("blank", "", a[2].image_id, "z"), strict=True)
    ]
    more = [record._replace(predictions=record.predictions * 5, seeds=list(range(5))) for record in a]
    said = compare_runs(shown, more, resamples=200)["said"]
    assert said == [
        "A was shown another image than the question's, or a blank one, for 2 of 4 questions.",
        "B has up to 5 answers to a question; the first of each is compared.",
    ]


def test_questions_whose_image_is_unknown_count_as_images_of_their_own() -> None:
    right, some = ([r._replace(image_id="") for r in records(row, per_image=4)] for row in ([1] * 40, [1, 0] * 20))
    found = compare_runs(right, some, resamples=200)
    assert found["overall"]["n_images"] == 40 and found["overall"]["difference"]["interval"][0] > 0
    assert found["overall"]["p_images"] < 0.001
    assert found["said"][0].startswith("The image of 40 of 40 questions is unknown: each of these counts as an image")
    # One file that names the images is enough.
    assert compare_runs(right, records([1, 0] * 20, per_image=4), resamples=200)["overall"]["n_images"] == 10


def test_options_that_one_file_leaves_out_are_those_of_the_other() -> None:
    a = [Record(str(k), "i", "Which?", "left", ["A"], choices=["left", "right"]) for k in range(4)]
    bare = [record._replace(choices=[]) for record in a]
    for one, two in ((a, bare), (bare, a)):
        found = compare_runs(one, two, resamples=50)["overall"]
        assert (found["a"]["value"], found["b"]["value"]) == (1.0, 1.0)


def test_options_in_another_order_are_another_question() -> None:
    a = Record("1", "i", "Which?", "A", ["A"], choices=["x", "y"])
    with pytest.raises(ValueError, match=r"has the choices \['x', 'y'\] in one and \['y', 'x'\] in the other"):
        pair([a], [a._replace(choices=["y", "x"])])
    assert pair([a], [a._replace(choices=[])])


def test_capitals_and_blanks_of_a_reference_make_no_other_question() -> None:
    def record(reference: str) -> Record:
        return Record("0", "i", "Is it?", reference, ["yes"], source="s")

    assert pair([record("Yes")], [record(" yes ")]) == [record(" yes ")]
    with pytest.raises(ValueError, match="has the reference 'yes' in one and 'yes, left' in the other"):
        pair([record("yes")], [record("yes, left")])


def test_files_that_do_not_pair_are_refused() -> None:
    a = records([1, 0, 1])
    with pytest.raises(ValueError, match="the first file has none"):
        compare_runs([], [])
    with pytest.raises(ValueError, match=r"1 are in one only, first \[\('', '2'\)\]"):
        compare_runs(a, a[:2])
    with pytest.raises(ValueError, match=r"Only `source` differs, \[''\] and \['slake'\]: write the same one"):
        compare_runs(a, [one._replace(source="slake") for one in a])
    with pytest.raises(ValueError, match="'0' has the reference 'yes' in one and 'no' in the other"):
        compare_runs(a, [a[0]._replace(reference="no"), *a[1:]])
    with pytest.raises(ValueError, match="'0' of the data set occurs twice"):
        compare_runs(a, [*a, a[0]])
