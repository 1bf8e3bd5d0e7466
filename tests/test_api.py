"""The public API with the embedded model, as a notebook uses it in five lines."""

import copy
import dataclasses
import inspect
import io
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pydicom
import pytest
from PIL import Image

import radvqa_jax
from radvqa_jax.api import Model
from radvqa_jax.api_maps import tokens_to_map
from radvqa_jax.api_rows import rows_of_table
from radvqa_jax.api_values import ANSWER_OPTIONS, AnswerOptions
from radvqa_jax.checkpoints.big_vision import save
from radvqa_jax.config import EMBEDDED, ExportConfig
from radvqa_jax.config.check import change_part
from radvqa_jax.data.opened import open_any
from radvqa_jax.data.rows import RowSource
from radvqa_jax.saliency.compare import whole_answer
from radvqa_jax.saliency.maps import pass_options
from radvqa_jax.saliency.overlay import robust_limits
from radvqa_jax.saliency.passes import PassOptions

FLOAT32 = {"model.param_dtype": "float32", "model.remat": "none", "decode.max_new_tokens": 4}
QUESTION = "What is the modality of this image?"


@pytest.fixture(scope="module")
def model() -> Model:
    return radvqa_jax.load("embedded", settings={"data.seq_len": 32, "decode.max_new_tokens": 4})


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 30), dtype=np.uint8)


def test_importing_the_package_is_light() -> None:
    """Neither jax nor numpy is loaded, and the whole process, Python's own start included, takes less than 0.5 s."""
    heavy = {"jax", "jaxlib", "flax", "numpy", "PIL", "tensorflow_datasets"}
    code = f"import sys, radvqa_jax; print(*sorted({heavy} & set(sys.modules)), dir(radvqa_jax).count('load'))"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout.strip() == "1"
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


def test_weights_that_a_checkpoint_lacks_are_the_same_with_every_seed(model: Model, tmp_path: Path) -> None:
    """An adapter knows its base by the file's hash, and may be used with another seed than it was trained with."""
    table, lacks = "llm/embedder/input_embedding", "img/head/kernel"
    held = {name: leaf for name, leaf in model.params.items() if name != lacks}
    save(tmp_path / "short.npz", held | {table: held[table][:-3]})

    def drawn(seed: int) -> dict[str, Any]:
        settings = FLOAT32 | {"model.allow_missing": (lacks,), "seed": seed}
        tokenizer = EMBEDDED / "tokenizer.model"
        return radvqa_jax.load(tmp_path / "short.npz", tokenizer=tokenizer, variant="tiny", settings=settings).params

    first, second = drawn(0), drawn(1)
    for name in (table, lacks):
        np.testing.assert_array_equal(first[name], second[name])
    assert not np.array_equal(first[table][-3:], model.params[table][-3:])


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        radvqa_jax.lod  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


def test_one_answer_with_samples_and_its_maps(model: Model, picture: np.ndarray) -> None:
    answer = model.answer(picture, QUESTION, samples=5)
    assert answer.text and answer.logprob < 0 and len(answer.samples) == 5 and 0 <= (answer.agreement or 0) <= 1
    assert str(answer) == answer.text and "not for clinical use" in answer._repr_html_()
    maps = model.saliency(answer)
    values = maps.map("rollout", word="modality")
    assert values.shape == (8, 8) and values.min() >= 0
    assert maps.on_pixels("raw", word="modality").shape == picture.shape
    shown = maps.show(word="modality", method=["rollout", "raw"])
    assert shown._repr_png_().startswith(b"\x89PNG")
    assert model.saliency(answer).map("raw").sum() <= 1
    with pytest.raises(ValueError, match=r"has the word 'modalty'. Did you mean"):
        maps.map("raw", word="modalty")


