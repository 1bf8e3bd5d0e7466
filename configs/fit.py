"""Plans whether an experiment fits a device, and how fast it can be at best. Needs neither the weights nor the device.

    python -m radvqa_jax.main --config configs/fit.py --workdir runs/fit \
        --config.experiment=configs/medm_stage2.py --config.target=h100

A target is a name in radvqa_jax/planning/devices.py (h100, rtx4060, v5e-16, …), or `local`. Machine: any with 4 GB of
memory and the target's compiler (`jax[cuda13]` or `jax[tpu]`; if it is missing, the error gives the pip command).
Expect one or two minutes, and up to four more for the largest batch at each resolution;
`--config.fit.resolutions="()"` leaves that out. XLA's warnings in that search are about a limit of its own, below the
card's memory.
"""

import ml_collections

from radvqa_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    config = default_config()
    config.mode = "fit"
    config.mesh.data = 0  # all devices of the target; --config.mesh.fsdp=16 shards the weights over 16
    return config
