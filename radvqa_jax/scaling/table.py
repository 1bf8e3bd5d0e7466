"""The table of measurements that a law is fitted to: its rows, its CSV file, and the checks before a fit."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from radvqa_jax import spreadsheet
from radvqa_jax.scaling.laws import Law
from radvqa_jax.scaling.solve import Points
from radvqa_jax.trees import nearest

FIELDS = ("parameters", "tokens", "loss", "run", "kind", "validation", "unit", "epochs")
_NEEDED = ("parameters", "tokens", "loss")
LARGEST_SHARE = 0.995  # losses after at least this share of the most tokens are held out
LEAST_SIZES = 3  # different X that determine alpha
LEAST_TOKENS = 3  # different D that determine beta
LEAST_SPREAD = float(np.finfo(np.float32).eps)  # of log L; training computes losses in float32
FLOAT32 = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


class Measurement(NamedTuple):
    """One loss.

    Attributes:
        parameters: X, the number of trained parameters or of all parameters.
        tokens: D, the number of training tokens before it was measured.
        loss: on the validation set, in nats.
        run: the training run; losses of one run are not independent.
        kind: kind of questions, such as closed; "" = all.
        validation: the name of the validation set.
        unit: `per_token` or `per_row`: the loss is a mean over tokens, or over rows.
        epochs: passes over the data before it was measured; above 1, data were repeated; 0 = unknown.
    """

    parameters: float
    tokens: float
    loss: float
    run: str
    kind: str = ""
    validation: str = ""
    unit: str = ""
    epochs: float = 0.0


def read_table(path: Path, columns: Mapping[str, str]) -> list[Measurement]:
    """Reads a CSV file with a header and one measurement per line.

    Args:
        path: the file. The columns `parameters`, `tokens` and `loss` are required; `run`, `kind`, `validation`, `unit`
            and `epochs` are optional. Without `run`, every line is a run of its own.
        columns: {field: column} for each column whose name differs from its field's.

    Raises:
        ValueError: naming line and column, if a column is missing or repeated, a row has another number of cells than
            the header or repeats another row of its run, a quote is not closed, or a number is not positive or not in
            the range of float32.
    """
    if not path.is_file():
        raise ValueError(f"scaling.table={path} is not a file. Give a CSV file with the columns {', '.join(_NEEDED)}.")
    if unknown := sorted(set(columns) - set(FIELDS)):
        raise ValueError(f"scaling.columns names {unknown}, but a measurement has the fields {', '.join(FIELDS)}.")
    rows = spreadsheet.read_csv(path)
    _, header = next(rows)
    names = {field: columns.get(field, field) for field in FIELDS}
    if twice := spreadsheet.repeated_of(names.values()):
        both = [field for field in FIELDS if names[field] == twice[0]]
        raise ValueError(f"scaling.columns: the fields {both} share the column {twice[0]!r}. Give each its own column.")
    for field in [*_NEEDED, *columns]:
        if names[field] not in header:
            raise ValueError(
                f"{path} has no column {names[field]!r} for `{field}`; it has {spreadsheet.shown(header)}."
                f"{nearest(names[field], header)} Name it: --config.scaling.columns=\"(('{field}','COLUMN'),)\"."
            )
    measured, first = [], dict[Measurement, int]()
    for line, row in spreadsheet.by_column(path, header, rows):
        one = _measurement(path, line, row, names)
        if (earlier := first.setdefault(one, line)) != line:
            raise ValueError(
                f"{path}, line {line}: it repeats line {earlier}, and a measurement counts once. Remove one of the "
                f"two; if they are of two runs, name these in the column {names['run']!r}."
            )
        measured.append(one if one.run else one._replace(run=f"line {line}"))
    return measured


def _measurement(path: Path, line: int, row: Mapping[str, str], names: Mapping[str, str]) -> Measurement:
    texts = {field: row.get(names[field], "").strip() for field in FIELDS}
    numbers = {field: _positive(path, line, names[field], texts[field]) for field in _NEEDED}
    epochs = _positive(path, line, names["epochs"], texts["epochs"]) if texts["epochs"] else 0.0
    return Measurement(
        **numbers,
        run=texts["run"],
        kind=texts["kind"],
        validation=texts["validation"],
        unit=texts["unit"],
        epochs=epochs,
    )


def _positive(path: Path, line: int, column: str, text: str) -> float:
    try:
        value = math.nan if "_" in text else float(text)  # Python reads 1_000; other programs do not
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{path}, line {line}: column {column!r} must be a number above 0; got {text!r}.")
    if not FLOAT32[0] <= value <= FLOAT32[1]:
        raise ValueError(
            f"{path}, line {line}: column {column!r} must be from {FLOAT32[0]:.3g} to {FLOAT32[1]:.3g}, the range of "
            f"float32; got {text!r}. Correct it, or remove the row."
        )
    return value


class Fittable(NamedTuple):
    """The points of one fit.

    Attributes:
        points: the points to fit.
        runs: the number of each point's run [N].
        held_out: the points with the most tokens, which are not fitted; empty if nothing is held out.
        said: warnings about the table, each a sentence.
    """

    points: Points
    runs: np.ndarray
    held_out: Points
    said: tuple[str, ...]


def kinds_of(rows: Sequence[Measurement]) -> list[str]:
    """The kinds of questions of a table, sorted; "" (all questions) comes first."""
    return sorted({row.kind for row in rows})


def sizes_of(rows: Sequence[Measurement]) -> list[float]:
    """The distinct X of a table, ascending."""
    return sorted({row.parameters for row in rows})


def make_fittable(
    rows: Sequence[Measurement], law: Law, *, hold_out: bool, min_tokens: float = 0.0, name: str = "the table"
) -> Fittable:
    """Checks that these measurements determine a law, and splits them into fitted and held-out points.

    Args:
        rows: the measurements.
        law: the law to fit.
        hold_out: whether to hold out the losses after the most tokens.
        min_tokens: losses after fewer tokens are left out.
        name: the name of the table in errors.

    Raises:
        ValueError: if the losses are of different validation sets or units, do not vary, or have too few sizes,
            numbers of tokens or points for the law.
    """
    rows = [row for row in rows if row.tokens >= min_tokens]
    for field, way in (("validation", "Measure every run on one fixed set"), ("unit", "Give one of them")):
        if len(found := sorted({getattr(row, field) for row in rows})) > 1:
            raise ValueError(f"{name} mixes losses with different `{field}`: {found}. No law relates them. {way}.")
    most = max((row.tokens for row in rows), default=0.0)
    fitted = [row for row in rows if not hold_out or row.tokens < LARGEST_SHARE * most]
    sizes, tokens = sizes_of(fitted), sorted({row.tokens for row in fitted})
    if law.by_size and len(sizes) < LEAST_SIZES:
        raise ValueError(
            f"{name}: alpha of the {law.name} law needs at least {LEAST_SIZES} sizes X; there are {len(sizes)}: "
            f"{[f'{size:g}' for size in sizes]}. Add runs of other sizes, or fit scaling.laws=('rectified',), which "
            "has no X."
        )
    if len(tokens) < LEAST_TOKENS or len(fitted) <= len(law.names):
        raise ValueError(
            f"{name}: the {law.name} law has {len(law.names)} parameters. It needs more points than parameters, and at "
            f"least {LEAST_TOKENS} numbers of tokens; there are {len(fitted)} points at {len(tokens)}"
            f"{', without the held-out ones' if hold_out else ''}. Measure more often"
            f"{', or set scaling.hold_out=False' if hold_out else ''}."
        )
    least, largest = min(row.loss for row in fitted), max(row.loss for row in fitted)
    if np.log(largest / least) <= LEAST_SPREAD:
        raise ValueError(
            f"{name}: all {len(fitted)} losses are {least:.6g}. Losses that do not vary determine no law. Give losses "
            "at other numbers of tokens or sizes, and check that the column is the loss."
        )
    numbers = {run: number for number, run in enumerate(dict.fromkeys(row.run for row in fitted))}
    return Fittable(
        _points(fitted),
        np.array([numbers[row.run] for row in fitted]),
        _points([row for row in rows if row not in fitted]),
        tuple(_said(rows)),
    )


def _points(rows: Sequence[Measurement]) -> Points:
    values = np.array([(row.parameters, row.tokens, row.loss) for row in rows], np.float64).reshape(-1, 3)
    return Points(*values.T)


def _said(rows: Sequence[Measurement]) -> Iterator[str]:
    epochs = max((row.epochs for row in rows), default=0.0)
    if epochs > 1:
        repeated = sum(row.epochs > 1 for row in rows)
        yield (
            f"{repeated} of {len(rows)} losses were measured after more than one epoch, up to {epochs:.3g} epochs: "
            "repeated tokens are worth less than new ones, which the law does not model."
        )
    if not any(row.validation for row in rows):
        yield "The table does not name the validation set; the fit is only valid if all losses are of the same one."
    if not any(row.unit for row in rows):
        yield "The table does not say whether losses are means per token or per row."
