"""Batches: every row once per epoch, the same from any step on, mixed by weight."""

import dataclasses
import json
from collections import Counter

import numpy as np
import pytest

from radvqa_jax.config import AugmentConfig, DataConfig, SourceConfig
from radvqa_jax.data import row_images
from radvqa_jax.data.augment import augment
from radvqa_jax.data.eval_loader import eval_batches
from radvqa_jax.data.fitting import fitting
from radvqa_jax.data.image import decode_image
from radvqa_jax.data.image_cache import ImageCache
from radvqa_jax.data.rows import RowSource
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.schema import Batch

from .conftest import fake_rows, png
from .loader_case import DATA, assert_equal, loader, which

LONG = "axial MRI shows left lung nodule, 12 mm in diameter. " * 2


def test_a_batch_has_the_shapes_of_the_schema_and_its_own_text(tokenizer: Tokenizer) -> None:
    batch = next(loader([fake_rows(10)], tokenizer))
    spec = Batch.spec(4, 4, 24)
    assert [(leaf.shape, leaf.dtype) for leaf in batch] == [(leaf.shape, leaf.dtype) for leaf in spec]
    assert np.asarray(batch.mask_example).all()
    for row, number in enumerate(which(batch)):
        assert tokenizer.decode(np.asarray(batch.tokens)[row]) == f"answer en {number}\n{number}"


