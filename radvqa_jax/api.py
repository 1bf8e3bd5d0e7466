"""The public API: load a model, ask it, see what it read, score it, export it.

    import radvqa_jax

    model = radvqa_jax.load("paligemma-3b-mix-448", adapter="runs/s2/stage2")
    answer = model.answer("chest.png", "Is there a nodule?", samples=5)
    model.saliency(answer).show(word="nodule", method="rollout")

The modes of `python -m radvqa_jax.main` use the same functions. Research software, not for clinical use.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Unpack, overload

from radvqa_jax import api_checks
from radvqa_jax.api_maps import Maps, Picture, tokens_to_map
from radvqa_jax.api_quality import MapQuality, measure_quality
from radvqa_jax.api_rows import as_list, asked_rows, is_many, mask_of, read_rows, rows_of_table
from radvqa_jax.api_values import Answer, AnswerOptions, Choice, Scores, answer_options, make_answer
from radvqa_jax.backbones import backbone_of
from radvqa_jax.config import Config, default_config, use_embedded_model
from radvqa_jax.config.bounds import MOST_RESAMPLES
from radvqa_jax.config.check import change, flat_fields, from_config_dict, given_fields
from radvqa_jax.data.fitting import fitting
from radvqa_jax.data.image import resize_image
from radvqa_jax.data.opened import ImageLike, Opened, open_any
from radvqa_jax.data.packing import pack
from radvqa_jax.data.rows import RowSource
from radvqa_jax.decoding.answer_logprobs import logprobs_about
from radvqa_jax.decoding.finite import check_texts
from radvqa_jax.evaluation import baselines, report
from radvqa_jax.evaluation.predict import answer_rows
from radvqa_jax.evaluation.scorable import check_not_asked, scorable
from radvqa_jax.exporting import export
from radvqa_jax.loaded_base import LoadedBase, configured_adapter, follow_adapter, load_base
from radvqa_jax.prompts import one_line, vqa_prefix
from radvqa_jax.resolve import resolve_model
from radvqa_jax.saliency.bundle import make_bundle, row_length
from radvqa_jax.saliency.compare import no_contrast
from radvqa_jax.saliency.maps import pass_options
from radvqa_jax.saliency.methods import check_methods, computed, plain
from radvqa_jax.saliency.passes import PassOptions
from radvqa_jax.saliency.quality_cases import Subject
from radvqa_jax.saliency.unused import check_options
from radvqa_jax.schema import Record
from radvqa_jax.training.stage import Trained, assemble
from radvqa_jax.xla_flags import avoid_miscompilation

__all__ = ["Answer", "Choice", "MapQuality", "Maps", "Model", "Picture", "Scores", "load", "mask_of", "read_rows"]

EMBEDDED = "embedded"


def load(
    model: str | Path = EMBEDDED,
    *,
    adapter: str | Path = "",
    tokenizer: str | Path = "",
    variant: str = "",
    settings: Mapping[str, Any] | None = None,
) -> "Model":
    """Loads a model, and an adapter if one is given.

    The prompt, text length, resolution, quantisation and dtype are those of the adapter's training. To use the adapter
    with others, give the field in `settings`, and also name it in `settings["adapter_accept"]`.

    Args:
        model: a Hugging Face folder, a `.safetensors` or native `.npz` file, or "embedded": the tiny model that comes
            with the package and is of no use for medicine.
        adapter: the folder of a trained stage, its `adapter.npz`, or a PEFT folder; empty = the base model.
        tokenizer: the SentencePiece file; empty = the folder's.
        variant: a name in models/variants.py; empty = the checkpoint's.
        settings: fields of the configuration by their names, such as {"data.prompt": …, "model.quantize": "nf4"}, or
            in groups, such as {"model": {"quantize": "nf4"}}. They are the defaults of the model's calls.

    Raises:
        FileNotFoundError, ValueError: if something is missing, does not fit or contradicts the rest; it names the
            problem and the way out.
    """
    for value, name in ((model, "model"), (adapter, "adapter"), (tokenizer, "tokenizer")):
        api_checks.home_path(value, name)
    avoid_miscompilation()
    fields = default_config()
    fields.mode = "ask"  # the rules of this mode apply; image and question come later
    fields.ask.image = fields.ask.question = "given to answer()"
    if str(model) == EMBEDDED:
        if variant or tokenizer:
            raise ValueError("The embedded model has its own variant and tokenizer. Leave both out, or name a model.")
        use_embedded_model(fields)
    else:
        fields.model.checkpoint = str(model)
        fields.model.variant = variant
    fields.adapter = str(adapter)
    if tokenizer:
        fields.model.tokenizer = str(tokenizer)
    given = flat_fields(api_checks.check_mapping({} if settings is None else settings, "settings"))
    arguments = {"adapter": adapter, "model.checkpoint": model, "model.tokenizer": tokenizer, "model.variant": variant}
    if twice := [name for name, value in arguments.items() if name in given and str(value) not in ("", EMBEDDED)]:
        raise ValueError(f"`{twice[0]}` is given twice, as an argument and in settings. Leave one out.")
    api_checks.check_settings(given)
    try:
        fields.update_from_flattened_dict(given)
    except (TypeError, KeyError) as error:  # an unknown stage
        raise ValueError(f"settings cannot be used: {error.args[0]}") from error
    config = follow_adapter(from_config_dict(fields), given=given_fields(fields, given))
    loaded = load_base(resolve_model(config), Path())
    run, trained = configured_adapter(loaded)
    return Model(loaded, trained, run=run)


class Model:
    """A loaded model with its adapter.

    For work in JAX, `model` is the Flax module and `params` the flat tree of its leaves. Leaves may be replaced: all
    methods use the new ones, except that `export` refuses them.
    """

    def __init__(self, loaded: LoadedBase, trained: Trained, *, run: str = "model") -> None:
        """Joins a loaded base (`radvqa_jax.loaded_base`) and its trained leaves. `load` does all of it."""
        self._loaded, self._trained, self._run = loaded, trained, run
        self.model, self.params = assemble(loaded.config, loaded.base, trained)
        self._as_loaded = dict(self.params)
        self._tower = trained.tower(backbone_of(self.model.variant))

    def __repr__(self) -> str:
        config = self.config
        adapter = f", adapter={config.adapter!r}" if config.adapter else ""
        return f"Model({self._loaded.base.name!r}{adapter}, {config.model.variant}, prompt={config.data.prompt!r})"

    @property
    def config(self) -> Config:
        """The frozen configuration: what was loaded, and how it is used."""
        return self._loaded.config

    @overload
    def answer(self, image: ImageLike, question: str, **options: Unpack[AnswerOptions]) -> Answer: ...
    @overload
    def answer(
        self, image: ImageLike | Sequence[ImageLike], question: str | Sequence[str], **options: Unpack[AnswerOptions]
    ) -> list[Answer]: ...
    def answer(
        self,
        image: ImageLike | Sequence[ImageLike],
        question: str | Sequence[str],
        *,
        samples: int | None = None,
        temperature: float | None = None,
        max_new_tokens: int = 0,
        seed: int | None = None,
        frame: int = 0,
        window: str = "",
    ) -> Answer | list[Answer]:
        """Answers one question about one image, or several.

        Several are: one image with several questions, several images with one question, or equal numbers of both.

        Args:
            image: a path, a DICOM file, bytes, a PIL image or a uint8 array; or a sequence of these.
            question: text, or a sequence of texts.
            samples: answers to sample in addition to the greedy one, to see whether they agree; None = `decode.samples`
                if the settings of `load` have more than one, else 0.
            temperature: of the samples, above 0; None = `decode.temperature` if it is above 0, else 1.
            max_new_tokens: longest answer, in tokens; 0 = as configured.
            seed: of the samples; None = `seed` of the settings.
            frame: of a DICOM file, from 1; 0 = the first.
            window: of a DICOM file, such as lung for CT; empty = its own.

        Returns:
            One answer; or a list in the given order, if `image` or `question` is a sequence.

        Raises:
            ValueError: if an argument is out of its range, the numbers of images and questions do not match, or an
                image cannot be opened.
        """
        return self._answer(
            image, question, samples=samples, temperature=temperature, max_new_tokens=max_new_tokens, seed=seed,
            frame=frame, window=window,
        )  # fmt: skip

    def caption(
        self,
        image: ImageLike | Sequence[ImageLike],
        *,
        prompt: str = "",
        max_new_tokens: int = 0,
        frame: int = 0,
        window: str = "",
    ) -> Answer | list[Answer]:
        """Describes one image, or several. The other arguments and the result are those of `answer`.

        Args:
            image: as for `answer`.
            prompt: the text that asks for the description; empty = `eval.source.prompt` of the settings, else the
                prompt of the captions that the adapter was trained with, else "caption en".
            max_new_tokens: as for `answer`.
            frame: as for `answer`.
            window: as for `answer`.
        """
        if prompt != "":
            api_checks.check_text(prompt, "prompt")
        return self._answer(
            image, "", task="caption", caption_prompt=prompt or self._caption_prompt, samples=0,
            max_new_tokens=max_new_tokens, frame=frame, window=window,
        )  # fmt: skip

    @property
    def _caption_prompt(self) -> str:
        return self.config.eval.source.prompt or self._trained.caption_prompt or ""

    def _answer(
        self,
        image: Any,
        question: Any,
        *,
        task: Literal["vqa", "caption"] = "vqa",
        caption_prompt: str = "",
        **options: Unpack[AnswerOptions],
    ) -> Answer | list[Answer]:
        chosen = answer_options(options, self.config)
        api_checks.check_draws(**{name: chosen[name] for name in chosen if name not in ("frame", "window")})
        images, questions = as_list(image), as_list(question)
        opened = [self._open(item, frame=chosen["frame"], window=chosen["window"]) for item in images]
        rows = asked_rows(opened, questions, task=task, caption_prompt=caption_prompt)
        new = chosen["max_new_tokens"] or self.config.decode.max_new_tokens
        greedy = dataclasses.replace(self.config.decode, samples=1, temperature=0.0, max_new_tokens=new)
        said = self._records(rows, decode=greedy, seed=chosen["seed"])
        drawn: Sequence[Record | None] = [None] * len(said)
        if chosen["samples"]:
            decode = dataclasses.replace(greedy, samples=chosen["samples"], temperature=chosen["temperature"])
            drawn = self._records(rows, decode=decode, seed=chosen["seed"])
        shown = opened * len(rows) if len(opened) == 1 else opened
        asked = questions * len(rows) if len(questions) == 1 else questions
        answers = [make_answer(*parts) for parts in zip(shown, asked, said, drawn, strict=True)]
        return answers if is_many(image) or is_many(question) else answers[0]

    def _open(self, image: ImageLike, *, frame: int = 0, window: str = "") -> Opened:
        return open_any(image, frame=frame, window=window, bit_depth=self.config.data.bit_depth)

    def _records(self, rows: RowSource, *, decode: Any, seed: int) -> list[Record]:
        """The answers to rows, in the order of the rows."""
        loaded = self._loaded
        batches = answer_rows(
            self.model, self.params, rows, tokenizer=loaded.tokenizer, data=loaded.config.data,
            config=dataclasses.replace(decode, batch_size=min(decode.batch_size, len(rows))), seed=seed, run=self._run,
            image_tokens=loaded.image_tokens, tower=self._tower_now(),
        )  # fmt: skip
        found = {record.question_id: record for records in batches for record in records}
        return [found[name] for name in rows.column("question_id")]

    def _replaced(self) -> list[str]:
        """The names of the leaves of `params` that are not those that were loaded."""
        names = sorted(self.params.keys() | self._as_loaded.keys())
        return [name for name in names if self.params.get(name) is not self._as_loaded.get(name)]

    def _tower_now(self) -> str:
        """Names the weights of the vision tower, by which image tokens are kept."""
        new = {name: self.params[name] for name in self._replaced() if name in self.params}
        if not new:
            return self._tower
        return Trained(self._trained.leaves | new, self._trained.lora).tower(backbone_of(self.model.variant))

    def logprobs(
        self, image: ImageLike, question: str, answers: Sequence[str], *, frame: int = 0, window: str = ""
    ) -> Choice:
        """The likelihood of each of these answers, as log-probabilities (nats) and as shares among them.

        White space in an answer is collapsed, as in training.

        Use it for closed questions: `model.logprobs(image, "Is there a mass?", ["yes", "no"]).best`.

        Raises:
            ValueError: if an argument is not valid, or a log-probability is not finite.
        """
        api_checks.check_text(question, "question")
        api_checks.check_answers(answers)
        data, tokenizer = self.config.data, self._loaded.tokenizer
        prefix = vqa_prefix(question, template=data.prompt)
        packed = [
            pack(tokenizer, prefix, suffix=one_line(answer), seq_len=data.seq_len, overlong="reject")
            for answer in answers
        ]
        opened = self._open(image, frame=frame, window=window)
        pixels = resize_image(opened.image, self.model.variant.resolution)
        found = dict(zip(answers, logprobs_about(self.model, self.params, pixels, packed), strict=True))
        check_texts(found, self.params, run=self._run)
        return Choice.of(question, found)

    def saliency(
        self,
        answer: Answer,
        *,
        forced: str = "",
        other: str = "",
        methods: Sequence[str] | None = None,
        residuals: float | Sequence[float] = (),
        options: PassOptions | None = None,
    ) -> Maps:
        """The maps of an answer: what the model read while it wrote the answer. They do not explain the answer.

        Args:
            answer: of this model, or of another one; this model is forced to write it, after the answer's prompt. Notes
                say if the prompt is not this model's, or its tokenizer writes the text with other tokens.
            forced: a text that the model is forced to write instead of the answer.
            other: an answer to compare with; it adds the methods that contrast two answers.
            methods: the maps to compute (saliency/methods.py); occlusion and knockout cost many passes. None = all that
                need no further pass, and those that `saliency.methods` names (relevancy, unless the settings of `load`
                have others).
            residuals: weights of rollout's residual in [0, 1], each for a map of its own; empty = that of `options`.
            options: all other settings of a pass (saliency/passes.py); None = those of `config.saliency`.

        Raises:
            ValueError: if an argument has the wrong type or range, a method is unknown, no method uses an option that
                is given, or the answer has no image or one that is no array of grey levels or RGB in 0 to 255.
        """
        if not isinstance(answer, Answer):
            raise ValueError(f"saliency takes what `answer` returned; got {type(answer).__name__}.")
        if not isinstance(options, PassOptions | None):
            raise ValueError(f"options must be a PassOptions; got {options!r:.100} ({type(options).__name__}).")
        weights = api_checks.weights_of(residuals, "residuals")
        if methods is not None:
            methods = api_checks.texts_of(methods, "methods")
            check_methods(tuple(methods), field="methods")
        methods = methods or computed(self.config.saliency)
        changed: dict[str, Any] = {"residuals": weights} if weights else {}
        # The settings serve other calls too: only what this call is given must be used.
        check_options(dataclasses.replace(options or PassOptions(), **changed), methods)
        options = dataclasses.replace(options or pass_options(self.config.saliency), **changed)
        for text, name in ((forced, "forced"), (other, "other")):
            if text != "":
                api_checks.check_text(text, name)
        if answer.image is None or not answer.token_ids:
            raise ValueError("The answer has no image or no tokens to look at.")
        image = api_checks.pixels_of(answer.image, "The answer's image")
        tokenizer, other = self._loaded.tokenizer, one_line(other)
        ids, notes = tokens_to_map(
            answer, forced=forced, tokenizer=tokenizer, template=self.config.data.prompt,
            caption_prompt=self._caption_prompt,
        )  # fmt: skip
        answers = [ids, tokenizer.encode(other, eos=True)] if other else [ids]
        bundle = make_bundle(
            self.model, self.params, tokenizer=tokenizer, image=image, prefix=answer.prompt,
            answer=ids, seq_len=row_length(self.config.data.seq_len, answers, step=self.config.decode.max_new_tokens),
            methods=list(map(plain, methods)), options=options, other=other,
        )  # fmt: skip
        alike = [no_contrast(other)] if other and not bundle.other else []
        notes = [*answer.notes, *notes, *alike]
        return Maps(bundle, image, answer.question, notes=notes, layers=self.config.saliency.layers)

    def saliency_quality(self, rows: RowSource, **fields: Any) -> MapQuality:
        """Measures the maps on rows with marked regions, as mode=saliency_quality does.

        The maps are compared with those of shuffled weights and, if there is an adapter, with those of the base.

        Args:
            rows: of `read_rows`; only rows with a mask or boxes count.
            fields: of `config.quality`, such as cases=12, question_types=("side",) or answer="reference".
        """
        api_checks.check_rows(rows, "rows")
        config = change(self.config, "quality", fields)
        check_methods(config.quality.methods, field="quality.methods")
        if config.quality.shuffled_image_steps:
            raise ValueError("quality.shuffled_image_steps trains a stage, which only mode=saliency_quality can do.")
        decode = change(config, "decode", {"samples": 1, "temperature": 0.0}).decode
        return measure_quality(
            self._loaded, self._trained, Subject(self.model, self.params), rows, quality=config.quality,
            answer=lambda chosen: self._records(chosen, decode=decode, seed=config.seed),
        )  # fmt: skip

    def export(self, format: Literal["peft", "huggingface", "big_vision"], folder: str | Path, **options: Any) -> Path:
        """Writes the adapter, or the model with it merged, in the format of another library, and checks the result.

        Args:
            format: `peft` (an adapter folder), `huggingface` (a merged folder) or `big_vision` (a merged npz).
            folder: the folder to write; a half-written one never replaces a good one.
            options: fields of `config.export`, such as dtype="float32".

        Returns:
            The path of the export.

        Raises:
            ValueError: if the format cannot hold what was trained, the export does not give the same logits, or the
                loaded model is not that of its files, which are exported: a leaf of `params`, or a file, was replaced.
        """
        if replaced := self._replaced():
            raise ValueError(
                f"{replaced[0]} of `params` was replaced after loading, and an export holds the files' weights. "
                "Load the model again, then export it."
            )
        place = api_checks.home_path(folder, "folder")
        config = change(self.config, "export", {"format": format, **options})
        done = export(config, place, loaded=(self._loaded.base, self._trained))
        for note in done.notes:
            print(note)
        print(f"{done.exported.folder}: {done.exported.difference.text()}")
        return done.exported.folder

    def score(
        self,
        rows: RowSource | Sequence[Mapping[str, Any]],
        *,
        train: RowSource | None = None,
        resamples: int | None = None,
    ) -> Scores:
        """Answers the questions of rows and scores the answers by the rules `exact` and `radvqa`.

        Args:
            rows: of `read_rows`, or dicts with image, question, answer and optionally other common features.
            train: training rows of the blind baselines (question-only and majority answer); None = no baselines.
            resamples: of the bootstrap over images; None = `eval.bootstrap` of the settings.
        """
        resamples = self.config.eval.bootstrap if resamples is None else resamples
        api_checks.check_integer(resamples, "resamples", low=1, high=MOST_RESAMPLES)
        if train is not None:
            api_checks.check_rows(train, "train")
        source = rows if isinstance(rows, RowSource) else rows_of_table(rows, bit_depth=self.config.data.bit_depth)
        source = fitting(scorable(source), data=self.config.data, tokenizer=self._loaded.tokenizer)
        if train is not None:
            check_not_asked(train, source, field="train")
        records = self._records(source, decode=self.config.decode, seed=self.config.seed)
        experiment = report.Experiment(source.name, {self._run: records})
        if train is not None:
            known, asked = list(train.texts()), list(source.texts())
            blind = baselines.question_only(known, asked), baselines.majority(known, asked)
            experiment = dataclasses.replace(experiment, question_only=blind[0], majority=blind[1])
        values = report.build_scores(experiment, resamples=resamples, seed=self.config.seed)
        return Scores(report.format_table(values), values, tuple(records))
