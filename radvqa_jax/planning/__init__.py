"""What a program will take on a device that need not be there: memory, arithmetic, bytes and time."""
