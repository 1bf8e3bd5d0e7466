"""Your own images: prepares a folder with one table, audits it, trains both stages on it and writes a report.

    python -m radvqa_jax.main --config configs/own_data.py --workdir runs/own --config.data.manual_dir=FOLDER

tfds_builders/table/README.md describes the folder and its columns. If you have no images of your own, draw some:
`python scripts/make_own_data.py FOLDER`. `configs/own_data.py:chest` names the data set `chest`; the default is `own`.

Machine: two CPU cores; about three minutes for 100 drawn images with the embedded model of 1.8 million weights, which
shows that everything works and is of no use for medicine. For PaliGemma-3B give --config.model.checkpoint=FOLDER (for a
native .npz also --config.model.variant and --config.model.tokenizer), --config.model.compute_dtype=bfloat16,
--config.model.param_dtype=bfloat16, --config.model.unroll=1, and each stage's batch and steps (configs/medm_stage2.py
has MedM's). First check with configs/fit.py that it fits.

Expect the splits (yours, or 80/10/10 by case), their overlaps, accuracy before training and after each stage next to
the blind baselines, and report.html. It shows no file names, and images only with --config.report.images=true.
"""

import ml_collections

from radvqa_jax.config import default_config, source, stage, use_embedded_model


def get_config(name: str = "own") -> ml_collections.ConfigDict:
    config = default_config()
    config.mode = "job"
    use_embedded_model(config)
    config.data.name = name
    config.data.seq_len = 64

    config.run_stages = ("stage1", "stage2")
    own = source(dataset="table", builder_config=name)
    stage1 = config.stages.stage1 = stage()
    stage1.sources = (own,)
    stage1.total_steps = 60
    stage1.batch_size, stage1.accumulate = 16, 1
    stage1.optim.learning_rate = 1e-3

    stage2 = config.stages.stage2 = stage()
    stage2.sources = (own,)
    stage2.lora.rank = 16
    stage2.train = ((r".*/lora_[ab]", "train:lora"), (r"img/head/.*", "train:head"), (".*", "freeze"))
    stage2.total_steps = 200
    stage2.batch_size, stage2.accumulate = 16, 1
    stage2.optim.learning_rate = 1e-3
    stage2.optim.schedule = "cosine"
    stage2.optim.warmup_steps = 20

    for evaluated in (config.eval.source, config.eval.train_source):
        evaluated.dataset, evaluated.builder_config = "table", name
    config.decode.max_new_tokens = 16
    config.saliency.cases = 4
    return config
