"""Runs one experiment: `python -m radvqa_jax.main --config configs/demo.py --workdir runs/demo`, or `radvqa demo`.

--help lists modes and experiments, and --helpfull every field. radvqa_jax/command_line/ does the work.
"""

import os
import signal
import sys
from types import FrameType


def _stop_loading(signum: int, frame: FrameType | None) -> None:
    """Ends the process at once: it holds no lock yet, and code of an import could swallow an exception."""
    if "--debug" in sys.argv:
        raise KeyboardInterrupt
    os.write(2, b"error: stopped by Ctrl-C.\n")
    os._exit(128 + signum)


def main() -> None:
    """Runs the command line; Ctrl-C ends it with one line, even while it is still loading."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not if the caller ignores SIGINT
        signal.signal(signal.SIGINT, _stop_loading)  # until command_line/run.py starts the mode
    # absl would read the file while the flags are defined, and print its content.
    if any(argument.startswith(("--flagfile", "-flagfile")) for argument in sys.argv[1:]):
        sys.exit("error: --flagfile is not known. Write an experiment file, and give it as --config FILE.py.")
    from radvqa_jax.command_line.run import start

    start()


if __name__ == "__main__":
    main()
