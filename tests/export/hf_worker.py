"""Reads our files with transformers and peft; tests run it with either version on PYTHONPATH.

    python hf_worker.py JOBS.json RESULTS_FOLDER

JOBS.json is a list of jobs. `{"make": FOLDER, "config": {…}, "dtype": "bfloat16", "shard": "1MB"}` saves a random
model. `{"make_adapter": FOLDER, "base": FOLDER}` saves a
random adapter. `{"base": FOLDER, "adapter": FOLDER or null, "inputs": FILE.npz}` loads and answers. Each job writes
RESULTS_FOLDER/<number>.npz, and .json with the messages while loading. It imports nothing of this project.
"""

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
import transformers
from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration


class Heard(logging.Handler):
    """Collects what transformers and peft log from WARNING on."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


HEARD = Heard()
for name in ("transformers", "peft"):
    logging.getLogger(name).addHandler(HEARD)


def make(job: dict[str, Any]) -> None:
    """Saves a random model whose norms and biases are random, too."""
    torch.manual_seed(0)
    model = PaliGemmaForConditionalGeneration(PaliGemmaConfig(**job["config"]))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
    model.to(getattr(torch, job.get("dtype", "float32")))
    model.save_pretrained(job["make"], max_shard_size=job.get("shard", "5GB"))


def make_adapter(job: dict[str, Any]) -> None:
    """Saves an adapter that a user of peft could make: some modules, two ranks, rsLoRA."""
    torch.manual_seed(1)
    model = PaliGemmaForConditionalGeneration.from_pretrained(job["base"])
    config = peft.LoraConfig(
        r=3,
        lora_alpha=4,
        use_rslora=True,
        target_modules=["q_proj", "v_proj", "up_proj", "fc2"],
        rank_pattern={"up_proj": 5},
        alpha_pattern={"fc2": 9},
        init_lora_weights=False,
    )
    peft.get_peft_model(model, config).save_pretrained(job["make_adapter"])


def load(job: dict[str, Any], said: dict[str, Any]) -> Any:
    model, info = PaliGemmaForConditionalGeneration.from_pretrained(
        job["base"], output_loading_info=True, torch_dtype=torch.float32, attn_implementation="eager"
    )
    said["loading"] = {key: sorted(map(str, value)) for key, value in info.items() if isinstance(value, set | list)}
    if job.get("adapter") and job.get("how") == "load_adapter":
        model.load_adapter(job["adapter"])
    elif job.get("adapter"):
        model = peft.PeftModel.from_pretrained(model, job["adapter"])
        said["adapted"] = sorted(
            name.removesuffix(".lora_A.default") for name, _ in model.named_modules() if name.endswith("lora_A.default")
        )
    return model.eval()


@torch.no_grad()
def answer(job: dict[str, Any], said: dict[str, Any]) -> dict[str, np.ndarray]:
    """Logits and loss of teacher-forced rows, and greedy tokens after prompts."""
    model = load(job, said)
    with np.load(job["inputs"]) as file:
        given = {key: torch.from_numpy(file[key]) for key in file.files}
    image_token = model.config.image_token_id
    patches = (model.config.vision_config.image_size // model.config.vision_config.patch_size) ** 2
    head = torch.full((len(given["tokens"]), patches), image_token)
    ids = torch.cat([head, given["tokens"][:, :-1]], dim=1)
    kinds = torch.cat([torch.zeros_like(head), given["mask_ar"][:, :-1]], dim=1)
    pixels = given["image"].permute(0, 3, 1, 2).contiguous()
    # The bidirectional prefix of training: token types with labels. Labels are shifted inside.
    labels = torch.where(
        torch.cat([torch.zeros_like(head), given["mask_loss"]], dim=1)[:, : ids.shape[1]] > 0,
        torch.cat([head, given["tokens"]], dim=1)[:, : ids.shape[1]],
        -100,
    )
    out = model(
        input_ids=ids, pixel_values=pixels, token_type_ids=kinds, attention_mask=torch.ones_like(ids), labels=labels
    )
    result = {"logits": out.logits[:, patches:].float().numpy(), "loss": out.loss.float().numpy()}
    prompts = []
    for row, length in zip(given["prompt"], given["prompt_length"], strict=True):
        prompt = torch.cat([head[0], row[: int(length)]])[None]
        made = model.generate(
            input_ids=prompt,
            pixel_values=pixels[len(prompts) : len(prompts) + 1],
            attention_mask=torch.ones_like(prompt),
            token_type_ids=torch.zeros_like(prompt),
            max_new_tokens=7,
            do_sample=False,
        )[0, prompt.shape[1] :]
        prompts.append(torch.nn.functional.pad(made, (0, 7 - len(made))).numpy())
    return result | {"greedy": np.stack(prompts), "image_token": np.array(image_token)}


def main(jobs: Path, folder: Path) -> None:
    for number, job in enumerate(json.loads(jobs.read_text())):
        HEARD.lines.clear()
        said: dict[str, Any] = {"transformers": transformers.__version__, "peft": peft.__version__}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                if "make" in job:
                    make(job)
                elif "make_adapter" in job:
                    make_adapter(job)
                else:
                    np.savez(folder / f"{number}.npz", **answer(job, said))
            except Exception as error:  # a job that fails is a result; the others continue
                said["error"] = f"{type(error).__name__}: {error}"
        said["warnings"] = [
            str(item.message)
            for item in caught
            if "unexpected" in str(item.message).lower() or "missing" in str(item.message).lower()
        ]
        said["logged"] = list(HEARD.lines)
        (folder / f"{number}.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
