"""Command lines, and the files of a run, that are spoilt."""

import contextlib
import io
import json
import os
import pickle
import shlex
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from unittest import mock

import equinox as eqx
import jax
import numpy as np
from _bad_calls import ADAM, KEY, MANY
from hypothesis import strategies as st

import ctep
from ctep import cli
from ctep._train.loop import Loop
from ctep._train.store import checkpoint
from ctep.data import images

_ROOT = str(Path(ctep.__file__).parent.parent)
_MAIN = "from ctep.cli import main; main()"
# Words that are wrong wherever they stand, or nearly so.
_WORDS = (
    "", "abc", "nan", "inf", "-1", "0", "1e400", "0.5", "10000000000000000000000",
    "--", "-x", "--bogus", "--out", "/dev/null/x", "nowhere", "~", "mnist/9.9.9",
    "digits", "backprop", "float8", "\N{SNOWMAN}", "a b", "../..", "None", "[]",
)  # fmt: skip
_OPTIONS = {
    "fit": ("--dataset", "--epochs", "--out", "--seed", "--rule", "--scale",
            "--precision", "--data-dir", "--resume"),
    "evaluate": ("--dataset", "--data-dir"),
    "analyse": ("--examples", "--out", "--dataset", "--data-dir"),
    "recipes": ("--all",),
}  # fmt: skip


def network():
    return ctep.mlp((4, 3, 2), feedback=0.3, key=KEY)


def fit(out, **options):
    return ctep.fit(
        network(), MANY, optimizer=ADAM, epochs=2, batch_size=6, probe=0, out=out,
        progress=False, **options,
    )  # fmt: skip


def prepare(folder):
    """Return the folder of a finished run, alone with its last checkpoint."""
    run = folder / "run"
    fit(run)
    for path in checkpoint.checkpoints(run)[1:]:
        path.unlink()
    return run


# ------------------------------------------------------------ the command line

# Each is wrong by itself.
_WRONG = (
    ["fit", "--epochs", "-1"], ["fit", "--epochs", "1.5"], ["fit", "--seed", "x"],
    ["fit", "--rule", "centered"], ["fit", "--scale", "-1"], ["fit", "--scale", "nan"],
    ["fit", "--precision", "float8"], ["fit", "--dataset", "no/where/at/all"],
    ["fit", "--resume"], ["fit", "--out", "/dev/null/x"], ["fit", "digit"],
    ["fit", "--bogus"], ["evaluate"], ["evaluate", "nowhere"], ["bogus"],
    ["evaluate", "nowhere", "--dataset", "digits"], ["analyse", "nowhere"],
    ["analyse", "nowhere", "--examples", "0"], ["recipes", "all"],
    ["fit", "--seed", "99999999999999999999"], ["fit", "digits", "mnist"],
)  # fmt: skip


class Accepted(Exception):
    """What comes next is training."""


@st.composite
def _lines(draw, run):
    name = draw(st.sampled_from((*_OPTIONS, "fit", "fit", "bogus")))
    known = _OPTIONS.get(name, ("--x",))
    words, word = [name], st.sampled_from((*_WORDS, str(run)))
    if name in ("evaluate", "analyse") or draw(st.booleans()):
        words.append(draw(word))
    for option in draw(st.lists(st.sampled_from(known), max_size=3)):
        words.append(option)
        if option != "--resume":
            words.append(draw(word | st.text(max_size=3)))
    # What the operating system refuses never arrives.
    return [w.replace("\0", "?").encode(errors="replace").decode() for w in words]


def _answered(code, said):
    """Return what a command line's answer amounts to."""
    lines = said.strip().splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    # Typer answers what it cannot parse, in a box.
    box = bool(lines) and lines[0].startswith("Usage:")
    if code == 0:
        return "accepted"
    if code == 2 and (box or len(errors) == len(lines) == 1) and len(said) < 1200:
        return "refused"
    return f"exit code {code} and {' '.join(lines)!r:.300}"


def _in_process(words):
    said = io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["ctep", *words]),
        mock.patch.object(Loop, "train", side_effect=Accepted),
        mock.patch.object(images, "_online", return_value=False),
        mock.patch.object(warnings, "showwarning", warnings.showwarning),
        contextlib.redirect_stderr(said),
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(
            os.environ, {"TFDS_DATA_DIR": folder, "CTEP_CACHE_DIR": folder}
        ),
        contextlib.chdir(folder),
    ):
        try:
            cli.main()
        except Accepted:
            return "accepted"
        except SystemExit as error:
            return _answered(error.code or 0, said.getvalue())
    return _answered(0, "")


def _in_another(words):
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", _MAIN, *words], cwd=folder, capture_output=True,
            text=True, env={**os.environ, "TFDS_DATA_DIR": folder, "PYTHONPATH": _ROOT},
        )  # fmt: skip
    return _answered(done.returncode, done.stderr)


