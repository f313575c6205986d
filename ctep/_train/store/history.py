"""The record of a run: `history.jsonl`, one line per epoch, and its table."""

import json
import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ..._html import as_html
from ..._text import aligned
from .folder import parse_object, plain_json, write_atomically, writing

_FILE = "history.jsonl"
_SPLITS = ("train", "validation", "test")
# What decides which epoch is the best, the first that is known.
JUDGED = ("validation_accuracy", "validation_r2", "test_accuracy", "test_r2")


def _percent(x):
    return f"{100 * x:.2f}"


# What one epoch records, and its title and layout in `table`.
_FORMATS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "epoch": ("epoch", lambda x: f"{x:.0f}"),
    # `#` keeps the zeros of 0.5000, and a point after 1234 that has to go.
    "loss": ("loss", lambda x: f"{x:#.4g}".rstrip(".")),
    **{f"{split}_accuracy": (f"{split} %", _percent) for split in _SPLITS},
    **{f"{split}_r2": (f"{split} R2", lambda x: f"{x:.4f}") for split in _SPLITS},
    "sweeps": ("sweeps", lambda x: f"{x:.1f}"),
    "unsettled": ("unsettled %", lambda x: f"{100 * x:.2f}"),
    "residual": ("residual", lambda x: f"{x:.1e}"),
    "gradient_cosine": ("cosine", lambda x: f"{x:.4f}"),
    "seconds": ("seconds", lambda x: f"{x:.1f}"),
}
_OPTIONAL = {"validation_accuracy", *(f"{split}_r2" for split in _SPLITS)}
KEYS = tuple(key for key in _FORMATS if key not in _OPTIONAL)  # of every record


class History(list):
    """Records of epochs, which a notebook shows as the table of `rows`."""

    def _repr_html_(self):
        return as_html([rows(self) if self else "no epoch was finished"], left=0)


def append(folder: str | Path, record: dict[str, Any]) -> None:
    """Add one epoch to `history.jsonl`, durably.

    Args:
        folder: the folder of the run, which must exist.
        record: numbers by name; of `KEYS`, those absent, None, NaN or infinite become
            null, since JSON has no word for them.

    Raises:
        OSError: if the disk refused; the earlier lines stay as they were.
        TypeError: if `record` holds what JSON cannot.
    """
    path, line = Path(folder) / _FILE, _line(record)
    with writing(path), open(path, "ab+") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)  # a killed run left half a line
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def rewrite(folder: str | Path, records: Iterable[dict[str, Any]]) -> None:
    """Replace `history.jsonl` as a whole, atomically.

    A resumed run does so, to drop what it recorded beyond its last checkpoint.

    Args:
        folder: the folder of the run, which must exist.
        records: what `append` takes, one per epoch; it has the same errors.
    """
    path, data = Path(folder) / _FILE, b"".join(map(_line, records))
    with writing(path):
        write_atomically(path, data)


def read(folder: str | Path) -> list[dict[str, Any]]:
    """Read `history.jsonl`, without the half line a killed run may have left.

    Returns:
        The records in order, none if the folder holds no such file.

    Raises:
        ValueError: if a line before the last is no record.
    """
    path = Path(folder) / _FILE
    if not path.exists():
        return []
    records = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            records.append(parse_object(line))
        except ValueError as error:
            raise ValueError(
                f"{path} is damaged at line {number} ({line[:40]!r}), where a JSON "
                "object was expected: mend or remove that line."
            ) from error
    return records


def table(records: list[dict[str, Any]]) -> str:
    """Lay records out for a reader: aligned, `*` at the epoch that is kept as the best.

    Args:
        records: as `read` returns them, accuracies as fractions of one. Of more than 12
            the first 3, the best and the last 5 are shown.
    """
    return "\n".join(aligned(rows(records), left=0))


def rows(records: list[dict[str, Any]]) -> list[list[str]]:
    """Return the cells of `table`, its titles first."""
    figures = [key for key in _FORMATS if key.endswith(("_accuracy", "_r2"))]
    known = {key for record in records for key in figures if is_known(record, key)}
    # An accuracy that was not measured shows as such, but where R2 is in its place.
    absent = set(figures) - known
    if any(key.endswith("_accuracy") for key in known) or not known:
        absent -= {"train_accuracy", "test_accuracy"}
    formats = {key: form for key, form in _FORMATS.items() if key not in absent}
    star, shown = best(records), list(range(len(records)))
    if len(shown) > 12:
        at = [i for i in shown if records[i]["epoch"] == star]
        shown = sorted({*shown[:3], *shown[-5:], *at})
    out = [[*(title for title, _ in formats.values()), ""]]
    for before, i in zip([-1, *shown], shown, strict=False):
        if i > before + 1:
            out.append(["..."] + [""] * len(formats))
        values = [_finite(records[i].get(key)) for key in formats]
        pairs = zip(values, formats.values(), strict=True)
        cells = ["-" if x is None else layout(x) for x, (_, layout) in pairs]
        out.append([*cells, "*" if records[i]["epoch"] == star else ""])
    return out


def best(records: list[dict[str, Any]]) -> int | None:
    """Return the epoch of the best accuracy or R2: of validation, else test, the first.

    Without either it is the epoch of the smallest loss; None without an epoch.
    """
    for name, sign in (*((key, 1) for key in JUDGED), ("loss", -1)):
        known = [
            (sign * record[name], -record["epoch"])
            for record in records
            if is_known(record, name)
        ]
        if known:
            return -max(known)[1]
    return None


def is_known(record: dict[str, Any], name: str) -> bool:
    """Return whether a record holds a finite number of that name."""
    return _finite(record.get(name)) is not None


def _finite(value: Any) -> Any:
    """Return a plain number for a NumPy or JAX one, None for NaN and infinity."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _line(record: dict[str, Any]) -> bytes:
    record = {**dict.fromkeys(KEYS), **record}
    record = {key: _finite(value) for key, value in record.items()}
    return json.dumps(plain_json(record, "record"), allow_nan=False).encode() + b"\n"
