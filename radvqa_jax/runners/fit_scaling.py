"""The mode that fits scaling laws to a table of losses, or to the losses of runs."""

import glob
from collections.abc import Iterator
from pathlib import Path

from radvqa_jax.config import Config, ScalingConfig
from radvqa_jax.files import sha256
from radvqa_jax.runners.budget import read_run
from radvqa_jax.scaling.fit import fit_law
from radvqa_jax.scaling.laws import LAWS, Law
from radvqa_jax.scaling.page import KIND, Fitted, write_fits
from radvqa_jax.scaling.table import Measurement, kinds_of, make_fittable, read_table, sizes_of


def read_measurements(scaling: ScalingConfig) -> tuple[list[Measurement], dict[str, str]]:
    """The measurements of the table and of the runs, and {file: sha256} of what they were read from.

    A run that several patterns name, or one pattern under several paths, is read once.

    Raises:
        ValueError: if a pattern names no run, a run or the table cannot be used, or two folders hold the same losses.
    """
    rows, origin, read = [], {}, dict[str, Path]()
    if scaling.table:
        path = Path(scaling.table).expanduser()
        rows += read_table(path, dict(scaling.columns))
        origin[str(path)] = sha256(path)
    for pattern in scaling.runs:
        folders = [Path(found) for found in sorted(glob.glob(str(Path(pattern).expanduser())))]
        if not folders:
            raise ValueError(f"scaling.runs: {pattern} matches no folder. Give the folders of trained stages.")
        for folder in folders:
            measured = read_run(folder, unit=scaling.unit)
            digest = sha256(folder / "losses.jsonl")
            first = read.setdefault(digest, folder)
            if first is folder:
                rows += measured
                origin[str(folder)] = digest
            elif first.resolve() != folder.resolve():
                raise ValueError(
                    f"scaling.runs: {first} and {folder} hold the same losses, and a run counts once. Name one of them."
                )
    return rows, origin


def _fit_all(rows: list[Measurement], law: Law, config: Config) -> Iterator[Fitted]:
    """Yields the fits of a law: one for each kind of question, and without X one for each size."""
    scaling = config.scaling
    for kind in kinds_of(rows):
        of_kind = [row for row in rows if row.kind == kind]
        for size in [None] if law.by_size else sizes_of(of_kind):
            chosen = [row for row in of_kind if size in (None, row.parameters)]
            name = f"{law.name}, {KIND.get(kind, kind)}" + ("" if size is None else f", X = {size:.4g}")
            print(f"fitting {name}: {len(chosen)} losses", flush=True)
            try:
                data = make_fittable(chosen, law, hold_out=scaling.hold_out, min_tokens=scaling.min_tokens, name=name)
            except ValueError as error:
                yield Fitted(name, None, str(error))
            else:
                yield Fitted(name, fit_law(law, data, resamples=scaling.resamples, seed=config.seed))


def fit_scaling_mode(config: Config, workdir: Path) -> None:
    """Writes scaling.json, scaling.txt and scaling.html; ends with an error if no law could be fitted."""
    rows, origin = read_measurements(config.scaling)
    fits = [fitted for name in config.scaling.laws for fitted in _fit_all(rows, LAWS[name], config)]
    print(write_fits(workdir, fits, provenance={"read from": origin, "losses": len(rows), "seed": config.seed}))
    print(f"The page is {workdir / 'scaling.html'}")
    if all(fitted.fit is None for fitted in fits):
        raise ValueError(f"No law could be fitted: {fits[0].refused}")