def test_a_prompt_that_fills_the_row_leaves_room_for_its_answer(model: Model, picture: np.ndarray) -> None:
    answer = model.answer(picture, "Is it here " + "a " * 19 + "?")
    prompt = len(model.saliency(answer, methods=("raw",)).bundle.prompt_ids)
    assert prompt <= 32 < prompt + len(answer.token_ids) - 1
    long = "no " * 40
    maps = model.saliency(answer, forced=long, other="yes " * 50, methods=("raw",))
    assert len(maps.bundle.token_ids) > 32 and maps.bundle.other


def test_an_answer_of_another_model_is_mapped_as_the_text_that_it_has(model: Model) -> None:
    """Its token ids and prompt may be those of another tokenizer and another training."""
    tokenizer, template = model._loaded.tokenizer, "answer en {question}"
    ids = tuple(tokenizer.encode("yes", eos=True))
    own = radvqa_jax.Answer("yes", QUESTION, -1.0, True, prompt=f"answer en {QUESTION}", token_ids=ids)
    assert tokens_to_map(own, forced="", tokenizer=tokenizer, template=template) == (list(ids), [])
    caption = dataclasses.replace(own, question="", prompt="caption en")
    assert tokens_to_map(caption, forced="", tokenizer=tokenizer, template=template) == (list(ids), [])
    other = dataclasses.replace(own, text="left lung", prompt=f"question: {QUESTION}")
    found, (spelled, asked) = tokens_to_map(other, forced="", tokenizer=tokenizer, template=template)
    assert found == tokenizer.encode("left lung", eos=True)
    assert spelled.startswith("The answer's token ids spell another text, so the answer was encoded again")
    assert asked == f"The model read the prompt {other.prompt!r} of the answer; its own is {own.prompt!r}."
    assert tokens_to_map(other, forced="no", tokenizer=tokenizer, template=template).notes == [asked]


def test_the_image_of_an_answer_is_checked(model: Model, picture: np.ndarray) -> None:
    """An answer of another system is made by hand, with an image as PIL or a plotting library gives it."""
    answer = model.answer(picture, QUESTION)
    assert isinstance(answer, radvqa_jax.Answer)

    def with_image(image: Any) -> radvqa_jax.Answer:
        made = copy.copy(answer)
        object.__setattr__(made, "image", image)  # the tests alone check the annotations of fields
        return made

    want = model.saliency(answer, methods="raw")
    grey = model.saliency(with_image(picture), methods="raw")
    np.testing.assert_array_equal(grey.map("raw"), want.map("raw"))
    np.testing.assert_array_equal(grey.image, want.image)
    wrong: list[Any] = [picture / np.float32(255), picture.astype(np.uint16), np.stack([picture] * 3), "chest.png"]
    for image in wrong:
        with pytest.raises(ValueError, match=r"^The answer's image"):
            model.saliency(with_image(image), methods="raw")


@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_replaced_leaves_have_image_tokens_of_their_own_and_are_not_exported(tmp_path: Path, quantize: str) -> None:
    model = radvqa_jax.load("embedded", settings=FLOAT32 | {"model.quantize": quantize})
    loaded, tower = dict(model.params), model._tower_now()
    name = "img/Transformer/encoderblock/MlpBlock_0/Dense_0/kernel"
    model.params[name] = jax.tree.map(lambda values: values[::-1], loaded[name])
    assert model._tower_now() != tower
    with pytest.raises(ValueError, match=rf"^{name} of `params` was replaced after loading.* Load the model again"):
        model.export("huggingface", tmp_path / "out")
    model.params = loaded
    assert model._tower_now() == tower


