"""Compiled programs are kept in the configured folder, and found again."""

import errno
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from radvqa_jax import runtime
from radvqa_jax.config import Config
from radvqa_jax.loaded_base import load_base
from radvqa_jax.runtime import keep_compiled

FIELDS = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)


@pytest.fixture
def own_cache() -> Iterator[None]:
    """Puts jax's settings back, and lets it open another folder, before and after."""
    before = {name: getattr(jax.config, name) for name in FIELDS}
    compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def compile_something(number: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # jax only warns of a cache that it cannot use
        jax.jit(lambda x: jnp.sin(x) + number).lower(jnp.ones(3)).compile()


def test_a_program_that_compiles_fast_is_kept(tmp_path: Path, own_cache: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    keep_compiled("auto")
    compile_something(11)
    kept = {path.name for path in (tmp_path / "radvqa_jax" / "compiled").iterdir()}
    assert any("lambda" in name for name in kept)
    compile_something(11)
    assert {path.name for path in (tmp_path / "radvqa_jax" / "compiled").iterdir()} >= kept


def test_no_program_is_kept_if_the_cache_is_off(tmp_path: Path, own_cache: None) -> None:
    keep_compiled(str(tmp_path / "kept"))
    keep_compiled("")
    compile_something(12)
    assert not (tmp_path / "kept").exists()


def compile_in(folder: Path, *numbers: int) -> None:
    """Compiles a program for each number, with the warnings of a user's run."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        keep_compiled(str(folder))
        for number in numbers:
            jax.jit(lambda x, n=number: jnp.sin(x) + n).lower(jnp.ones(3)).compile()


def test_a_program_that_was_cut_is_compiled_and_kept_anew(
    tmp_path: Path, own_cache: None, capfd: pytest.CaptureFixture[str]
) -> None:
    def compile_both() -> str:
        compile_in(tmp_path / "kept", 13, 14)
        return capfd.readouterr().err

    assert not compile_both()
    kept = {path: path.read_bytes() for path in (tmp_path / "kept").glob("*lambda*")}
    assert len(kept) == 2
    for path, content in kept.items():
        path.write_bytes(content[: len(content) // 2])
    (said,) = compile_both().splitlines()  # one line, and none of jax
    assert said.startswith(f"Compiled programs in {tmp_path}/kept that cannot be read are removed and compiled again (")
    assert not compile_both()


def test_a_cache_that_cannot_be_written_is_one_line_with_its_folder(
    tmp_path: Path, own_cache: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("jax._src.lru_cache.LRUCache.put", full)
        compile_in(tmp_path, 15, 16)
    (said,) = capfd.readouterr().err.splitlines()
    assert said.startswith(f"Compiled programs cannot be kept in {tmp_path} (OSError: [Errno 28] No space left")
    assert said.endswith("give another folder: --config.compilation_cache=FOLDER.")


def test_the_peak_of_a_program_has_its_temporaries_on_a_cpu_too() -> None:
    x = jnp.ones((256, 256))
    compiled = jax.jit(lambda x: jnp.sort(x @ x, axis=0).sum()).lower(x).compile()
    memory = compiled.memory_analysis()
    assert memory.temp_size_in_bytes >= x.nbytes
    assert runtime.peak_bytes(memory) >= memory.argument_size_in_bytes + memory.temp_size_in_bytes


@pytest.mark.skipif(not Path("/proc/self/maps").is_file(), reason="Linux counts memory maps")
def test_programs_are_dropped_only_when_their_memory_maps_are_many() -> None:
    kept = [jax.jit(lambda x, n=n: jnp.tanh(x * n).sum()) for n in range(20)]
    before = [float(program(jnp.ones(8))) for program in kept]
    held = _maps()
    runtime.release_programs()
    assert _maps() >= held  # far below half of what is allowed
    runtime.release_programs(most=0.0)
    assert _maps() < held - 20
    assert [float(program(jnp.ones(8))) for program in kept] == before


def _maps() -> int:
    return Path("/proc/self/maps").read_bytes().count(b"\n")


def test_a_variable_for_64_bits_has_no_effect_on_a_run_and_is_refused_by_the_api() -> None:
    jax.config.update("jax_enable_x64", True)
    try:
        with pytest.raises(ValueError, match=r"jax_enable_x64 is on.* Unset JAX_ENABLE_X64"):
            load_base(Config(), Path())
    finally:
        jax.config.update("jax_enable_x64", False)
    program = "from radvqa_jax import runtime; runtime.compute_in_32_bits(); import jax; print(jax.numpy.ones(1).dtype)"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=os.environ | {"JAX_ENABLE_X64": "1"}, capture_output=True, text=True, check=True)
    assert done.stdout == "float32\n" and "JAX_ENABLE_X64 has no effect" in done.stderr
