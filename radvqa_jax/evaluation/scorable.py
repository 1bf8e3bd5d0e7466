"""Leaves out the rows of an evaluation that cannot be scored, and refuses baselines that know the answers, before
anything is trained or asked."""

from radvqa_jax.data.fitting import without
from radvqa_jax.data.rows import RowSource
from radvqa_jax.evaluation.baselines import to_record
from radvqa_jax.evaluation.normalize import normalize
from radvqa_jax.evaluation.rules import column_verdict
from radvqa_jax.prompts import has_words

OWN_IDS = ("table", "written")  # data sets of which each variant has other questions, with ids of its own


def scorable(rows: RowSource) -> RowSource:
    """The rows with a question and a reference answer; prints the number of those that are left out.

    A table may hold images that only have a caption, and answers such as `-`, which no answer can equal. The rows'
    fingerprint counts them in `left_out`. If there are none, the rows are returned unchanged.

    Raises:
        ValueError: if no row is left; or naming a question whose reference is not among its choices.
    """
    asks = rows.source.task == "vqa"
    found: dict[str, list[int]] = {}
    for index, row in enumerate(rows.texts()):
        _, reference = rows.text(row, template="{question}")
        if asks and not has_words(row["question"]):
            found.setdefault("empty_question", []).append(index)
        elif not normalize(reference):
            found.setdefault("empty_answer", []).append(index)
        elif asks and len(row["choices"]):
            column_verdict(to_record(row, predictions=[""], run=""), "", "exact")
    counts = ", ".join(f"{reason}: {len(numbers)}" for reason, numbers in found.items())
    if sum(map(len, found.values())) == len(rows):
        raise ValueError(
            f"{rows.name}: no row can be scored ({counts} of {len(rows)}). Each needs an answer with words, and a "
            "question unless captions are asked for."
        )
    why = f"cannot be scored ({counts})"
    return without(rows, found, why=why, way_out="Complete them where the data set is built to ask them.")


def check_not_asked(
    train_rows: RowSource, rows: RowSource, *, field: str = "eval.train_source (of a cell: train_source)"
) -> None:
    """Raises ValueError, naming the field, if blind baselines would learn from questions that they are asked."""
    (dataset, variant), other = ((r.source.dataset, r.fingerprint["builder_config"]) for r in (train_rows, rows))
    if dataset != other[0] or (dataset in OWN_IDS and variant != other[1]):
        return  # an id names one question within a data set only
    asked = set(rows.column("question_id"))
    if shared := len(asked.intersection(train_rows.column("question_id"))):
        raise ValueError(
            f"The training rows of the blind baselines ({train_rows.name}) hold {shared} of the {len(asked)} questions "
            f"of {rows.name}: baselines would learn the answers they are tested on. Set {field} to the training "
            "split."
        )
