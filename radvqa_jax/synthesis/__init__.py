"""Question-answer pairs written from captions and cases, and what a pair must pass before it is trained on."""