def _shown(words):
    return f"$ ctep {shlex.join(words)}"


def command(run):
    """Return command lines, called in this process."""
    return _lines(run), _in_process, _shown


def process(run):
    """Return command lines in processes of their own: each takes seconds."""
    wrong = st.sampled_from(_WRONG)
    more = st.sampled_from(([], ["--data-dir", "."], ["--dataset", "digits"]))
    lines = st.builds(lambda a, b: a + (b if len(a) > 1 else []), wrong, more)
    return lines, _in_another, _shown


# ------------------------------------------------------------ the files of a run

_JSON = (
    None, True, 0, -1, 1.5, 1e400, "", "abc", [], [1], [[]], ["a"] * 30, {}, {"a": 1},
    {"epoch": "x"}, 2**70,
)  # fmt: skip
_FOREIGN = (
    b"", b"\n", b"{", b"null\n", b"[]\n", b"PK\3\4", b"\x93NUMPY\1\0", b"\xff" * 99,
    b"{}\n", b'{"magic": "ctep"}\n', pickle.dumps({"a": 1}), b"[" * 10**5,
    b'{"magic": "ctep", "format": 1, "bytes": 0, "sha256": 3}\n',
    b'{"magic": "ctep", "format": "1"}\n', b"9" * 10**4 + b"\n",
)  # fmt: skip


@st.composite
def _harms(draw):
    """Draw what is done to which file, and how the run is then opened."""
    part = st.floats(0, 1, exclude_max=True)
    kind = draw(st.sampled_from(("cut", "flip", "foreign", "header", "config", "leaf",
                                 "payload", "run.json", "missing")))  # fmt: skip
    how = {
        "cut": part,
        "flip": st.tuples(part, st.integers(0, 7)),
        "foreign": st.sampled_from(_FOREIGN) | st.binary(max_size=20),
        "header": st.tuples(
            st.sampled_from(("config", "leaves", "kinds", "bytes", "format", "magic")),
            st.sampled_from(_JSON),
        ),
        "config": st.tuples(
            st.sampled_from(("epoch", "batch", "seconds", "history")),
            st.sampled_from(_JSON),
        ),
        "leaf": st.tuples(
            st.sampled_from(("leaves", "kinds")), part, st.sampled_from(_JSON)
        ),
        "payload": st.sampled_from(_FOREIGN) | part,
        "run.json": st.sampled_from(_FOREIGN)
        | st.sampled_from(_JSON).map(lambda v: json.dumps(v).encode()),
        "missing": st.sampled_from(("checkpoint", "run.json", "folder")),
    }[kind]
    opened = st.sampled_from(("restore", "resume", "evaluate"))
    return kind, draw(how), draw(opened)


def _spoil(run, kind, how):
    path = checkpoint.checkpoints(run)[0]
    data = path.read_bytes()
    head, _, payload = data.partition(b"\n")
    header = json.loads(head)
    if kind == "missing":
        gone = {"checkpoint": path, "run.json": run / "run.json", "folder": run}[how]
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
        return
    if kind == "run.json":
        (run / "run.json").write_bytes(how)
        return
    if kind == "cut":
        data = data[: int(how * len(data))]
    elif kind == "flip":
        data = bytearray(data)
        data[int(how[0] * len(data))] ^= 1 << how[1]
    elif kind == "foreign":
        data = how
    else:  # under a right checksum, as only another program would write it
        del header["sha256"]
        if kind == "header":
            header[how[0]] = how[1]
        elif kind == "config":
            header["config"][how[0]] = how[1]
        elif kind == "leaf":
            values = header[how[0]]
            values[int(how[1] * len(values))] = how[2]
        else:
            payload = (
                how if isinstance(how, bytes) else payload[: int(how * len(payload))]
            )
            header["bytes"] = len(payload)
        header["sha256"] = checkpoint._digest(header, payload)
        data = json.dumps(header).encode() + b"\n" + payload
    path.write_bytes(data)


def _bits(network):
    leaves = jax.tree.leaves(eqx.filter(network, eqx.is_array))
    return [np.asarray(leaf).tobytes() for leaf in leaves]


def corrupted(run):
    """Return harms to the folder of a run, which is then opened."""
    whole = _bits(ctep.restore(run, network(), optimizer=ADAM)[0])

    def execute(harm):
        kind, how, opened = harm
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(shutil.copytree(run, Path(folder) / "run"))
            _spoil(copy, kind, how)
            if opened == "evaluate":
                return _in_process(["evaluate", str(copy)])
            if opened == "restore":
                found = ctep.restore(copy, network(), optimizer=ADAM)[0]
            else:
                found = fit(copy, resume=True).network
            if _bits(found) != whole:
                return "other weights than those saved"
        return "accepted"

    return _harms(), execute, lambda harm: "{}, {!r:.70}, then {}".format(*harm)
