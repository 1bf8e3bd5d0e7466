"""The mode that answers one question about one image, and shows what the answer read."""

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from radvqa_jax import typed_json
from radvqa_jax.api import Model
from radvqa_jax.api_values import Answer, agreement
from radvqa_jax.config import Config
from radvqa_jax.data.opened import Opened, open_any
from radvqa_jax.evaluation.report import run_label
from radvqa_jax.files import sha256, write_json
from radvqa_jax.loaded_base import load_base, shown_models
from radvqa_jax.saliency.compare import other_answer
from radvqa_jax.saliency.gallery import AskedCase, write_case
from radvqa_jax.saliency.unused import check_used
from radvqa_jax.saliency.viewer import write_viewer
from radvqa_jax.saliency.viewer_cases import Shown
from radvqa_jax.schema import Record


def open_image(config: Config) -> Opened:
    """The pixels of ask.image, with the window and the allowed tags of a DICOM file."""
    ask = config.ask
    try:
        return open_any(ask.image, frame=ask.frame, window=ask.window, bit_depth=config.data.bit_depth)
    except ValueError as error:
        raise ValueError(f"ask.image={ask.image}, ask.frame={ask.frame}, ask.window={ask.window!r}: {error}") from error


ANSWER = "answer.json"


def identify_question(config: Config) -> str:
    """The sha256 of what an answer depends on: the configuration, and the content of the image and of the adapters."""
    files = [Path(config.ask.image).expanduser()]
    for given in filter(None, (config.adapter, *config.saliency.beside)):
        place = Path(given).expanduser()
        files += sorted(place.glob("adapter*")) if place.is_dir() else [place]
    found = {"config": dataclasses.asdict(config), "files": [sha256(path) for path in files if path.is_file()]}
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def refuse_other_answer(asked: str, workdir: Path, *, weights: Mapping[str, str] | None = None) -> None:
    """Raises ValueError if the workdir has the answer to another question, or one that was made in another way.

    `weights` has the hashes of checkpoint and tokenizer, once they are read: other files may have taken their places.
    """
    path = workdir / ANSWER
    if not path.exists():
        return
    kept = typed_json.read(path, dict[str, Any])
    other = weights is not None and kept.get("weights", weights) != weights
    if kept.get("asked") != asked or other:
        raise ValueError(
            f"{path} answers {kept.get('question')!r}, asked with another image, question, model or setting, and would "
            f"be replaced. Give another --workdir, one for each question, or remove {path}."
        )


def sampled(answer: str, samples: Sequence[str]) -> list[tuple[str, str]]:
    """The samples with their counts, and the number that agree with the answer, as rows for a reader."""
    rows = [(f"{count} of {len(samples)} samples", text) for text, count in Counter(samples).most_common()]
    return [
        ("agreement", f"{agreement(answer, samples):.0%} of {len(samples)} samples say what the answer says"),
        *rows,
    ]


def _record(answer: Answer, *, run: str) -> Record:
    return Record(
        "asked",
        "asked",
        answer.question,
        "",
        [answer.text],
        [answer.logprob],
        prompt=answer.prompt,
        run=run,
        token_ids=[list(answer.token_ids)],
        ended=[answer.ended],
    )


def ask_mode(config: Config, workdir: Path) -> None:
    """Answers ask.question about ask.image: prints answer, samples and agreement; writes answer.json, viewer.html.

    Raises:
        ValueError: if the workdir has another answer.
    """
    check_used(config)
    opened = open_image(config)
    asked_as = identify_question(config)
    refuse_other_answer(asked_as, workdir)
    loaded = load_base(config, workdir)
    weights = {"checkpoint_sha256": loaded.base.sha256, "tokenizer_sha256": loaded.tokenizer.sha256}
    refuse_other_answer(asked_as, workdir, weights=weights)
    models = shown_models(loaded)
    run = list(models)[-1]
    asked_models = {name: Model(loaded, leaves, run=name) for name, leaves in models.items()}
    shown = {name: Shown(run_label(name), one.model, one.params) for name, one in asked_models.items()}
    if len(shown) == 1:
        shown = {run: shown[run]._replace(label="answer")}
    said = {name: model.answer(opened, config.ask.question, samples=0) for name, model in asked_models.items()}
    answer = asked_models[run].answer(
        opened,
        config.ask.question,
        samples=config.ask.samples,
        temperature=config.ask.temperature,
        seed=config.seed,
    )
    rows = sampled(answer.text, answer.samples)
    found = {
        "question": answer.question,
        "prompt": answer.prompt,
        "answer": answer.text,
        "logprob": answer.logprob,
        "token_ids": answer.token_ids,
        "ended": answer.ended,
        "samples": answer.samples,
        "sample_logprobs": answer.sample_logprobs,
        "temperature": config.ask.temperature,
        "agreement": answer.agreement,
        "image": dict(opened.facts),
        "warnings": opened.notes,
        "run": run,
        "asked": asked_as,
        "weights": weights,
    }
    write_json(workdir / ANSWER, found)
    for name, value in [("answer", answer.text or "(nothing)"), *rows, *opened.facts]:
        print(f"{name}: {value}")
    cut = (
        [] if found["ended"] else [f"the answer was cut after {len(found['token_ids'])} tokens (raise max_new_tokens)"]
    )
    for note in [*opened.notes, *cut]:
        print(f"warning: {note}")
    if not answer.text.strip():
        print("No viewer: the answer has no words to look at.")
        return
    asked = AskedCase(
        {name: _record(one, run=name) for name, one in said.items()},
        opened.image,
        answer.prompt,
        headline=[("agreement", f"{answer.agreement:.0%} of {len(answer.samples)} samples".replace("%", " %"))],
        facts=[*rows, *opened.facts],
        notes=opened.notes,
        other=config.ask.other or other_answer(answer.text, [one.text for one in said.values()]),
    )
    case, saved = write_case(shown, asked, tokenizer=loaded.tokenizer, config=config, folder=workdir / "saliency")
    print(f"The figures are {saved.figure}, its .pdf, and others in that folder")
    print(f"The viewer is {write_viewer(workdir / 'viewer.html', [case], title='One question: what was read')}")
    print("Research software, not for clinical use.")
