"""Audits training and evaluation sets: counts, answers, duplicates, leaks between them, blind baselines.

    python -m radvqa_jax.main --config configs/audit.py --workdir runs/audit
    python -m radvqa_jax.main --config configs/medm_stage2.py --config.mode=audit --workdir runs/audit_medm

The first command audits VQA-RAD's official split; other sets: --config.stages.stage1.sources[0].dataset=… and
--config.eval.source.dataset=…. The second audits the sets of another experiment. Machine: any; no model is loaded.
Expect audit.html, audit.json and, for VQA-RAD, an error at the end: 202 of its 203 test images are also in its training
split, so that a run on them needs --config.audit.accept="('vqa_rad:train~vqa_rad:test',)".
"""

import ml_collections

from radvqa_jax.config import default_config, source, stage


def get_config() -> ml_collections.ConfigDict:
    config = default_config()
    config.mode = "audit"
    config.stages.stage1 = stage(sources=(source(dataset="vqa_rad", split="train"),))
    config.eval.source = source(dataset="vqa_rad", split="test")
    config.eval.train_source = source(dataset="vqa_rad", split="train")
    return config
