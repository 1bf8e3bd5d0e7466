"""Makes the embedded default model: a tiny PaliGemma and its tokenizer, from nothing but a seed.

    python scripts/make_tiny_paligemma.py            # writes radvqa_jax/assets/tiny/, half an hour or so on two cores

The tokenizer is a SentencePiece model shaped like Gemma's. The model has the native layout, names and arithmetic of
PaliGemma 1 at variant `tiny`, and is trained from scratch on the simple pictures of shapes_world.py: no radiograph, and
none of the pictures of phantom_rad. As with the real model, the vision tower learns alone first (there by contrast with
texts, here by naming what each patch shows), then everything learns together. It is stored in float16.
"""

import argparse
import io
import json
import string
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import sentencepiece
import shapes_world

from radvqa_jax.checkpoints import big_vision
from radvqa_jax.config import DecodeConfig, OptimConfig, StageConfig
from radvqa_jax.data.packing import pack, pack_prompt
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.decoding.decode import decode
from radvqa_jax.files import atomic_write
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.models.variants import VARIANTS
from radvqa_jax.schema import Batch
from radvqa_jax.training.optimizer import label_leaves, make_optimizer
from radvqa_jax.training.step import StepOptions, init_state, train_step
from radvqa_jax.trees import Flat, flatten, unflatten

SEQ_LEN = 28
PIECES = 768  # and 1152 <loc> and <seg> tokens on top: vocabulary 1920
Item = TypeVar("Item")

ASSETS = Path(__file__).parent.parent / "radvqa_jax" / "assets" / "tiny"


def make_tokenizer(path: Path, seed: int) -> None:
    """Trains a SentencePiece model: pad 0, eos 1, bos 2, unk 3, newline 4, byte fallback, no dummy prefix."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(shapes_world.corpus(seed, scenes=300)),
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


def make_views(seed: int, count: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Returns images and, for each, classes of the whole scene and of each patch (0 = no mark)."""
    rng = np.random.default_rng([seed, 0])
    scenes = [shapes_world.make_scene(rng) for _ in range(count)]
    grid = shapes_world.SIZE // VARIANTS["tiny"].img.patch
    patches = np.stack([shapes_world.patch_labels(scene, grid) for scene in scenes])
    whole = [shapes_world.scene_labels(scene) for scene in scenes]
    return to_images(scenes), {"patch": patches} | {name: np.array([row[name] for row in whole]) for name in whole[0]}


def to_images(scenes: list[shapes_world.Scene]) -> np.ndarray:
    """Returns float images [B h w 3] in [-1, 1] by the model's own preprocessing."""
    # The pictures have the model's size, so that the resize of the usual preprocessing changes nothing.
    grey = np.stack([scene.image for scene in scenes]).astype(np.float32) / 127.5 - 1
    return np.repeat(grey[..., None], 3, axis=-1)


