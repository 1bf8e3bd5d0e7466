"""The results book: every table and figure of MedM, LLaMA32-Med and Med-Idefics next to our measurements.

    python -m radvqa_jax.main --config configs/reproduce.py --workdir runs/book \
        --config.model.checkpoint=paligemma-3b-mix-448.npz --config.model.tokenizer=paligemma_tokenizer.model

It runs what can be run where it is started: whatever data are prepared (configs/build_data.py,
configs/write_questions.py), on a machine that holds it. A cell that cannot be filled is empty, and says why and which
command changes that. Start the same command again after an interruption, or when more is prepared: what is trained and
answered is kept. The files of configs/papers/ name the cells; one table alone:
    --config.book.tables="('medm_table1',)"
Machine: one H100 for all of it. Expect book.html, book.json, book.csv and book.tex. Judged cells are filled by
configs/score.py with --config.mode=judge, and this command once more (docs/reproduce.md).

    --config.book.targets="('h100','rtx4090')"
runs nothing, and prints what every recipe takes on these devices: memory, steps, hours at the roofline.

    python -m radvqa_jax.main --config configs/reproduce.py:short --workdir runs/short_book
runs every recipe with one step a stage on the embedded model and 40 phantoms: a test, whose figures say nothing.
Machine: two CPU cores, a few minutes.
"""

import ml_collections

from radvqa_jax.config import default_config, use_embedded_model


def get_config(form: str = "whole") -> ml_collections.ConfigDict:
    if form not in ("whole", "short"):
        raise ValueError(f"configs/reproduce.py:{form} is unknown. Give :short, or nothing.")
    config = default_config()
    config.mode = "reproduce"
    if form == "short":
        use_embedded_model(config)
        config.book.stand_in = "phantom_rad/tiny"
        config.data.data_dir = "~/.cache/radvqa_jax/data"
        config.eval.bootstrap = 50
    return config
