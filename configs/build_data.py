"""Prepares one data set and reports its content.

    python -m radvqa_jax.main --config configs/build_data.py --config.dataset=phantom_rad --workdir runs/data
    python -m radvqa_jax.main --config configs/build_data.py --config.dataset=slake --config.builder_config=en \
        --config.data.manual_dir=FOLDER --workdir runs/data

Machine: any. data.manual_dir is the folder of the official files. Without it, the files are downloaded where that is
allowed; an error names those that are missing. The report gives all counts, and the rows that were left out or changed,
with the reason. Files that are not the whole official release are refused unless data.allow_count_mismatch is true.
"""

import ml_collections

from radvqa_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    config = default_config()
    config.mode = "build_data"
    return config
