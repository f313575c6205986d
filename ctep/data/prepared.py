"""Find datasets that TFDS has prepared, and read what they say of themselves.

It reads TFDS's JSON files rather than importing it, which a cached load has no need of.
"""

import dataclasses
import functools
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

VERSION = r"(?:\d+|\*)(?:\.(?:\d+|\*)){2}"
_FILES = ("dataset_info.json", "features.json")


def data_root(data_dir: str | os.PathLike[str] | None) -> Path:
    """Return `data_dir`, else `$TFDS_DATA_DIR`, else `~/tensorflow_datasets`."""
    root = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return Path(root).expanduser()


def find(root: Path, name: str) -> "Prepared | None":
    """Return the highest prepared version of a dataset, or None.

    A name may end in the version that is wanted, in which `*` is any number.
    """
    plain, _, version = name.partition(":")
    wanted = re.escape(version or "*.*.*").replace(r"\*", r"\d+")
    versions = [
        folder
        for folder in (root / plain).glob("*.*.*")
        if re.fullmatch(wanted, folder.name)
        and all((folder / file).is_file() for file in _FILES)
    ]
    if not versions:
        return None
    # As numbers: 3.0.10 comes after 3.0.9.
    highest = max(versions, key=lambda f: [int(part) for part in f.name.split(".")])
    return Prepared(name, highest)


def names(root: Path) -> list[str]:
    """Return the names of the datasets prepared under `root`."""
    folders = root.iterdir() if root.is_dir() else ()
    return sorted(folder.name for folder in folders if find(root, folder.name))


@dataclasses.dataclass(frozen=True)
class Prepared:
    """One version of one dataset on disk, `folder`, in the layout of TFDS."""

    name: str
    folder: Path

    @functools.cached_property
    def info(self) -> dict[str, Any]:
        """The content of `dataset_info.json`."""
        return json.loads((self.folder / _FILES[0]).read_text())

    @functools.cached_property
    def features(self) -> dict[str, Any]:
        """The features of one example, by name."""
        content = json.loads((self.folder / _FILES[1]).read_text())
        return content.get("featuresDict", {}).get("features", {})

    @property
    def _plain(self) -> str:
        """The name without a version, which `folder` has."""
        return self.name.partition(":")[0]

    @property
    def file_format(self) -> str:
        """How the records are stored."""
        return self.info.get("fileFormat", "tfrecord")  # TFDS leaves its default out

    @property
    def splits(self) -> dict[str, int]:
        """The number of examples of each split."""
        return {
            # In the JSON of protocol buffers integers of 64 bits are text.
            split["name"]: sum(map(int, split.get("shardLengths", [])))
            for split in self.info.get("splits", [])
        }

    @property
    def keys(self) -> tuple[str, str]:
        """The names of the image and of the label.

        Raises:
            ValueError: if one example is not one uint8 image of a fixed size with one
                class.
        """
        items = self.info.get("supervisedKeys", {}).get("tuple", {}).get("items", [])
        keys = [item.get("featureKey", "") for item in items]
        if len(keys) == 2:
            image = self.features.get(keys[0], {}).get("image", {})
            sizes = image.get("shape", {}).get("dimensions", [])
            fixed = len(sizes) == 3 and all(int(size) > 0 for size in sizes)
            labelled = "classLabel" in self.features.get(keys[1], {})
            if image.get("dtype") == "uint8" and fixed and labelled:
                return keys[0], keys[1]
        raise ValueError(
            f"`dataset` is {self.name!r}, whose examples in {self.folder} are not one "
            "uint8 image of a fixed size with one class each; convert it yourself and "
            "pass `((x, y), (x_test, y_test))`."
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """The height, width and channels of an image."""
        return tuple(
            map(int, self.features[self.keys[0]]["image"]["shape"]["dimensions"])
        )

    @property
    def classes(self) -> int:
        """The number of classes."""
        return int(self.features[self.keys[1]]["classLabel"]["numClasses"])

    @property
    def source(self) -> str:
        """Name, version and, if lossy, encoding."""
        encoding = self.features[self.keys[0]]["image"].get("encodingFormat", "")
        lossy = ""
        if "jpeg copy" in self.info.get("description", "").lower():
            lossy = ", JPEG copy"
        elif encoding == "jpeg":
            lossy = ", JPEG"
        return f"{self._plain} {self.folder.name} (TFDS{lossy})"

    @property
    def content(self) -> str:
        """A name for what the files hold, wherever they lie."""
        digest = hashlib.sha256()
        for file in _FILES:
            digest.update((self.folder / file).read_bytes())
        return digest.hexdigest()[:16]

    @property
    def files(self) -> str:
        """A name for the files as they are now, which changes when they do."""
        digest = hashlib.sha256(str(self.folder.resolve()).encode())
        for file in sorted(self.folder.iterdir()):
            # In place of the records themselves, which the cache saves reading.
            stat = file.stat()
            digest.update(f"|{file.name}|{stat.st_size}|{stat.st_mtime_ns}".encode())
            if file.name in _FILES:
                digest.update(file.read_bytes())
        version = self.folder.name
        return f"{self._plain.replace('/', '-')}-{version}-{digest.hexdigest()[:16]}"
