"""Batches of questions: how they are composed, what they share, and what is compiled for them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from radvqa_jax.config import DecodeConfig
from radvqa_jax.decoding import image_tokens
from radvqa_jax.decoding.image_tokens import ImageTokens
from radvqa_jax.evaluation.answer_batches import alike_together, by_length, widths
from radvqa_jax.evaluation.predict import draw_seed
from tests.evaluation.predict_case import DRAWN, Predictor


def test_the_padding_of_the_last_batch_leaves_no_record(predictor: Predictor, tmp_path: Path) -> None:
    greedy = DecodeConfig(max_new_tokens=4, batch_size=4)
    alone = predictor.predict(tmp_path / "alone", rows=predictor.rows.select([9]), config=greedy)
    assert [record.question_id for record in alone] == [predictor.rows[9]["question_id"]]
    assert alone[0].predictions == predictor.predict(tmp_path / "all", config=greedy)[9].predictions


def test_prompts_are_padded_to_few_lengths_and_each_compiles_once(predictor: Predictor, tmp_path: Path) -> None:
    config = replace(DRAWN, batch_size=2, max_new_tokens=2)
    groups = by_length(predictor.rows, tokenizer=predictor.tokenizer, data=predictor.config.data, batch_size=2)
    assert 1 < len(groups) <= len(widths(predictor.config.data.seq_len)) == 3
    assert sorted(index for members in groups.values() for index, _ in members) == list(range(10))
    for width, members in groups.items():
        prefixes = [
            predictor.rows.text(predictor.rows[index], template=predictor.config.data.prompt)[0] for index, _ in members
        ]
        lengths = [len(predictor.tokenizer.encode(prefix)) + 2 for prefix in prefixes]  # BOS and separator
        assert max(lengths) <= width
    before = predictor.compiled()
    whole = predictor.predict(tmp_path / "whole", config=config)
    assert predictor.compiled() - before == len(groups)
    # A draw depends on the question and not on what else is asked: the same two answers among two.
    pair = [index for index, _ in next(iter(groups.values()))][1::-1]
    some = predictor.predict(tmp_path / "some", rows=predictor.rows.select(pair), config=config)
    assert [r.seeds for r in some] == [whole[i].seeds for i in pair]
    assert [(r.predictions, r.logprobs) for r in some] == [(whole[i].predictions, whole[i].logprobs) for i in pair]
    assert predictor.compiled() - before == len(groups)
    seeds = [seed for r in whole for seed in r.seeds]
    assert len(set(seeds)) == 20 and seeds[0] == draw_seed(3, whole[0].source, whole[0].question_id, 0)
    # Facts about the whole run are written once, in a file of their own; a line says which.
    assert {r.settings for r in whole} == {whole[0].settings} and len(whole[0].settings) == 12


def test_a_short_last_batch_compiles_nothing_of_its_own(
    predictor: Predictor, decoded: list[int], tmp_path: Path
) -> None:
    config = replace(DRAWN, batch_size=4, max_new_tokens=3)  # settings of no other test: nothing is compiled yet
    groups = by_length(predictor.rows, tokenizer=predictor.tokenizer, data=predictor.config.data, batch_size=4)
    alike = [index for index, _ in max(groups.values(), key=len)][:7]  # prompts of one length
    compiled = predictor.compiled()
    predictor.predict(tmp_path / "some", rows=predictor.rows.select(alike), config=config)
    assert decoded == [4, 3] and predictor.compiled() - compiled == 1
    predictor.predict(tmp_path / "fewer", rows=predictor.rows.select(alike[:5]), config=config)
    assert decoded == [4, 3, 4, 1] and predictor.compiled() - compiled == 1


def test_a_draw_does_not_depend_on_its_batch(predictor: Predictor, tmp_path: Path) -> None:
    """Neighbours, order, place in the batch and its size may change; the answers of a question stay."""
    whole = {r.question_id: r for r in predictor.predict(tmp_path / "whole")}
    assert len({tuple(r.predictions) for r in whole.values()}) > 5
    for name, chosen, size in [("reversed", range(9, -1, -1), 4), ("few", [7, 2], 4), ("others", [2, 5, 8, 7, 1], 3)]:
        found = predictor.predict(
            tmp_path / name, rows=predictor.rows.select(list(chosen)), config=replace(DRAWN, batch_size=size)
        )
        assert len(found) == len(chosen)
        for record in found:
            want = whole[record.question_id]
            assert (record.predictions, record.seeds) == (want.predictions, want.seeds)
            np.testing.assert_allclose(record.logprobs, want.logprobs, atol=2e-4)


def test_questions_runs_and_samples_share_the_tokens_of_an_image(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, decoded = image_tokens.embed_images, []
    monkeypatch.setattr(image_tokens, "embed_images", lambda *given: decoded.append(len(given[2])) or real(*given))
    images = [row["image_id"] for row in predictor.rows]
    assert len(set(images)) < len(images) == 10
    kept = ImageTokens()
    shared = predictor.predict(tmp_path / "a", image_tokens=kept)
    assert sum(decoded) < 10 + 4  # chunks of four are filled up
    seen = len(decoded)
    rows = predictor.rows.with_images_of([9, 8, 7, 6, 5, 4, 3, 2, 1, 0])
    swapped = predictor.predict(tmp_path / "b", rows=rows, image_tokens=kept)
    greedy = predictor.predict(tmp_path / "c", config=replace(DRAWN, temperature=0.0, samples=1), image_tokens=kept)
    assert len(decoded) == seen  # nothing is seen again
    assert predictor.predict(tmp_path / "d") == shared  # nor are answers others where it is
    assert predictor.predict(tmp_path / "e", rows=rows) == swapped != shared
    assert predictor.predict(tmp_path / "f", config=replace(DRAWN, temperature=0.0, samples=1)) == greedy
    # A tower with another name embeds the images again.
    predictor.predict(tmp_path / "g", image_tokens=kept, tower="trained")
    assert len(decoded) > seen


def test_questions_of_one_kind_are_answered_together_and_images_in_turn(predictor: Predictor) -> None:
    rows = predictor.rows
    kinds = list(zip(rows.column("answer_type"), rows.column("question_type"), strict=True))
    images = rows.column("image_id")
    assert 1 < len(set(kinds)) < 10
    order = alike_together(rows, range(9, -1, -1), room=100)
    assert sorted(order) == list(range(10))
    for names in (kinds, [(kinds[n], images[n]) for n in range(10)]):  # each in one piece
        runs = [names[n] for i, n in enumerate(order) if i == 0 or names[n] != names[order[i - 1]]]
        assert len(runs) == len(set(runs))
    # With room for two images, those of the first two come first.
    few = [images[n] for n in alike_together(rows, range(10), room=2)]
    first = list(dict.fromkeys(images))[:2]
    assert set(few[: sum(image in first for image in images)]) == set(first)
    shown = rows.with_images_of([9, 8, 7, 6, 5, 4, 3, 2, 1, 0]).shown_images()
    assert shown == images[::-1] and rows.with_image(b"x", image_id="blank").shown_images() == ["blank"] * 10


def test_no_program_is_compiled_for_a_length_with_few_prompts(predictor: Predictor) -> None:
    groups = by_length(predictor.rows, tokenizer=predictor.tokenizer, data=predictor.config.data, batch_size=100)
    assert list(groups) == [predictor.config.data.seq_len] and len(groups[predictor.config.data.seq_len]) == 10
