"""Question-answer pairs written from captions and cases, and the checks that they must pass before training."""
