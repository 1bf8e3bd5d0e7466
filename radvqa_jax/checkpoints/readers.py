"""Open checkpoints as leaves of big_vision's tree, whichever format they are stored in.

A reader first lists its content, in terms of the wanted leaves, and then gives leaf by leaf. big_vision.py decides, in
the same way for every format, which leaves fit, which may be adapted and which are errors.
"""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np

from radvqa_jax import files
from radvqa_jax.checkpoints.npz import NpzReader, PathLike, count_nonfinite

PREFIX = "params/"
KIND = "a native big_vision .npz checkpoint (keys `params/img/…`, `params/llm/…`)"
REMEDY = (
    "Set model.checkpoint to the .npz file that belongs to model.variant, or to a Hugging Face folder or .safetensors "
    "file; if it is that file, download it again. Names of the Hub are not looked up: get a folder with `hf download "
    "NAME --local-dir FOLDER`."
)


class Held(NamedTuple):
    """The content of a checkpoint, for the wanted leaves."""

    leaves: dict[str, jax.ShapeDtypeStruct]  # big_vision's name -> shape in big_vision's layout, dtype in the file
    extra: dict[str, jax.ShapeDtypeStruct]  # entries that belong to no wanted leaf, under their names in the file
    problems: dict[str, list[str]]  # kind -> lines about leaves that cannot be made from the entries
    unused: tuple[str, ...]  # lines about entries that every PaliGemma ignores


@runtime_checkable
class Weights(Protocol):
    """An open checkpoint; a context manager."""

    path: Any  # of the file or folder
    spare_rows: int  # of the vocabulary that may be left out at its end

    def held(self, want: Mapping[str, Any]) -> Held:
        """The entries for these leaves (flat tree of shapes), without reading a value."""
        ...

    def read(self, name: str, target: Any) -> tuple[np.ndarray, int]:
        """(leaf, the number of its values that are NaN or infinite in the target's dtype).

        The leaf has the shape from `held`, and the target's dtype or the file's.
        """
        ...

    def sha256(self) -> str:
        """The hash of the file, or one hash of all files."""
        ...

    def __enter__(self) -> "Weights": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class NativeWeights:
    """A native `.npz`: keys are leaf names, usually behind `params/`; other groups keep their full names."""

    spare_rows = 0

    def __init__(self, path: PathLike) -> None:
        self._npz = NpzReader(path, kind=KIND, remedy=REMEDY)
        self.path = self._npz.path
        self._keys: dict[str, str] = {}
        for key in self._npz.shapes:
            name = key.removeprefix(PREFIX)
            if name in self._keys:
                self._npz.close()
                raise ValueError(f"{self.path} is not {KIND}: it holds both {self._keys[name]!r} and {key!r}. {REMEDY}")
            self._keys[name] = key

    def __enter__(self) -> "NativeWeights":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._npz.close()

    def leaves(self) -> dict[str, jax.ShapeDtypeStruct]:
        """{leaf name: shape and dtype in the file}."""
        return {name: self._npz.shapes[key] for name, key in self._keys.items()}

    def held(self, want: Mapping[str, Any]) -> Held:
        """See Weights: leaves are stored as they are used."""
        leaves = self.leaves()
        extra = {name: leaf for name, leaf in leaves.items() if name not in want}
        return Held({name: leaf for name, leaf in leaves.items() if name in want}, extra, {}, ())

    def read(self, name: str, target: Any) -> tuple[np.ndarray, int]:
        """See Weights: the dtype is the file's."""
        host = self._npz.read(self._keys[name])
        return host, count_nonfinite(host, target.dtype)

    def sha256(self) -> str:
        """The hash of the file."""
        return files.sha256(self.path)
