"""Compiled programs are kept in the configured folder, and found again."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from radvqa_jax import runtime
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


def test_the_peak_of_a_program_has_its_temporaries_on_a_cpu_too() -> None:
    x = jnp.ones((256, 256))
    compiled = jax.jit(lambda x: jnp.sort(x @ x, axis=0).sum()).lower(x).compile()
    memory = compiled.memory_analysis()
    assert memory.temp_size_in_bytes >= x.nbytes
    assert runtime.peak_bytes(memory) >= memory.argument_size_in_bytes + memory.temp_size_in_bytes
