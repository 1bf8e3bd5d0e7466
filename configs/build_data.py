"""Prepares one data set and says what is in it.

    python -m radvqa_jax.main --config configs/build_data.py --config.dataset=phantom_rad --workdir runs/data
    python -m radvqa_jax.main --config configs/build_data.py --config.dataset=slake --config.builder_config=en \
        --config.data.manual_dir=FOLDER --workdir runs/data

Machine: any. data.manual_dir holds official files; without it, what may be downloaded is. What is missing is named.
Prints what was built, what was left out or changed and why, and every figure. Files that are not the whole official
release are refused by name, unless data.allow_count_mismatch is true.
"""

import ml_collections

from radvqa_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    config = default_config()
    config.mode = "build_data"
    return config