def test_a_picture_is_saved_as_png_or_pdf(model: Model, picture: np.ndarray, tmp_path: Path) -> None:
    shown = model.saliency(model.answer(picture, QUESTION)).show()
    assert shown.save(tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(ValueError, match=r"must end in .png or .pdf"):
        shown.save(tmp_path / "a.jpg")


def test_paths_arrays_and_pil_images_are_asked_alike(model: Model, picture: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(picture).save(tmp_path / "a.png")
    images = [
        picture,
        Image.fromarray(picture),
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        (tmp_path / "a.png").read_bytes(),
    ]
    answers = model.answer(images, QUESTION)
    assert isinstance(answers, list) and len({(answer.text, answer.logprob) for answer in answers}) == 1
    several = model.answer(picture, [QUESTION, "Which organ is shown?"])
    assert isinstance(several, list) and [one.question for one in several] == [QUESTION, "Which organ is shown?"]
    assert several[0].text == answers[0].text
    assert several[0].logprob == pytest.approx(answers[0].logprob, abs=1e-4)


def test_a_batch_gives_what_single_questions_give(model: Model) -> None:
    images = [np.full((9, 9, 3), level, np.uint8) for level in (0, 90, 200)]
    together = model.answer(images, QUESTION, samples=2, seed=4)
    for image, one in zip(images, together, strict=True):
        alone = model.answer(image, QUESTION)
        assert alone.text == one.text and alone.logprob == pytest.approx(one.logprob, abs=1e-4)


def test_logprobs_are_those_of_the_decoder(model: Model, picture: np.ndarray) -> None:
    answer = model.answer(picture, QUESTION)
    assert answer.ended
    choice = model.logprobs(picture, QUESTION, [answer.text, "yes", "no"])
    assert choice.logprobs[answer.text] == pytest.approx(answer.logprob, abs=1e-4)
    assert sum(choice.probabilities.values()) == pytest.approx(1) and choice.best in choice.logprobs
    with pytest.raises(ValueError, match="different texts"):
        model.logprobs(picture, QUESTION, ["yes", "yes"])
    spaced = model.logprobs(picture, QUESTION, ["yes", "  no\n"])
    assert spaced.logprobs["  no\n"] == pytest.approx(choice.logprobs["no"], abs=1e-5)
    with pytest.raises(ValueError, match=r"Raise data\.seq_len\.$"):
        model.logprobs(picture, QUESTION, ["yes " * 40])


def test_log_probabilities_that_are_not_finite_are_refused(picture: np.ndarray) -> None:
    broken = radvqa_jax.load("embedded", settings={"data.seq_len": 32})
    table = "llm/embedder/input_embedding"
    broken.params[table] = broken.params[table] * np.nan
    with pytest.raises(ValueError, match=rf"log p of the answer 'no' is nan, .*NaN or infinite: {table}"):
        broken.logprobs(picture, QUESTION, ["no", "yes"])


def test_a_dicom_file_gives_its_window_and_warnings(model: Model) -> None:
    path = Path(pydicom.__path__[0]) / "data/test_files/CT_small.dcm"
    answer = model.answer(path, QUESTION, window="lung")
    assert ("Modality", "CT") in answer.facts and "lung" in dict(answer.facts)["window"]
    assert any("BurnedInAnnotation" in note for note in answer.notes)


def test_rows_are_scored_with_n_and_interval(model: Model, picture: np.ndarray) -> None:
    said = model.answer(picture, QUESTION).text
    rows = [
        {"image": picture, "question": QUESTION, "answer": said},
        {"image": picture, "question": QUESTION, "answer": "zzz"},
    ]
    scores = model.score(rows, resamples=50)
    assert scores.values["runs"][model._run]["overall"]["n"] == 2
    assert scores.values["runs"][model._run]["overall"]["value"] == 0.5
    assert "n=2" in str(scores) and repr(scores) == scores.table and len(scores.records) == 2
    with pytest.raises(ValueError, match="Row 1 lacks answer"):
        model.score([{"image": picture, "question": QUESTION}])


def test_a_question_that_is_too_long_is_left_out_of_scores_and_an_error_alone(
    model: Model, picture: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"image": picture, "question": text, "answer": "x"} for text in (QUESTION, "of " * 60 + "?")]
    assert len(model.score(rows, resamples=50).records) == 1
    assert "1 of 2 questions" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"takes \d+ tokens .* raise data.seq_len"):
        model.answer(picture, rows[1]["question"])


