"""The handwritten digits that come with scikit-learn, which need no download."""

import numpy as np

from .dataset import Dataset


def load_digits() -> Dataset:
    """Load 1797 images of 8x8 pixels in 10 classes, scaled to [0, 1].

    The split is fixed and stratified: of the examples sorted by class, in their order
    within it, every fifth is for testing, which makes 1437 and 360.

    Returns:
        The dataset, float32, with examples of shape `(8, 8)`.
    """
    from sklearn import datasets  # slow to import

    digits = datasets.load_digits()
    x = (digits.images / 16).astype(np.float32)  # pyright: ignore[reportAttributeAccessIssue]
    y = digits.target.astype(np.int32)  # pyright: ignore[reportAttributeAccessIssue]
    test = np.zeros(len(y), bool)
    test[np.argsort(y, kind="stable")[::5]] = True
    return Dataset(
        "digits", x[~test], y[~test], x[test], y[test], 10, "digits (scikit-learn)"
    )
