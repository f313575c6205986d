"""The texts in a run's folder: `run.json`, what is trained; `history.jsonl`, how."""

import contextlib
import errno
import json
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import jax.tree_util as jtu

_FILE = "history.jsonl"
# What one epoch records, and its title and layout in `table`.
_FORMATS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "epoch": ("epoch", lambda x: f"{x:.0f}"),
    "loss": ("loss", lambda x: f"{x:#.4g}".rstrip(".")),
    "train_accuracy": ("train %", lambda x: f"{100 * x:.2f}"),
    "test_accuracy": ("test %", lambda x: f"{100 * x:.2f}"),
    "sweeps": ("sweeps", lambda x: f"{x:.1f}"),
    "unsettled": ("unsettled %", lambda x: f"{100 * x:.2f}"),
    "residual": ("residual", lambda x: f"{x:.1e}"),
    "gradient_cosine": ("cosine", lambda x: f"{x:.4f}"),
    "seconds": ("seconds", lambda x: f"{x:.1f}"),
}
KEYS = tuple(_FORMATS)


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
    with _writing(path), open(path, "ab+") as file:
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
        records: as for `append`, which has the same errors.
    """
    path, data = Path(folder) / _FILE, b"".join(map(_line, records))
    with _writing(path):
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
            records.append(_object(line))
        except ValueError as error:
            raise ValueError(
                f"{path} is damaged at line {number} ({line[:40]!r}), where a JSON "
                "object was expected: mend or remove that line."
            ) from error
    return records


def table(records: list[dict[str, Any]]) -> str:
    """Lay records out for a reader: aligned, `*` at the best test accuracy.

    Args:
        records: as `read` returns them, accuracies as fractions of one. Of more than 12
            the first 3, the best and the last 5 are shown.
    """
    scores = [_finite(record.get("test_accuracy")) for record in records]
    known = [i for i, score in enumerate(scores) if score is not None]
    best = max(known, key=lambda i: scores[i], default=-1)
    shown = list(range(len(records)))
    if len(shown) > 12:
        shown = sorted({*shown[:3], *shown[-5:], max(best, 0)})
    rows = [[*(title for title, _ in _FORMATS.values()), ""]]
    for before, i in zip([-1, *shown], shown, strict=False):
        if i > before + 1:
            rows.append(["..."] + [""] * len(_FORMATS))
        values = [_finite(records[i].get(key)) for key in KEYS]
        pairs = zip(values, _FORMATS.values(), strict=True)
        cells = ["-" if x is None else layout(x) for x, (_, layout) in pairs]
        rows.append([*cells, "*" if i == best else ""])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.rjust, row, widths)).rstrip() for row in rows)


def claim(folder: str | Path, identity: dict[str, Any], *, resume: bool) -> None:
    """Make `folder` the folder of one run, and of no other.

    Args:
        folder: where the run writes, the user's `out`; made if it does not exist.
        identity: what is trained, kept as `run.json`. What its dict `versions` holds,
            if it has one, may change when resuming, which draws a warning.
        resume: whether the run is expected to be there already.

    Raises:
        ValueError: if the folder is a file, or holds another run, this run but
            `resume` is False, other files, or a damaged `run.json`.
        FileNotFoundError: if `resume` is True and there is no run.
        OSError: if the disk refused.
        TypeError: if `identity` holds what JSON cannot.
    """
    folder = Path(folder)
    path = folder / "run.json"
    new = plain_json(identity, "identity")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`out` is the file {folder}, so name a folder instead.")
    if path.exists():
        _compare(path, new, resume)
        return
    if resume:
        raise FileNotFoundError(
            f"`resume=True`, but `out` ({folder}) holds no `run.json`: correct `out`, "
            "or start the run without `resume`."
        )
    with _writing(path):
        folder.mkdir(parents=True, exist_ok=True)
        for other in folder.iterdir():
            if other.name != ".run.json.tmp":  # of a run killed while claiming
                raise ValueError(
                    f"`out` ({folder}) holds {other.name} but no run, and a run does "
                    "not mix with other files: name a new or an empty folder."
                )
        write_atomically(path, (json.dumps(new, indent=2) + "\n").encode())


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the file `path` by `data`, durably; on failure it is as it was."""
    temp = path.with_name(f".{path.name}.tmp")
    try:
        with open(temp, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temp, path)
    finally:
        with contextlib.suppress(OSError):
            temp.unlink()
    if os.name != "nt":  # Windows cannot open a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # else a power cut may undo the replacement
        except OSError as error:
            if error.errno != errno.EINVAL:  # some network file systems cannot
                raise
        finally:
            os.close(folder)


def plain_json(value: dict, name: str) -> dict:
    """Return `value` as JSON gives it back, or raise a `TypeError` about `name`."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError) as error:
        text = f"`{name}` must hold only dict, list, str, numbers, bool or None"
        raise TypeError(f"{text}, but {error}.") from error


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(
            f"{path} could not be written ({error.strerror or error}): what it held is "
            "unchanged, so free space or make the folder writable, then go on."
        ) from error


def _compare(path: Path, new: dict, resume: bool) -> None:
    try:
        was = _flat(_object(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path} is no JSON object ({error}): restore it, or name another `out`."
        ) from error
    now = _flat(new)
    changed = sorted(key for key in was | now if was.get(key) != now.get(key))
    settings = [key for key in changed if key.split(".")[0] != "versions"]
    key = [*settings, *changed, ""][0]
    there, here = was.get(key, "absent"), now.get(key, "absent")
    change = f"`out` ({path.parent}) holds a run with {key} = {there}, not {here}"
    if settings:
        raise ValueError(
            f"{change}: name another `out`, or set that back and pass `resume=True`."
        )
    if not resume:
        raise ValueError(
            f"`out` ({path.parent}) already holds this run: pass `resume=True` to "
            "continue it, or name another `out`."
        )
    if changed:
        text = f"{change}: it goes on, but perhaps not bit for bit as before."
        warnings.warn(text, stacklevel=3)


def _flat(tree: dict) -> dict[str, str]:
    """Map `recipe.hidden.0` and its like to their values, as JSON text."""
    found = jtu.tree_leaves_with_path(tree, lambda x: x is None or x in ({}, []))
    return {jtu.keystr(p, simple=True, separator="."): json.dumps(x) for p, x in found}


def _object(text: bytes) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"it is a {type(value).__name__}")
    return value


def _finite(value: Any) -> Any:
    """Return a plain number for a NumPy or JAX one, None for NaN and infinity."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _line(record: dict[str, Any]) -> bytes:
    record = {**dict.fromkeys(KEYS), **record}
    record = {key: _finite(value) for key, value in record.items()}
    return json.dumps(plain_json(record, "record"), allow_nan=False).encode() + b"\n"