def test_rows_that_cannot_be_scored_are_left_out_of_scores(model: Model, picture: np.ndarray) -> None:
    rows = [{"image": picture, "question": QUESTION, "answer": said} for said in ("-", "yes")]
    scores = model.score(rows, resamples=50)
    assert [record.reference for record in scores.records] == ["yes"]


def test_a_users_folder_is_read_in_one_call(model: Model, tmp_path: Path, picture: np.ndarray) -> None:
    (tmp_path / "own").mkdir()
    Image.fromarray(picture).save(tmp_path / "own/a.png")
    (tmp_path / "own/t.csv").write_text("file,question,answer,split\na.png,Is it?,no,Test\n")
    place = {"data_dir": str(tmp_path / "data"), "manual_dir": tmp_path / "own", "columns": (("image", "file"),)}
    rows = radvqa_jax.read_rows("table", builder_config="own", prepare=True, **place)
    assert [row["answer"] for row in rows] == ["no"]
    with pytest.raises(ValueError, match=r"`data.manual_dr`.*Did you mean `manual_dir"):
        radvqa_jax.read_rows("table", builder_config="own", manual_dr="x")
    with pytest.raises(ValueError, match=r"baselines .* hold 1 of the 1 questions .* Set train to the training split"):
        model.score(rows, train=rows)


def test_captions_need_no_question_and_have_the_prompt_of_their_training(model: Model, picture: np.ndarray) -> None:
    """That of the argument, of the settings, or of the adapter's captions, which older adapters do not know."""

    def asked(one: Model, **options: Any) -> str:
        caption = one.caption(picture, **options)
        assert isinstance(caption, radvqa_jax.Answer) and caption.question == ""
        maps = one.saliency(caption, methods="raw")
        assert bool(maps.notes) == ("prompt" in options)  # a prompt that is not the model's own is noted
        return caption.prompt

    trained = model._trained._replace(caption_prompt="Describe the  image.")
    source = dataclasses.replace(model.config.eval.source, task="caption", prompt="Say it.")
    config = dataclasses.replace(model.config, eval=dataclasses.replace(model.config.eval, source=source))
    assert asked(model) == asked(Model(model._loaded, trained._replace(caption_prompt=""))) == "caption en"
    assert asked(Model(model._loaded, trained)) == "Describe the image."
    assert asked(Model(model._loaded._replace(config=config), trained)) == "Say it."
    assert asked(Model(model._loaded._replace(config=config), trained), prompt="What is this?") == "What is this?"
    with pytest.raises(ValueError, match="prompt is empty"):
        model.caption(picture, prompt=" ")


def test_settings_are_the_defaults_of_calls(model: Model, picture: np.ndarray) -> None:
    maps = {"residual": 0.9, "head_fusion": "max", "discard": 0.5, "layers": (1,), "methods": ("lens",), "windows": 2}
    settings = {"data.seq_len": 32, "decode.max_new_tokens": 4, "decode.samples": 3, "decode.temperature": 2.0}
    own = radvqa_jax.load("embedded", settings=settings | {"seed": 7, "saliency": maps, "eval.bootstrap": 5})
    drawn, plain = own.answer(picture, QUESTION), model.answer(picture, QUESTION)
    assert drawn == model.answer(picture, QUESTION, samples=3, temperature=2.0, seed=7)
    assert plain == own.answer(picture, QUESTION, samples=0)
    assert own.caption(picture) == model.caption(picture)  # which has no such arguments
    found, usual = own.saliency(drawn), model.saliency(plain)
    assert found.bundle.options == pass_options(own.config.saliency) != usual.bundle.options == PassOptions()
    assert "lens" in found.methods and "relevancy" not in found.methods and "relevancy" in usual.methods
    np.testing.assert_array_equal(found.map("raw"), usual.map("raw", layers=[1]))
    assert np.abs(found.map("raw") - usual.map("raw")).max() > 0
    changed = own.saliency(drawn, methods="rollout", residuals=0.3).bundle.options
    assert changed == dataclasses.replace(found.bundle.options, residuals=(0.3,))
    assert own.saliency(drawn, methods="raw", options=PassOptions()).bundle.options == PassOptions()
    row = {"image": picture, "question": QUESTION, "answer": "x-ray"}
    assert own.score([row]).values == own.score([row], resamples=5).values


