"""The mode that answers one question about one image, and shows what was read."""

import dataclasses
import os
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import UInt8

from radvqa_jax.config import Config, DecodeConfig
from radvqa_jax.data.dicom import read_dicom
from radvqa_jax.data.dicom_guard import MAX_BYTES, is_dicom
from radvqa_jax.data.image import resize_image, to_rgb
from radvqa_jax.data.packing import pack_prompt
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.decoding.decode import answer_ids, decode
from radvqa_jax.decoding.finite import check_answers
from radvqa_jax.evaluation.normalize import normalize
from radvqa_jax.evaluation.report import run_label
from radvqa_jax.files import write_json
from radvqa_jax.ground import load_ground, shown_models
from radvqa_jax.prompts import vqa_prefix
from radvqa_jax.saliency.compare import other_answer
from radvqa_jax.saliency.gallery import Asked, write_case
from radvqa_jax.saliency.viewer import write_viewer
from radvqa_jax.saliency.viewer_cases import Shown
from radvqa_jax.schema import Batch, Record
from radvqa_jax.training.stage import assemble
from tfds_builders.images import depth_advice, read_image
from tfds_builders.regular_files import open_regular


class Opened(NamedTuple):
    """An image to ask about, and what may be said of it."""

    image: UInt8[np.ndarray, "h w 3"]
    facts: list[tuple[str, str]]
    notes: list[str]


def open_image(config: Config) -> Opened:
    """Returns the pixels of ask.image, with the window and the allowed tags of a DICOM file."""
    path = Path(config.ask.image).expanduser()
    if not path.exists():
        raise ValueError(f"ask.image={config.ask.image} is not there. Give an image or a DICOM file.")
    with open_regular(path) as file:
        if (size := os.fstat(file.fileno()).st_size) > MAX_BYTES:
            raise ValueError(
                f"ask.image={config.ask.image} has {size} bytes, more than {MAX_BYTES}. Give a smaller file."
            )
        data = file.read()
    if not data:
        raise ValueError(f"ask.image={config.ask.image} is empty. Give an image or a DICOM file.")
    if not is_dicom(data):
        if config.ask.window or config.ask.frame != 1:
            raise ValueError("ask.window and ask.frame are for DICOM files, and ask.image is none.")
        image, low_bits = read_image(data, bit_depth=config.data.bit_depth)
        notes = [f"The image {depth_advice(low_bits)}"] if low_bits else []
        return Opened(to_rgb(image), [], notes)
    found = read_dicom(data, frame=config.ask.frame, window=config.ask.window)
    facts = [("window", found.window), ("frame", f"{found.frame} of {found.frames}"), *found.tags.items()]
    return Opened(found.image, facts, found.warnings)


def agreement(answer: str, samples: list[str]) -> float:
    """Returns the share of samples that say what the answer says, in normal form.

    >>> agreement("Yes", ["yes", "Yes.", "no", "yes"])
    0.75
    """
    return sum(normalize(sample) == normalize(answer) for sample in samples) / len(samples)


def sampled(answer: str, samples: list[str]) -> list[tuple[str, str]]:
    """Returns the samples, equal ones counted, and how many agree with the answer, as rows for a reader."""
    rows = [(f"{count} of {len(samples)} samples", text) for text, count in Counter(samples).most_common()]
    return [
        ("agreement", f"{agreement(answer, samples):.0%} of {len(samples)} samples say what the answer says"),
        *rows,
    ]


def _decode(one: Shown, batch: Batch, tokenizer: Tokenizer, config: DecodeConfig, seed: int) -> dict[str, Any]:
    """Returns the fields of a record that hold the answers."""
    key = jax.random.key(seed)
    out = decode(one.model, one.params, batch, key, config=config, eos=tokenizer.eos, pad=tokenizer.pad)
    check_answers(np.asarray(out.token_logprobs), ["asked"], one.params, run=one.label)
    ids = [answer_ids(tokens, eos=tokenizer.eos) for tokens in np.asarray(out.tokens)[0]]
    return {
        "predictions": [tokenizer.decode(answer) for answer in ids],
        "logprobs": np.asarray(out.logprobs)[0].tolist(),
        "token_ids": ids,
        "ended": [tokenizer.eos in answer for answer in ids],
    }


def ask(config: Config, workdir: Path) -> None:
    """Answers ask.question about ask.image: prints answer, samples and agreement; writes answer.json, viewer.html."""
    opened = open_image(config)
    ground = load_ground(config, workdir)
    models = shown_models(ground)
    run = list(models)[-1]
    shown = {name: Shown(run_label(name), *assemble(config, ground.base, leaves)) for name, leaves in models.items()}
    if len(shown) == 1:
        shown = {run: shown[run]._replace(label="answer")}
    tokenizer, prefix = ground.tokenizer, vqa_prefix(config.ask.question, template=config.data.prompt)
    packed = {key: value[None] for key, value in pack_prompt(tokenizer, prefix, seq_len=config.data.seq_len).items()}
    pixels = resize_image(opened.image, shown[run].model.variant.resolution)[None]
    batch = Batch(image=pixels, mask_example=np.ones(1, bool), **packed)
    greedy = dataclasses.replace(config.decode, samples=1, temperature=0.0)
    drawn = dataclasses.replace(config.decode, samples=config.ask.samples, temperature=config.ask.temperature)
    records = {}
    for name, one in shown.items():
        said = _decode(one, batch, tokenizer, greedy, config.seed)
        records[name] = Record("asked", "asked", config.ask.question, "", prompt=prefix, run=name, **said)
    others = _decode(shown[run], batch, tokenizer, drawn, config.seed)
    answer, samples = records[run].predictions[0], others["predictions"]
    rows = sampled(answer, samples)
    found = {
        "question": config.ask.question,
        "prompt": prefix,
        "answer": answer,
        "logprob": records[run].logprobs[0],
        "token_ids": records[run].token_ids[0],
        "ended": records[run].ended[0],
        "samples": samples,
        "sample_logprobs": others["logprobs"],
        "temperature": drawn.temperature,
        "agreement": agreement(answer, samples),
        "image": dict(opened.facts),
        "warnings": opened.notes,
        "run": run,
    }
    write_json(workdir / "answer.json", found)
    for name, value in [("answer", answer or "(nothing)"), *rows, *opened.facts]:
        print(f"{name}: {value}")
    cut = (
        [] if found["ended"] else [f"the answer was cut after {len(found['token_ids'])} tokens (raise max_new_tokens)"]
    )
    for note in [*opened.notes, *cut]:
        print(f"warning: {note}")
    if not answer.strip():
        print("No viewer: the answer has no words to look at.")
        return
    asked = Asked(
        records,
        opened.image,
        prefix,
        facts=[*rows, *opened.facts],
        notes=opened.notes,
        other=config.ask.other or other_answer(answer, [record.predictions[0] for record in records.values()]),
    )
    case, saved = write_case(shown, asked, tokenizer=tokenizer, config=config, folder=workdir / "saliency")
    print(f"The figures are {saved.figure}, its .pdf, and more beside it")
    print(f"The viewer is {write_viewer(workdir / 'viewer.html', [case], title='One question: what was read')}")
    print("Research software, not for clinical use.")
