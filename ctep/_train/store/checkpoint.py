"""Checkpoints that survive a crash: whole, checked, or not there at all.

A file is one line of JSON (`head -1` shows it), then the leaves of the training state
as `eqx.tree_serialise_leaves` writes them. Loading runs no code from the file.
"""

import contextlib
import hashlib
import io
import itertools
import json
import re
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from ..._warning import warn
from .folder import matches, plain_json, width_remedy, write_atomically

# All formats have `magic`, `format`, `bytes` and `sha256` as this one does, so that it
# can be told of a later one that it is whole.
_FORMAT = 1
_NAME = re.compile(r"checkpoint-(\d{6,})\.ctep")
# Leaves that checkpoints of 0.1.0 lack, where the template's value is right.
_ADDED = (".sums.published: float32[]", ".sums.published: float64[]")
_SAVED = (jax.Array, jax.ShapeDtypeStruct, np.ndarray, np.generic, int, float, complex)


class CheckpointError(OSError):
    """A checkpoint could not be written, or none could be read."""


class _Newer(CheckpointError):
    """A checkpoint is whole, and of a later release."""


def fingerprint(tree: PyTree) -> list[str]:
    """List the leaves that a checkpoint of `tree` holds, e.g. `.bias: float32[10]`.

    Args:
        tree: arrays, `jax.ShapeDtypeStruct`s, typed keys and Python numbers; any other
            leaf (a function, a string) is no part of a checkpoint.
    """
    lines = []
    for path, leaf in _leaves(tree):
        shape = ",".join(map(str, getattr(leaf, "shape", ())))
        dtype = getattr(leaf, "dtype", type(leaf).__name__)
        lines.append(f"{path}: {dtype}[{shape}]")
    return lines


def checkpoints(folder: str | Path) -> list[Path]:
    """List the checkpoints in `folder`, newest (highest epoch) first, unread."""
    folder = Path(folder)
    found = folder.iterdir() if folder.is_dir() else ()
    found = [path for path in found if _NAME.fullmatch(path.name)]
    # By number: as names, 1000000 comes before 999999.
    return sorted(found, key=lambda path: int(path.stem[11:]), reverse=True)


def file_of(folder: str | Path, epoch: int) -> Path:
    """Return where the checkpoint of an epoch lies."""
    return Path(folder) / f"checkpoint-{epoch:06d}.ctep"


def save(
    folder: str | Path,
    tree: PyTree,
    config: dict,
    *,
    epoch: int,
    keep: int = 2,
    best: int | None = None,
) -> Path:
    """Write `checkpoint-<epoch>.ctep` so that a crash leaves all of it or none of it.

    Args:
        folder: the folder of the run, which must exist and have one writer.
        tree: the training state, see `fingerprint`.
        config: what JSON can hold, returned by `load` and `read_config`.
        epoch: orders the checkpoints; saving an epoch again replaces its file.
        keep: number of checkpoints to leave: this one and the `keep - 1` before it.
        best: an epoch whose checkpoint is left besides.

    Returns:
        The file written.

    Raises:
        CheckpointError: if the disk refused; earlier checkpoints are untouched.
        TypeError: if `tree` or `config` holds what cannot be saved.
        ValueError: if `epoch` or `keep` is too small.
    """
    for name, value, least in (("epoch", epoch, 0), ("keep", keep, 1)):
        if value < least:
            raise ValueError(f"`{name}` must be at least {least}, but got {value}.")
    path = file_of(folder, epoch)
    data = _pack(tree, config)
    try:
        for stale in path.parent.glob(".checkpoint-*.tmp"):  # of a run that was killed
            stale.unlink(missing_ok=True)
        write_atomically(path, data)
    except OSError as error:
        last = next((p.name for p in checkpoints(folder)), "none")
        raise CheckpointError(
            f"{path} could not be written ({error.strerror or error}): the training "
            f"state is still in memory and the newest checkpoint on disk is {last}, so "
            "free space or make the folder writable, then save again or resume."
        ) from error
    # Never touch later epochs: one that failed to load may lie beyond this one.
    present = checkpoints(folder)
    spared = None if best is None else file_of(folder, best)
    for old in present[present.index(path) + keep :]:
        if old != spared:
            with contextlib.suppress(OSError):  # it costs only its space
                old.unlink()
    return path


