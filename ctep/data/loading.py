"""One entry for every kind of dataset."""

import difflib
import os
import re
from typing import Any

import numpy as np

from .._warning import warn
from .dataset import Dataset
from .images import load_images, prepare, quiet_tfds
from .prepared import VERSION, data_root, find, names
from .records import ArrayRecords

_DARKEST = 16  # of bytes that are other numbers, such as counts or 0 and 1
_FORMS = "`(x, y)` or `((x, y), (x_test, y_test))`"


def load(
    dataset: object,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    classes: int | None = None,
) -> Dataset:
    """Load a dataset by name, or check arrays and make one of them.

    Args:
        dataset: `"digits"`, embedded and small; the name of an image classification
            dataset of TFDS, such as `"mnist"`, `"cifar10"` or, of one version,
            `"mnist:3.0.1"`; arrays, as `(x, y)` or
            `((x, y), (x_test, y_test))`; or a `Dataset`, returned as it is.
            In arrays, `x` is uint8 (pixels from 0 to 255) or floating, of shape
            `(examples, ...)`, and `y` holds class numbers from 0, or values: see
            `ArrayRecords`.
        data_dir: where TFDS keeps its prepared datasets; by default the variable
            TFDS_DATA_DIR, else `~/tensorflow_datasets`.
        classes: the number of classes of arrays; by default one more than the largest
            label of the training set.

    Returns:
        The dataset. Images of TFDS are read when they are used: `x_train` and its kin
        decode them once, and keep them in `$CTEP_CACHE_DIR`, else
        `$XDG_CACHE_HOME/ctep`, else `~/.cache/ctep`; `ctep.fit` does so too, or
        streams them from disk.

    Raises:
        TypeError: if `dataset` or a dtype in it is of another kind.
        ValueError: if the name is unknown, the dataset is not image classification,
            or the arrays do not fit each other.
        FileNotFoundError: if TFDS knows the name, but has not prepared it.
    """
    if isinstance(dataset, tuple):
        return _from_arrays(dataset, classes)
    if isinstance(dataset, str):
        loaded = _named(dataset, data_dir)
    elif isinstance(dataset, Dataset):
        loaded = dataset
    else:
        raise TypeError(
            "`dataset` must be a name, a `Dataset` or a tuple of arrays, but got "
            f"{type(dataset).__name__}; pass {_FORMS}."
        )
    if classes not in (None, loaded.classes):
        raise ValueError(
            f"`classes` is {classes}, but {loaded.name!r} has {loaded.classes} "
            "classes; leave it out, since it is for arrays only."
        )
    return loaded


def _from_arrays(data: tuple[Any, ...], classes: int | None) -> Dataset:
    paired = {type(part) is tuple for part in data}
    if len(data) != 2 or len(paired) != 1:
        raise TypeError(
            f"`dataset` must be {_FORMS}, but got a tuple of "
            f"({', '.join(type(part).__name__ for part in data)}); regroup the arrays."
        )
    train, test = data if paired == {True} else (data, None)
    for pair in (train, test):
        if pair is not None and len(pair) != 2:
            raise TypeError(
                f"`dataset` must be {_FORMS}, but one part is a tuple of {len(pair)}; "
                "regroup the arrays."
            )
    suffix = "" if test is None else "_train"
    records, held = ArrayRecords(*train, classes=classes, suffix=suffix), None
    if test is not None:
        held = ArrayRecords(*test, classes=records.classes, suffix="_test")
    _check_bytes(train[0])
    return Dataset("arrays", records, held, "arrays in memory")


def _check_bytes(x: Any) -> None:
    """Warn of bytes that are hardly pixels, by the first ones."""
    few = np.asarray(x[:1000])
    if few.dtype == np.uint8 and (largest := int(few.max(initial=0))) <= _DARKEST:
        warn(
            f"`x` holds bytes of at most {largest}, which are taken for pixels of 0 to "
            "255 and divided by 255: pass other numbers as floats, for example "
            f"`x / {max(largest, 1)}`, or ignore this if the images are that dark.",
        )


def _named(name: str, data_dir: str | os.PathLike[str] | None) -> Dataset:
    if name == "digits":
        return _digits()
    # A name becomes a folder below `data_dir`, and must not lead out of it.
    if not re.fullmatch(rf"\w+(/\w[\w.+-]*)?(:{VERSION})?", name, re.ASCII):
        raise ValueError(
            f"`dataset` must be a name such as 'mnist', not a path, but got {name!r}; "
            "pass the folder of prepared datasets as `data_dir`, and data of your own "
            "as arrays `(x, y)`."
        )
    root = data_root(data_dir)
    prepared = find(root, name)
    if prepared is None:
        # Only now is TFDS imported: what is prepared is found without it.
        _check_known(name, ["digits", *names(root)])
        prepared = prepare(root, name)
    return load_images(prepared)


def _digits() -> Dataset:
    """Return scikit-learn's 1797 images of 8x8 pixels in 10 classes, within [0, 1].

    The split is fixed and stratified: of the examples sorted by class, in their order
    within it, every fifth is for testing, which makes 1437 and 360.
    """
    from sklearn import datasets  # slow to import

    digits = datasets.load_digits()
    x = (digits.images / 16).astype(np.float32)  # pyright: ignore[reportAttributeAccessIssue]
    y = digits.target.astype(np.int32)  # pyright: ignore[reportAttributeAccessIssue]
    test = np.zeros(len(y), bool)
    test[np.argsort(y, kind="stable")[::5]] = True
    train, test = (ArrayRecords(x[rows], y[rows], 10) for rows in (~test, test))
    return Dataset("digits", train, test, "digits (scikit-learn)")


def _check_known(name: str, at_hand: list[str]) -> None:
    with quiet_tfds() as tfds:
        builders = tfds.list_builders(with_community_datasets=False)
    plain = name.partition(":")[0]
    if plain.split("/")[0] in builders:
        return
    near = difflib.get_close_matches(
        plain.lower(), dict.fromkeys([*at_hand, *builders])
    )
    raise ValueError(
        f"`dataset` must be 'digits' or a dataset of TFDS, but got {name!r}; "
        + (f"did you mean {_either(near)}?" if near else f"try {_either(at_hand)}.")
    )


def _either(choices: list[str]) -> str:
    return " or ".join(repr(choice) for choice in choices)
