"""The frame of everything in scripts/: a mistake ends as `error: …`, Ctrl-C as one line and status 130."""

import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from radvqa_jax.command_line.failures import FAILURES, say
from radvqa_jax.command_line.interrupts import interrupts_reach_us
from radvqa_jax.command_line.streams import visible_streams
from radvqa_jax.untrusted import visible

TRACEBACK = "RADVQA_TRACEBACK"  # set to 1: errors are shown whole


def run_script(main: Callable[[], int | None]) -> NoReturn:
    """Runs a script's `main` and exits with what it returns."""
    try:
        with visible_streams(), interrupts_reach_us():
            status = main()
            sys.stdout.flush()
    except BrokenPipeError:  # the reader has enough: `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would complain once more at exit
        sys.exit(128 + signal.SIGPIPE)
    except KeyboardInterrupt:
        print("error: stopped by Ctrl-C.", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except FAILURES as error:
        if os.environ.get(TRACEBACK):
            raise
        sys.exit(f"error: {visible(say(error, debug=f'{TRACEBACK}=1 shows where.'))}")
    sys.exit(status)
