"""Commands that a message prints for copying, quoted for the shell."""

import shlex


def command(*words: str) -> str:
    """The command line that calls the main program with these arguments; empty ones are left out.

    >>> command("ask", "--config.adapter=my runs/stage2", "", "--workdir=DIR")
    "python -m radvqa_jax.main ask '--config.adapter=my runs/stage2' --workdir=DIR"
    """
    return shlex.join(["python", "-m", "radvqa_jax.main", *filter(None, words)])