@pytest.mark.parametrize(
    ("image", "question", "message"),
    [
        (np.zeros((4, 4), np.float32), "Why?", r"uint8 \[height width\].*float32"),
        ("nowhere.png", "Why?", "nowhere.png does not exist"),
        (b"not an image", "Why?", "not one of BMP"),
        ([], "Why?", "at least one image"),
        ([np.zeros((4, 4), np.uint8)] * 2, ["a", "b", "c"], "2 images and 3 questions do not match"),
        (np.zeros((4, 4), np.uint8), "  ", "Question 1 is empty"),
        (np.zeros((4, 4), np.uint8), "\u200b\u2060", "Question 1 is empty"),
        (np.zeros((4, 4), np.uint8), "a\ud800?", "Question 1 contains a lone surrogate"),
        (np.zeros((8000, 8000), np.uint8), "Why?", "8000 x 8000 pixels are more than 50000000"),
        ("x" * 5000, "Why?", "cannot be the path of a file"),
    ],
)
def test_invalid_images_and_questions_are_refused_by_name(
    model: Model, image: object, question: object, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        model.answer(image, question)  # pyright: ignore


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"samples": 2, "temperature": -1.0}, "temperature must be a finite number above 0; got -1.0"),
        ({"samples": 2, "temperature": float("nan")}, "temperature must be a finite number above 0; got nan"),
        ({"samples": 2, "temperature": 0.0}, "temperature must be a finite number above 0"),
        ({"samples": -1}, "samples must be an integer from 0 to 1000; got -1"),
        ({"seed": -1}, "seed must be an integer from 0 to 4294967295; got -1"),
        ({"seed": 2**70}, "seed must be an integer"),
        ({"max_new_tokens": 10**7}, "max_new_tokens must be an integer from 0 to 8192"),
        ({"frame": 3}, "Only DICOM files have a window and a frame"),
        ({"window": "lung"}, "Only DICOM files have a window and a frame"),
        ({"frame": -1}, "frame must be an integer, at least 0"),
    ],
)
def test_arguments_have_ranges(
    model: Model, picture: np.ndarray, arguments: dict[str, float | str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        model.answer(picture, QUESTION, **arguments)  # pyright: ignore


@pytest.mark.parametrize(
    ("question", "answers", "message"),
    [
        (QUESTION, "yes", "answers must be a list of texts"),
        ("", ["yes", "no"], "question is empty"),
        (QUESTION, [""], "answers: text 1 is empty"),
    ],
)
def test_answers_to_choose_from_are_texts(
    model: Model, picture: np.ndarray, question: str, answers: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        model.logprobs(picture, question, answers)


def test_unknown_names_and_sizes_of_maps_are_refused(model: Model, picture: np.ndarray) -> None:
    answer = model.answer(picture, QUESTION)
    with pytest.raises(ValueError, match=r"methods names 'rolout', which is not a method. Did you mean `rollout`"):
        model.saliency(answer, methods=("rolout",))
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"methods": ()}, "^methods must be a text or a list of texts, at least one"),
        ({"forced": "a\ud800"}, "^forced contains a lone surrogate"),
        ({"other": "\0"}, "^other is empty: it has no letter and no digit"),
        ({"residuals": (0.5, 2.0)}, r"^residuals must be in \[0, 1\]; got 2"),
    ]
    for options, message in wrong:
        with pytest.raises(ValueError, match=message):
            model.saliency(answer, **options)
    unused: list[tuple[dict[str, Any], str]] = [
        ({"residuals": (0.1, 0.9), "methods": ("raw",)}, r"^residuals=\(0.1, 0.9\) has no .*only rollout uses it"),
        ({"options": PassOptions(windows=4)}, "^options.windows=4 has no .*only occlusion, knockout use it"),
        ({"options": PassOptions(start_layer=1), "methods": "raw"}, "^options.start_layer=1 has no effect on"),
    ]
    for options, message in unused:
        with pytest.raises(ValueError, match=message):
            model.saliency(answer, **options)
    maps = model.saliency(answer, methods=("value_norm", "rollout_vision"))
    assert maps.methods == ("value_norm", "rollout", "value_norm_vision", "rollout_vision")
    assert maps.show_heads("value_norm").figure.axes
    with pytest.raises(ValueError, match=r"^value_norm has no residual to choose from; rollout has"):
        maps.show(method=("rollout", "value_norm"), residual=0.5)
    maps = model.saliency(answer)
    shown: list[tuple[dict[str, Any], str]] = [
        ({"method": ()}, "^method must be a text or a list of texts, at least one"),
        ({"word": ()}, "^word must be a text"),
        ({"residual": ()}, "^residual must be a finite number"),
    ]
    for options, message in shown:
        with pytest.raises(ValueError, match=message):
            maps.show(**options)
    for axes in ({"layers": [True]}, {"heads": [True]}):
        options: dict[str, Any] = dict(axes)
        with pytest.raises(ValueError, match=f"^{next(iter(axes))} must be a list of integers"):
            maps.map("raw", **options)
    with pytest.raises(ValueError, match=r"^path is '~nobody_here/a\.png', and no such user has a home here"):
        maps.show().save("~nobody_here/a.png")
    with pytest.raises(ValueError, match=r"mask must be a boolean array \[40 30\]"):
        maps.show(mask=np.zeros((3, 3), bool))
    with pytest.raises(ValueError, match=r"mask must be a boolean array \[40 30\]"):
        maps.quality(np.zeros((3, 3), bool))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"answer": True}, "Row 1: answer must be text"),
        ({"question": 5}, "Row 1, question must be text"),
        ({"answer_type": "maybe"}, "Row 1: answer_type must be closed or open"),
        ({"language": "xx"}, "Row 1: language must be one of en, zh"),
    ],
)
def test_rows_to_score_are_typed(model: Model, picture: np.ndarray, fields: dict[str, object], message: str) -> None:
    row = {"image": picture, "question": QUESTION, "answer": "yes"}
    with pytest.raises(ValueError, match=message):
        model.score([row | fields])


