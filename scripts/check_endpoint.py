"""Asks a server our questions with images, and compares its answers with our own greedy ones, token by token.

    python scripts/check_endpoint.py --predictions runs/x/predictions/adapted.jsonl --images FOLDER \
        --tokenizer runs/export/huggingface/tokenizer.model --base-url http://127.0.0.1:8000/v1 --model NAME

The server is any that speaks the OpenAI chat protocol with images: vLLM, transformers serve, mlx-vlm. It should hold
the exported model. A server that reads PaliGemma's prompt causally instead of in both directions answers fluently but
differently. The sign of it is agreement far below 100 %, with differences at the first tokens.

FOLDER has an image for each image_id of the predictions: a file of that name, with or without a suffix. With
--resolution the images are resized here as in training, so that only the model is compared and not the resizing.
Prints the agreement, with n and an interval, and where answers diverge; --out keeps every answer as JSON. The exit code
is 1 if a request failed. Needs the extra `judge` (the openai client).
"""

import argparse
import base64
import io
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from openai import DefaultHttpxClient, OpenAI, OpenAIError
from PIL import Image

from radvqa_jax import files
from radvqa_jax.chat_client import is_local
from radvqa_jax.command_line.script import run_script
from radvqa_jax.data.image import decode_image, resize_levels
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.evaluation.intervals import mean_interval
from radvqa_jax.evaluation.predict import read_records
from radvqa_jax.schema import Record

END = "the end of the answer"


class Compared(NamedTuple):
    """One question, as we and the server answered it."""

    question_id: str
    image_id: str
    ours: str
    theirs: str
    position: int  # of the first token that differs; -1 = none
    our_token: str
    their_token: str


def find_image(folder: Path, image_id: str) -> Path:
    """The file of an image: its id as the name, with or without a suffix.

    Raises:
        FileNotFoundError, ValueError: if there is none, there are several, or the id leads out of the folder.
    """
    plain = folder / image_id
    if folder.resolve() not in plain.resolve().parents:
        raise ValueError(f"The image_id {image_id!r} leads out of {folder}.")
    found = [plain] if plain.is_file() else sorted(plain.parent.glob(f"{plain.name}.*"))
    if len(found) != 1:
        raise FileNotFoundError(
            f"{folder} holds {len(found)} images called {image_id}; one is needed. Give --images, a folder with a file "
            "for each image_id."
        )
    return found[0]


def as_data_url(path: Path, resolution: int) -> str:
    """An image as a data URL of a PNG, resized as in training if a resolution is given."""
    levels = decode_image(path.read_bytes())
    levels = resize_levels(levels, resolution) if resolution else levels
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def connect(base_url: str, *, key: str) -> OpenAI:
    """A client that sends to the machine of `base_url` alone: through no proxy if that is this one, and no redirect."""
    http = DefaultHttpxClient(trust_env=not is_local(base_url), follow_redirects=False)
    return OpenAI(base_url=base_url, api_key=key, max_retries=2, http_client=http)


def ask(client: OpenAI, model: str, record: Record, image: str, *, max_tokens: int) -> str:
    """The server's greedy answer to a record's prompt about its image."""
    content: list[Any] = [
        {"type": "image_url", "image_url": {"url": image}},
        {"type": "text", "text": record.prompt or record.question},
    ]
    reply = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": content}], temperature=0, max_tokens=max_tokens
    )
    return (reply.choices[0].message.content or "").strip()


def our_tokens(tokenizer: Tokenizer, record: Record) -> list[int]:
    """Encodes our greedy answer from its text, as the server's answer is encoded.

    A model can spell a word with other tokens than the tokenizer does, and a server sends only text, without the
    spaces around it. With the generated ids, two equal texts could differ.
    """
    if not record.token_ids:
        return tokenizer.encode(record.predictions[0].strip())
    ids = [token for token in record.token_ids[0] if token not in (tokenizer.eos, tokenizer.pad)]
    return tokenizer.encode(tokenizer.decode(ids).strip())


