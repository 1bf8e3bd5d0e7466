"""Says beforehand whether an experiment fits a device, and how fast it can be at best. Neither weights nor device.

    python -m radvqa_jax.main --config configs/fit.py --workdir runs/fit \
        --config.experiment=configs/medm_stage2.py --config.target=h100

Targets are in radvqa_jax/planning/devices.py (h100, rtx4060, v5e-16, …), or `local`. Machine: any with 4 GB of memory
and the target's compiler (`jax[cuda13]` or `jax[tpu]`; if it is missing, the error has the pip command). Expect one
or two minutes, and up to four more for the largest batch at each resolution; `--config.fit.resolutions="()"` leaves
that out. XLA's warnings there are about a limit of its own, which is below the card's memory.
"""

import ml_collections

from radvqa_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    config = default_config()
    config.mode = "fit"
    config.mesh.data = 0  # all devices of the target; --config.mesh.fsdp=16 shares the weights out
    return config