def test_the_use_of_the_first_of_several_frames_is_reported(model: Model, tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((9, 9), level, np.uint8)) for level in (0, 200)]
    for name in ("a.gif", "a.tiff", "a.webp", "a.png"):
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
        assert open_any(tmp_path / name).notes == ["The file has 2 frames, and the first one is shown."]


def rows_of(image: np.ndarray) -> RowSource:
    return rows_of_table([{"image": image, "question": QUESTION, "answer": "yes"}])


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda model, image: model.export("peft", "out", dtyp="float32"), "`export.dtyp`.*Did you mean `dtype`"),
        (lambda model, image: model.export("peft", "out", shard_gb=0), r"export\.shard_gb"),
        (lambda model, image: model.export("peft", "out", shard_gb="5"), r"export\.shard_gb"),
        (lambda model, image: model.saliency_quality(rows_of(image), case=3), "`quality.case`.*Did you mean `cases`"),
        (lambda model, image: model.saliency_quality(rows_of(image), cases=-3), "quality.cases=-3"),
        (lambda model, image: model.saliency_quality(rows_of(image), methods=("rol",)), "quality.methods names 'rol'"),
        (lambda model, image: model.saliency_quality(rows_of(image), shuffled_image_steps=2), "mode=saliency_quality"),
        (lambda model, image: model.score(rows_of(image), resamples=0), "^resamples must be an integer from 1"),
    ],
)
def test_a_wrong_option_is_refused_by_name_before_anything_runs(
    model: Model, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch, ask: Any, message: str
) -> None:
    monkeypatch.setattr(model, "_records", lambda *_, **__: pytest.fail("the model was asked"))
    with pytest.raises(ValueError, match=message):
        ask(model, picture)


