"""Finds the files to score among those that eval.predictions names."""

import re
from collections.abc import Sequence
from pathlib import Path

# Files that a pattern also matches: the form of their stem, with the stem of the answers -> what they have.
_BESIDE = {
    re.compile(r"(.*_blank)_prompts"): "it has each prompt once; {} has each question",
    re.compile(r"(.*)\.judge-.*"): "it has a judge's verdicts on {}",
    re.compile(r"(.*)\.process\d+"): "it has answers of an interrupted run, whose command puts them into {}",
    re.compile(r"(.*)\.jsonl\.rejects"): "it has the rows that could not be converted to {}",
}


def only_answers(files: Sequence[Path]) -> list[Path]:
    """The files without those that belong to another one of them and are not answers to score; prints each."""
    there = {(path.resolve().parent, path.stem) for path in files}
    kept: list[Path] = []
    for path in files:
        for form, what in _BESIDE.items():
            if (found := form.fullmatch(path.stem)) and (path.resolve().parent, found[1]) in there:
                print(f"{path} is left out: {what.format(found[1])}.")
                break
        else:
            kept.append(path)
    return kept