def load(where: str | Path, template: PyTree) -> tuple[PyTree, dict]:
    """Read the newest valid checkpoint, bit for bit as it was saved.

    Args:
        where: the folder of a run, or one checkpoint file.
        template: a tree with the leaves of the saved one, or `jax.ShapeDtypeStruct`s in
            their place; leaves that are not saved (functions) are taken from it.

    Returns:
        The tree and the `config` given to `save`. Damaged files that were skipped on
        the way are named in a warning.

    Raises:
        CheckpointError: if no checkpoint is valid.
        ValueError: if the checkpoint is of another network.
    """
    return unpack(read(where), template, Path(where))


def read(where: str | Path) -> bytes:
    """Return the content of the newest valid checkpoint; see `load`."""
    return _newest(Path(where))[1]


def unpack(
    content: bytes, template: PyTree, path: Path, first: str | tuple[str, ...] = ""
) -> tuple[PyTree, dict]:
    """Return the tree and the `config` of a checkpoint's content; see `load`.

    Args:
        content: the bytes of a valid checkpoint.
        template: a tree with the leaves of the saved one, see `load`.
        path: where it came from, for errors.
        first: how the names of the leaves begin that are read, which are the first ones
            of the file; all leaves by default.
    """
    line, _, payload = content.partition(b"\n")
    header = json.loads(line)
    saved = itertools.takewhile(lambda line: line.startswith(first), header["leaves"])
    saved = list(saved)
    wanted = fingerprint(template)
    lacking = {line for line in _ADDED if line in wanted and line not in saved}
    if saved != [line for line in wanted if line not in lacking]:
        pairs = itertools.zip_longest(saved, wanted, fillvalue="nothing")
        there, here = next((a, b) for a, b in pairs if a != b)
        if remedy := width_remedy(there, here):
            raise ValueError(
                f"{path} holds `{there}`, where `{here}` is wanted: {remedy}."
            )
        raise ValueError(
            f"{path} is a checkpoint of another network: it first differs by `{there}` "
            f"in the file against `{here}` in `template` ({len(saved)} leaves against "
            f"{len(wanted)}), so load it with the network and optimiser it is of."
        )
    stream = io.BytesIO(payload)
    leaves, treedef = jax.tree.flatten(template)
    kinds, lines = iter(header["kinds"]), iter(wanted)
    try:
        for i, leaf in enumerate(leaves):
            if isinstance(leaf, _SAVED) and next(lines) not in lacking:
                # Equinox's reader allows for no missing leaf and knows no weak type.
                array = np.load(stream, allow_pickle=False)
                leaves[i] = _decode(array, next(kinds), leaf)
    except Exception as error:
        raise CheckpointError(
            f"{path} does not hold what its header lists ({error}): remove it."
        ) from error
    tree = jax.tree.unflatten(treedef, leaves)
    # JAX has cut 64 bits to 32 by now, unless it is set to keep them.
    if fingerprint(tree) != wanted:
        raise ValueError(f"{path} holds 64-bit numbers: set `jax_enable_x64` to load.")
    return tree, header["config"]


def holds(content: bytes, name: str) -> bool:
    """Return whether the name of a leaf of a checkpoint's content begins so."""
    header = json.loads(content[: content.index(b"\n")])
    return any(line.startswith(name) for line in header["leaves"])


def read_config(where: str | Path) -> dict:
    """Read the `config` of the checkpoint that `load` would choose."""
    return _newest(Path(where))[0]["config"]


def _leaves(tree: PyTree) -> list[tuple[str, Any]]:
    found = jax.tree_util.tree_leaves_with_path(tree)
    name = jax.tree_util.keystr
    return [(name(path) or ".", x) for path, x in found if isinstance(x, _SAVED)]


def _encode(path: str, leaf: Any) -> tuple[np.ndarray, str]:
    """Return `leaf` as NumPy can save it, and what NumPy would forget about it."""
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(leaf)), str(jax.random.key_impl(leaf))
    array = np.asarray(leaf)
    if array.dtype.hasobject:
        raise TypeError(
            f"`tree` holds {leaf!r:.60} at `{path}`, but only numbers of at most 64 "
            "bits can be saved: convert or remove it."
        )
    if array.dtype.isbuiltin == 2:  # bfloat16 and its like, which NumPy files lose
        array = array.view(f"u{array.dtype.itemsize}")
    return array, "weak" if getattr(leaf, "weak_type", False) else ""


