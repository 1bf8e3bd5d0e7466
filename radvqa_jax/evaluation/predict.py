"""Answers of a model to the questions of a data set, written to predictions.jsonl as they come."""

import json
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from radvqa_jax.config import DataConfig, DecodeConfig
from radvqa_jax.data.loader import eval_batches
from radvqa_jax.data.sources import RowSource
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.decoding.decode import decode
from radvqa_jax.evaluation.baselines import to_record
from radvqa_jax.files import append_jsonl, read_json, read_jsonl, write_json, write_jsonl
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.schema import Record
from radvqa_jax.trees import Flat, flatten


def read_records(path: Path) -> list[Record]:
    """Returns the records of a predictions file; an error names the file."""
    try:
        return [Record.from_json(row) for row in read_jsonl(path)]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def resume(path: Path, fingerprint: dict[str, Any], batch_size: int, total: int) -> int:
    """Returns how many rows of an interrupted run are done, after cutting its file back to whole batches.

    Draws depend on a batch's number, so only whole batches are kept: the rest comes out the same as uninterrupted.
    """
    described = path.with_suffix(".json")
    if not path.is_file():
        write_json(described, fingerprint)
        return 0
    found = flatten(read_json(described)) if described.is_file() else {}
    wanted = flatten(json.loads(json.dumps(fingerprint)))  # as it would be read back: tuples become lists
    if differing := sorted(name for name in found | wanted if found.get(name) != wanted.get(name)):
        raise ValueError(
            f"{path} holds answers made with other settings; these differ: {', '.join(differing)}. "
            f"Give another --workdir, or delete the file and {described.name}."
        )
    done = read_jsonl(path, allow_cut=True)
    if len(done) == total:
        return total
    whole = len(done) - len(done) % batch_size
    write_jsonl(path, done[:whole])
    return whole


def predict(
    model: PaliGemma,
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
) -> list[Record]:
    """Returns a record for every row, in order, and writes them to `path`, one JSON object a line.

    An interrupted call continues with the next whole batch and gives what an uninterrupted one would have.

    Args:
        model: with the adapters that `params` holds.
        params: flat tree of base leaves and adapters.
        rows: questions; after `RowSource.with_images_of`, each with another row's image.
        tokenizer: of the checkpoint.
        data: prompt and length.
        config: samples, temperature, batch size; draws come from `seed` and the number of the batch.
        seed: of sampling.
        run: which model this is: base, stage1, stage2, ….
        path: the predictions file; `path` with suffix .json holds the fingerprint.
        fingerprint: what the answers depend on, as JSON values; a file with another one is not continued.
    """
    start = resume(path, fingerprint, config.batch_size, len(rows))
    if start == len(rows):
        return read_records(path)
    todo = rows.select(range(start, len(rows))) if start else rows
    batches = eval_batches(
        todo,
        data=data,
        tokenizer=tokenizer,
        resolution=model.variant.resolution,
        batch_size=config.batch_size,
    )
    key = jax.random.key(seed)
    count = math.ceil(len(todo) / config.batch_size)
    for number, (batch, batch_rows) in enumerate(tqdm(batches, run, count, disable=None), start // config.batch_size):
        decoded = decode(
            model,
            params,
            batch,
            jax.random.fold_in(key, number),
            config=config,
            eos=tokenizer.eos,
            pad=tokenizer.pad,
        )
        tokens, logprobs = np.asarray(decoded.tokens), np.asarray(decoded.logprobs)
        records = []
        for index, row in enumerate(batch_rows):
            answers = [tokenizer.decode(sample) for sample in tokens[index]]
            record = to_record(row, predictions=answers, run=run, image_used=row.get("image_used") or row["image_id"])
            prompt, _ = rows.text(row, template=data.prompt)
            records.append(record._replace(logprobs=[float(x) for x in logprobs[index]], prompt=prompt))
        append_jsonl(path, [record.to_json() for record in records])
    return read_records(path)
