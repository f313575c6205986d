"""Which examples of a split are used, and in which order."""

import dataclasses

import jax
import numpy as np
from jaxtyping import Int32, PRNGKeyArray


@dataclasses.dataclass(frozen=True)
class BatchOrder:
    """The batches of every epoch. It is numpy, since reading processes need it too.

    Fields:
        examples: number of examples in the split.
        batch_size: examples per batch, fewer in the last one.
        width: entries per batch, `batch_size` or a few more.
        seed: numbers that decide the permutations; `None` leaves examples as they lie.
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
            # A generator for each epoch, whose order is known without those before it.
            random = np.random.default_rng([*self.seed, epoch])
            random.shuffle(rows[: self.examples])
        rows = rows.reshape(self.batches, self.batch_size)
        missing = self.width - self.batch_size
        return np.pad(rows, ((0, 0), (0, missing)), constant_values=-1)


def hold_out(
    total: int, validation: float, key: PRNGKeyArray
) -> tuple[Int32[np.ndarray, " train"], Int32[np.ndarray, " validation"]]:
    """Divide training examples at random into training and validation.

    Args:
        total: the number of examples.
        validation: the part to hold out, between 0 and 1; the number of examples is
            rounded.
        key: decides which examples; the same key decides the same.

    Returns:
        The indices to train on and those to validate on, each in increasing order.

    Raises:
        ValueError: if `validation` is outside [0, 1) or leaves either side empty.
    """
    if not 0 <= validation < 1:
        raise ValueError(
            f"`validation` is {validation}, but a fraction to hold out is at least 0 "
            "and below 1: pass 0.1 for a tenth."
        )
    held = round(validation * total)
    if held in (0, total):
        raise ValueError(
            f"`validation` is {validation}, which holds out {held} of {total} "
            "examples: choose one that leaves examples on both sides."
        )
    order = np.asarray(jax.random.permutation(key, total), np.int32)
    return np.sort(order[held:]), np.sort(order[:held])
