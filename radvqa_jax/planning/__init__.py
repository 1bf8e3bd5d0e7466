"""The needs of a program on a device that need not be present: memory, arithmetic, bytes and time."""
