"""The cost of a stage in tokens, and its held-out losses: the data to which a scaling law is fitted."""

import hashlib
import math
from pathlib import Path
from typing import Any, Literal, NamedTuple

from radvqa_jax import typed_json
from radvqa_jax.checkpoints.step_folders import has_step
from radvqa_jax.config.bounds import Count, Positive
from radvqa_jax.data.loader import TrainLoader
from radvqa_jax.files import write_json
from radvqa_jax.loaded_base import LoadedBase
from radvqa_jax.models.variants import get_variant
from radvqa_jax.runners.validation import Validation
from radvqa_jax.scaling.table import FLOAT32, Measurement
from radvqa_jax.training.hooks import LOSSES, read_losses
from radvqa_jax.training.loop import CHECKPOINTS
from radvqa_jax.training.optimizer import label_leaves
from radvqa_jax.training.stage import Trained
from radvqa_jax.trees import is_trained

BUDGET = "budget.json"
HELD_OUT = "held_out.json"


class Budget(NamedTuple):
    """The amount of data on which a stage was trained, without padding.

    Attributes:
        trained_parameters: weights of the leaves that the stage trained.
        rows_per_step: of an optimizer step.
        image_tokens: of one row: the patches that the model reads.
        rows_per_epoch: rows that can be trained on.
        text_tokens_per_epoch: their prompts and answers, BOS, separator and EOS included: the unique text.
        text_tokens: {step: text tokens of all rows drawn until then} for the steps with held-out losses.
        validation: identifies the rows of the losses.
    """

    trained_parameters: Positive
    rows_per_step: Positive
    image_tokens: Positive
    rows_per_epoch: Positive
    text_tokens_per_epoch: Positive
    text_tokens: dict[str, Positive]
    validation: str


class HeldOut(NamedTuple):
    """The rows of a stage's held-out losses.

    Attributes:
        validation: identifies them, as in a budget.
        rejected: {reason: number} of rows that were left out.
        cut: answers that were cut to `data.seq_len`.
    """

    validation: str
    rejected: dict[str, Positive]
    cut: Count


def check_held_out(name: str, validation: Validation, folder: Path) -> None:
    """Raises ValueError if a stage would continue with held-out losses of other rows than those in its losses.jsonl.

    A stage without a saved step begins anew, and its losses, too.
    """
    continues = has_step(folder / CHECKPOINTS) and any(_is_held_out(row) for row in read_losses(folder))
    before, now = _measured(folder), _identity(validation)
    if continues and before and before != now:
        raise ValueError(
            f"{folder / LOSSES} has held-out losses of {before}, and stages.{name}.eval_source gives {now} now. Losses "
            "of one run must be of the same rows. Give the former eval_source, or none to continue without held-out "
            f"losses. For losses on the new rows give another --workdir; or move {LOSSES} away, and the run continues "
            "with a new one."
        )


def keep_held_out(validation: Validation, folder: Path) -> None:
    """Writes held_out.json to the folder of a stage before its first loss is measured."""
    report = validation.report
    held_out = HeldOut(_identity(validation), report["rejected"], report["cut"])
    write_json(folder / HELD_OUT, held_out._asdict(), private=False)


def _measured(folder: Path) -> str:
    """The identifier of the rows of the losses in a folder; empty if it is unknown."""
    for name, kind in ((HELD_OUT, HeldOut), (BUDGET, Budget)):
        if (folder / name).is_file():
            return typed_json.read(folder / name, kind).validation
    return ""


def _is_held_out(row: dict[str, Any]) -> bool:
    return any(field.startswith("eval/") for field in row)


def _identity(validation: Validation) -> str:
    """An identifier of the held-out rows, equal for two losses over the same rows, prompts and answers."""
    digest = hashlib.sha256()
    for row in validation.rows.texts():
        prefix, suffix = validation.rows.text(row, template=validation.template)
        digest.update(repr((row["question_id"], prefix, suffix)).encode())
    return f"{validation.rows.name}, {len(validation.rows)} rows, sha256 {digest.hexdigest()[:16]}"


def write_budget(
    loaded: LoadedBase, name: str, loader: TrainLoader, validation: Validation, folder: Path, *, trained: Trained
) -> None:
    """Writes budget.json of a stage, with its result, to the folder of its losses."""
    config = loaded.config
    stage = config.stages[name]
    # The result, and not the configuration, has the adapters of an earlier stage that this one trained further.
    labels = label_leaves(loaded.base.params | trained.leaves, stage, what=f"stages.{name}.train")
    own = [leaf for leaf_name, leaf in trained.leaves.items() if is_trained(labels[leaf_name])]
    steps = [row["step"] for row in read_losses(folder) if "eval/loss_per_token" in row]
    counted = zip(steps, loader.text_tokens(steps), strict=True)
    budget = Budget(
        trained_parameters=sum(math.prod(leaf.shape) for leaf in own),
        rows_per_step=stage.batch_size * stage.accumulate,
        image_tokens=get_variant(config.model.variant).at(config.model.resolution).num_patches,
        rows_per_epoch=loader.rows_per_epoch,
        text_tokens_per_epoch=loader.text_tokens_per_epoch,
        text_tokens={str(step): tokens for step, tokens in counted},
        validation=_identity(validation),
    )
    write_json(folder / BUDGET, budget._asdict(), private=False)


def read_run(folder: Path, *, unit: Literal["per_token", "per_row"]) -> list[Measurement]:
    """The held-out losses of a stage as measurements; X is the number of trained parameters, D counts image and
    text tokens of all rows seen.

    Raises:
        ValueError: if the folder is not of a stage with an `eval_source`, one of its files cannot be read, or the two
            files do not match.
    """
    if not (folder / BUDGET).is_file():
        raise ValueError(
            f"{folder} has no {BUDGET}: it is not a stage that was trained to its end with an eval_source. Train with "
            "--config.stages.NAME.eval_source.dataset=… and give the stage's folder, such as runs/sweep/rank8/stage2."
        )
    budget = typed_json.read(folder / BUDGET, Budget)
    found, before = [], (0, 0)
    for row in read_losses(folder):
        losses = [(kind, field, loss) for field, loss in row.items() if (kind := _kind(field, unit)) is not None]
        if not losses:
            continue
        step = row["step"]
        seen = budget.text_tokens.get(str(step), 0)
        if not (step > before[0] and seen > before[1]):
            raise ValueError(
                f"{folder}: steps and their text tokens must rise from line to line. Step {step} of losses.jsonl, with "
                f"{seen or 'no'} text tokens in {BUDGET}, comes after step {before[0]} with {before[1]}. The two files "
                "are not from one run, or were edited; train the stage again."
            )
        before = step, seen
        rows = step * budget.rows_per_step
        tokens, epochs = rows * budget.image_tokens + seen, rows / budget.rows_per_epoch
        for kind, field, loss in losses:
            if not FLOAT32[0] <= loss <= FLOAT32[1]:
                raise ValueError(
                    f"{folder}, step {step}: `{field}` must be above 0 and a number that float32 holds; got {loss}. "
                    "Was it edited?"
                )
            where = f"{budget.validation}{kind and ', '}{kind}"
            found.append(Measurement(budget.trained_parameters, tokens, loss, str(folder), kind, where, unit, epochs))
    return found


def _kind(field: str, unit: str) -> str | None:
    """The kind of questions of a held-out loss, empty for all; None for another field."""
    kind, _, name = field.removeprefix("eval/").rpartition("/")
    return kind if field.startswith("eval/") and name == f"loss_{unit}" else None