def first_difference(tokenizer: Tokenizer, ours: list[int], theirs: str) -> tuple[int, str, str]:
    """(position, our token, their token) where two answers diverge; position -1 if they are the same.

    The end of an answer counts as a token, so that an answer which the server cut short differs, too.
    """
    a, b = ours, tokenizer.encode(theirs.strip())
    for position in range(max(len(a), len(b))):
        mine, theirs_here = (tokenizer.piece(ids[position]) if position < len(ids) else END for ids in (a, b))
        if a[position : position + 1] != b[position : position + 1]:
            return position, mine, theirs_here
    return -1, "", ""


def report(compared: list[Compared]) -> str:
    """The findings as text: agreement with n and interval, and the answers that diverge."""
    agree = np.array([float(row.position < 0) for row in compared])
    estimate = mean_interval(agree, [row.image_id for row in compared])
    interval = estimate.interval
    shown = f"{interval[0]:.1%} to {interval[1]:.1%}" if interval else "no interval"
    lines = [f"{int(sum(agree))} of {len(agree)} answers agree token by token: {estimate.value:.1%} ({shown})"]
    differing = [row for row in compared if row.position >= 0]
    if differing:
        places = Counter(row.position for row in differing)
        lines.append("first difference at token: " + ", ".join(f"{at} ({n}x)" for at, n in sorted(places.items())))
    lines += [
        f"  {row.question_id}: token {row.position} is {row.our_token!r} here and {row.their_token!r} there; "
        f"{row.ours!r} and {row.theirs!r}"
        for row in differing[:10]
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predictions", type=Path, required=True, help="predictions.jsonl with greedy answers")
    parser.add_argument("--images", type=Path, required=True, help="folder with a file for each image_id")
    parser.add_argument("--tokenizer", type=Path, required=True, help="SentencePiece .model of the exported model")
    parser.add_argument("--base-url", required=True, help="such as http://127.0.0.1:8000/v1")
    parser.add_argument("--model", required=True, help="as the server calls it")
    parser.add_argument("--resolution", type=int, default=0, help="pixels; resize as in training before sending")
    parser.add_argument("--max-tokens", type=int, default=32, help="decode.max_new_tokens of the predictions")
    parser.add_argument("--limit", type=int, default=0, help="number of questions, from the first; 0 = all")
    parser.add_argument("--out", type=Path, help="JSON file for all answers")
    parser.add_argument("--key-variable", default="OPENAI_API_KEY", help="environment variable that holds the key")
    parser.add_argument("--allow-remote", action="store_true", help="send images and questions to another machine")
    args = parser.parse_args()
    if not is_local(args.base_url) and not args.allow_remote:
        parser.error(f"{args.base_url} is another machine, and images would be sent. Give --allow-remote to allow it.")
    records = read_records(args.predictions)[: args.limit or None]
    if not records:
        parser.error(f"{args.predictions} holds no predictions.")
    paths = [find_image(args.images, record.image_used or record.image_id) for record in records]
    tokenizer = Tokenizer(args.tokenizer)
    client = connect(args.base_url, key=os.environ.get(args.key_variable) or "none")
    compared, failed = [], 0
    for record, path in zip(records, paths, strict=True):
        try:
            answer = ask(client, args.model, record, as_data_url(path, args.resolution), max_tokens=args.max_tokens)
        except OpenAIError as error:
            failed += 1
            print(f"{record.question_id}: no answer ({type(error).__name__}: {str(error)[:200]})", file=sys.stderr)
            continue
        difference = first_difference(tokenizer, our_tokens(tokenizer, record), answer)
        compared.append(Compared(record.question_id, record.image_id, record.predictions[0], answer, *difference))
    if compared:
        print(report(compared))
    if args.out:
        files.write_json(args.out, {"failed": failed, "answers": [row._asdict() for row in compared]})
    if failed:
        print(f"{failed} of {len(records)} requests failed", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    run_script(main)
