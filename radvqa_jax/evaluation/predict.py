"""Answers of a model to the questions of a data set, written to predictions.jsonl as they come."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int, UInt32

from radvqa_jax import processes, progress, typed_json
from radvqa_jax.config import DataConfig, DecodeConfig
from radvqa_jax.data.eval_loader import Prompts, prompt_batches
from radvqa_jax.data.history import Conversations, with_references
from radvqa_jax.data.rows import Row, RowSource
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.decoding.batch_size import MOST
from radvqa_jax.decoding.decode import answer_ids, decode
from radvqa_jax.decoding.finite import check_answers
from radvqa_jax.decoding.image_tokens import ImageTokens
from radvqa_jax.evaluation.answer_batches import alike_together, batch_size_for, by_length, share_of
from radvqa_jax.evaluation.baselines import to_record
from radvqa_jax.evaluation.kept_answers import part_of, settings_hash
from radvqa_jax.evaluation.kept_together import KeptTogether
from radvqa_jax.files import append_jsonl
from radvqa_jax.models.vision_language import VisionLanguageModel
from radvqa_jax.processes import Group
from radvqa_jax.schema import Batch, Record
from radvqa_jax.trees import Flat


def read_records(path: Path) -> list[Record]:
    """The records of a predictions file; an error names the file, the line and the field."""
    return typed_json.read_lines(path, Record)


def draw_seed(seed: int, source: str, question_id: str, sample: int) -> int:
    """The seed of one drawn answer, in [0, 2^32): independent of batch, order and part of the data set."""
    digest = hashlib.sha256(f"{seed}\n{source}\n{question_id}\n{sample}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def _seeds(rows: Sequence[Any], *, config: DecodeConfig, seed: int, size: int) -> UInt32[np.ndarray, "B k"]:
    """The seed of each answer; zeros for rows that only fill the batch."""
    seeds = np.zeros((size, config.samples), np.uint32)
    for index, row in enumerate(rows):
        seeds[index] = [draw_seed(seed, row["source"], row["question_id"], s) for s in range(config.samples)]
    return seeds


def _batches(
    rows: RowSource,
    asked: Collection[int],
    *,
    model: VisionLanguageModel,
    data: DataConfig,
    config: DecodeConfig,
    tokenizer: Tokenizer,
    kept: ImageTokens,
    tower: str,
    sized_for: int,
) -> Iterator[Prompts]:
    """Yields the prompts of the rows with the indices `asked`, the shortest shape first."""
    groups = by_length(rows, tokenizer=tokenizer, data=data, batch_size=config.batch_size)
    room = kept.room(model)
    batch_size = batch_size_for(model, config, rows=sized_for, prompt=max(groups))
    wanted = set(asked)
    for width, members in groups.items():
        if todo := [index for index, _ in members if index in wanted]:
            yield from prompt_batches(
                rows.select(alike_together(rows, todo, room=room)),
                data=dataclasses.replace(data, seq_len=width),
                tokenizer=tokenizer,
                resolution=model.variant.resolution,
                batch_size=batch_size,
                known=partial(kept.has, tower),
            )


def _records(
    rows: RowSource,
    batch_rows: Sequence[Any],
    tokens: Int[np.ndarray, "B k T"],
    logprobs: Float[np.ndarray, "B k"],
    *,
    tokenizer: Tokenizer,
    prompt: str,
    run: str,
) -> list[Record]:
    """The record of each row, without the settings; surplus rows of the arrays are dropped."""
    records = []
    eos = tokenizer.eos
    for row, answers, probs in zip(batch_rows, tokens, logprobs, strict=False):
        record = to_record(
            row,
            predictions=[tokenizer.decode(answer) for answer in answers],
            run=run,
            image_used=row.get("_image_used") or row["image_id"],
        )
        asked, wanted = rows.text(row, template=prompt)
        if rows.source.task == "caption":  # the row's own question was not asked
            record = record._replace(question=asked, reference=wanted, answer_type="", question_type="", choices=[])
        ids = [answer_ids(answer, eos=eos) for answer in answers]
        records.append(
            record._replace(
                logprobs=[min(0.0, round(float(x), 6)) for x in probs],
                prompt=asked,
                token_ids=ids,
                ended=[eos in answer for answer in ids],
                history=[turn.question_id for turn in row.get("_history", ())],
            )
        )
    return records


def predict(
    model: VisionLanguageModel,
    params: Flat,
    rows: RowSource,
    *,
    tokenizer: Tokenizer,
    data: DataConfig,
    config: DecodeConfig,
    seed: int,
    run: str,
    path: Path,
    fingerprint: dict[str, Any],
    image_tokens: ImageTokens | None = None,
    tower: str = "",
    group: Group | None = None,
) -> list[Record]:
    """A record for every row, in order, and writes them to `path`, one JSON object a line.

    With data.history the questions about an image are asked in a row (data/history.py), turn by turn if the history is
    the model's own answers. Several processes divide the questions among themselves, and each of them gets all records.
    The file is the same for any number of processes, as long as batches have one size (`config.batch_size`) and devices
    are of one kind: texts are identical, and log-probabilities agree to rounding, since batches have other rows.

    Lines are appended batch by batch, and sorted into the order of the rows at the end. An interrupted call continues
    with the questions that have no line, and gives the result of an uninterrupted one, log-probabilities to rounding,
    since they are computed in other batches: the length to which a prompt is padded depends on all rows, and a draw on
    `seed`, the data set, the question and the number of the sample.

    Args:
        model: with the adapters that `params` holds.
        params: flat tree of base leaves and adapters.
        rows: questions; after `RowSource.with_images_of`, each with another row's image.
        tokenizer: of the checkpoint.
        data: prompt and length.
        config: samples, temperature, batch size.
        seed: of sampling.
        run: the name of the model: base, or a stage.
        path: the predictions file; `path` with suffix .json holds the fingerprint.
        fingerprint: the settings that the answers depend on, as JSON values; a file with another one is not continued.
        image_tokens: keeps image tokens from call to call; None = only for this call.
        tower: names the weights of the vision tower there (see Trained.tower).
        group: the processes; None = those of the run.

    Raises:
        ValueError: if a log-probability is not finite; the question, the token and the leaves at fault are named, and
            the batches before it are kept.
    """
    group = processes.group() if group is None else group
    kept = KeptTogether(path, rows.column("question_id"), fingerprint, group=group)
    done = kept.begin(tokenizer.decode)
    if len(done) == len(rows):
        return kept.end()
    settings, place = settings_hash(fingerprint), path if group.count == 1 else part_of(path, group.index)
    answer = partial(
        answer_rows,
        model,
        params,
        tokenizer=tokenizer,
        data=data,
        config=config,
        seed=seed,
        run=run,
        label=path.stem,
        image_tokens=ImageTokens() if image_tokens is None else image_tokens,
        tower=tower,
        group=group,
    )
    for records in _in_turns(answer, rows, done, data=data, tokenizer=tokenizer, group=group):
        append_jsonl(place, [record._replace(settings=settings).to_json() for record in records])
    return kept.end()


def _in_turns(
    answer: Callable[..., Iterator[list[Record]]],
    rows: RowSource,
    done: Mapping[str, Record],
    *,
    data: DataConfig,
    tokenizer: Tokenizer,
    group: Group,
) -> Iterator[list[Record]]:
    """Yields the records of `answer`, which is `answer_rows` of a model.

    With the model's own answers as history, the first question about every image is answered before any second one, and
    so on; a batch of a turn spans several images. Several processes exchange their answers after each turn.
    """
    if data.history != "own" or rows.source.task != "vqa":
        yield from answer(with_references(rows, data=data, tokenizer=tokenizer), done=done.keys())
        return
    said = {name: record.predictions[0] for name, record in done.items()}
    conversations = Conversations(rows, data=data, tokenizer=tokenizer)

    def own(row: Row) -> str:
        return said[row["question_id"]]

    turns = conversations.turns()
    for numbers in turns:
        asked = conversations.ask(numbers, own)
        known = done.keys() & set(asked.column("question_id"))
        new: dict[str, str] = {}
        # The first turn has the most rows: later turns fill batches of its size, and need no new compilation.
        for records in answer(asked, done=known, sized_for=len(turns[0])):
            new.update((record.question_id, record.predictions[0]) for record in records)
            yield records
        for part in group.gather(json.dumps(new).encode(), what="a turn is answered"):
            said.update(json.loads(part))


def answer_rows(
    model: VisionLanguageModel,
    params: Flat,
    rows: RowSource,
    *,
    tokenizer: Tokenizer,
    data: DataConfig,
    config: DecodeConfig,
    seed: int,
    run: str,
    done: Set[str] = frozenset(),
    label: str = "",
    image_tokens: ImageTokens | None = None,
    tower: str = "",
    sized_for: int = 0,
    group: Group = processes.ALONE,
) -> Iterator[list[Record]]:
    """Yields the records of each batch as it is answered, with a progress bar; like `predict`, but without a file.

    `done` holds the question_ids that need no answer; the others are divided over `group`, and those of this process's
    share are yielded. `label` is the label of the bar if `run` is not clear enough. Batches are sized for `sized_for`
    rows in all processes together; 0 = for the rows given. The other arguments and errors are those of
    `predict`.
    """
    kept = ImageTokens() if image_tokens is None else image_tokens
    todo = [index for index, name in enumerate(rows.column("question_id")) if name not in done]
    own = share_of(rows, todo, index=group.index, count=group.count)
    batches = _batches(
        rows,
        own,
        model=model,
        data=data,
        config=config,
        tokenizer=tokenizer,
        kept=kept,
        tower=tower,
        sized_for=-(-(sized_for or len(rows)) // group.count),
    )
    few = len(own) <= (config.batch_size or MOST)
    name = f"answers of {label or run}" + (f", 1 of {group.count} shares" if group.count > 1 else "")
    total = len(rows) if group.count == 1 else len(own)
    with progress.bar(name=name, total=total, initial=total - len(own), unit="question", disable=few) as bar:
        for prompts in batches:
            batch_rows, size = prompts.rows, len(prompts.mask_example)
            images = {shown.key: shown.unit for shown in prompts.images}
            image = kept.get(model, params, tower, images, [shown.key for shown in prompts.images])
            seeds = _seeds(batch_rows, config=config, seed=seed, size=size)
            decoded = decode(
                model,
                params,
                Batch(image=image, mask_example=prompts.mask_example, **prompts.texts),
                jax.vmap(jax.random.key)(seeds.reshape(-1)).reshape(seeds.shape),
                config=config,
                eos=tokenizer.eos,
                pad=tokenizer.pad,
            )
            asked = [row["question_id"] for row in batch_rows]
            check_answers(np.asarray(decoded.token_logprobs), asked, params, run=run)
            tokens, logprobs = np.asarray(decoded.tokens), np.asarray(decoded.logprobs)
            answers = _records(rows, batch_rows, tokens, logprobs, tokenizer=tokenizer, prompt=data.prompt, run=run)
            drawn = config.temperature > 0
            yield [
                record._replace(seeds=seeds[index].tolist() if drawn else []) for index, record in enumerate(answers)
            ]
            bar.update(len(answers))
