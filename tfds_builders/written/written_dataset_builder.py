"""The TFDS builder of questions that were written from the captions and cases of another prepared set.

It reads no official files: radvqa_jax/data/written.py gives it the rows. The prepared files are read like any other
set, with `dataset="written"` and the name of the questions as `builder_config`.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import tensorflow_datasets as tfds

from tfds_builders.features import common_features

NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
Row = dict[str, Any]

# Feature -> meaning: the origin of a question, and why it was kept. Filters can use each of them.
PROVENANCE = {
    "candidate_id": "id of the pair in candidates.jsonl, accepted.jsonl and rejected.jsonl",
    "written_from": "the prepared set with the evidence: dataset/builder_config:split",
    "writer": "case, literature, caption or templates",
    "model": "the language model, as its server names it; empty for templates",
    "prompt_sha256": "of the writer's wording, or of the template",
    "caption_sha256": "of the caption as it was when the pair was written",
    "kind": "closed, open or multiple_choice",
    "support": "the words of the caption that the writer gives as support",
    "answerable": "image, or literature: a pair about the disease that the image alone does not answer",
    "accepted": "yes, or no in a set of unchecked pairs",
    "rejected_by": "the first check that rejects the pair; empty if it is accepted",
    "failed_checks": "names of the checks that reject the pair, with spaces between; empty if it is accepted",
    "tags": "names of the checks that tagged it, with spaces between",
    "planted": "what was made false on purpose; empty otherwise",
    "checks_sha256": "of the names, versions and settings of all checks",
    "attribution": "who is to be named for the image, as its data set says",
}


class Builder(tfds.core.GeneratorBasedBuilder):
    """Question-answer pairs written from captions and cases; every image is one of another prepared set."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 the form that TFDS asks for

    def __init__(self, *, rows: Mapping[str, Callable[[], Iterable[Row]]] | None = None, **kwargs: Any) -> None:
        """Takes the arguments of a TFDS builder.

        Args:
            rows: split -> function that gives its rows, to prepare them; without it a prepared set can only be read.
            kwargs: `config` is a tfds.core.BuilderConfig with the name of the questions.
        """
        self._rows = rows
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        extra = {name: tfds.features.Text(doc=doc) for name, doc in PROVENANCE.items()}
        return self.dataset_info_from_configs(features=common_features(**extra), disable_shuffling=True)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        if self._rows is None:
            raise ValueError("Written questions are prepared by mode=write_questions (configs/write_questions.py).")
        return {split: self._generate_examples(rows) for split, rows in self._rows.items()}

    def _generate_examples(self, rows: Callable[[], Iterable[Row]]) -> Iterator[tuple[int, Row]]:
        """Yields (number, row) of one split."""
        yield from enumerate(rows())
