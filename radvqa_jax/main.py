"""Runs one experiment: `python -m radvqa_jax.main --config configs/demo.py --workdir runs/demo`, or `radvqa demo`.

--help lists modes and experiments, and --helpfull every field. radvqa_jax/command_line/ does the work.
"""

import signal
import sys


def main() -> None:
    """Runs the command line; Ctrl-C ends it with one line, also while it is still loading."""
    try:
        from radvqa_jax.command_line.run import start  # within the block: what takes time to load can be stopped, too

        start()
    except KeyboardInterrupt:
        if "--debug" in sys.argv:
            raise
        print("error: stopped by Ctrl-C.", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


if __name__ == "__main__":
    main()
