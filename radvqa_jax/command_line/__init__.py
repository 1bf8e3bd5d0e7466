"""The command line: flags, help, lists and the doctor. Nothing here loads jax before a flag is read."""
