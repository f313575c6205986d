"""The folder of a run: whose it is, and how anything is written to it."""

import contextlib
import errno
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.tree_util as jtu
import numpy as np

from ..._text import counted
from ..._warning import warn
from .identity import foreign
from .lock import NAME as LOCK, Lock

_WIDTH = re.compile(r"\b(u?int|float|complex)(?:32|64|128)\b")
_WHOLE = re.compile(r"^(-?\d+)\.0$")
_VERSION = re.compile(r":\d[\d.]*")
_WIDE = re.compile(r"\b(?:u?int64|float64|complex128)\b")


def claim(folder: str | Path, identity: dict[str, Any], *, resume: bool) -> Lock:
    """Make `folder` the folder of one run, and of no other.

    Args:
        folder: where the run writes, the user's `out`; made if it does not exist.
        identity: what is trained, kept as `run.json`. What its dict `versions` holds,
            if it has one, may change when resuming, which draws a warning.
        resume: whether the run is expected to be there already.

    Returns:
        What keeps other writers away until it is released.

    Raises:
        ValueError: if the folder is a file, is being written, or holds another run,
            this run but `resume` is False, other files, or a damaged `run.json`.
        FileNotFoundError: if `resume` is True and there is no run.
        OSError: if the disk refused.
        TypeError: if `identity` holds what JSON cannot.
    """
    folder = Path(folder)
    path = folder / "run.json"
    new = plain_json(identity, "identity")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`out` is the file {folder}, so name a folder instead.")
    if resume and not path.exists():
        raise FileNotFoundError(
            f"`resume=True`, but `out` ({folder}) holds no `run.json`: correct `out`, "
            "or start the run without `resume`."
        )
    with writing(path):
        folder.mkdir(parents=True, exist_ok=True)
        lock = Lock(folder)
    try:
        if path.exists():
            _compare(path, new, resume)
        else:
            _check_empty(folder)
            with writing(path):
                write_atomically(path, (json.dumps(new, indent=2) + "\n").encode())
    except BaseException:
        lock.release()
        raise
    return lock


def extend(folder: Path, epochs: int) -> None:
    """Note how many epochs the run in a folder is asked for now."""
    kept = read(folder, "out")
    if kept.get("epochs") != epochs:
        kept["epochs"] = epochs
        with contextlib.suppress(OSError):  # it must not cost the training
            text = json.dumps(kept, indent=2) + "\n"
            write_atomically(folder / "run.json", text.encode())


def _check_empty(folder: Path) -> None:
    for other in folder.iterdir():
        # The first is of a run that was killed while claiming.
        if other.name not in (".run.json.tmp", LOCK) and not _is_log(other):
            raise ValueError(
                f"`out` ({folder}) holds {other.name} but no run, and a run does "
                "not mix with other files: name a new or an empty folder."
            )


