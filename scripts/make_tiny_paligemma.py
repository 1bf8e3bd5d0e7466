"""Makes the embedded default model: a tiny PaliGemma and its tokenizer, from a seed alone.

    python scripts/make_tiny_paligemma.py      # writes radvqa_jax/assets/tiny/

The tokenizer is a SentencePiece model shaped like Gemma's. The model has the native layout, names and arithmetic of
PaliGemma 1 at variant `tiny`, and is trained from scratch on the simple pictures of shapes_world.py, not on radiographs
or the pictures of phantom_rad. Training has three parts:

1. As with the real model, the vision tower first learns alone (the real one by contrast with texts, this one by naming
   what each patch shows).
2. Everything learns together to answer questions about the pictures.
3. The words of radiology become names of what is drawn (shapes_names.py), and left and right are learned: the tower
   alone learns in which half of the picture a marked patch is (shapes_labels.PLACES), then everything together.

On two cores with AVX-512 the first two parts take half an hour. Without AVX-512 the third part takes an hour. Each part
leaves its file in `--out`. The next one starts from that file, so a later call can go on from it. Weights are stored in
float16, those of the tower alone in float32.
"""

import argparse
import functools
import io
import json
import multiprocessing
import string
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import optax
import sentencepiece
import shapes_labels
import shapes_names
import shapes_text
import shapes_world
from shapes_labels import Labels

from radvqa_jax.checkpoints import big_vision
from radvqa_jax.command_line.script import run_script
from radvqa_jax.config import DecodeConfig
from radvqa_jax.data.packing import pack, pack_prompt
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.decoding.decode import decode
from radvqa_jax.files import atomic_write
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.models.variants import VARIANTS
from radvqa_jax.models.vision_language import variables
from radvqa_jax.schema import Batch
from radvqa_jax.training.loss import example_loss, token_loss
from radvqa_jax.trees import Flat, flatten, unflatten

SEQ_LEN = 24
PART = 500  # scenes that a process draws at a time
PIECES = 832  # and 1152 <loc> and <seg> tokens on top: vocabulary 1984
Item = TypeVar("Item")

ASSETS = Path(__file__).parent.parent / "radvqa_jax" / "assets" / "tiny"


def make_tokenizer(path: Path, seed: int) -> None:
    """Trains a SentencePiece model: pad 0, eos 1, bos 2, unk 3, newline 4, byte fallback, no dummy prefix."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(shapes_text.corpus(seed, scenes=300)),
        model_writer=model,
        vocab_size=PIECES,
        model_type="unigram",
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        user_defined_symbols=["\n"],
        byte_fallback=True,
        split_digits=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        required_chars=string.ascii_letters + string.digits + string.punctuation,
        minloglevel=2,
        num_threads=1,
    )
    with atomic_write(path, "wb") as file:
        file.write(model.getvalue())


def _draw_scenes(seed: tuple[int, int]) -> list[shapes_world.Scene]:
    """One part of the scenes."""
    rng = np.random.default_rng(seed)
    return [shapes_world.make_scene(rng) for _ in range(PART)]


def draw_scenes(seed: int, count: int) -> list[shapes_world.Scene]:
    """Random scenes, drawn by two processes; training mirrors them, so that each is seen in four ways."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        parts = pool.map(_draw_scenes, [(seed, number) for number in range(-(-count // PART))])
    return [scene for part in parts for scene in part][:count]


def choose_scenes(
    scenes: list[shapes_world.Scene], rng: np.random.Generator, count: int, *, names: bool
) -> list[shapes_world.Scene]:
    """`count` scenes, each mirrored or not; with `names`, in a random frame."""
    chosen = [scenes[number] for number in rng.integers(len(scenes), size=count)]
    flips = rng.random((count, 2)) < 0.5
    chosen = [s.mirrored(sideways=bool(x), upside_down=bool(y)) for s, (x, y) in zip(chosen, flips, strict=True)]
    return [scene.framed(str(rng.choice(shapes_world.FRAMES))) for scene in chosen] if names else chosen


def make_views(
    scenes: list[shapes_world.Scene], seed: int, step: int, count: int, *, names: bool
) -> tuple[np.ndarray, Labels]:
    """Images and their labels."""
    chosen = choose_scenes(scenes, np.random.default_rng([seed, step, 4 if names else 0]), count, names=names)
    return to_images(chosen), shapes_labels.make_labels(chosen, names=names)


def to_images(scenes: list[shapes_world.Scene]) -> np.ndarray:
    """Float images [B h w 3] in [-1, 1] by the model's own preprocessing."""
    # The pictures have the model's size, so that the resize of the usual preprocessing changes nothing.
    grey = np.stack([scene.image for scene in scenes]).astype(np.float32) / 127.5 - 1
    return np.repeat(grey[..., None], 3, axis=-1)


