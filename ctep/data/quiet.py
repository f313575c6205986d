"""TFDS without its advice."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any


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
