"""Runs the scripts in scripts/: a mistake ends with a line `error: …`, Ctrl-C with one line and status 130."""

import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from radvqa_jax.command_line.failures import FAILURES, say
from radvqa_jax.command_line.interrupts import interrupts_reach_us
from radvqa_jax.command_line.streams import no_reader, print_anything, visible_streams
from radvqa_jax.untrusted import visible
from radvqa_jax.xla_flags import avoid_miscompilation

TRACEBACK = "RADVQA_TRACEBACK"  # environment variable; 1 = show the traceback of an error


def run_script(main: Callable[[], int | None]) -> NoReturn:
    """Runs a script's `main` and exits with what it returns."""
    avoid_miscompilation()
    print_anything()
    try:
        with visible_streams(), interrupts_reach_us():
            status = main()
            sys.stdout.flush()
    except BrokenPipeError:
        no_reader()
    except KeyboardInterrupt:
        print("error: stopped by Ctrl-C.", file=sys.stderr, flush=True)
        os._exit(128 + signal.SIGINT)  # an orderly exit can crash while XLA's threads compile
    except FAILURES as error:
        if os.environ.get(TRACEBACK):
            raise
        sys.exit(f"error: {visible(say(error, debug=f'{TRACEBACK}=1 shows where.'))}")
    sys.exit(status)
