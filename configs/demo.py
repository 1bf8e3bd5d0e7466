"""The main job with the embedded tiny model on synthetic images: both stages, evaluation, saliency and a report.

    bash scripts/demo.sh
    python -m radvqa_jax.main --config configs/demo.py --workdir runs/demo

Machine: two CPU cores, four minutes with AVX-512 and six without. Expect a table of accuracy before training, after
stage 1 (projector) and after stage 2 (LoRA on the attention of both towers, and the projector), each with its interval
and with the accuracy on another case's image; and runs/demo/report.html. The images are procedural phantoms, not
patients.
"""

import ml_collections

from radvqa_jax.config import default_config, source, stage, use_embedded_model


def get_config() -> ml_collections.ConfigDict:
    config = default_config()
    config.mode = "job"

    use_embedded_model(config)

    config.data.data_dir = "~/.cache/radvqa_jax/data"
    config.data.seq_len = 20

    config.run_stages = ("stage1", "stage2")
    phantoms = source(dataset="phantom_rad")
    stage1 = config.stages.stage1 = stage()
    stage1.sources = (phantoms,)
    stage1.total_steps = 60
    stage1.batch_size, stage1.accumulate = 32, 1
    stage1.optim.learning_rate = 1e-3
    stage1.log_every = 20

    stage2 = config.stages.stage2 = stage()
    stage2.sources = (phantoms,)
    stage2.lora.rank = 16
    stage2.train = ((r".*/lora_[ab]", "train:lora"), (r"img/head/.*", "train:head"), (".*", "freeze"))
    stage2.total_steps = 500
    stage2.batch_size, stage2.accumulate = 32, 1
    stage2.optim.learning_rate = 3e-3
    stage2.optim.b2 = 0.98  # a short run: 0.999 remembers more steps than it has
    stage2.log_every = 25
    stage2.optim.schedule = "cosine"
    stage2.optim.warmup_steps = 50

    config.eval.source.dataset = "phantom_rad"
    config.eval.train_source.dataset = "phantom_rad"
    config.decode.max_new_tokens = 8
    config.saliency.cases = 4
    config.report.images = True  # a program draws them: they show no patient
    return config
