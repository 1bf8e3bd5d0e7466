"""The report of mode=fit, as text and as JSON."""

from collections.abc import Sequence
from typing import Any

import jax

from radvqa_jax.planning.devices import GIB, TERA
from radvqa_jax.planning.fit import Fitted
from radvqa_jax.planning.targets import Target


def format_fit(
    target: Target, programs: list[Fitted], batches: list[dict[str, Any]], frontiers: Sequence[str] = ()
) -> str:
    """The report as text."""
    kind = target.device.kind if target.device else target.devices[0].device_kind
    lines = [f"{target.name}: {len(target.devices)} x {kind}, {gib(target.memory)} GiB each"]
    head = "program", "rows", "arguments", "temporaries", "peak GiB", "fits", "TFLOP", "minimum", "recomputed", "GB"
    lines += table([(*head, "at best"), *(_row(fitted, target) for fitted in programs)])
    for fitted in programs:
        for copy in fitted.float32_copies:
            lines.append(f"{fitted.name}: a frozen weight exists in float32: {copy}")
    for row in batches:
        lines.append(
            f"largest batch of {row['name']} at {row['resolution']} px: {row['batch_size']} "
            f"(peak {gib(row['peak'])} GiB, {row['compilations']} compilations)"
        )
    return "\n".join([*lines, *frontiers, "", "Not in this report:", *(f"- {line}" for line in unknown(target))])


def _row(fitted: Fitted, target: Target) -> tuple[str, ...]:
    """The cells of one program's row."""
    fits = "?" if target.memory is None else "yes" if fitted.peak <= target.memory else "NO"
    least, again = "", ""
    if fitted.minimum_flops and fitted.recomputed is not None:
        least = f"{fitted.minimum_flops / TERA:.2f}"
        again = f"{fitted.recomputed / TERA:.2f} ({fitted.recomputed / fitted.minimum_flops:.1%})"
    best = f"{1e3 * fitted.roofline_seconds:.1f} ms" if fitted.roofline_seconds is not None else ""
    sizes = gib(fitted.arguments), gib(fitted.temporaries), gib(fitted.peak)
    amounts = f"{fitted.work.flops / TERA:.2f}", least, again, f"{fitted.work.bytes / 1e9:.1f}", best
    return fitted.name, str(fitted.rows), *sizes, fits, *amounts


def table(rows: list[tuple[str, ...]]) -> list[str]:
    """The lines of a table: the first column is aligned left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]


def gib(size: int | None) -> str:
    """Bytes as GiB."""
    return "?" if size is None else f"{size / GIB:.2f}"


def unknown(target: Target) -> list[str]:
    """The limits of what compiling can show, one a line."""
    lines = [
        "Real speed: `at best` is arithmetic or bytes at the peak rate. A real step takes longer, often twice as long.",
        "The lengths of answers: every text position counts as a target, and every answer as long as it may be.",
    ]
    if len(target.devices) > 1:
        lines.append("Communication between the devices: `at best` does not include it.")
    if target.device is not None and target.device.platform == "cuda":
        lines += [
            "Memory for the driver, cuBLAS and cuDNN (several hundred MiB), and fragmentation. JAX reserves 75 % of "
            "the card at its start; XLA_PYTHON_CLIENT_MEM_FRACTION=0.95 raises that.",
        ]
        if not target.present:
            lines.append("Autotuning and Triton's products, which need the card: temporaries may differ by some MiB.")
            lines.append("Whether the card supports cuDNN's attention (model.attention=auto): the plan uses blocks.")
    if (
        target.device is not None
        and target.device.platform == "tpu"
        and len(target.devices) == 1
        and not target.present
    ):
        lines.append("Whether the chip supports splash attention (model.attention=auto): the plan uses blocks.")
    if target.device is None:
        lines.append("Peak rates of this device: it is not in planning/devices.py, so there is no time and no MFU.")
    return lines


def to_json(target: Target, programs: list[Fitted], batches: list[dict[str, Any]]) -> dict[str, Any]:
    """The report as plain values."""
    return {
        "target": target.name,
        "kind": target.device.kind if target.device else target.devices[0].device_kind,
        "devices": len(target.devices),
        "memory": target.memory,
        "peak_flops": target.device.peak_flops if target.device else None,
        "bandwidth": target.device.bandwidth if target.device else None,
        "jax": jax.__version__,
        "programs": [fitted.to_json() for fitted in programs],
        "largest_batches": batches,
        "unknown": unknown(target),
    }