def test_an_unknown_format_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"`export\.format` must be one of 'peft'.*got 'pefft'.*Did you mean `peft`"):
        change_part(ExportConfig(), "export", {"format": "pefft"})


def test_the_options_of_an_answer_are_written_alike() -> None:
    """`answer` shows them to a person, and its overloads take them from AnswerOptions."""
    shown = inspect.signature(Model.answer).parameters
    assert set(AnswerOptions.__annotations__) == set(shown) - {"self", "image", "question"}
    assert {name: shown[name].default for name in AnswerOptions.__annotations__} == ANSWER_OPTIONS


def test_16_bit_images_are_read_as_the_data_were(tmp_path: Path) -> None:
    """A 12-bit image in 16-bit levels is nearly black unless data.bit_depth says so, as it did in training."""
    levels = np.random.default_rng(0).integers(0, 4096, (20, 20)).astype(np.uint16)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    deep = radvqa_jax.load("embedded", settings={"data.bit_depth": 12, "decode.max_new_tokens": 1})
    answer = deep.answer(tmp_path / "deep.png", QUESTION)
    assert isinstance(answer, radvqa_jax.Answer) and answer.image is not None
    np.testing.assert_array_equal(answer.image[..., 0], np.floor(levels / 4095 * 255 + 0.5))


def test_text_of_a_model_is_escaped(model: Model, picture: np.ndarray) -> None:
    answer = dataclasses.replace(model.answer(picture, QUESTION), text="<script>alert(1)</script>")
    assert "<script>" not in answer._repr_html_() and "&lt;script&gt;" in answer._repr_html_()


def test_a_wrong_field_or_model_is_refused_by_name() -> None:
    for given in ({"variant": "paligemma-3b-448"}, {"tokenizer": "t.model"}):
        with pytest.raises(ValueError, match="The embedded model has its own variant and tokenizer"):
            radvqa_jax.load("embedded", **given)
    with pytest.raises((KeyError, ValueError, AttributeError), match="promt"):
        radvqa_jax.load("embedded", settings={"data.promt": "x"})
    with pytest.raises((ValueError, FileNotFoundError), match=r"nowhere.npz"):
        radvqa_jax.load(
            "nowhere.npz", variant="tiny", tokenizer=str(radvqa_jax.__path__[0]) + "/assets/tiny/tokenizer.model"
        )


def test_a_pil_image_of_16_bits_follows_the_rule_for_images() -> None:
    deep = Image.fromarray(np.full((4, 4), 65535, np.uint16))
    assert (open_any(deep).image == 255).all()


def test_a_model_is_exported_and_loaded_again(model: Model, picture: np.ndarray, tmp_path: Path) -> None:
    folder = model.export("huggingface", tmp_path / "merged", dtype="float32")
    again = radvqa_jax.load(folder, settings={"data.seq_len": 32, "model.compute_dtype": "float32"} | FLOAT32)
    first, second = model.answer(picture, QUESTION), again.answer(picture, QUESTION)
    assert again.config.model.variant == "tiny" and second.prompt == first.prompt
    assert second.text == first.text and second.logprob == pytest.approx(first.logprob, abs=1e-3)


def test_an_answer_keeps_its_image_when_the_caller_uses_the_array_again(model: Model, picture: np.ndarray) -> None:
    array = np.stack([picture] * 3, axis=-1)
    answer = model.answer(array, QUESTION)
    array[:] = 0
    assert np.array_equal(answer.image, np.stack([picture] * 3, axis=-1))