def prefetch(make: Callable[[int], Item], count: int) -> Iterator[Item]:
    """Yields make(0), make(1), …, prepared by a thread while the device computes."""
    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(make, number) for number in range(min(4, count))]
        for number in range(count):
            if number + 4 < count:
                waiting.append(pool.submit(make, number + 4))
            yield waiting.pop(0).result()


def joint_loss(params: Flat, classifiers: Flat, batch: Batch, labels: Labels, model: PaliGemma) -> Any:
    """(loss, parts): the loss on the answers, and a tenth of the vision loss on the same image tokens."""
    applied: Any = model.apply(
        variables(params),
        batch.image,
        batch.tokens[:, :-1],
        batch.mask_ar[:, :-1],
        capture_intermediates=lambda _, method: method == "embed_image",
        mutable=["intermediates"],
    )
    logits, kept = applied
    answers = example_loss(token_loss(logits, batch.tokens[:, 1:]), batch.mask_loss[:, 1:]).mean()
    seen, accuracy = shapes_labels.vision_loss(kept["intermediates"]["embed_image"][0], classifiers, labels)
    return answers + 0.1 * seen, {"answers": answers} | accuracy


def tower_loss(tower: Flat, classifiers: Flat, image: jax.Array, labels: Labels, model: PaliGemma) -> Any:
    """(loss, accuracies) of the vision tower and projector alone."""
    tokens: Any = model.apply({"params": {"img": unflatten(tower)}}, image, method="embed_image")
    return shapes_labels.vision_loss(tokens, classifiers, labels)


def fit(
    leaves: Flat,
    loss: Callable[..., Any],
    batches: Iterator[Any],
    *,
    model: PaliGemma,
    steps: int,
    learning_rate: float,
    b2: float,
) -> Flat:
    """`leaves` after `steps` steps of AdamW with warm-up and cosine decay."""
    schedule = optax.warmup_cosine_decay_schedule(0, learning_rate, min(100, steps - 1), steps)
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=b2))
    state = (leaves, shapes_labels.make_classifiers(model.variant.llm.width))
    opt_state = tx.init(state)

    @jax.jit
    def update(state: Any, opt_state: Any, batch: Any) -> Any:
        grad = jax.value_and_grad(lambda both: loss(both[0], both[1], *batch, model), has_aux=True)
        (_, parts), grads = grad(state)
        updates, opt_state = tx.update(grads, opt_state, state)
        return optax.apply_updates(state, updates), opt_state, parts

    history: list[dict[str, jax.Array]] = []
    for step, batch in enumerate(batches, 1):
        state, opt_state, parts = update(state, opt_state, batch)
        history.append(parts)
        if step % 100 == 0:
            means = {name: np.mean([float(row[name]) for row in history[-100:]]) for name in parts}
            print(f"{time.strftime('%X')} step {step}", *(f"{n} {v:.3f}" for n, v in means.items()), flush=True)
    return state[0]


def make_params(model: PaliGemma, first: Batch, seed: int) -> Flat:
    """Fresh weights: scaled embeddings, and scaled-down outputs of each layer to the residual stream.

    With flax's initializers alone, the mean of the image tokens outweighs the words in the first layers.
    """
    params = flatten(model.init(jax.random.key(seed), first.image, first.tokens, first.mask_ar)["params"])
    llm, img = model.variant.llm, model.variant.img
    table = "llm/embedder/input_embedding"
    params[table] = params[table] / params[table].std() * llm.width**-0.5
    for name in ("llm/layers/attn/attn_vec_einsum/w", "llm/layers/mlp/linear"):
        params[name] = params[name] * (2 * llm.depth) ** -0.5
    position = "img/pos_embedding"  # about as large as a patch's content: with small ones, sides are learned late
    params[position] = params[position] / params[position].std() * 0.6
    for name in ("MultiHeadDotProductAttention_0/out/kernel", "MlpBlock_0/Dense_1/kernel"):
        params[f"img/Transformer/encoderblock/{name}"] *= (2 * img.depth) ** -0.5
    return params


def make_rows(
    scenes: list[shapes_world.Scene], tokenizer: Tokenizer, seed: int, step: int, count: int, *, names: bool
) -> tuple[Batch, Labels]:
    """`count` scenes with one task each, and their labels."""
    rng = np.random.default_rng([seed, step, 3 if names else 1])
    chosen = choose_scenes(scenes, rng, count, names=names)
    draw_task = shapes_names.draw_task if names else shapes_text.draw_task
    tasks = [draw_task(rng, scene) for scene in chosen]
    rows = [pack(tokenizer, prefix, suffix=suffix, seq_len=SEQ_LEN, overlong="cut") for prefix, suffix in tasks]
    columns = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    batch = Batch(image=to_images(chosen), mask_example=np.ones(count, bool), **columns)
    return batch, shapes_labels.make_labels(chosen, names=names)


