"""Data that are read while they are trained on."""

import functools
import inspect
import os
import re
import signal
import subprocess
import sys
import time

import equinox as eqx
import jax
import matrix
import numpy as np
import optax
import pytest
from test_data import write_tiny

import ctep
from ctep._train.devices import feed as feed_module
from ctep._train.devices.feed import StreamedFeed
from ctep._train.devices.placement import Placement
from ctep.data import AbstractRecords, ArrayRecords
from ctep.data.selection import BatchOrder
from ctep.data.stream import read_batch

ADAM = optax.adam(3e-3)


def fit(dataset, *, network=(12, 8, 7), **options):
    network = ctep.mlp(network, feedback=0.3, key=jax.random.key(0))
    defaults = {"epochs": 3, "batch_size": 6, "optimizer": ADAM, "progress": False}
    return ctep.fit(network, dataset, probe=0, **defaults | options)


def bits(result):
    leaves = jax.tree.leaves(eqx.filter(result.network, eqx.is_array))
    return [np.asarray(leaf).tobytes() for leaf in leaves]


def timeless(result):
    return [{**record, "seconds": None} for record in result.history]


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A dataset of TFDS with 40 and 10 images, and pieces of two batches."""
    monkeypatch.setenv("CTEP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setattr(feed_module, "_EXAMPLES", 12)
    write_tiny(tmp_path / "tfds", counts=(40, 10))
    return tmp_path / "tfds"


@matrix.campaign
@pytest.mark.smoke
@pytest.mark.unhurried
def test_a_streamed_run_is_the_run_in_memory(tiny, tmp_path):
    """To the bit: a thread, a process, validation, and a change on the way.

    The order of the examples, the last batch of 2 and the augmentation are the same.
    """
    options = {"validation": 0.2, "pipeline": ctep.data.Pipeline(flip=0.5, crop=1)}
    memory = fit("tiny", **options)
    assert memory.history[0]["test_accuracy"] is not None
    for workers in (0, 1):
        streamed = fit("tiny", workers=workers, **options)
        assert timeless(streamed) == timeless(memory)
        assert bits(streamed) == bits(memory)
    out = tmp_path / "run"
    fit("tiny", epochs=1, out=out, workers=0, **options)
    resumed = fit("tiny", out=out, resume=True, **options)
    assert bits(resumed) == bits(memory)


@pytest.mark.unhurried
def test_arrays_are_streamed_by_a_thread(monkeypatch):
    """What is larger than half of a device is; a memory map is not read as a whole."""
    x = np.random.default_rng(0).uniform(-1, 1, (40, 12)).astype(np.float32)
    y = np.argmax(x[:, :7], 1)
    memory = fit((x, y))
    read = ArrayRecords.read

    def spy(self, rows):
        called.append(1)
        return read(self, rows)

    monkeypatch.setattr(ArrayRecords, "read", spy)
    for room, streams in ((2 * x.nbytes, False), (2 * x.nbytes - 1, True)):
        called = []
        monkeypatch.setattr(Placement, "room", lambda self, room=room: room)
        assert bits(fit((x, y))) == bits(memory)
        assert bool(called) == streams
    called = []
    assert bits(fit((x, y), workers=3)) == bits(memory)
    assert len(called) > 20


def test_positions_are_found_again(monkeypatch):
    """Oracle: the order itself, in any position; epochs differ, -1 reads as zeros."""
    x = np.arange(10, dtype=np.float32)[:, None]
    index = np.arange(2, 10)
    order = BatchOrder(8, 3, 4, seed=(1, 2))
    records = ArrayRecords(x, np.arange(10, dtype=np.int32))
    place = Placement.default()
    monkeypatch.setattr(Placement, "columns", lambda self, width: slice(1, width))
    feed = StreamedFeed(records, index, order, place, 0)
    for number in (0, 1, 2, 3, 7, 4, 5, 4):
        epoch, batch = divmod(number, 3)
        rows = order(epoch)[batch, 1:4]
        wanted = np.where(rows < 0, 0, index[rows])
        got = feed.read(number)
        np.testing.assert_array_equal(got[0][:, 0], wanted)
        np.testing.assert_array_equal(got[1], wanted)
    feed.close()
    assert not np.array_equal(order(0), order(1))
    for epoch in range(3):
        rows = order(epoch)
        assert sorted(rows[rows >= 0]) == list(range(8))


@matrix.campaign
@pytest.mark.unhurried
def test_data_that_vanish_cost_no_training(monkeypatch, tmp_path):
    """The state so far comes back and is kept; the run goes on when they are back."""
    x = np.random.default_rng(0).uniform(-1, 1, (40, 12)).astype(np.float32)
    data, out, left = (x, np.argmax(x[:, :7], 1)), tmp_path / "run", [12]
    monkeypatch.setattr(feed_module, "_EXAMPLES", 6)
    whole, read = fit(data), ArrayRecords.read

    def fail(self, rows):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(5, "Input/output error")
        return read(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(ArrayRecords, "read", fail)
        result = fit(data, workers=0, out=out)
    assert result.status == "interrupted"
    assert "could not be read (" in result.reason
    assert "Input/output error" in result.reason
    assert "make the data readable again" in result.reason
    assert bits(result) != bits(whole)
    assert bits(fit(data, workers=0, out=out, resume=True)) == bits(whole)


@pytest.mark.parametrize("label", [-1, 2**32 + 1])
def test_labels_that_would_wrap_are_named(label):
    """Oracle: the label, as some test sets have it that were never labelled."""
    records = ArrayRecords(np.zeros((3, 1), np.float32), np.arange(3))
    records._y = np.array([0, 1, label])
    with pytest.raises(ValueError, match=f"^`dataset` has the labels .*{label}.*: "):
        read_batch(records, None, BatchOrder(3, 3, 4), slice(None), 0)


@matrix.campaign
@pytest.mark.unhurried
def test_records_of_a_users_own(tmp_path):
    """Oracle: the run on the same arrays; the records are those of the docstring."""
    names = {"ctep": ctep, "functools": functools, "np": np}
    text = inspect.getdoc(AbstractRecords)
    exec(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0], names)
    x = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)
    y = np.arange(40) % 10
    files = [tmp_path / f"{row}.npy" for row in range(40)]
    for file, image in zip(files, x, strict=True):
        np.save(file, image)
    records = names["Files"](files, y)
    data = ctep.data.Dataset("own", records, None, "files", content="of a test")
    wanted = bits(fit((x, y), network=(64, 8, 10)))
    assert bits(fit(data, network=(64, 8, 10))) == wanted
    assert bits(fit(data, network=(64, 8, 10), workers=0)) == wanted


SCRIPT = """
import ctep, jax
def run():
    network = ctep.mlp((12, 8, 7), key=jax.random.key(0))
    ctep.fit(network, "tiny", epochs={epochs}, batch_size=6, workers=1, probe=0)
    print("completed")
{call}
"""


def script(tmp_path, **parts):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(**parts))
    command, pipes = [sys.executable, str(path)], {"stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, start_new_session=True, **pipes)


@matrix.parametrize("source", ["a file", "standard input"], [])
def test_a_script_that_cannot_be_imported_is_told(tiny, tmp_path, source):
    """Oracle: the exit code that Python gives an error, and that nothing was trained.

    Reading processes import the script: it must not train in them too, or be lost.
    """
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(epochs=1, call="run()"))
    command, given = [sys.executable, path], None
    if source == "standard input":
        command, given = [sys.executable], path.read_text()
    done = subprocess.run(
        command, input=given, capture_output=True, text=True, timeout=120
    )
    last = done.stderr.splitlines()[-1]
    assert last.startswith("RuntimeError: `workers` is 1, but ")
    assert "put the call under `if __name__ == '__main__':` in a file" in last
    assert (done.returncode, done.stdout) == (1, "")


@matrix.campaign
def test_no_process_outlives_a_run_that_is_killed(tiny, tmp_path):
    """Oracle: the processes of its session, a few seconds after SIGKILL."""
    guarded = "if __name__ == '__main__':\n    run()"
    with script(tmp_path, epochs=100_000, call=guarded) as process:
        for _ in range(600):
            if len(session(process.pid)) >= 3:  # the run, a reader, their tracker
                break
            time.sleep(0.1)
        time.sleep(3)
        assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=10)
    for _ in range(150):
        if not session(process.pid):
            return
        time.sleep(0.1)
    pytest.fail(f"{session(process.pid)} are left")


def session(leader):
    """Return the processes of a session that are not zombies."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    fields = file.read().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == leader and fields[0] != "Z":
                found.append(int(entry))
    return found


@matrix.campaign
@pytest.mark.unhurried
def test_a_partial_batch_leaves_nothing_of_what_fills_it_up():
    """Oracle: a run from memory, which fills up with other examples than a stream."""
    x = np.random.default_rng(0).uniform(-1, 1, (10, 12)).astype(np.float32)
    data = x, np.argmax(x[:, :3], 1)
    options = {"network": (12, 8, 8, 7), "carry_state": True, "batch_size": 4}
    assert bits(fit(data, **options, workers=0)) == bits(fit(data, **options))


@matrix.campaign
def test_many_short_blocks(monkeypatch):
    """Their length says nothing of how much longer a chunk may become."""
    monkeypatch.setattr(feed_module, "_EXAMPLES", 1)
    x = np.random.default_rng(0).uniform(-1, 1, (600, 12)).astype(np.float32)
    data = x, np.argmax(x[:, :3], 1)
    run = fit(data, batch_size=1, epochs=1, workers=0)
    assert run.status == "completed"