def _is_log(path: Path) -> bool:
    """Return whether a file holds what a program prints, perhaps this one."""
    if path.suffix in (".log", ".out", ".err"):
        return path.is_file()
    for descriptor in (1, 2):  # standard output and errors
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return True
    return False


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
def writing(path: Path) -> Iterator[None]:
    """Say in one sentence that `path` could not be written, if an `OSError` says so."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f"{path} could not be written ({error.strerror or error}): what it held is "
            "unchanged, so free space or make the folder writable, then go on."
        ) from error


def read(folder: str | Path, name: str) -> dict[str, Any]:
    """Return what `run.json` says of the run in a folder.

    Args:
        folder: the folder of a run.
        name: what the caller's argument is called, for errors.

    Raises:
        FileNotFoundError: if there is no run.
        ValueError: if its `run.json` is damaged.
    """
    path = Path(folder).expanduser() / "run.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"`{name}` is {folder}, which holds no run.json: pass the `out` of "
            "`ctep.fit`, or the `--out` of `ctep fit`."
        )
    try:
        return parse_object(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path} is no JSON object ({error}): restore it from a copy."
        ) from error


def _compare(path: Path, new: dict, resume: bool) -> None:
    try:
        was = _flat(parse_object(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path} is no JSON object ({error}): restore it, or name another `out`."
        ) from error
    now, there = _flat(new), f"`out` ({path.parent})"
    # Of these runs may differ.
    lengths = was.pop("epochs", None), now.pop("epochs", None)
    for told in (was, now):
        # A name with a version is the same data where the digest is.
        for key in told.keys() & {"data", "dataset"}:
            told[key] = _VERSION.sub("", told[key])
    weaker = "content.version" in now and "content.version" not in was
    if weaker:
        _weaken(was, now)
    elif "content.version" in now:
        was, now = compared(was), compared(now)

    def alike(told, key):
        # Schedules of optax make floats of their whole numbers once they are called.
        return _WHOLE.sub(r"\1", told[key]) if key in told else None

    changed = sorted(key for key in was | now if alike(was, key) != alike(now, key))
    versions = {key for key in changed if key.split(".")[0] == "versions"}
    other = {key.split(".")[-1] for key in versions}
    mild = versions | {key for key in changed if foreign(key, was, other)}
    # A recipe's seed says more than the numbers of the key that is made of it.
    settings = [key for key in changed if key not in mild]
    settings.sort(key=lambda key: key.startswith("key."))
    # What refuses the run is named before what only draws a warning.
    key = [*settings, *changed, ""][0]
    pair = was.get(key, "absent"), now.get(key, "absent")
    name = key.removeprefix("content.")
    if name.startswith("key."):  # of which a part alone says nothing
        name, pair = "key", tuple(_joined(told, "key.") for told in (was, now))
    change = f"{there} holds a run with {name} = {pair[0]}, not {pair[1]}"
    if settings:
        if _follows(pair, lengths):
            begun, asked = lengths
            what = "learning rate" if name.startswith("optimizer") else "schedule"
            raise ValueError(
                f"{there} holds a run that was begun with {counted(begun, 'epoch')}, "
                f"which its {what} follows ({name} = {pair[0]}, not {pair[1]}): pass "
                f"`epochs={begun}` to go on, or name another `out` for {asked}."
            )
        back = width_remedy(*pair) or "set that back and pass `resume=True`"
        if name.startswith("optimizer"):
            back += " (a rate that falls with the epochs asks for the same `epochs`)"
        raise ValueError(f"{change}: name another `out`, or {back}.")
    if not resume:
        raise ValueError(
            f"{there} already holds this run: pass `resume=True` to continue it, or "
            "name another `out`."
        )
    if weaker:
        warn(
            f"{there} holds a run of ctep 0.1.0, which kept less of what it is: it "
            "goes on, and its optimiser, its labels, its test data and what its "
            "network does not print are taken to be the same.",
        )
    if changed:
        text = f"{change}: it goes on, but perhaps not bit for bit as before."
        warn(text)


def _follows(pair: tuple[str, ...], lengths: tuple[str | None, ...]) -> bool:
    """Return whether two numbers differ by the factor that the epochs of runs do."""
    try:
        (a, b), (m, n) = ([float(v or "") for v in two] for two in (pair, lengths))
    except ValueError:  # other values than numbers, or a run that does not say
        return False
    return m != n and a * n == b * m


def _joined(told: dict[str, str], start: str) -> str:
    return f"[{', '.join(v for k, v in told.items() if k.startswith(start))}]"


def compared(told: dict[str, Any]) -> dict[str, Any]:
    """Return what `run.json` says without what it prints, in any order, for people.

    That is in `content`, field by field. Nor do the initial weights count, which other
    devices draw with other last bits.
    """
    return {key: value for key, value in told.items() if not _is_printed(key)}


def width_remedy(was: str, now: str) -> str:
    """Return what to do where two texts differ by widths of numbers that JAX decides.

    Empty where they differ otherwise, or JAX is set as it was.
    """
    kinds = {_WIDTH.sub(r"\1", text) for text in (was, now)}
    wide = bool(_WIDE.search(was))
    if len(kinds) > 1 or wide == _is_wide():
        return ""
    return f"set `jax_enable_x64` to {wide}, as it was for that run"


def _is_wide() -> bool:
    return jax.dtypes.canonicalize_dtype(np.float64) == np.float64


def _is_printed(key):
    printed = "network", "nudge", "rule", "solver", "pipeline", "initial_weights"
    return key.split(".")[0] in printed


def _weaken(was: dict[str, str], now: dict[str, str]) -> None:
    """Make what a run of today says of itself comparable to what 0.1.0 kept."""
    # 0.1.0 summed `x_train` alone, which comes first in the digest of today.
    first = was.get("data_digest", "").strip('"')
    if first and now.get("data_digest", "").startswith(f'"{first}-'):
        was["data_digest"] = now["data_digest"]
    for key in list(now):
        if key.startswith(("content.", "initial_weights")) or (
            key.startswith("versions.") and key not in was
        ):
            del now[key]
    for found in (was, now):
        for key in filter(_is_printed, found):
            found[key] = re.sub(r"[() ]", "", found[key])  # brackets came later


def _flat(tree: dict) -> dict[str, str]:
    """Map `recipe.hidden.0` and its like to their values, as JSON text."""
    # To JAX `None` and empty containers are no leaves, but runs may differ by them.
    found = jtu.tree_leaves_with_path(tree, lambda x: x is None or x in ({}, []))
    return {jtu.keystr(p, simple=True, separator="."): json.dumps(x) for p, x in found}


def parse_object(text: bytes) -> dict[str, Any]:
    """Return the JSON object in `text`, or raise `ValueError`."""
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not matches(value, {}):
        raise ValueError(f"it is a {type(value).__name__}")
    return value


def matches(value: Any, pattern: Any) -> bool:
    """Return whether a JSON value is as a pattern says.

    Args:
        value: what was read.
        pattern: a class or several, a list of the pattern of every item, or a mapping
            with the patterns of the items that must be there.
    """
    match pattern:
        case list():
            return type(value) is list and all(matches(v, pattern[0]) for v in value)
        case dict():
            return type(value) is dict and all(
                key in value and matches(value[key], p) for key, p in pattern.items()
            )
    return isinstance(value, pattern)