def evaluate(model: PaliGemma, params: dict, tokenizer: Tokenizer, seed: int) -> dict[str, float]:
    """Exact-match accuracy by kind of task on 200 unseen scenes, captions and copying included."""
    rng = np.random.default_rng([seed, 2])
    scenes = [shapes_world.make_scene(rng) for _ in range(200)]
    pairs = [(scene, *pair) for scene in scenes for pair in shapes_text.questions(rng, scene)]
    pairs += [(scene, *shapes_text.caption(scene)) for scene in scenes]
    pairs += [(scene, *shapes_text.copy_task(rng)) for scene in scenes]
    tasks = [(scene, shapes_text.kind_of(*pair), *pair) for scene, *pair in pairs]
    framed = [scene.framed(str(rng.choice(shapes_world.FRAMES))) for scene in scenes]
    tasks += [(scene, f"named {kind}", *pair) for scene in framed for kind, *pair in shapes_names.questions(rng, scene)]
    right: dict[str, list[bool]] = {}
    for start in range(0, len(tasks) - 99, 100):
        part = tasks[start : start + 100]
        rows = [pack_prompt(tokenizer, prefix, seq_len=SEQ_LEN) for _, _, prefix, _ in part]
        columns = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        batch = Batch(image=to_images([scene for scene, *_ in part]), mask_example=np.ones(len(part), bool), **columns)
        out = decode(model, params, batch, jax.random.key(0), config=DecodeConfig(max_new_tokens=20))
        for (_, kind, _, suffix), tokens in zip(part, np.asarray(out.tokens[:, 0]), strict=True):
            right.setdefault(kind, []).append(tokenizer.decode(tokens.tolist()) == suffix)
    return {kind: round(float(np.mean(hits)), 3) for kind, hits in sorted(right.items())}


def fit_tower(
    params: Flat, scenes: list[shapes_world.Scene], model: PaliGemma, args: argparse.Namespace, *, names: bool
) -> Flat:
    """The weights after training the vision tower and projector alone."""
    steps, rate, b2 = (args.name_vision_steps, 1.5e-3, 0.98) if names else (args.vision_steps, 2e-3, 0.999)
    tower = {name.removeprefix("img/"): leaf for name, leaf in params.items() if name.startswith("img/")}
    views = prefetch(lambda step: make_views(scenes, args.seed, step, args.batch, names=names), steps)
    tower = fit(tower, tower_loss, views, model=model, steps=steps, learning_rate=rate, b2=b2)
    return params | {f"img/{name}": leaf for name, leaf in tower.items()}


def fit_answers(
    params: Flat,
    scenes: list[shapes_world.Scene],
    model: PaliGemma,
    tokenizer: Tokenizer,
    args: argparse.Namespace,
    *,
    names: bool,
) -> Flat:
    """The weights after training everything to answer; they are also stored after every round."""
    file, done = args.out / ("tiny_paligemma.npz" if names else "answers.npz"), 0
    for steps in args.name_steps if names else args.steps:
        make = functools.partial(make_rows, scenes, tokenizer, args.seed, count=args.batch, names=names)
        rows = prefetch(lambda step, make=make, done=done: make(done + step), steps)
        params = fit(params, joint_loss, rows, model=model, steps=steps, learning_rate=1.5e-3, b2=0.98)
        big_vision.save(file, params, dtype=np.float16)
        params, _ = big_vision.load(file, params)
        print(json.dumps(evaluate(model, params, tokenizer, args.seed)), flush=True)
        done += steps
    return params


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ASSETS)
    parser.add_argument("--vision-steps", type=int, default=4000)
    parser.add_argument("--steps", type=int, nargs="+", default=[4500], help="steps of each round of the second part")
    parser.add_argument("--scenes", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--name-vision-steps", type=int, default=300, help="steps of the tower alone in the third part")
    parser.add_argument("--name-steps", type=int, nargs="+", default=[2000, 3000], help="steps of the third's rounds")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--tower", type=Path, help="tower.npz of an earlier call, to skip the first part")
    start.add_argument("--answers", type=Path, help="answers.npz of an earlier call, to skip the first two parts")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    make_tokenizer(args.out / "tokenizer.model", args.seed)
    tokenizer = Tokenizer(args.out / "tokenizer.model")
    variant = VARIANTS["tiny"]
    assert tokenizer.vocab_size == variant.llm.vocab_size, tokenizer.vocab_size
    model = PaliGemma(variant)
    scenes = draw_scenes(args.seed, args.scenes)
    params = make_params(model, make_rows(scenes, tokenizer, args.seed, 0, 1, names=False)[0], args.seed)
    if args.answers:
        params, _ = big_vision.load(args.answers, params)
    else:
        if args.tower:
            params, _ = big_vision.load(args.tower, params)
        else:
            params = fit_tower(params, scenes, model, args, names=False)
            big_vision.save(args.out / "tower.npz", params)
        params = fit_answers(params, scenes, model, tokenizer, args, names=False)
    params = fit_tower(params, scenes, model, args, names=True)
    fit_answers(params, scenes, model, tokenizer, args, names=True)


if __name__ == "__main__":
    run_script(main)
