"""Image classification datasets of TFDS, decoded once and cached, or when used."""

import contextlib
import functools
import importlib.util
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from . import cache
from .dataset import Dataset
from .prepared import Prepared, find
from .records import AbstractRecords, ArrayRecords, Batch

_BATCH = 1000  # records read at once


class ImageRecords(AbstractRecords):
    """One split of a prepared dataset of TFDS, which each process opens for itself.

    Args:
        prepared: the dataset on disk, as `find` or `prepare` returned it.
        split: the name of the split.
    """

    dtype, decodes = np.dtype(np.uint8), True

    def __init__(self, prepared: Prepared, split: str):
        self.prepared, self.split = prepared, split
        self.shape, self.classes = prepared.shape, prepared.classes
        self._opened = None

    def __len__(self):
        return self.prepared.splits[self.split]

    def __reduce__(self):
        return ImageRecords, (self.prepared, self.split)

    def read(self, rows):
        # TFDS's own function decodes the images, but apart from the rest of each
        # record, which saves a fifth of the time. Threads would lose it again to the
        # interpreter lock.
        image, label = self.prepared.keys
        x = np.empty((len(rows), *self.shape), np.uint8)
        y = np.empty(len(rows), np.int32)
        with quiet_tfds() as tfds:
            if self._opened is None:
                builder = tfds.builder_from_directory(self.prepared.folder)
                skip = {image: tfds.decode.SkipDecoding()}
                records = builder.as_data_source(self.split, decoders=skip)
                self._opened = records, builder.info.features[image]
            records, feature = self._opened
            found = records.__getitems__([int(row) for row in rows])
            for i, record in enumerate(found):
                x[i], y[i] = feature.decode_example_np(record[image]), record[label]
        return x, y

    @functools.cached_property
    def arrays(self):
        key = f"{self.prepared.files}-{self.split}"
        found = cache.read(key)
        if found is None:
            found = dict(zip("xy", decode(self), strict=True))
            cache.write(key, found)
        suffix = "_train" if self.split == "train" else "_test"
        return ArrayRecords(found["x"], found["y"], self.classes, suffix)


def decode(records: ImageRecords) -> Batch:
    """Return all examples and class numbers of a split, read a few at a time."""
    x = np.empty((len(records), *records.shape), records.dtype)
    y = np.empty(len(records), np.int32)
    for start in range(0, len(records), _BATCH):
        rows = np.arange(start, min(start + _BATCH, len(records)))
        x[rows], y[rows] = records.read(rows)
    return x, y


def load_images(prepared: Prepared) -> Dataset:
    """Return a prepared dataset, of which nothing is read yet.

    Args:
        prepared: what `find` or `prepare` returned.

    Returns:
        The dataset: uint8 examples of shape `(height, width, channels)`, and the
        split `test`, or else `validation`, as the test set.

    Raises:
        ValueError: if it is not image classification, is stored in a format without
            random access, or has no split to train or to test on.
    """
    source = prepared.source  # first, since it refuses other kinds of data
    splits = [s for s in ("train", "test", "validation") if s in prepared.splits][:2]
    if len(splits) < 2 or splits[0] != "train":
        raise ValueError(
            f"`dataset` is {prepared.name!r}, which has the splits "
            f"{list(prepared.splits)}, but 'train' and 'test' or 'validation' are "
            "needed; split it yourself and pass `((x, y), (x_test, y_test))`."
        )
    if prepared.file_format != "array_record":
        raise ValueError(
            f"`dataset` is {prepared.name!r}, stored in {prepared.folder} as "
            f"{prepared.file_format!r}, but 'array_record' is needed; prepare it with "
            f"`tfds build {prepared.name} --file_format=array_record`."
        )
    train, test = (ImageRecords(prepared, split) for split in splits)
    return Dataset(prepared.name, train, test, source, prepared.content)


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


def _online() -> bool:
    try:
        # Where TFDS keeps many datasets, asked through any proxy that is set up.
        urllib.request.urlopen("https://storage.googleapis.com", timeout=5).close()
    except urllib.error.HTTPError:
        return True  # an answer, if not a welcome
    except OSError:
        return False
    return True
