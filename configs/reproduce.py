"""The results book: the tables and figures of MedM, LLaMA32-Med and Med-Idefics next to our measurements.

    python -m radvqa_jax.main --config configs/reproduce.py --workdir runs/book \
        --config.model.checkpoint=paligemma-3b-mix-448.npz --config.model.tokenizer=paligemma_tokenizer.model

It runs every recipe whose data are prepared (configs/build_data.py, configs/write_questions.py) and whose model fits
the machine. The other cells stay empty, each with the reason and the command that changes it. Start the same command
again after an interruption, or when more data are prepared: trained stages and answers are kept. The files of
configs/papers/ describe the cells; for one table alone:
    --config.book.tables="('medm_table1',)"
Machine: one H100 for all tables. Expect book.html, book.json, book.csv and book.tex. To fill the judged cells, run
configs/score.py with --config.mode=judge, and then this command again (docs/reproduce.md).

    --config.book.targets="('h100','rtx4090')"
runs nothing, and prints what every recipe needs on these devices: memory, steps, hours at the roofline.

    python -m radvqa_jax.main --config configs/reproduce.py:short --workdir runs/short_book
runs every recipe with one step per stage on the embedded model and 40 phantoms. It is a test; its figures mean nothing.
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
