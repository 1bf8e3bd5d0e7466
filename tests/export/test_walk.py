"""The whole path of a new user: a folder that transformers saved, a CSV, one command, five lines of Python, and peft.

Everything runs as for the user, in separate processes; only the sizes are small.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from radvqa_jax.files import read_json

pytestmark = [pytest.mark.slow, pytest.mark.torch]

MODEL: dict[str, Any] = {
    "vision_config": {
        "model_type": "siglip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "patch_size": 14,
        "image_size": 56,
    },
    "text_config": {
        "model_type": "gemma",
        "vocab_size": 1728,  # 1664 of the tokenizer, `<image>`, and padding to a multiple of 64
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 16,
    },
    "projection_dim": 64,
    "image_token_index": 1664,
}
TRAINED = {
    "stages.stage1.total_steps": 2,
    "stages.stage2.total_steps": 8,
    "stages.stage2.optim.warmup_steps": 1,
    "stages.stage2.lora.rank": 3,
    "saliency.cases": 1,
    "eval.bootstrap": 20,
    "decode.max_new_tokens": 3,
}
FIVE_LINES = """
import sys
import jax
import numpy as np

import radvqa_jax

folder, adapter, picture, out, inputs, logits = sys.argv[1:]
model = radvqa_jax.load(folder, adapter=adapter)
answer = model.answer(picture, "Is there a nodule?", samples=2)
shown = model.saliency(answer).show(word="nodule", method="rollout")
model.export("peft", out)

assert shown._repr_png_().startswith(b"\\x89PNG")
print(repr(answer))
given = dict(np.load(inputs))
with jax.default_matmul_precision("highest"):
    found = model.model.apply(
        radvqa_jax_variables(model.params), given["image"], given["tokens"][:, :-1], given["mask_ar"][:, :-1]
    )
np.save(logits, np.asarray(found))
"""


class Walked(NamedTuple):
    """The files that the walk wrote."""

    base: Path
    run: Path
    out: Path
    inputs: Path
    printed: str  # of the training command
    answer: str  # its repr
    ours: np.ndarray  # logits


def call(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, env=os.environ | {"PYTHONPATH": str(cwd)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-3000:])
    return done.stdout


def work(root: Path, repo: Path, jobs: list[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """The answers of transformers and peft to the jobs, and their arrays."""
    folder = Path(root / f"jobs-{len(list(root.glob('jobs-*')))}")
    folder.mkdir()
    (folder / "jobs.json").write_text(json.dumps(jobs))
    call(Path(__file__).with_name("hf_worker.py"), folder / "jobs.json", folder, cwd=repo)
    found = []
    for number in range(len(jobs)):
        said = read_json(folder / f"{number}.json")
        assert "error" not in said, said["error"]
        arrays = dict(np.load(folder / f"{number}.npz")) if (folder / f"{number}.npz").is_file() else {}
        found.append((said, arrays))
    return found


def make_inputs(path: Path) -> Path:
    rng = np.random.default_rng(1)
    tokens, mask_ar = rng.integers(5, 500, (2, 12)), np.zeros((2, 12), np.int64)
    mask_ar[0, 6:] = mask_ar[1, 4:] = 1
    image = rng.uniform(-1, 1, (2, 56, 56, 3)).astype(np.float32)
    prompts = {"prompt": tokens[:, :6], "prompt_length": np.array([6, 4])}
    np.savez(path, image=image, tokens=tokens, mask_ar=mask_ar, mask_loss=mask_ar, **prompts)
    return path


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory, golden: Path, repo: Path) -> Walked:
    root = tmp_path_factory.mktemp("walk")
    base, own, run, out = (root / name for name in ("paligemma", "own", "run", "out"))
    work(root, repo, [{"make": str(base), "config": MODEL}])
    shutil.copy(golden / "tiny_tokenizer.model", base / "tokenizer.model")
    call(repo / "scripts/make_own_data.py", own, "--images", "40", cwd=repo)
    fields = {"data.manual_dir": own, "data.data_dir": root / "prepared", "model.checkpoint": base} | TRAINED
    flags = [f"--config.{name}={value}" for name, value in fields.items()]
    printed = call("-m", "radvqa_jax.main", "--config", "configs/own_data.py", "--workdir", run, *flags, cwd=repo)
    inputs = make_inputs(root / "in.npz")
    picture = next((own / "images").iterdir())
    lines = "from radvqa_jax.models.vision_language import variables as radvqa_jax_variables\n" + FIVE_LINES
    answer = call("-c", lines, base, run / "stage2", picture, out, inputs, root / "ours.npy", cwd=repo)
    return Walked(base, run, out, inputs, printed, answer, np.load(root / "ours.npy"))


def test_the_folder_is_recognised_and_one_command_ends_in_a_report(walked: Walked) -> None:
    assert (walked.run / "report.html").is_file() and (walked.run / "stage2/adapter.npz").is_file()
    runs = read_json(walked.run / "scores.json")["runs"]
    assert {"base", "stage1", "stage2"} <= set(runs) and runs["stage2"]["overall"]["n"] > 0
    use = read_json(walked.run / "stage2/adapter.json")["base_use"]
    assert use["resolution"] == 56 and use["variant"].startswith("custom{")


def test_five_lines_answer_and_export(walked: Walked) -> None:
    assert "Answer(text=" in walked.answer and "agreement=" in walked.answer
    assert "largest difference of logits 0 " in walked.answer
    assert {"adapter_config.json", "adapter_model.safetensors", "README.md"} <= {
        path.name for path in walked.out.iterdir()
    }


def test_the_exported_adapter_gives_the_same_logits_in_transformers_and_peft(walked: Walked, repo: Path) -> None:
    job = {"base": str(walked.base), "inputs": str(walked.inputs)}
    jobs = [job | {"adapter": str(walked.out)}, job | {"adapter": None}]
    (said, got), (_, without) = work(walked.out.parent, repo, jobs)
    assert said["warnings"] == [] and said["adapted"]
    theirs = got["logits"][..., : walked.ours.shape[-1]]
    np.testing.assert_allclose(theirs, walked.ours, atol=1e-4, rtol=1e-4)
    assert np.abs(without["logits"][..., : walked.ours.shape[-1]] - walked.ours).max() > 1e-2  # it has an effect
