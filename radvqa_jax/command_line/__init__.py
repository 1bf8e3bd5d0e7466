"""The command line: flags, help, lists and the doctor. It does not load jax before it has read the flags."""
