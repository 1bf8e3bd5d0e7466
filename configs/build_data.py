"""Prepares one data set and says what is in it.

    python -m radvqa_jax.main --config configs/build_data.py --config.dataset=phantom_rad --workdir runs/data
    python -m radvqa_jax.main --config configs/build_data.py --config.dataset=vqa_rad \
        --config.data.manual_dir=FOLDER --workdir runs/data

Machine: any. Data sets that may not be downloaded say which official files to put into data.manual_dir.
"""

import ml_collections

from radvqa_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    config = default_config()
    config.mode = "build_data"
    return config
