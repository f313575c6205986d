"""Decoded arrays on disk. A cache may be lost or damaged, and is never trusted."""

import json
import os
import shutil
import tempfile
import zlib
from pathlib import Path

import numpy as np

from .._warning import warn

_INDEX = "index.json"


def cache_dir() -> Path:
    """Return `$CTEP_CACHE_DIR`, else `$XDG_CACHE_HOME/ctep`, else `~/.cache/ctep`."""
    if folder := os.environ.get("CTEP_CACHE_DIR"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ctep"


def read(key: str) -> dict[str, np.ndarray] | None:
    """Return the arrays stored under `key`, or None if any is missing or damaged."""
    folder = cache_dir() / key
    try:
        index = json.loads((folder / _INDEX).read_text())
        arrays = {name: np.load(folder / f"{name}.npy") for name in index}
    except (OSError, ValueError, EOFError):
        return None
    intact = all(_describe(arrays[name]) == index[name] for name in index)
    return arrays if intact else None


def write(key: str, arrays: dict[str, np.ndarray]) -> None:
    """Store arrays under `key`, all or nothing; a failure only warns."""
    root, temporary = cache_dir(), None
    try:
        root.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=root))
        for name, array in arrays.items():
            np.save(temporary / f"{name}.npy", array)
        index = {name: _describe(array) for name, array in arrays.items()}
        (temporary / _INDEX).write_text(json.dumps(index))
        # What is there was found damaged, and only an empty folder can be replaced.
        shutil.rmtree(root / key, ignore_errors=True)
        os.replace(temporary, root / key)
    except OSError as error:
        warn(
            f"The decoded images could not be kept in {root} ({error}), so they will "
            "be decoded again next time; set `CTEP_CACHE_DIR` to a writable folder "
            "with space, or ignore this if waiting is fine.",
        )
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _describe(array: np.ndarray) -> dict[str, object]:
    crc = zlib.crc32(np.ascontiguousarray(array).data)
    return {"shape": list(array.shape), "dtype": str(array.dtype), "crc32": crc}
