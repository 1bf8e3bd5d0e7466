"""MedM's method end to end on two CPU cores: captions, questions, checks, two stages, evaluation, maps, report.

    python -m radvqa_jax.main --config configs/medm_tiny.py --workdir runs/medm_tiny

Templates write questions from the captions of synthetic images, and the checks select them. Training follows MedM:
stage 1 trains the projector; stage 2 trains adapters of both towers (and, unlike MedM, the projector), with the
questions about the common organs annealed in over the last fifth. Five answers are sampled for each test question.
Expect questions/questions.html, and report.html, whose first table shows what each check caught. Machine: two CPU
cores, under 15 minutes. A program draws the images.

With a language model behind a local endpoint, which also writes (`case`), and checks support, blind answers and the
round trip:
    … --config.synthesis.chat.base_url=http://127.0.0.1:8000/v1 --config.synthesis.chat.model=NAME

On MedPix 2.0 instead of phantoms; FOLDER holds its official files, or a part of them (docs/synthesis.md):
    … --config configs/medm_tiny.py:medpix_2 --config.data.manual_dir=FOLDER
A model of 1.8 million weights does not learn radiology from it: the run only shows that every part works.
"""

from typing import Any

import ml_collections

from radvqa_jax.config import default_config, source, stage, use_embedded_model, where


def phantoms(config: Any) -> None:
    """Sets the fields for the synthetic images."""
    config.data.seq_len = 24
    config.synthesis.writing.templates = ("modality", "plane", "organ", "finding", "side", "size")
    config.stages.stage1.total_steps = 60
    config.stages.stage2.total_steps = 900
    config.eval.source.limit = 300
    config.decode.max_new_tokens = 8
    config.report.images = True  # a program draws them: they show no patient


def medpix(config: Any) -> None:
    """Sets the fields for MedPix."""
    config.data.allow_count_mismatch = True  # a part of the release is enough here
    config.data.seq_len = 128
    config.stages.stage1.total_steps = 40
    config.stages.stage2.total_steps = 150
    config.decode.max_new_tokens = 24
    config.report.images = False  # they show patients


def get_config(dataset: str = "phantom_rad") -> ml_collections.ConfigDict:
    makers = {"phantom_rad": phantoms, "medpix_2": medpix}
    if dataset not in makers:
        raise ValueError(f"configs/medm_tiny.py:{dataset} is unknown. Give :phantom_rad or :medpix_2.")
    config = default_config()
    config.mode = "job"
    use_embedded_model(config)
    config.data.data_dir = "~/.cache/radvqa_jax/data"

    name = f"{dataset}_questions"
    config.synthesis.name = name
    config.synthesis.sources = (source(dataset=dataset),)
    config.synthesis.review_rows = 100

    common = where("organ", most_common=3, count_by="images")
    rising = {"anneal": "linear", "points": ((0.8, 0.0), (1.0, 1.0))}
    questions = source(dataset="written", builder_config=name)
    annealed = source(dataset="written", builder_config=name, where=(common,), **rising)
    config.run_stages = ("stage1", "stage2")
    stage1 = config.stages.stage1 = stage()
    stage1.sources = (questions,)
    stage1.batch_size, stage1.accumulate = 32, 1
    stage1.optim.learning_rate = 1e-3
    stage1.log_every = 20

    stage2 = config.stages.stage2 = stage()
    stage2.sources = (questions, annealed)
    stage2.lora.rank = 16
    stage2.train = ((r".*/lora_[ab]", "train:lora"), (r"img/head/.*", "train:head"), (".*", "freeze"))
    stage2.batch_size, stage2.accumulate = 32, 1
    stage2.optim.learning_rate = 3e-3
    stage2.optim.b2 = 0.98
    stage2.optim.schedule = "cosine"
    stage2.optim.warmup_steps = 50
    stage2.log_every = 25

    config.eval.source = source(dataset="written", builder_config=name, split="test")
    config.eval.train_source = questions
    config.decode.samples, config.decode.temperature, config.decode.top_k = 5, 1.0, 40
    config.saliency.cases = 4
    makers[dataset](config)
    return config
