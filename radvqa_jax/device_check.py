"""Checks the device and its compiler: small programs of the kinds this package compiles, compared with NumPy.

XLA has compiled some programs wrongly without an error (KNOWN lists the reports). A wrong result stops the run before
the first step. A device that passed is remembered, with its driver and the versions, and is not checked again.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from radvqa_jax.files import write_json
from radvqa_jax.models.fused_attention import KERNELS, choose
from radvqa_jax.runtime import local_devices, user_cache

KNOWN = (
    "jax-ml/jax#39103 (CPU, 0.10.2: sums over the rows of a product)",
    "jax-ml/jax#40588 and #39486 (NVIDIA, 0.10.2: concatenations, fusions with several outputs)",
    "jax-ml/jax#40633 (NVIDIA, 0.11.0 and 0.11.1)",
)
DTYPES = ("float32", "bfloat16")


class WrongResult(RuntimeError):
    """The results of the device differ from NumPy's by more than rounding."""


class Program(NamedTuple):
    """One small program: the device runs `run`, and NumPy computes `expected` in float64."""

    name: str
    run: Callable[..., Any]
    expected: Callable[..., Any]
    inputs: tuple[np.ndarray, ...]
    dtype: str


def _softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def _rms(xp: Any, x: Any) -> Any:
    return x / xp.sqrt((x * x).mean(-1, keepdims=True) + 1e-6)


def _scan(x: Any, w: Any) -> Any:
    return jax.lax.scan(lambda carry, one: (jnp.tanh(carry @ one), None), x, w)[0]


