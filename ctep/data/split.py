"""Hold out part of the training examples."""

import jax
import numpy as np
from jaxtyping import Int32, PRNGKeyArray

from .dataset import Dataset
from .stream import Stream


def hold_out(
    dataset: Dataset | Stream, fraction: float, key: PRNGKeyArray
) -> tuple[Int32[np.ndarray, " train"], Int32[np.ndarray, " validation"]]:
    """Divide the training examples at random into training and validation.

    Args:
        dataset: the dataset whose training examples are divided.
        fraction: the part to hold out, between 0 and 1; the number of examples is
            rounded.
        key: decides which examples; the same key decides the same.

    Returns:
        The indices to train on and those to validate on, each in increasing order.

    Raises:
        ValueError: if `fraction` is outside [0, 1) or leaves either side empty.
    """
    total = dataset.examples
    if not 0 <= fraction < 1:
        raise ValueError(
            f"`fraction` must be at least 0 and below 1, but got {fraction}; pass 0.1 "
            "to hold out a tenth."
        )
    held = round(fraction * total)
    if held in (0, total):
        raise ValueError(
            f"`fraction` is {fraction}, which holds out {held} of {total} examples; "
            "choose one that leaves examples on both sides."
        )
    order = np.asarray(jax.random.permutation(key, total), np.int32)
    return np.sort(order[held:]), np.sort(order[:held])
