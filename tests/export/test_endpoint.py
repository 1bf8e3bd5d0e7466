"""scripts/check_endpoint.py with `transformers serve` and an exported model, and its parts alone."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from openai import OpenAIError
from PIL import Image

from radvqa_jax.backbones import abstract_params
from radvqa_jax.checkpoints import big_vision
from radvqa_jax.config import DecodeConfig, ExportConfig, LoraConfig
from radvqa_jax.data.image import resize_image
from radvqa_jax.data.packing import pack_prompt
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.decoding.decode import decode
from radvqa_jax.export.card import Card
from radvqa_jax.export.export import Source, export_model
from radvqa_jax.export.merged import Merge
from radvqa_jax.files import read_json, write_jsonl
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.models.variants import GemmaConfig, SiglipConfig, Variant
from radvqa_jax.schema import Batch, Record
from radvqa_jax.trees import Flat
from tests.serving import serve

VARIANT = Variant(
    SiglipConfig(width=32, depth=2, mlp_dim=48, num_heads=4, patch=14),
    GemmaConfig(width=64, depth=3, mlp_dim=96, num_heads=4, num_kv_heads=1, head_dim=16, vocab_size=1664),
    56,
)
QUESTIONS = ("what shape is it?", "where is the circle?", "is there a square?")


@pytest.fixture(scope="module")
def script(repo: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_endpoint", repo / "scripts" / "check_endpoint.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def record(number: int, answer: str, token_ids: list[int] | None = None, *, prompt: str = "answer en x") -> Record:
    ids = [token_ids] if token_ids is not None else []
    return Record(f"q{number}", f"i{number}", "x", "y", [answer], prompt=prompt, token_ids=ids)


def test_the_first_token_that_differs(script: ModuleType, golden: Path) -> None:
    tokenizer = Tokenizer(golden / "tiny_tokenizer.model")
    ours = tokenizer.encode("left lung")
    assert script.first_difference(tokenizer, ours, "left lung ") == (-1, "", "")
    position, mine, theirs = script.first_difference(tokenizer, ours, "left")
    assert (
        position == len(tokenizer.encode("left")) and theirs == script.END and mine == tokenizer.piece(ours[position])
    )
    assert script.first_difference(tokenizer, ours, "right lung")[0] == 0
    assert script.first_difference(tokenizer, ours, "")[0] == 0
    kept = record(0, "left lung", [*ours, tokenizer.eos])
    assert script.our_tokens(tokenizer, kept) == ours == script.our_tokens(tokenizer, record(0, "left lung"))


def test_agreement_has_n_and_an_interval_and_names_the_places(script: ModuleType) -> None:
    same = [script.Compared(f"q{i}", f"i{i}", "a", "a", -1, "", "") for i in range(3)]
    other = script.Compared("q9", "i9", "yes", "no", 0, "yes", "no")
    text = script.report([*same, other])
    assert text.startswith("3 of 4 answers agree token by token: 75.0% (")
    assert "first difference at token: 0 (1x)" in text and "q9: token 0 is 'yes' here and 'no' there" in text


def test_images_are_found_by_id_and_never_outside_the_folder(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("in/a.png", "in/b.png", "in/b.jpg", "c.png"):
        (tmp_path / name).touch()
    assert script.find_image(tmp_path / "in", "a").name == "a.png" == script.find_image(tmp_path / "in", "a.png").name
    with pytest.raises(FileNotFoundError, match="holds 2 images called b"):
        script.find_image(tmp_path / "in", "b")
    with pytest.raises(ValueError, match="leads out of"):
        script.find_image(tmp_path / "in", "../c")


def test_another_machine_must_be_allowed(repo: Path, tmp_path: Path) -> None:
    command = [sys.executable, repo / "scripts" / "check_endpoint.py", "--predictions", "x", "--images", "x"]
    command += ["--tokenizer", "x", "--base-url", "https://example.org/v1", "--model", "x"]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(repo)}, capture_output=True, text=True)
    assert done.returncode == 2 and "Give --allow-remote" in done.stderr


def test_nothing_is_sent_past_the_server_of_this_machine(
    script: ModuleType, chat_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither to the environment's proxy, which would see images and key, nor to where the server redirects."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens there
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    client = script.connect(chat_server.url, key="k")
    assert script.ask(client, "m", record(0, "a"), "data:,", max_tokens=1) == "fine"
    chat_server.behave = lambda body: (307, "text/plain", b"", {"Location": f"{chat_server.url}/elsewhere"})
    with pytest.raises(OpenAIError, match="307"):
        script.ask(client, "m", record(0, "a"), "data:,", max_tokens=1)
    assert len(chat_server.requests) == 2


def random_weights(path: Path, tokenizer: Tokenizer) -> Flat:
    """The golden random weights with an embedding for every token of the tokenizer.

    Tokens without text (control, byte, location and segment tokens, and the line break) have embeddings of zero, so
    that the model does not write tokens that a server leaves out of its text.
    """
    with np.load(path) as file:
        leaves = {name.removeprefix("params/"): 8 * file[name] for name in file.files}  # else one token is repeated
    rows = np.random.default_rng(0).normal(0, 0.03, (VARIANT.llm.vocab_size, VARIANT.llm.width)).astype(np.float32)
    rows[tokenizer.encode("\n")] = 0  # servers strip it
    for token in range(len(rows)):
        piece = tokenizer.piece(token) if token < tokenizer.vocab_size else "<"
        rows[token] *= not piece.startswith("<")
    return leaves | {"llm/embedder/input_embedding": rows}


class Served(NamedTuple):
    url: str
    model: Path  # the exported folder, which is the model's name, too
    images: Path
    predictions: Path
    records: list[Record]


def answer(variant: Any, params: Any, tokenizer: Tokenizer, image: np.ndarray, number: int) -> Record:
    """Our own greedy answer, in float32."""
    prompt = f"answer en {QUESTIONS[number]}"
    packed = {name: value[None] for name, value in pack_prompt(tokenizer, prompt, seq_len=32).items()}
    batch = Batch(image=resize_image(image, variant.resolution)[None], mask_example=np.ones(1, bool), **packed)
    config = DecodeConfig(max_new_tokens=8)
    model = PaliGemma(variant)
    out = decode(model, params, batch, jax.random.key(0), config=config, eos=tokenizer.eos, pad=tokenizer.pad)
    ids = np.asarray(out.tokens)[0, 0].tolist()
    ended = ids.index(tokenizer.eos) + 1 if tokenizer.eos in ids else len(ids)
    return record(number, tokenizer.decode(ids), ids[:ended], prompt=prompt)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, golden: Path) -> Iterator[Served]:
    if importlib.util.find_spec("fastapi") is None:
        pytest.skip("transformers cannot serve: pip install -e '.[judge-test]'")
    root = tmp_path_factory.mktemp("served")
    variant, tokenizer = VARIANT, Tokenizer(golden / "tiny_tokenizer.model")  # byte-pair encoding, as Gemma's
    abstract = abstract_params(variant)
    big_vision.save(root / "base.npz", random_weights(golden / "paligemma_params.npz", tokenizer))
    merge = Merge(root / "base.npz", abstract, {}, None)
    source = Source(merge, LoraConfig(), variant, tokenizer, "answer en {question}", 8)
    card = Card("t", "f", "b", "", "tiny", variant.resolution, "p", "float32", [], [], [], "", [], "0")
    export_model(source, root / "model", config=ExportConfig(dtype="float32"), card=card)
    params = big_vision.load(root / "model", abstract)[0]
    (root / "images").mkdir()
    records = []
    for number in range(len(QUESTIONS)):
        image = np.random.default_rng(number).integers(0, 255, (90, 120, 3), dtype=np.uint8)
        Image.fromarray(image).save(root / "images" / f"i{number}.png")
        with jax.default_matmul_precision("highest"):
            records.append(answer(variant, params, tokenizer, image, number))
    write_jsonl(root / "predictions.jsonl", [row.to_json() for row in records])
    with serve(root / "model", "--dtype", "float32") as chat:
        yield Served(chat["base_url"], root / "model", root / "images", root / "predictions.jsonl", records)


def run(repo: Path, served: Served, predictions: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, repo / "scripts" / "check_endpoint.py", "--predictions", predictions]
    command += ["--images", served.images, "--tokenizer", served.model / "tokenizer.model", "--base-url", served.url]
    command += ["--model", served.model, "--max-tokens", "8", "--resolution", str(VARIANT.resolution), "--out", out]
    environment = os.environ | {"PYTHONPATH": str(repo)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.torch
def test_transformers_serve_answers_as_we_do(repo: Path, served: Served, tmp_path: Path) -> None:
    done = run(repo, served, served.predictions, tmp_path / "out.json")
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("3 of 3 answers agree token by token: 100.0% ("), done.stdout
    rows = read_json(tmp_path / "out.json")["answers"]
    assert [row["theirs"] for row in rows] == [row["ours"].strip() for row in rows]
    assert len({row["theirs"] for row in rows}) == len(QUESTIONS)


@pytest.mark.slow
@pytest.mark.torch
def test_an_answer_that_differs_is_named(repo: Path, served: Served, tmp_path: Path) -> None:
    first = served.records[0]
    tokenizer = Tokenizer(served.model / "tokenizer.model")
    tokens = tokenizer.encode("left lung")
    assert tokenizer.decode(tokens) != first.predictions[0]
    write_jsonl(tmp_path / "other.jsonl", [first._replace(token_ids=[tokens]).to_json()])
    done = run(repo, served, tmp_path / "other.jsonl", tmp_path / "out.json")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "0 of 1 answers agree" in done.stdout and "q0: token 0 is" in done.stdout
