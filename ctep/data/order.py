"""In which order the examples of a split are used."""

import dataclasses

import numpy as np
from jaxtyping import Int32


@dataclasses.dataclass(frozen=True)
class Order:
    """The batches of every epoch. It is numpy, since reading processes need it too.

    Fields:
        examples: in the split.
        batch_size: examples per batch, fewer in the last one.
        width: entries per batch, `batch_size` or a few more.
        seed: of the permutations; `None` leaves the examples as they lie.
    """

    examples: int
    batch_size: int
    width: int
    seed: tuple[int, ...] | None = None

    @property
    def batches(self) -> int:
        """Batches per epoch."""
        return -(-self.examples // self.batch_size)

    def __call__(self, epoch: int) -> Int32[np.ndarray, "batches width"]:
        """Return the examples of each batch of an epoch, -1 where there is none."""
        rows = np.full(self.batches * self.batch_size, -1, np.int32)
        rows[: self.examples] = np.arange(self.examples)
        if self.seed is not None:
            random = np.random.default_rng([*self.seed, epoch])
            random.shuffle(rows[: self.examples])
        rows = rows.reshape(self.batches, self.batch_size)
        missing = self.width - self.batch_size
        return np.pad(rows, ((0, 0), (0, missing)), constant_values=-1)