def _scan_expected(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    for one in w:
        x = np.tanh(x @ one)
    return x


def _row_sums(m: Any, rows: Any) -> Any:
    return jax.vmap(lambda row: jnp.sum((m @ row) ** 2))(rows)


def _joined(xp: Any, x: Any, first: Any, rest: Any, more: Any) -> Any:
    """Joins a mask from two parts, normalises the masked rows, and joins more rows to them."""
    keep = xp.concatenate([first, rest])[:, None]
    return xp.concatenate([_rms(xp, x * keep) * keep, more])


def _attended(query: np.ndarray, key: np.ndarray, value: np.ndarray, mask: np.ndarray) -> np.ndarray:
    key, value = (np.repeat(x, query.shape[2] // x.shape[2], axis=2) for x in (key, value))
    logits = np.where(mask[:, None] > 0, np.einsum("BTNH,BSNH->BNTS", query, key), -np.inf)
    return np.einsum("BNTS,BSNH->BTNH", _softmax(logits), value)


def _cross_entropy(xp: Any, x: Any, ids: Any) -> Any:
    logits = x - x.max(-1, keepdims=True)
    return xp.log(xp.exp(logits).sum(-1)) - xp.take_along_axis(logits, ids.astype("int32")[:, None], axis=-1)[:, 0]


def programs() -> list[Program]:
    """The programs, with the same inputs on every machine."""
    draw = np.random.default_rng(0).standard_normal
    heads = (draw((1, 48, 8, 16)) / 4, draw((1, 48, 1, 16)), draw((1, 48, 1, 16)))
    mask = np.tril(np.ones((1, 48, 48)), 20)
    ids = np.arange(40) * 7 % 96
    scan = (draw((32, 64)), draw((6, 64, 64)) / 8)
    parts = (draw((40, 64)), np.ones(17), (np.arange(23) % 2) * 1.0, draw((4, 64)))
    found = [
        Program(
            "a gather",
            lambda table, ids: table[ids.astype(jnp.int32)],
            lambda table, ids: table[ids.astype(int)],
            (draw((96, 64)), ids),
            "float32",
        ),
        # A wrong split of the rows shows in the last row.
        Program(
            "sums over the rows of a product",
            _row_sums,
            lambda m, rows: ((rows @ m.T) ** 2).sum(-1),
            (np.ones((3, 3)), np.broadcast_to(np.arange(32769.0)[:, None] / 1024, (32769, 3))),
            "float32",
        ),
        Program(
            "the gradient of a cross-entropy",
            lambda x, ids: jax.grad(lambda x: _cross_entropy(jnp, x, ids).sum())(x),
            lambda x, ids: _softmax(x) - np.eye(x.shape[-1])[ids.astype(int)],
            (draw((40, 96)), ids),
            "float32",
        ),
    ]
    for dtype in DTYPES:
        kernel = KERNELS[choose(48, 8, 1, 16, jnp.dtype(dtype), True, 0.0)]
        found += [
            Program("a scan of products", _scan, _scan_expected, scan, dtype),
            Program("a softmax", partial(jax.nn.softmax, axis=-1), _softmax, (draw((33, 257)),), dtype),
            Program("joined rows under a mask", partial(_joined, jnp), partial(_joined, np), parts, dtype),
            Program(
                "attention",
                lambda query, key, value, mask, kernel=kernel: kernel(query, key, value, mask > 0),
                _attended,
                (*heads, mask),
                dtype,
            ),
        ]
    return found


def errors_of(todo: Sequence[Program], device: Any = None) -> list[float]:
    """Each program's largest difference from NumPy, as a share of the largest value; infinite for NaN.

    All programs are compiled as one, which takes half the time.
    """
    # NumPy rounds the inputs: jax would compile the rounding, too.
    rounded = [[np.asarray(x, jnp.dtype(program.dtype)) for x in program.inputs] for program in todo]
    run = jax.jit(lambda inputs: [program.run(*own) for program, own in zip(todo, inputs, strict=True)])
    return [
        _error(np.asarray(got, np.float64), program.expected(*(x.astype(np.float64) for x in own)))
        for program, own, got in zip(todo, rounded, run(jax.device_put(rounded, device)), strict=True)
    ]


def _error(got: np.ndarray, want: np.ndarray) -> float:
    if got.shape != want.shape or not np.isfinite(got).all():
        return float("inf")
    return float(np.abs(got - want).max() / np.abs(want).max())


def tolerance(dtype: str, platform: str) -> float:
    """The largest error that rounding explains: bfloat16 has 8 bits, float32 products on a GPU or TPU about 11."""
    return 4e-2 if dtype == "bfloat16" else 1e-4 if platform == "cpu" else 5e-3


def describe_device(device: Any) -> dict[str, str]:
    """The facts that a result depends on: the device, its driver and the versions."""
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "machine": f"{platform.machine()} {_processor() if device.platform == 'cpu' else ''}".strip(),
        "driver": _driver() if device.platform in ("gpu", "cuda") else "",
        "runtime": device.client.platform_version,
        "jax": importlib.metadata.version("jax"),
        "jaxlib": importlib.metadata.version("jaxlib"),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _driver() -> str:
    path = Path("/proc/driver/nvidia/version")
    return path.read_text(encoding="utf-8", errors="replace").splitlines()[0] if path.is_file() else ""


def check_device(*, cache: Path | None = None, fresh: bool = False) -> dict[str, float]:
    """Runs the programs on the first local device, unless it passed before.

    Args:
        cache: the folder where devices that passed are remembered; by default in the user's cache folder, if
            there is one.
        fresh: check even a device that passed before.

    Returns:
        {program: error}; empty if the device passed before.

    Raises:
        ValueError: if there is no device.
        WrongResult: naming the programs, the device and the known reports.
    """
    device = local_devices()[0]
    facts = describe_device(device)
    text = json.dumps(facts, sort_keys=True) + Path(__file__).read_text(encoding="utf-8")
    own = user_cache()
    folder = cache or (own and own / "devices")
    path = folder and folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    if not fresh and path and path.is_file():
        return {}
    todo = programs()
    names = [f"{program.name} in {program.dtype}" for program in todo]
    errors = dict(zip(names, errors_of(todo, device), strict=True))
    wrong = [
        f"{name} (off by {error:.2g} of the largest value; rounding explains {allowed:.2g})"
        for program, (name, error) in zip(todo, errors.items(), strict=True)
        if not error <= (allowed := tolerance(program.dtype, device.platform))
    ]
    if wrong:
        raise WrongResult(_say(wrong, facts))
    if path:
        with contextlib.suppress(OSError):  # if the result cannot be kept, the next run checks again
            write_json(path, {"device": facts, "errors": errors}, private=False)
    return errors


def _say(wrong: list[str], facts: dict[str, str]) -> str:
    about = ", ".join(f"{name} {value}" for name, value in facts.items() if value)
    return (
        f"This device computes wrong results: {'; '.join(wrong)}. {about}. Nothing was trained or answered. "
        f"Known reports: {'; '.join(KNOWN)}. Install another release of jax (pip install -U jax) or driver. "
        "`radvqa doctor` repeats this check."
    )