def test_maps_are_shown_on_one_scale_and_measured_against_a_mask(model: Model, picture: np.ndarray) -> None:
    answer = model.answer(picture, QUESTION)
    maps = model.saliency(answer, forced="yes", other="no", residuals=(0.1, 0.9))
    assert maps.words[0] == "yes" and maps.map("contrast").min() < 0 and not maps.notes
    for text in ("<left> lung", "<loc0001>"):  # words of this form are no ends
        forced = model.saliency(answer, forced=text, methods=("raw",))
        np.testing.assert_allclose(forced.map("raw"), whole_answer(forced.bundle, "raw"), rtol=1e-6)
    spaced = model.saliency(answer, forced=" yes\n", other="yes ", methods="scores")
    assert np.array_equal(spaced.bundle.token_ids, maps.bundle.token_ids) and "contrast" not in spaced.methods
    assert spaced.notes == ["There is no contrast with “yes”: one answer is the beginning of the other."]
    assert spaced.map("scores").min() < 0 and spaced.show_heads("scores").figure.axes
    mask = np.zeros(picture.shape, bool)
    mask[:20] = True
    shown = maps.show(residual=(0.1, 0.9), scale="absolute", mask=mask)
    titles = [axes.get_title() for axes in shown.figure.axes if axes.get_title()]
    assert [title.replace("\n", " ") for title in titles] == ["image", "rollout, residual 0.1", "rollout, residual 0.9"]
    tops = [axes.get_yticklabels()[-1].get_text() for axes in shown.figure.axes if not axes.get_title()]
    shares = [maps.map(residual=weight) for weight in (0.1, 0.9)]
    _, end = robust_limits(*shares, signed=False)
    hotter = [share.max() > end for share in shares]  # both have the same end; a map beyond it says so
    assert any(hotter)
    assert tops == [f"\u2265 {end:.2g}" if beyond else f"{end:.2g}" for beyond in hotter]
    found = maps.quality(mask, "raw")
    assert found is not None and found.area == 0.5
    np.testing.assert_allclose(found.mass, maps.map("raw")[:4].sum() / maps.map("raw").sum(), rtol=1e-5)
    assert maps.show(method="contrast")._repr_png_().startswith(b"\x89PNG")
    assert maps.show_heads()._repr_png_() != maps.show_heads(scale="relative")._repr_png_()


@pytest.mark.slow
def test_the_quality_of_maps_is_that_of_the_mode(model: Model, tmp_path: Path) -> None:
    rows = radvqa_jax.read_rows("phantom_rad", builder_config="tiny", data_dir=str(tmp_path), prepare=True)
    found = model.saliency_quality(
        rows, cases=2, question_types=("side",), answer="own", batch_size=2, steps=2, random_orders=1, bootstrap=10
    )
    assert [case["question_type"] for case in found.cases] == ["side"] * 2
    assert found.left_out["another question type"] > 0 and "both towers shuffled" in found.scores["compared"]
    marked = {row["question_id"]: radvqa_jax.mask_of(row) for row in rows}
    assert all(marked[case["question_id"]] is not None for case in found.cases)
    assert "area under ROC" in str(found)
    for draw in (found.localisation, found.heads, found.curves, found.compared):
        assert draw()._repr_png_().startswith(b"\x89PNG")


def test_a_pil_image_is_turned_as_its_file_says_and_a_broken_one_is_named(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the right side is the top
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 6)
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as image:
        assert np.array_equal(open_any(image).image, open_any(tmp_path / "turned.png").image)
        assert open_any(image).image.shape == (6, 4, 3)
    noise = Image.effect_noise((64, 64), 50).convert("YCbCr")
    noise.save(tmp_path / "scan.tif", compression="jpeg")
    with Image.open(tmp_path / "scan.tif") as image:  # PIL would compress it once more
        assert np.array_equal(open_any(image).image, open_any(tmp_path / "scan.tif").image)
    Image.effect_noise((64, 64), 50).save(tmp_path / "whole.png")
    cut = io.BytesIO((tmp_path / "whole.png").read_bytes()[:1000])
    for broken in (Image.new("HSV", (4, 4)), Image.open(cut), Image.new("L", (0, 0))):
        with pytest.raises(ValueError, match="The PIL image"):
            open_any(broken)
