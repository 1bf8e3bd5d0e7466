"""The mode that exports an adapter, or the model with it merged, to the format of another library."""

from pathlib import Path

from radvqa_jax.config import Config
from radvqa_jax.exporting import export


def export_mode(config: Config, workdir: Path) -> None:
    """Exports config.adapter on its base into workdir/<format>, checks it, and prints its accuracy."""
    done = export(config, workdir / config.export.format)
    for note in done.notes:
        print(note)
    print(f"{done.exported.folder}: {done.exported.difference.text()}")
    print("Research software, not for clinical use.")
