"""The flags of XLA without which a release computes wrong results. Imports no jax."""

import importlib.metadata
import os

_FUSION_FLAG = "--xla_cpu_experimental_ynn_fusion_type"


def avoid_miscompilation() -> None:
    """Sets the XLA flag without which jaxlib 0.10.2 miscompiles on the CPU (jax-ml/jax#39103), unless it is set.

    Call it before anything is compiled: XLA reads its flags once. Other releases do not need it, and may not know it.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if importlib.metadata.version("jaxlib") == "0.10.2" and _FUSION_FLAG not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_FUSION_FLAG}=".strip()
