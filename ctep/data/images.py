"""Image classification datasets of TFDS, decoded once and cached."""

import contextlib
import importlib.util
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from . import cache
from .arrays import from_arrays
from .dataset import Dataset
from .prepared import Prepared, find

_BATCH = 1000  # records read at once


def load_images(prepared: Prepared) -> Dataset:
    """Load a prepared dataset, from the cache if it is there.

    Args:
        prepared: what `find` or `prepare` returned.

    Returns:
        The dataset: uint8 examples of shape `(height, width, channels)`, and the
        split `test`, or else `validation`, as the test set.

    Raises:
        ValueError: if it is not image classification, is stored in a format without
            random access, or has no split to train or to test on.
    """
    classes = prepared.classes  # first, since it refuses other kinds of data
    splits = [s for s in ("train", "test", "validation") if s in prepared.splits][:2]
    if len(splits) < 2 or splits[0] != "train":
        raise ValueError(
            f"`dataset` is {prepared.name!r}, which has the splits {prepared.splits}, "
            "but 'train' and 'test' or 'validation' are needed; split it yourself and "
            "pass `((x, y), (x_test, y_test))`."
        )
    if prepared.file_format != "array_record":
        raise ValueError(
            f"`dataset` is {prepared.name!r}, stored in {prepared.folder} as "
            f"{prepared.file_format!r}, but 'array_record' is needed; prepare it with "
            f"`tfds build {prepared.name} --file_format=array_record`."
        )
    arrays = cache.read(prepared.digest)
    if arrays is None:
        arrays = {}
        for side, split in zip(("train", "test"), splits, strict=True):
            arrays[f"x_{side}"], arrays[f"y_{side}"] = decode(prepared, split)
        cache.write(prepared.digest, arrays)
    return from_arrays(
        (
            (arrays["x_train"], arrays["y_train"]),
            (arrays["x_test"], arrays["y_test"]),
        ),
        classes=classes,
        name=prepared.name,
        source=prepared.source,
    )


def decode(prepared: Prepared, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the images and the labels of one split.

    TFDS's own function decodes the images, but apart from the rest of each record,
    which saves a fifth of the time. Threads would lose it again to the interpreter
    lock.
    """
    image, label = prepared.keys
    with quiet_tfds() as tfds:
        builder = tfds.builder_from_directory(prepared.folder)
        feature = builder.info.features[image]
        skip = {image: tfds.decode.SkipDecoding()}
        records = builder.as_data_source(split, decoders=skip)
        x = np.empty((len(records), *feature.shape), np.uint8)
        y = np.empty(len(records), np.int64)
        for start in range(0, len(records), _BATCH):
            rows = range(start, min(start + _BATCH, len(records)))
            for row, record in zip(rows, records.__getitems__(rows), strict=True):
                x[row] = feature.decode_example_np(record[image])
                y[row] = record[label]
    return x, y


def prepare(root: Path, name: str) -> Prepared:
    """Let TFDS download and prepare a dataset, if that can succeed here.

    Args:
        root: the folder to prepare it in.
        name: a name that TFDS knows.

    Returns:
        The prepared dataset.

    Raises:
        FileNotFoundError: if TensorFlow or the network is missing, or TFDS failed.
    """
    cause = None
    # TFDS would otherwise spend minutes on retries before it failed.
    if importlib.util.find_spec("tensorflow") is None:
        reason = "TensorFlow is not installed"
    elif not _online():
        reason = "there is no network"
    else:
        try:
            with quiet_tfds() as tfds:
                builder = tfds.builder(name, data_dir=root, file_format="array_record")
                builder.download_and_prepare()
        except Exception as error:  # TFDS has no common class for its errors
            cause = error
        if cause is None and (prepared := find(root, name)):
            return prepared
        reason = f"TFDS failed ({cause})"
    raise FileNotFoundError(
        f"`dataset` is {name!r}, which is not prepared in {root}, and {reason}; point "
        "`data_dir=` or the variable TFDS_DATA_DIR to a prepared copy, or prepare it "
        "here, which needs `pip install tensorflow` and a network."
    ) from cause


@contextlib.contextmanager
def quiet_tfds() -> Iterator[Any]:
    """Import TFDS, and silence its advice on other decoders."""
    with warnings.catch_warnings():
        # TFDS and its dependencies import names that are on their way out.
        warnings.simplefilter("ignore", DeprecationWarning)
        import tensorflow_datasets as tfds
    from absl import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield tfds
    finally:
        logging.set_verbosity(verbosity)


def _online() -> bool:
    try:
        # Where TFDS keeps many datasets, asked through any proxy that is set up.
        urllib.request.urlopen("https://storage.googleapis.com", timeout=5).close()
    except urllib.error.HTTPError:
        return True  # an answer, if not a welcome
    except OSError:
        return False
    return True
