"""Describes an error in one line, for the command line and for scripts."""

import errno
import sys
import sysconfig
from collections.abc import Callable

from radvqa_jax.command_line.modes import PACKAGE

FAILURES = (ValueError, OSError, RuntimeError, MemoryError, ImportError)  # errors that end as `error: …`

# Error number -> the fault of a path, and the way out.
_PLACES = {
    errno.EEXIST: "exists, and is not of the kind that is needed there. Move it away",
    errno.ENOTDIR: "has a file in place of one of its folders. Move that file away",
    errno.EISDIR: "is a folder, but a file is needed there. Move it away",
    errno.EACCES: "may not be read or written by this user. Change its permissions",
    errno.EPERM: "may not be changed by this user. Change its permissions",
    errno.EROFS: "is on a read-only file system. Make it writable",
    errno.ELOOP: "is a link that leads back to itself. Remove it",
}


def say(
    error: Exception, *, debug: str, kept: str = "", elsewhere: str = "", near: Callable[[str], str] = lambda _: ""
) -> str:
    """The error in one line, or in as many lines as its own message has.

    Args:
        error: one of FAILURES.
        debug: a sentence that says how to see the traceback.
        kept: a sentence that says what is kept of the run.
        elsewhere: the end of a sentence, with another way out if a file or folder cannot be written.
        near: gives a sentence that suggests an existing file, for a message that names a missing one.
    """
    # If a file is moved onto another, the second name is the one that the user knows.
    name = (error.filename2 or error.filename) if isinstance(error, OSError) else None
    if isinstance(error, RecursionError):
        return f"{error}: a file or a value is nested too deeply to be read. {debug}"
    if isinstance(error, MemoryError):
        return f"out of memory ({error}). Give a smaller batch_size, or fewer data.workers. {debug}"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        place = f" for {name}" if name else ""
        return f"there is no room{place} ({error.strerror}). Make room there. {kept}".rstrip()
    if isinstance(error, OSError) and error.errno == errno.ENOENT and name:
        return f"{name} does not exist. Give an existing path.{near(str(name))}"
    if isinstance(error, OSError) and error.errno in _PLACES and name:
        return f"{name} {_PLACES[error.errno]} ({error.strerror}){elsewhere}."
    if isinstance(error, ValueError | OSError | ImportError) or _is_ours(error):
        where = f" {debug}" if _of_library(error) else ""
        return f"{error}{near(str(error))}{where}"
    # The message of a library seldom says what to do.
    first = next((line for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first[:500]} {debug} {kept}".rstrip()


def _is_ours(error: Exception) -> bool:
    """Whether it is a RuntimeError of this package, which says what to do. Loads no module."""
    ours = (("radvqa_jax.training.loop", "Diverged"), ("radvqa_jax.device_check", "WrongResult"))
    kinds = (getattr(sys.modules.get(module), name, None) for module, name in ours)
    return any(kind is not None and isinstance(error, kind) for kind in kinds)


def _of_library(error: Exception) -> bool:
    """Whether another package or Python raised the error, whose message may then not show the place in this package."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    file = trace.tb_frame.f_code.co_filename if trace is not None else ""
    return any(file.startswith(sysconfig.get_path(name)) for name in ("stdlib", "platlib", "purelib")) and (
        not file.startswith(str(PACKAGE))
    )
