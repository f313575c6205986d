"""Image classification datasets of TFDS, decoded once and cached, or streamed."""

import dataclasses
import importlib.util
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np

from . import cache
from .arrays import from_arrays
from .dataset import Dataset
from .prepared import Prepared, find
from .quiet import quiet_tfds
from .records import AbstractRecords, ImageRecords
from .stream import Stream

_BATCH = 1000  # records read at once


def load_images(prepared: Prepared) -> Dataset:
    """Load a prepared dataset into memory, from the cache if it is there.

    Args:
        prepared: what `find` or `prepare` returned.

    Returns:
        The dataset: uint8 examples of shape `(height, width, channels)`, and the
        split `test`, or else `validation`, as the test set.

    Raises:
        ValueError: if it is not image classification, is stored in a format without
            random access, or has no split to train or to test on.
    """
    splits = _splits(prepared)
    arrays = cache.read(prepared.files)
    if arrays is None:
        arrays = {}
        for side, records in splits.items():
            arrays[f"x_{side}"], arrays[f"y_{side}"] = decode(records)
        cache.write(prepared.files, arrays)
    loaded = from_arrays(
        (
            (arrays["x_train"], arrays["y_train"]),
            (arrays["x_test"], arrays["y_test"]),
        ),
        classes=prepared.classes,
        name=prepared.name,
        source=prepared.source,
    )
    return dataclasses.replace(loaded, content=prepared.content)


def stream_images(prepared: Prepared) -> Stream:
    """Return a prepared dataset to be read from disk; see `load_images`."""
    return Stream(
        prepared.name,
        **_splits(prepared),
        classes=prepared.classes,
        source=prepared.source,
        digest=prepared.content,
    )


def _splits(prepared: Prepared) -> dict[str, ImageRecords]:
    keys = prepared.keys  # first, since it refuses other kinds of data
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
    return {
        side: ImageRecords(
            prepared.folder, split, keys, prepared.shape, prepared.splits[split]
        )
        for side, split in zip(("train", "test"), splits, strict=True)
    }


def decode(records: AbstractRecords) -> tuple[np.ndarray, np.ndarray]:
    """Return all examples and classes of a split."""
    x = np.empty((len(records), *records.shape), records.dtype)
    y = np.empty(len(records), np.int32)
    for start in range(0, len(records), _BATCH):
        rows = np.arange(start, min(start + _BATCH, len(records)))
        x[rows], y[rows] = records.read(rows)
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


def _online() -> bool:
    try:
        # Where TFDS keeps many datasets, asked through any proxy that is set up.
        urllib.request.urlopen("https://storage.googleapis.com", timeout=5).close()
    except urllib.error.HTTPError:
        return True  # an answer, if not a welcome
    except OSError:
        return False
    return True
