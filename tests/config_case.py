"""A configuration that trains both stages, to be changed by tests."""

from typing import Any

from radvqa_jax.config import default_config, source, stage


def valid() -> Any:
    """A configuration that trains both stages."""
    config = default_config()
    config.run_stages = ("stage1", "stage2")
    for name in config.run_stages:
        config.stages[name] = stage(sources=(source(dataset="phantom_rad"),), total_steps=10)
    return config


def put(config: Any, path: str, value: Any) -> Any:
    """Sets a field, whatever type it had."""
    *groups, last = path.split(".")
    for group in groups:
        config = getattr(config, group)
    with config.ignore_type():
        config[last] = value
    return config