def _decode(array: np.ndarray, kind: str, like: Any) -> Any:
    if not hasattr(like, "dtype"):
        return type(like)(array.item())
    if kind not in ("", "weak"):
        return jax.random.wrap_key_data(jnp.array(array), impl=kind)
    if like.dtype.isbuiltin == 2:
        array = array.view(like.dtype)
    if isinstance(like, np.ndarray | np.generic):
        return array if isinstance(like, np.ndarray) else array[()]
    strong = jnp.array(array)
    if not kind:
        return strong
    # A weak type decides promotions, so without it the run would continue differently.
    # JAX makes one of a Python number alone, so the values are written into that.
    weak = jnp.full(array.shape, np.zeros((), array.dtype).item()).at[...].set(strong)
    return weak if weak.dtype == strong.dtype else strong


def _digest(header: dict, payload: bytes) -> str:
    text = json.dumps(header, sort_keys=True).encode()
    return hashlib.sha256(text + payload).hexdigest()


def _pack(tree: PyTree, config: dict) -> bytes:
    encoded = [_encode(path, leaf) for path, leaf in _leaves(tree)]
    stream = io.BytesIO()
    eqx.tree_serialise_leaves(stream, [array for array, _ in encoded])
    payload = stream.getvalue()
    header: dict = {"magic": "ctep", "format": _FORMAT, "bytes": len(payload)}
    header["config"] = plain_json(config, "config")
    header["leaves"] = fingerprint(tree)
    header["kinds"] = [kind for _, kind in encoded]
    # The digest covers the header too: a flipped bit in `config` must not pass.
    header["sha256"] = _digest(header, payload)
    return json.dumps(header).encode() + b"\n" + payload


def _check(path: Path) -> tuple[dict, bytes]:
    """Return header and content of the file at `path`, or say what is wrong with it."""
    header: Any
    content = b""
    try:
        content = path.read_bytes()
        line, _, payload = content.partition(b"\n")
        header = json.loads(line or b"null")
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError):
        # A file of a hundred thousand brackets is a `RecursionError`.
        line, header, payload = b"?", None, b""
    if not line:
        fault = "is empty"
    elif not matches(header, {"magic": str}) or header["magic"] != "ctep":
        fault = "is no ctep checkpoint, or too short for one"
    elif header.get("format") != _FORMAT:
        fault = f"has format {header.get('format')}, not {_FORMAT}"
        if _is_newer(header, payload):
            raise _Newer(
                f"{path} was written by a later release ({fault[4:]}): update ctep to "
                "read it and to go on, or name another `out`."
            )
    elif header.get("bytes") != len(payload):
        fault = f"is cut or overlong ({len(payload)} bytes, not {header.get('bytes')})"
    # The digest is of a header without itself, so it is taken out first.
    elif header.pop("sha256", None) != _digest(header, payload):
        fault = "is damaged (its checksum does not match)"
    elif not _is_described(header):
        fault = "was not written by ctep, whatever its checksum says"
    else:
        return header, content
    raise CheckpointError(f"{path} {fault}")


def _is_newer(header: dict, payload: bytes) -> bool:
    """Return whether a file of a later format is whole, not damaged to say so."""
    rest = {key: value for key, value in header.items() if key != "sha256"}
    later = matches(header, {"format": int}) and header["format"] > _FORMAT
    return later and header.get("sha256") == _digest(rest, payload)


def _is_described(header: dict) -> bool:
    """Return whether a header says of every leaf what `unpack` needs."""
    needed = {"leaves": [str], "kinds": [str], "config": {}}
    return matches(header, needed) and len(header["leaves"]) == len(header["kinds"])


def _newest(where: Path) -> tuple[dict, bytes]:
    faults = []
    for path in [where] if where.is_file() else checkpoints(where):
        try:
            header, content = _check(path)
        except _Newer:
            raise  # what is older must not take its place
        except CheckpointError as error:
            faults.append(str(error))
        else:
            if faults:
                text = (
                    f"{'; '.join(faults)}: going back to {path.name}, which is whole."
                )
                warn(text)
            return header, content
    faults = faults or [f"{where} holds no file `checkpoint-*.ctep`"]
    raise CheckpointError(
        f"{'; '.join(faults)}: with no whole checkpoint, restore a copy or train anew."
    )
