"""A loader of small batches, for the tests of the loader."""

import numpy as np

from radvqa_jax.config import DataConfig
from radvqa_jax.data.loader import TrainLoader, make_train_loader
from radvqa_jax.data.rows import RowSource
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.schema import Batch

DATA = DataConfig(seq_len=24)


def loader(
    sources: list[RowSource],
    tokenizer: Tokenizer,
    *,
    batch_size: int = 4,
    seed: int = 0,
    data: DataConfig = DATA,
    total: int = 50,
    process: tuple[int, int] = (0, 1),
) -> TrainLoader:
    return make_train_loader(
        sources,
        data=data,
        tokenizer=tokenizer,
        resolution=4,
        batch_size=batch_size,
        seed=seed,
        total_batches=lambda rows: total,
        process_index=process[0],
        process_count=process[1],
    )


def which(batch: Batch) -> list[int]:
    """The grey level of each row's image: the number of the row it came from."""
    return np.rint((np.asarray(batch.image)[:, 0, 0, 0] + 1) * 127.5).astype(int).tolist()


def assert_equal(have: Batch, want: Batch) -> None:
    for name, left, right in zip(Batch._fields, have, want, strict=True):
        np.testing.assert_array_equal(left, right, err_msg=name)
