"""One entry for every kind of dataset."""

import difflib
import os
import re
from typing import Literal, overload

from .. import _checks as checks
from .arrays import check, from_arrays
from .dataset import Dataset
from .digits import load_digits
from .images import load_images, prepare, stream_images
from .prepared import data_root, find, names
from .quiet import quiet_tfds
from .stream import Stream, stream_arrays


@overload
def load(
    dataset: object,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    classes: int | None = None,
    stream: Literal[False] = False,
) -> Dataset: ...


@overload
def load(
    dataset: object,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    classes: int | None = None,
    stream: bool,
) -> Dataset | Stream: ...


def load(
    dataset: object,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    classes: int | None = None,
    stream: bool = False,
) -> Dataset | Stream:
    """Load a dataset by name, or check arrays and make one of them.

    Args:
        dataset: `"digits"`, embedded and small; the name of an image classification
            dataset of TFDS, such as `"mnist"` or `"cifar10"`; arrays, as `(x, y)` or
            `((x, y), (x_test, y_test))`; or a `Dataset` or `Stream`, returned as it is.
            In arrays, `x` is uint8 (pixels from 0 to 255) or floating, of shape
            `(examples, ...)`, and `y` holds class numbers from 0.
        data_dir: where TFDS keeps its prepared datasets; by default the variable
            TFDS_DATA_DIR, else `~/tensorflow_datasets`.
        classes: the number of classes of arrays; by default one more than the largest
            label of the training set.
        stream: return a `Stream`, which reads and decodes examples when they are used,
            and not a `Dataset`.

    Returns:
        The dataset. Images of TFDS in memory are decoded once and kept in
        `$CTEP_CACHE_DIR`, else `$XDG_CACHE_HOME/ctep`, else `~/.cache/ctep`.

    Raises:
        TypeError: if `dataset` or a dtype in it is of another kind.
        ValueError: if the name is unknown, the dataset is not image classification,
            or the arrays do not fit each other.
        FileNotFoundError: if TFDS knows the name, but has not prepared it.
    """
    checks.flag("stream", stream)
    if isinstance(dataset, tuple):
        loaded, classes = from_arrays(dataset, classes=classes), None
    elif isinstance(dataset, Dataset | Stream):
        loaded = dataset
        if isinstance(loaded, Dataset):
            check(loaded)
    elif isinstance(dataset, str):
        loaded = _named(dataset, data_dir, stream)
    else:
        raise TypeError(
            "`dataset` must be a name, a `Dataset` or a tuple of arrays, but got "
            f"{type(dataset).__name__}; pass `(x, y)` or "
            "`((x, y), (x_test, y_test))`."
        )
    if classes not in (None, loaded.classes):
        raise ValueError(
            f"`classes` is {classes}, but {loaded.name!r} has {loaded.classes} "
            "classes; leave it out, since it is for arrays only."
        )
    if stream and isinstance(loaded, Dataset):
        return stream_arrays(loaded)
    return loaded


def _named(
    name: str, data_dir: str | os.PathLike[str] | None, stream: bool
) -> Dataset | Stream:
    if name == "digits":
        return load_digits()
    if not re.fullmatch(r"\w+(/\w[\w.+-]*)?", name, re.ASCII):
        raise ValueError(
            f"`dataset` must be a name such as 'mnist', not a path, but got {name!r}; "
            "pass the folder of prepared datasets as `data_dir`, and data of your own "
            "as arrays `(x, y)`."
        )
    root = data_root(data_dir)
    prepared = find(root, name)
    if prepared is None:
        _check_known(name, ["digits", *names(root)])
        prepared = prepare(root, name)
    return stream_images(prepared) if stream else load_images(prepared)


def _check_known(name: str, at_hand: list[str]) -> None:
    with quiet_tfds() as tfds:
        builders = tfds.list_builders(with_community_datasets=False)
    if name.split("/")[0] in builders:
        return
    near = difflib.get_close_matches(name.lower(), dict.fromkeys([*at_hand, *builders]))
    raise ValueError(
        f"`dataset` must be 'digits' or a dataset of TFDS, but got {name!r}; "
        + (f"did you mean {_either(near)}?" if near else f"try {_either(at_hand)}.")
    )


def _either(choices: list[str]) -> str:
    return " or ".join(repr(choice) for choice in choices)
