"""The loss on a held-out split while a stage trains."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from radvqa_jax.backbones import backbone_of
from radvqa_jax.config import StageConfig
from radvqa_jax.data.eval_loader import eval_batches
from radvqa_jax.data.history import with_references
from radvqa_jax.data.packing import pack
from radvqa_jax.data.sifting import sift
from radvqa_jax.data.sources import load_rows
from radvqa_jax.loaded_base import LoadedBase
from radvqa_jax.models.variants import get_variant
from radvqa_jax.models.vision_language import VisionLanguageModel, variables
from radvqa_jax.schema import Batch
from radvqa_jax.training.sharding import batch_part, put_batch, replicated
from radvqa_jax.training.stage_plan import mesh_of
from radvqa_jax.training.text_lengths import round_up
from radvqa_jax.training.vocabulary_loss import vocabulary_losses
from radvqa_jax.trees import Flat

# The run's seed does not choose the rows, so that losses of several runs can be compared.
ROWS_SEED = 0


class Validation:
    """The losses of a model on the rows of `stage.eval_source`, in nats, without dropout and label smoothing.

    `eval/loss_per_token` is the mean of -log p over all target tokens (answers and their EOS); `eval/loss_per_row` is
    the mean over rows of each row's mean, which is the loss of `loss_weighting="per_example"`. If the rows have more
    than one `answer_type`, each has its own losses, such as `eval/closed/loss_per_token`.

    Attributes:
        rows: the rows that are asked.
        template: of their prompts.
        report: kept and rejected rows, as `data.loader.sift` reports them.
        tokens: target tokens of each row.
        groups: {name: mask of its rows}; "" holds all.
    """

    def __init__(self, loaded: LoadedBase, stage: StageConfig) -> None:
        """Reads the rows and counts their tokens.

        Raises:
            ValueError: if the source is not prepared, or none of its rows fits `data.seq_len`.
        """
        config, source = loaded.config, stage.eval_source
        found = load_rows(source, config.data, seed=ROWS_SEED)
        found = with_references(found, data=config.data, tokenizer=loaded.tokenizer, answers=True)
        sifted = sift(found, data=config.data, tokenizer=loaded.tokenizer)
        self.report, self.template = sifted.report, config.data.prompt
        self.rows = found.select(sifted.kept)
        self._loaded = loaded
        self._mesh = mesh_of(config)
        self._batch_size = stage.batch_size
        longest = max(sifted.text_tokens) - 1  # a row's last token is only a target
        self._data = dataclasses.replace(config.data, seq_len=round_up(longest, config.data.seq_len))
        self.tokens = np.array([self._count(row) for row in self.rows.texts()])
        kinds = self.rows.column("answer_type") if source.task == "vqa" else []
        self.groups = {"": np.ones(len(self.rows), bool)}
        if len(set(kinds)) > 1:
            self.groups |= {kind: np.array([k == kind for k in kinds]) for kind in sorted(set(kinds) - {""})}

    def __call__(self, model: VisionLanguageModel, leaves: Flat) -> dict[str, float]:
        """{scalar: loss} of the model with these leaves, base and adapters."""
        nats = self.row_losses(model, leaves)
        losses = {}
        for kind, rows in self.groups.items():
            prefix = f"eval/{kind}/" if kind else "eval/"
            losses[f"{prefix}loss_per_token"] = float(nats[rows].sum() / self.tokens[rows].sum())
            losses[f"{prefix}loss_per_row"] = float((nats[rows] / self.tokens[rows]).mean())
        return losses

    def row_losses(self, model: VisionLanguageModel, leaves: Flat) -> Float[np.ndarray, " N"]:
        """-log p of each row's answer, in nats; the same on every process."""
        config = self._loaded.config
        index, count = batch_part(self._mesh) if self._mesh is not None else (0, 1)
        batches = eval_batches(
            self.rows,
            data=self._data,
            tokenizer=self._loaded.tokenizer,
            resolution=get_variant(config.model.variant).at(config.model.resolution).resolution,
            batch_size=self._batch_size,
            process_index=index,
            process_count=count,
            answers=True,
        )
        # The parts of all processes, one after the other, are the rows in order; the last batch is padded.
        losses = [np.asarray(self._losses(model, leaves, batch), np.float64) for batch, _ in batches]
        return np.concatenate(losses)[: len(self.rows)]

    def _losses(self, model: VisionLanguageModel, leaves: Flat, batch: Batch) -> Any:
        if self._mesh is None:
            return _row_losses(model, leaves, batch)
        on_mesh = jax.jit(partial(_row_losses, model), out_shardings=replicated(self._mesh))
        with jax.sharding.use_abstract_mesh(self._mesh.abstract_mesh):
            return on_mesh(leaves, put_batch(self._mesh, batch))

    def _count(self, row: dict[str, Any]) -> int:
        data, (prefix, suffix) = self._loaded.config.data, self.rows.text(row, template=self._loaded.config.data.prompt)
        packed = pack(self._loaded.tokenizer, prefix, suffix=suffix, seq_len=data.seq_len, overlong=data.overlong)
        return int(packed["mask_loss"].sum())


@partial(jax.jit, static_argnames=("model",))
def _row_losses(model: VisionLanguageModel, leaves: Flat, batch: Batch) -> Float[Array, " B"]:
    """-log p of each row's answer, in nats; logits are made in parts, as in training."""
    inputs = batch.image, batch.tokens[:, :-1], batch.mask_ar[:, :-1]
    states: Any = model.apply(variables(leaves), *inputs, method="pre_logits")
    table = leaves[backbone_of(model.variant).layout.token_table]
    return vocabulary_losses(states, table, batch.tokens[:, 1:], batch.mask_loss[:, 1:].astype(jnp.float32))
