"""Decodes on one device and on a mesh; test_decode.py runs it in a separate process.

python run_mesh_decode.py DATA FSDP TENSOR

Prints, as JSON, whether the drawn tokens are the same, how far their log-probabilities are apart, and, by the compiled
program, which activations a device computes for all prompts instead of its own and which weights it gathers where it
should not: for a token, or from the token table.
"""

import json
import re
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from radvqa_jax.backbones import PALIGEMMA, fake_params
from radvqa_jax.config import DecodeConfig, MeshConfig
from radvqa_jax.decoding.decode import decode
from radvqa_jax.models.paligemma import PaliGemma
from radvqa_jax.models.variants import GemmaConfig, SiglipConfig, Variant
from radvqa_jax.schema import Batch
from radvqa_jax.training.sharding import make_mesh, put, shard_flat

VARIANT = Variant(
    SiglipConfig(width=16, depth=2, mlp_dim=24, num_heads=2, patch=4),
    GemmaConfig(width=16, depth=2, mlp_dim=24, num_heads=4, num_kv_heads=1, head_dim=8, vocab_size=64),
    8,
)
ROWS, SAMPLES = 40, 3  # 40: a length that no weight has
CONFIG = DecodeConfig(max_new_tokens=5, samples=SAMPLES, temperature=1.0, top_k=10)


def main() -> None:
    model, params = PaliGemma(VARIANT), {name: 0.3 * leaf for name, leaf in fake_params(VARIANT).items()}
    batch = Batch.fake(ROWS, 8, 8)
    batch = batch._replace(mask_input=batch.mask_input * (1 - batch.mask_ar))
    keys = jax.vmap(jax.random.key)(jnp.arange(ROWS * SAMPLES)).reshape(ROWS, SAMPLES)
    one: Any = decode(model, params, batch, keys, config=CONFIG, eos=-1)

    mesh = make_mesh(MeshConfig(*map(int, sys.argv[1:])))
    params = put(params, shard_flat(mesh, params, PALIGEMMA.sharding))
    with jax.set_mesh(mesh):  # as in runners/evaluate.py
        several: Any = decode(model, params, batch, keys, config=CONFIG, eos=-1)
        text = decode.lower(model, params, batch, keys, config=CONFIG, eos=-1).compile().as_text()
    gathered = r" = f32\[([\d,]+)\]\S* all-gather\(.*op_name=\"[^\"]*(?:extend|embedder)"
    rows = tuple(f"{count // share}," for count in (ROWS, ROWS * SAMPLES) for share in (1, 2, 4))
    told = {
        "same_tokens": np.array_equal(several.tokens, one.tokens),
        "logprobs_apart": float(np.abs(np.asarray(several.logprobs) - np.asarray(one.logprobs)).max()),
        "of_all_rows": sorted(set(re.findall(rf"f32\[{ROWS},\d+,\d+\]", text))),
        "weights_gathered": [shape for shape in re.findall(gathered, text) if not shape.startswith(rows)],
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