def vision_loss(
    params: Flat, classifiers: Flat, image: jax.Array, labels: dict[str, jax.Array], model: PaliGemma
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns (loss, accuracies): cross entropy of the scene's classes from the mean token, of marks from each token.

    Patches with a mark and patches without one weigh the same in sum.
    """
    tokens: Any = model.apply({"params": {"img": unflatten(params)}}, image, method="embed_image")
    total, accuracy = jnp.zeros(()), {}
    for name, target in labels.items():
        logits = (tokens if name == "patch" else tokens.mean(axis=1)) @ classifiers[name]
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, target)
        right = logits.argmax(axis=-1) == target
        if name == "patch":
            marked = target > 0
            loss = loss * (marked / jnp.maximum(1, marked.sum()) + ~marked / jnp.maximum(1, (~marked).sum()))
            total += loss.sum()
            accuracy["mark"] = (right * marked).sum() / jnp.maximum(1, marked.sum())
        else:
            total += loss.mean()
        accuracy[name] = right.mean()
    return total, accuracy


def prefetch(make: Callable[[int], Item], count: int) -> Iterator[Item]:
    """Yields make(0), make(1), …, prepared by a thread while the device computes."""
    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(make, number) for number in range(min(4, count))]
        for number in range(count):
            if number + 4 < count:
                waiting.append(pool.submit(make, number + 4))
            yield waiting.pop(0).result()


def pretrain_vision(model: PaliGemma, params: Flat, *, steps: int, batch: int, seed: int) -> Flat:
    """Returns `params` with vision tower and projector trained to name what a scene and each of its patches show."""
    tower = {name.removeprefix("img/"): leaf for name, leaf in params.items() if name.startswith("img/")}
    sizes = shapes_world.SCENE_CLASSES | {"patch": shapes_world.PATCH_CLASSES}
    classifiers = {name: jnp.zeros((model.variant.llm.width, size)) for name, size in sizes.items()}
    tx = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(optax.warmup_cosine_decay_schedule(0, 2e-3, 100, steps))
    )
    leaves = (tower, classifiers)
    opt_state = tx.init(leaves)

    @jax.jit
    def update(leaves: Any, opt_state: Any, image: jax.Array, labels: dict[str, jax.Array]) -> Any:
        grad = jax.value_and_grad(lambda both: vision_loss(both[0], both[1], image, labels, model), has_aux=True)
        (loss, accuracy), grads = grad(leaves)
        updates, opt_state = tx.update(grads, opt_state, leaves)
        return optax.apply_updates(leaves, updates), opt_state, loss, accuracy

    for step, (image, labels) in enumerate(prefetch(lambda step: make_views(seed * 1_000_003 + step, batch), steps)):
        leaves, opt_state, loss, accuracy = update(leaves, opt_state, image, labels)
        if (step + 1) % 100 == 0:
            shown = " ".join(f"{name} {float(value):.2f}" for name, value in accuracy.items())
            print(f"vision step {step + 1} loss {float(loss):.3f} {shown} {time.strftime('%X')}", flush=True)
    return params | {f"img/{name}": leaf for name, leaf in leaves[0].items()}


def make_params(model: PaliGemma, first: Batch, seed: int) -> Flat:
    """Returns fresh weights: embeddings of unit size, and what each layer adds to the residual stream scaled down.

    flax's initializers alone let the first layers drown the words in the mean of the image tokens.
    """
    params = flatten(model.init(jax.random.key(seed), first.image, first.tokens, first.mask_ar)["params"])
    llm, img = model.variant.llm, model.variant.img
    table = "llm/embedder/input_embedding"
    params[table] = params[table] / params[table].std() * llm.width**-0.5
    for name in ("llm/layers/attn/attn_vec_einsum/w", "llm/layers/mlp/linear"):
        params[name] = params[name] * (2 * llm.depth) ** -0.5
    for name in ("MultiHeadDotProductAttention_0/out/kernel", "MlpBlock_0/Dense_1/kernel"):
        params[f"img/Transformer/encoderblock/{name}"] *= (2 * img.depth) ** -0.5
    return params


def make_rows(tokenizer: Tokenizer, seed: int, count: int) -> Batch:
    """Returns `count` fresh examples; each scene brings a few of its questions."""
    rng = np.random.default_rng([seed, 1])
    images, rows = [], []
    while len(rows) < count:
        scene = shapes_world.make_scene(rng)
        image = to_images([scene])[0]
        pairs = shapes_world.questions(rng, scene)
        for index in rng.permutation(len(pairs))[:2]:
            prefix, suffix = pairs[index]
            rows.append(pack(tokenizer, prefix, suffix=suffix, seq_len=SEQ_LEN, overlong="cut"))
            images.append(image)
    columns = {name: np.stack([row[name] for row in rows[:count]]) for name in rows[0]}
    return Batch(image=np.stack(images[:count]), mask_example=np.ones(count, bool), **columns)


def evaluate(model: PaliGemma, params: dict, tokenizer: Tokenizer, seed: int) -> dict[str, float]:
    """Returns exact-match accuracy by question on 200 unseen scenes, captions and copying included."""
    rng = np.random.default_rng([seed, 2])
    scenes = [shapes_world.make_scene(rng) for _ in range(200)]
    tasks = [(scene, *pair) for scene in scenes for pair in shapes_world.questions(rng, scene)]
    right: dict[str, list[bool]] = {}
    for start in range(0, len(tasks) - 99, 100):
        part = tasks[start : start + 100]
        rows = [pack_prompt(tokenizer, prefix, seq_len=SEQ_LEN) for _, prefix, _ in part]
        columns = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        batch = Batch(
            image=to_images([scene for scene, _, _ in part]), mask_example=np.ones(len(part), bool), **columns
        )
        out = decode(model, params, batch, jax.random.key(0), config=DecodeConfig(max_new_tokens=20))
        for (_, prefix, suffix), tokens in zip(part, np.asarray(out.tokens[:, 0]), strict=True):
            kind = " ".join(prefix.split(":")[0].split()[2:5]) if prefix.startswith("answer") else "caption"
            right.setdefault(kind, []).append(tokenizer.decode(tokens.tolist()) == suffix)
    return {kind: float(np.mean(hits)) for kind, hits in sorted(right.items())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ASSETS)
    parser.add_argument("--vision-steps", type=int, default=2400)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--start", type=Path, help="vision_only.npz of an earlier call, to leave the first part out")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    make_tokenizer(args.out / "tokenizer.model", args.seed)
    tokenizer = Tokenizer(args.out / "tokenizer.model")
    variant = VARIANTS["tiny"]
    assert tokenizer.vocab_size == variant.llm.vocab_size, tokenizer.vocab_size
    model = PaliGemma(variant)
    params = make_params(model, make_rows(tokenizer, args.seed, 1), args.seed)
    if args.start:
        params, _ = big_vision.load(args.start, params)
    else:
        params = pretrain_vision(model, params, steps=args.vision_steps, batch=2 * args.batch, seed=args.seed)
        big_vision.save(args.out / "vision_only.npz", params)
    optim = OptimConfig(learning_rate=1.5e-3, schedule="cosine", warmup_steps=min(200, args.steps - 1), b2=0.98)
    tx = make_optimizer(optim, label_leaves(params, StageConfig(train=((".*", "train:all"),))), args.steps)
    state = init_state(params, tx)
    start, losses = time.time(), []
    batches = prefetch(lambda step: make_rows(tokenizer, args.seed * 1_000_003 + 7 + step, args.batch), args.steps)
    for step, batch in enumerate(batches):
        state, metrics = train_step(state, {}, batch, jax.random.key(0), model=model, tx=tx, options=StepOptions())
        losses.append(metrics["loss"])
        if (step + 1) % 100 == 0:
            print(f"step {step + 1} loss {np.mean(losses[-100:]):.4f} {time.time() - start:.0f} s", flush=True)
        if (step + 1) % 1000 == 0 or step + 1 == args.steps:
            big_vision.save(args.out / "tiny_paligemma.npz", state.trainable, dtype=np.float16)
            print(json.dumps(evaluate(model, state.trainable, tokenizer, args.seed), indent=1), flush=True)


if __name__ == "__main__":
    main()