def test_every_row_comes_once_an_epoch_in_another_order(tokenizer: Tokenizer) -> None:
    stream = loader([fake_rows(10)], tokenizer, batch_size=5)
    assert stream.rows_per_epoch == 10
    epochs = [which(next(stream)) + which(next(stream)) for _ in range(3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_batches_run_over_the_end_of_an_epoch(tokenizer: Tokenizer) -> None:
    stream = loader([fake_rows(3)], tokenizer, batch_size=4)
    drawn = [number for _ in range(3) for number in which(next(stream))]
    assert [sorted(drawn[i : i + 3]) for i in range(0, 12, 3)] == [[0, 1, 2]] * 4


def test_the_order_depends_on_the_seed_alone(tokenizer: Tokenizer) -> None:
    def order(seed: int) -> list[int]:
        stream = loader([fake_rows(20)], tokenizer, batch_size=20, seed=seed)
        return which(next(stream)) + which(next(stream))

    assert order(0) == order(0)
    assert order(0)[:20] != order(1)[:20]
    # Epoch 1 of one seed must not be epoch 0 of the next.
    assert order(0)[20:] != order(1)[:20]


def test_it_continues_from_every_step(tokenizer: Tokenizer) -> None:
    sources = [fake_rows(7, weight=2.0), fake_rows(5, first=100)]
    whole = loader(sources, tokenizer, batch_size=3)
    states, batches = [], []
    for _ in range(9):
        states.append(json.loads(json.dumps(whole.get_state())))
        batches.append(next(whole))
    for step, state in enumerate(states):
        again = loader(sources, tokenizer, batch_size=3)
        next(again)  # setting a state replaces the loader's position
        again.set_state(state)
        assert again.get_state() == state
        for want in batches[step : step + 3]:
            assert_equal(next(again), want)


def late(n: int, *, first: int) -> RowSource:
    rows = fake_rows(n, first=first)
    rows.source = SourceConfig(dataset="late", anneal="linear", points=((0.5, 0.0), (1.0, 1.0)))
    return rows


def test_shares_that_change_are_realised_and_continue_from_any_step(tokenizer: Tokenizer) -> None:
    sources = [fake_rows(9), late(4, first=100)]
    whole = loader(sources, tokenizer, total=20)
    batches = list(whole)
    numbers = [number for batch in batches for number in which(batch)]
    assert len(numbers) == 80 and all(number < 100 for number in numbers[:40])
    shares = whole.realised()
    assert [share["drawn"] for share in shares] == [sum(n < 100 for n in numbers), sum(n >= 100 for n in numbers)]
    assert shares[1]["share_by_tenth"] == [sum(n >= 100 for n in numbers[i : i + 8]) / 8 for i in range(0, 80, 8)]
    for step in (0, 9, 11, 19):
        again = loader(sources, tokenizer, total=20)
        again.set_state({"batches_drawn": step})
        assert_equal(next(again), batches[step])


def test_exact_counts_are_drawn_exactly(tokenizer: Tokenizer) -> None:
    counted = fake_rows(4, first=100)
    counted.source = SourceConfig(dataset="counted", count=13)
    numbers = [number for batch in loader([fake_rows(9), counted], tokenizer, total=20) for number in which(batch)]
    drawn = Counter(number for number in numbers if number >= 100)
    assert drawn.total() == 13 and max(drawn.values()) - min(drawn.values()) <= 1


def test_images_that_rows_share_are_decoded_once(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    monkeypatch.setattr(row_images, "decode_image", lambda data: made.append(1) or decode_image(data))
    shared = fake_rows(8, image=[png(i // 4) for i in range(8)], image_id=[str(i // 4) for i in range(8)])

    def draw(data: DataConfig) -> list[int]:
        made.clear()
        return [n for batch in loader([shared], tokenizer, data=data, total=6) for n in which(batch)]

    without = draw(dataclasses.replace(DATA, image_cache_mb=0))
    assert len(made) == 24
    assert draw(DATA) == without
    assert 2 <= len(made) <= 8  # threads may make an image at the same time


def test_a_cache_forgets_what_was_used_longest_ago() -> None:
    cache, made = ImageCache(2 * 48), []

    def make(data: bytes) -> np.ndarray:
        made.append(data)
        return np.zeros((4, 4, 3), np.uint8)

    for data in (b"a", b"b", b"a", b"c", b"a", b"b"):
        cache.get(data, make)
    assert made == [b"a", b"b", b"c", b"b"]


SQUARE = np.zeros((12, 12, 3), np.uint8)
SQUARE[:, :6] = 200


def test_without_augmentation_an_image_is_unchanged() -> None:
    assert augment(SQUARE, AugmentConfig(), rng=np.random.default_rng(0)) is SQUARE


def test_only_the_flip_exchanges_left_and_right() -> None:
    strong = AugmentConfig(rotate=20, crop=0.2, brightness=0.3, contrast=0.3)
    for seed in range(30):
        changed = augment(SQUARE, strong, rng=np.random.default_rng(seed)).astype(int)
        half = changed.shape[1] // 2
        assert changed[:, :half].mean() > changed[:, half:].mean()
    flipped = [augment(SQUARE, AugmentConfig(flip_left_right=True), rng=np.random.default_rng(s)) for s in range(30)]
    assert 5 < sum((image == SQUARE[:, ::-1]).all() for image in flipped) < 25


def test_augmented_batches_are_the_same_again_and_differ_between_epochs(tokenizer: Tokenizer) -> None:
    data = dataclasses.replace(DATA, augment=AugmentConfig(brightness=0.5))
    rows = fake_rows(4, first=100)
    first, second = loader([rows], tokenizer, data=data), loader([rows], tokenizer, data=data, process=(1, 2))
    batches = [next(first) for _ in range(2)]
    second.set_state({"batches_drawn": 1})
    np.testing.assert_array_equal(next(second).image, np.asarray(batches[1].image)[2:])
    assert sorted(which(batches[0])) != sorted(which(batches[1])) != [100, 101, 102, 103]


def test_a_state_of_something_else_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="batches_drawn"):
        loader([fake_rows(3)], tokenizer).set_state({"next_index": 3})


@pytest.mark.parametrize("weights", [(3.0, 1.0), (0.1, 0.9), (1.0, 1.0)])
def test_sources_are_drawn_by_weight(tokenizer: Tokenizer, weights: tuple[float, float]) -> None:
    sources = [fake_rows(5, weight=weights[0]), fake_rows(60, first=100, weight=weights[1])]
    stream = loader(sources, tokenizer, batch_size=40)
    drawn = [number for _ in range(5) for number in which(next(stream))]
    share = sum(number < 100 for number in drawn) / len(drawn)
    assert abs(share - weights[0] / sum(weights)) <= 1 / len(drawn)
    # A small source is repeated as often as needed, every row as often as the others.
    small = Counter(number for number in drawn if number < 100)
    assert set(small) == set(range(5)) and max(small.values()) - min(small.values()) <= 1
    assert stream.rows_per_epoch == 65


def test_rejected_rows_are_counted_by_reason_and_never_drawn(tokenizer: Tokenizer) -> None:
    rows = fake_rows(6, answer=["yes", LONG, "", "no", LONG, " "])
    stream = loader([rows], tokenizer)
    (report,) = stream.report
    assert {key: report[key] for key in ("rows", "kept", "rejected", "cut")} == {
        "rows": 6,
        "kept": 2,
        "rejected": {"overlong_answer": 2, "empty_answer": 2},
        "cut": 0,
    }
    assert report["source"]["n"] == 6
    assert stream.rows_per_epoch == 2
    assert {number for _ in range(4) for number in which(next(stream))} == {0, 3}


def test_rows_without_a_question_or_a_caption_are_not_learned(tokenizer: Tokenizer) -> None:
    stream = loader([fake_rows(3, question=["Is it?", " ", ""])], tokenizer)
    assert (stream.report[0]["kept"], stream.report[0]["rejected"]) == (1, {"empty_question": 2})
    captions = loader([fake_rows(2, task="caption", question=["", ""], caption=["A chest.", ""])], tokenizer)
    assert (captions.report[0]["kept"], captions.report[0]["rejected"]) == (1, {"empty_answer": 1})


def test_cut_rows_are_counted_and_drawn(tokenizer: Tokenizer) -> None:
    data = dataclasses.replace(DATA, overlong="cut")
    stream = loader([fake_rows(3, answer=["yes", LONG, "no"])], tokenizer, data=data, batch_size=3)
    assert (stream.report[0]["kept"], stream.report[0]["cut"]) == (3, 1)
    batch = next(stream)
    assert (np.asarray(batch.tokens) == tokenizer.eos).sum(1).tolist() == [1, 1, 1]


def test_the_policy_error_names_the_question(tokenizer: Tokenizer) -> None:
    data = dataclasses.replace(DATA, overlong="error")
    with pytest.raises(ValueError, match="fake:train, question '1': The answer 'axial"):
        loader([fake_rows(3, answer=["yes", LONG, "no"])], tokenizer, data=data)


def test_an_overlong_question_is_left_out_and_counted_or_an_error(tokenizer: Tokenizer) -> None:
    rows = [fake_rows(3, question=["a", "b", LONG])]
    report = loader(rows, tokenizer).report[0]
    assert (report["kept"], report["rejected"]) == (2, {"overlong_question": 1})
    with pytest.raises(ValueError, match=r"fake:train, question '2': The prefix .* A question is never cut"):
        loader(rows, tokenizer, data=dataclasses.replace(DATA, overlong_question="error"))


def test_evaluation_leaves_overlong_questions_out_by_name(
    tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = fake_rows(3, question=["a", LONG, "b"])
    found = fitting(rows, data=DATA, tokenizer=tokenizer)
    assert found.column("question_id") == ["0", "2"] and found.fingerprint["left_out"] == {"overlong_question": 1}
    assert "1 of 3 questions of fake:train do not fit data.seq_len=24" in capsys.readouterr().out
    assert fitting(found, data=DATA, tokenizer=tokenizer) is found
    with pytest.raises(ValueError, match="fake:train, question '1': The prefix"):
        fitting(rows, data=dataclasses.replace(DATA, overlong_question="error"), tokenizer=tokenizer)
    with pytest.raises(ValueError, match="no question fits"):
        fitting(fake_rows(1, question=[LONG]), data=DATA, tokenizer=tokenizer)


def test_a_source_without_usable_rows_is_an_error(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match=r"no row can be trained on.*empty_answer.*2"):
        loader([fake_rows(2, answer=["", ""])], tokenizer)
    with pytest.raises(ValueError, match="at least one source"):
        loader([], tokenizer)


def test_a_broken_image_is_named(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="fake:train, question '0', image 'image-0': the 4 bytes are not an image"):
        next(loader([fake_rows(1, image=[b"what"])], tokenizer))


@pytest.mark.parametrize(("n", "batch_size"), [(10, 4), (8, 4), (1, 4)])
def test_evaluation_gives_every_row_once_in_order(tokenizer: Tokenizer, n: int, batch_size: int) -> None:
    rows = fake_rows(n)
    pairs = list(eval_batches(rows, data=DATA, tokenizer=tokenizer, resolution=4, batch_size=batch_size))
    assert [row["question_id"] for _, part in pairs for row in part] == [str(i) for i in range(n)]
    for batch, part in pairs:
        assert np.asarray(batch.tokens).shape == (batch_size, 24)
        assert np.asarray(batch.image).shape == (batch_size, 4, 4, 3)
        assert np.asarray(batch.mask_example).tolist() == [i < len(part) for i in range(batch_size)]
        assert which(batch)[: len(part)] == [int(row["question_id"]) for row in part]
        assert not np.asarray(batch.mask_loss).any()


def test_evaluation_shows_the_prompt_and_not_the_answer(tokenizer: Tokenizer) -> None:
    rows = fake_rows(2, question=["Is it?", "mass"], answer=["liver", "liver"])
    ((batch, _),) = eval_batches(rows, data=DATA, tokenizer=tokenizer, resolution=4, batch_size=2)
    texts = [tokenizer.decode(tokens) for tokens in np.asarray(batch.tokens)]
    assert texts == ["answer en Is it?\n", "answer en mass\n"]


def test_evaluation_can_be_left_early(tokenizer: Tokenizer) -> None:
    stream = eval_batches(fake_rows(30), data=DATA, tokenizer=tokenizer, resolution=4, batch_size=4)
    batch, _ = next(stream)
    stream.close()  # pyright: ignore[reportAttributeAccessIssue] a generator
    assert which(batch) == [0, 1, 2, 3]


def test_evaluation_names_an_overlong_question(tokenizer: Tokenizer) -> None:
    rows = fake_rows(2, question=["a", LONG])
    with pytest.raises(ValueError, match="fake:train, question '1': The prefix"):
        list(eval_batches(rows, data=DATA, tokenizer=tokenizer, resolution=4, batch_size=2))
