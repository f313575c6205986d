import contextlib
import errno
import importlib.metadata
import json
import os
import random
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import matrix
import numpy as np
import optax
import pytest

import ctep
from ctep._train.loop import Loop
from ctep._train.progress import Reporter
from ctep._train.store import checkpoint
from ctep._train.store.lock import Lock

ADAM = optax.adam(3e-3)  # one object: what is equal is compiled once


def chain(sizes=(6, 8, 8, 3), **options):
    return ctep.mlp(sizes, **{"feedback": 0.3, "key": jax.random.key(0)} | options)


def fit(out=None, **options):
    """Train 7 batches an epoch, the last of 4, with no probe to compile."""
    x = np.random.default_rng(0).uniform(-1, 1, (40, 6)).astype(np.float32)
    defaults = {
        "network": chain(),
        "dataset": (x, np.argmax(x[:, :3], 1)),
        "epochs": 3,
        "batch_size": 6,
        "optimizer": ADAM,
        "key": jax.random.key(1),
        "probe": 0,
        "progress": False,
        "catch_signals": True,
    }
    return ctep.fit(**defaults | options, out=out)


def bits(tree):
    arrays = [np.asarray(leaf) for leaf in jax.tree.leaves(tree) if eqx.is_array(leaf)]
    return [(a.dtype, a.shape, a.tobytes()) for a in arrays]


def strict(line):
    """Read JSON as its standard has it, without NaN and Infinity."""
    return json.loads(line, parse_constant=pytest.fail)


def recorded(out):
    return [strict(line) for line in (out / "history.jsonl").read_text().splitlines()]


def timeless(history):
    return [{**record, "seconds": None} for record in history]


def assert_same_run(run, other):
    assert run.status == other.status == "completed"
    assert bits(run.network) == bits(other.network)
    assert timeless(run.history) == timeless(other.history)


def at(monkeypatch, moments, action):
    """Call `action` once each of `moments`, counts of finished batches, is reached."""
    report, left = Reporter.batch, sorted(moments)

    def spy(reporter, epoch, done):
        report(reporter, epoch, done)
        while left and done >= left[0]:
            left.pop(0)
            action()

    monkeypatch.setattr(Reporter, "batch", spy)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing disturbs."""
    return fit(tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture
def out(whole, tmp_path):
    """A copy of its folder."""
    return shutil.copytree(whole.out, tmp_path / "run")


# ---------------------------------------------------------------- the folder


def test_folder_of_a_run(whole):
    """What is trained, how it went, and the last two checkpoints; nothing else."""
    names = ["checkpoint-000002.ctep", "checkpoint-000003.ctep"]
    assert sorted(os.listdir(whole.out)) == [*names, "history.jsonl", "run.json"]
    assert recorded(whole.out) == whole.history
    identity = strict((whole.out / "run.json").read_text())
    assert "tanh(W0_1 x + 0.3 W1_2' s2 + b1)" in str(identity["network"])
    assert identity["batch_size"] == 6
    assert identity["versions"]["jax"] == jax.__version__
    assert f"Checkpoints and history are in {whole.out}." in str(whole)


def test_a_package_that_is_not_installed(tmp_path, monkeypatch):
    """Imported from a folder, it has no version; a run goes on and says so."""

    def missing(name):
        if name == "ctep":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", missing)
    fit(tmp_path / "run")
    found = strict((tmp_path / "run" / "run.json").read_text())["versions"]
    assert found["ctep"] == "not installed"
    assert found["jax"] == jax.__version__


def test_out_does_not_change_the_run(whole):
    """Oracle: the same run without a folder."""
    assert_same_run(fit(), whole)


def test_a_cosine_of_no_gradient_is_none(tmp_path, monkeypatch):
    """Where the exact gradient vanishes: the same in memory, on disk and in print."""
    probed = {"cosine": jnp.nan, "saturated": jnp.zeros(2), "rise": None}
    probed |= {"used": 16, "unsolved": 0}
    monkeypatch.setattr(Loop, "probe", lambda *args: probed)
    result = fit(tmp_path / "run", probe=16)
    assert recorded(tmp_path / "run") == result.history
    assert [record["gradient_cosine"] for record in result.history] == [None] * 3
    assert "has no direction" in str(result)
    assert "nan" not in str(result)


def test_restore(whole):
    """The trained weights, in a network that was built anew."""
    fresh = chain(key=jax.random.key(9))
    network, nudge = ctep.restore(whole.out, fresh, optimizer=ADAM)
    assert bits(network) == bits(whole.network) != bits(fresh)
    assert eqx.tree_equal(nudge, whole.nudge)


def test_the_best_checkpoint_is_kept(tmp_path, monkeypatch):
    """Besides the newest; oracle: a run that ends with the best epoch."""
    scores = iter([0.5, 0.9, 0.1, 0.9, 0.2])
    monkeypatch.setattr(
        Loop, "score", lambda *args: ctep.Score(0.0, next(scores), 0.0, 1)
    )
    out, held = tmp_path / "run", {"validation": 0.2, "keep": 1}
    fit(out, epochs=5, **held)
    names = [path.name for path in checkpoint.checkpoints(out)]
    assert names == ["checkpoint-000005.ctep", "checkpoint-000002.ctep"]
    scores = iter([0.5, 0.9])
    wanted = fit(epochs=2, **held)
    best, _ = ctep.restore(out, chain(), optimizer=ADAM, best=True)
    last, _ = ctep.restore(out, chain(), optimizer=ADAM)
    assert bits(best) == bits(wanted.network) != bits(last)


def test_no_epoch_is_best(tmp_path, monkeypatch):
    """A run that was stopped in its first epoch."""
    at(monkeypatch, [1], lambda: os.kill(os.getpid(), signal.SIGTERM))
    fit(tmp_path / "run")
    with pytest.raises(ctep.CheckpointError, match="so none is best: leave `best` out"):
        ctep.restore(tmp_path / "run", chain(), optimizer=ADAM, best=True)


def test_restore_refuses_another_network_or_optimiser(whole):
    """The message names the first leaf that differs."""
    match = r"another network: .*float32\[8\]. in .*float32\[9\]. in"
    with pytest.raises(ValueError, match=match):
        ctep.restore(whole.out, chain((6, 9, 9, 3)), optimizer=ADAM)
    with pytest.raises(ValueError, match="the network and optimiser it is of"):
        ctep.restore(whole.out, chain(), optimizer=optax.sgd(0.1))


# ---------------------------------------------------------------- going on


def test_more_epochs(out):
    """Oracle: a longer run from the start."""
    longer = fit(out, epochs=5, resume=True)
    assert_same_run(longer, fit(epochs=5))
    assert recorded(out) == longer.history


def test_a_complete_run_returns_at_once(whole, out, monkeypatch):
    """Without a batch; and so it does when asked for fewer epochs than it has."""
    monkeypatch.setattr(Loop, "train", None)
    for epochs in (3, 2):
        again = fit(out, epochs=epochs, resume=True)
        assert_same_run(again, whole)
        assert again.history == whole.history
        assert again.seconds == whole.seconds


def test_a_run_killed_before_its_first_checkpoint(whole, out):
    """What it had recorded of the epoch is not recorded twice."""
    for path in checkpoint.checkpoints(out):
        path.unlink()
    first = (out / "history.jsonl").read_text().splitlines(keepends=True)[0]
    (out / "history.jsonl").write_text(first)
    result = fit(out, resume=True)
    assert_same_run(result, whole)
    assert recorded(out) == result.history


def test_a_run_killed_between_record_and_checkpoint(whole, out):
    """The record beyond the last checkpoint is dropped, and so is half a line."""
    (out / "checkpoint-000003.ctep").unlink()
    with open(out / "history.jsonl", "a") as file:
        file.write('{"epoch": 4, "lo')
    result = fit(out, resume=True)
    assert_same_run(result, whole)
    assert recorded(out) == result.history


@pytest.mark.parametrize("harm", ["cut", "flip", "empty"])
def test_a_damaged_checkpoint_costs_one_epoch(whole, out, harm):
    """It goes back to the one before, says so, and ends with the same bits."""
    newest = out / "checkpoint-000003.ctep"
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 4
    data = {"cut": data[: len(data) // 2], "flip": data, "empty": b""}[harm]
    newest.write_bytes(data)
    match = "checkpoint-000003.ctep .*: going back to checkpoint-000002.ctep"
    with pytest.warns(UserWarning, match=match):
        result = fit(out, resume=True)
    assert_same_run(result, whole)
    assert recorded(out) == result.history
    assert bits(ctep.restore(out, chain(), optimizer=ADAM)) == bits(
        (whole.network, whole.nudge)
    )


def test_no_whole_checkpoint_is_an_error(out):
    """Each file and its fault is named; nothing is overwritten."""
    for path in checkpoint.checkpoints(out):
        path.write_bytes(b"not a checkpoint")
    before = {path: path.read_bytes() for path in out.iterdir()}
    match = "000003.ctep is no .*000002.ctep is no .* restore a copy or train anew"
    with pytest.raises(ctep.CheckpointError, match=match):
        fit(out, resume=True)
    assert {path: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize("change", [{"epoch": "1"}, {"history": [1]}, {"more": 1}])
def test_a_checkpoint_that_is_no_position_is_an_error(out, change):
    """It was saved by another program than `fit`."""
    newest = checkpoint.checkpoints(out)[0]
    line, _, payload = newest.read_bytes().partition(b"\n")
    header = json.loads(line)
    del header["sha256"]
    header["config"] |= change
    header["sha256"] = checkpoint._digest(header, payload)
    newest.write_bytes(json.dumps(header).encode() + b"\n" + payload)
    with pytest.raises(ctep.CheckpointError, match="does not say how far its run has"):
        fit(out, resume=True)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({}, ValueError, "already holds this run: pass `resume=True`"),
        ({"batch_size": 7}, ValueError, "holds a run with batch_size = 6, not 7: name"),
        ({"key": jax.random.key(2)}, ValueError, r"with key = \[0, 1\], not \[0, 2\]"),
        ({"network": chain(feedback=0.2)}, ValueError, "holds a run with network.* = "),
        (
            {"rule": ctep.Centered()},
            ValueError,
            r"holds a run with rule.beta = 0.01",
        ),
        ({"validation": 0.5}, ValueError, "holds a run with .* not "),
        (
            {"resume": True, "optimizer": optax.sgd(0.1)},
            ValueError,
            r"holds a run with optimizer\..* = .*, not ",
        ),
        (
            {"resume": True, "network": chain((6, 8, 9, 3))},
            ValueError,
            "holds a run with network.* = ",
        ),
    ],
)
def test_another_run_is_not_touched(out, options, error, match):
    """The sentence names what differs; every file stays as it was."""
    before = {path: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(error, match=match):
        fit(out, **options)
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_out_that_cannot_be_a_run(tmp_path):
    """A file, a folder of something else, nothing to resume."""
    file = tmp_path / "thesis.tex"
    file.touch()
    with pytest.raises(ValueError, match=r"`out` is the file .*thesis.tex, so name a"):
        fit(file)
    with pytest.raises(ValueError, match=r"holds thesis\.tex but no run"):
        fit(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"holds no `run.json`: correct `out`"):
        fit(tmp_path / "new", resume=True)
    with pytest.raises(ValueError, match="`resume` is True but `out` is None"):
        fit(resume=True)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_home_and_a_log_of_its_own(whole, tmp_path, monkeypatch):
    """Oracle: the weights of the run with a plain path; `~` is the variable HOME."""
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "runs" / "x"
    folder.mkdir(parents=True)
    (folder / "train.log").write_text("printed")
    assert_same_run(fit("~/runs/x"), whole)
    assert (folder / "train.log").read_text() == "printed"
    network, _ = ctep.restore("~/runs/x", chain(), optimizer=ADAM)
    assert bits(network) == bits(whole.network)
    assert ctep.restore("~/runs/x")
    assert not os.path.exists("~")
    assert ".lock" not in os.listdir(folder)


def test_a_run_of_the_other_width(whole, tmp_path, x64):
    """Oracle: what JAX is set to, which the sentence asks to set back."""
    before = {path: path.read_bytes() for path in whole.out.iterdir()}
    match = '= "float32.*", not "float64.*set `jax_enable_x64` to False, as it was'
    with pytest.raises(ValueError, match=match):
        fit(whole.out, resume=True, epochs=4)
    network, _ = ctep.restore(whole.out)
    assert bits(network) == bits(whole.network)
    # Its arrays are as they were, and the sums of an epoch are not.
    match = "holds .*float32.*, where .*float64.*: set `jax_enable_x64` to False"
    with pytest.raises(ValueError, match=match):
        fit(whole.out, resume=True, epochs=4, network=network)
    assert {path: path.read_bytes() for path in whole.out.iterdir()} == before
    fit(tmp_path / "wide", epochs=1)
    match = "has a float64 array at .*, where JAX has float32: set `jax_enable_x64` to"
    with jax.enable_x64(False), pytest.raises(ValueError, match=match):
        ctep.restore(tmp_path / "wide")
    match = '= "float64.*", not "float32.*set `jax_enable_x64` to True, as it was'
    with jax.enable_x64(False), pytest.raises(ValueError, match=match):
        fit(tmp_path / "wide", resume=True)


# ----------------------------------------------------------------- a second writer

WRITER = """
import sys
sys.path[:0] = sys.argv[1:3]
from test_resume import fit
def wait(record, network):
    print("writing", flush=True)
    sys.stdin.read()
fit(sys.argv[3], callback=wait)
"""


@matrix.campaign
@pytest.mark.skipif(os.name == "nt", reason="kills as POSIX does")
def test_one_writer_at_a_time(whole, tmp_path):
    """Oracle: another process that writes there, until it is killed."""
    out, here = tmp_path / "run", os.path.dirname(__file__)
    command = [sys.executable, "-c", WRITER, here, os.path.dirname(here), str(out)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        while process.stdout.readline() != "writing\n":
            assert process.poll() is None
        who = f"process {process.pid} on {socket.gethostname()}"
        before = {path: path.read_bytes() for path in out.iterdir()}
        for resume in (True, False):
            with pytest.raises(ValueError, match=f"is being written by {who}: wait"):
                fit(out, resume=resume)
        assert {path: path.read_bytes() for path in out.iterdir()} == before
        ctep.restore(out)
        process.kill()
    # Its file is left behind, and is nobody's.
    assert (out / ".lock").exists()
    assert_same_run(fit(out, resume=True), whole)
    assert not (out / ".lock").exists()


def test_a_lock_ends_with_its_run(tmp_path):
    """Whether the run ends with a result, an error, or by nothing holding it."""
    with pytest.raises(ZeroDivisionError):
        fit(tmp_path, callback=lambda record, network: 1 / 0)
    lock = Lock(tmp_path)
    with pytest.raises(ValueError, match=rf"written by process {os.getpid()} on"):
        fit(tmp_path, resume=True)
    del lock
    assert fit(tmp_path, resume=True).status == "completed"
    assert ".lock" not in os.listdir(tmp_path)


def test_a_lock_ends_before_the_first_batch_too(tmp_path):
    """Oracle: the folder, while the error and so the frames of its run are kept."""
    calls = iter((1, 0))  # the first is a trial, without a folder

    def init(parameters):
        return 1 / next(calls) and ADAM.init(parameters)

    broken = optax.GradientTransformation(init, ADAM.update)
    with pytest.raises(ZeroDivisionError) as kept:
        fit(tmp_path, optimizer=broken)
    assert os.listdir(tmp_path) == ["run.json"]
    assert kept.tb is not None


@pytest.mark.skipif(os.name == "nt", reason="locks of POSIX")
@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EIO])
def test_a_file_system_without_locks(tmp_path, monkeypatch, code):
    """What some network file systems answer is a warning, and no other end."""
    import fcntl

    def answer(*args):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", answer)
    with pytest.warns(UserWarning, match="on a file system without locks"):
        assert fit(tmp_path, epochs=1).status == "completed"


# ---------------------------------------------------------------- a refusing disk


def refuse(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def refuse_files(number):
    """Refuse to sync a file, not a folder."""
    if not stat.S_ISDIR(os.fstat(number).st_mode):
        refuse()


@pytest.mark.parametrize("fault", ["checkpoint", "all files", "folder gone"])
def test_a_refusing_disk_costs_no_training(whole, tmp_path, monkeypatch, fault):
    """Each write that fails is a warning; the result is that of a run undisturbed."""
    out = tmp_path / "run"

    def strike():
        if fault == "checkpoint":
            monkeypatch.setattr(checkpoint, "write_atomically", refuse)
        elif fault == "all files":
            monkeypatch.setattr(os, "fsync", refuse_files)
        else:
            shutil.rmtree(out)

    at(monkeypatch, [8], strike)
    with pytest.warns(UserWarning, match="could not be written") as caught:
        result = fit(out)
    assert_same_run(result, whole)
    text = "\n".join(str(warning.message) for warning in caught)
    assert text.count("the training state is still in memory") == 2
    if fault == "folder gone":
        assert not out.exists()
        return
    assert "No space left on device" in text
    assert "the newest checkpoint on disk is checkpoint-000001.ctep" in text
    monkeypatch.undo()
    again = fit(out, resume=True)
    assert_same_run(again, whole)
    assert recorded(out) == again.history


# ---------------------------------------------------------------- signals


def test_ctrl_c_in_fit(whole, tmp_path, monkeypatch):
    """SIGINT in the middle of the second epoch, and of the third; then to the end."""
    out, handlers = tmp_path / "run", [signal.getsignal(n) for n in (2, 15)]
    stop = lambda: os.kill(os.getpid(), signal.SIGINT)  # noqa: E731
    for moment, epochs in ((9, 1), (16, 2)):
        with monkeypatch.context() as patch:
            at(patch, [moment], stop)
            result = fit(out, resume=out.exists())
        assert (result.status, result.signal) == ("interrupted", signal.SIGINT)
        assert len(result.history) == epochs
        assert result.reason.startswith(f"Stopped after epoch {epochs} and batch ")
        assert "continue with `resume=True` and the same `out`" in result.reason
        assert result.reason in str(result)
        names = [path.name for path in checkpoint.checkpoints(out)]
        assert names == [f"checkpoint-{n:06d}.ctep" for n in (epochs + 1, epochs)]
        saved, _ = ctep.restore(out, chain(), optimizer=ADAM)
        assert bits(saved) == bits(result.network) != bits(whole.network)
        assert [signal.getsignal(n) for n in (2, 15)] == handlers
    result = fit(out, resume=True)
    assert_same_run(result, whole)
    assert recorded(out) == result.history


def test_ctrl_c_without_a_folder(monkeypatch):
    """The state that was reached comes back, and says that it is not kept."""
    at(monkeypatch, [1], lambda: os.kill(os.getpid(), signal.SIGTERM))
    result = fit()
    assert (result.status, result.signal) == ("interrupted", signal.SIGTERM)
    assert result.reason == (
        "Stopped after epoch 0 and batch 1 of 7; without `out` there is nothing to "
        "resume from."
    )
    assert result.history == []
    assert bits(result.network) != bits(chain())


def test_signals_are_passed_on(tmp_path, monkeypatch):
    """As if nobody had caught them, but for what was trained, which is not lost."""
    for number, kind in (
        (signal.SIGINT, KeyboardInterrupt),
        (signal.SIGTERM, SystemExit),
    ):
        out = tmp_path / str(number)
        with monkeypatch.context() as patch:
            at(patch, [9], lambda number=number: os.kill(os.getpid(), number))
            with pytest.raises(kind) as caught:
                fit(out, catch_signals=False)
        assert caught.value.result.signal == number
        saved, _ = ctep.restore(out, chain(), optimizer=ADAM)
        assert bits(saved) == bits(caught.value.result.network)
    assert caught.value.code == 143


def test_a_handler_of_the_users_own_is_called(monkeypatch):
    """Once training is at rest. A signal that is ignored stays so."""
    seen, old = [], signal.getsignal(signal.SIGTERM)
    try:
        signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
        with monkeypatch.context() as patch:
            at(patch, [1], lambda: os.kill(os.getpid(), signal.SIGTERM))
            with pytest.raises(SystemExit):
                fit(catch_signals=False)
        assert seen == [signal.SIGTERM]
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with monkeypatch.context() as patch:
            at(patch, [1], lambda: os.kill(os.getpid(), signal.SIGTERM))
            assert fit(epochs=1).status == "completed"
    finally:
        signal.signal(signal.SIGTERM, old)


def test_second_ctrl_c_stops_at_once(tmp_path, monkeypatch):
    """A KeyboardInterrupt, after which the last epoch is still on disk."""
    stop = lambda: os.kill(os.getpid(), signal.SIGINT)  # noqa: E731
    at(monkeypatch, [9, 9], stop)
    handlers = [signal.getsignal(n) for n in (2, 15)]
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "run")
    assert [signal.getsignal(n) for n in (2, 15)] == handlers
    assert checkpoint.read_config(tmp_path / "run")["epoch"] == 1


# ---------------------------------------------------------------- processes

EPOCHS = 10
CTEP = "import sys; from ctep.cli import main; sys.argv[0] = 'ctep'; main()"
# Sends itself a signal after the second chunk of an epoch of 29 batches.
STOPPING = """
import os
from ctep._train.progress import Reporter
report = Reporter.batch
def spy(reporter, epoch, done):
    report(reporter, epoch, done)
    if epoch == {epoch} and 1 < done % 29:
        os.kill(os.getpid(), {number})
Reporter.batch = spy
"""


class Processes:
    """Starts `ctep`, and lets it keep what it compiled for the next."""

    def __init__(self, folder):
        self.environment = os.environ | {
            "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        self.reference = folder / "reference"
        done = self.run("fit", "--epochs", str(EPOCHS), "--out", self.reference)
        assert done.returncode == 0, done.stderr

    @contextlib.contextmanager
    def start(self, *args, code=""):
        command = [sys.executable, "-c", code + CTEP, *map(str, args)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, env=self.environment, **pipes) as process:
            try:
                yield process
            finally:
                process.kill()

    def run(self, *args, code=""):
        with self.start(*args, code=code) as process:
            out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess(args, process.returncode, out, err)

    def assert_as_undisturbed(self, out):
        """Oracle: the run of the same command that nothing disturbed."""
        ours, theirs = (checkpoint.checkpoints(f)[0] for f in (out, self.reference))
        assert ours.name == theirs.name
        ours, theirs = (path.read_bytes().partition(b"\n") for path in (ours, theirs))
        assert ours[2] == theirs[2]  # weights and all else that is trained with
        assert timeless(recorded(out)) == timeless(recorded(self.reference))
        assert timeless(strict(ours[0])["config"]["history"]) == timeless(recorded(out))


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    return Processes(tmp_path_factory.mktemp("processes"))


def count(out):
    path = out / "history.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait(process, condition):
    """Wait until `condition` holds, and fail if the process ends before."""
    for _ in range(12_000):
        if condition():
            return
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    pytest.fail("the process did not come that far in two minutes")


@matrix.campaign
def test_sigkill_at_random_moments(processes, tmp_path):
    """Killed in the first epoch, the second, and a later one, and resumed each time."""
    rng, out = random.Random(0), tmp_path / "run"
    command = ["fit", "--epochs", EPOCHS, "--out", out]
    with processes.start(*command) as process:
        wait(process, (out / "run.json").exists)
        time.sleep(rng.uniform(0, 0.1))
    command.append("--resume")
    for _ in range(2):
        epochs = count(out)
        with processes.start(*command) as process:
            wait(process, lambda n=epochs: count(out) > n)
            time.sleep(rng.uniform(0, 0.1))
        assert process.returncode == -signal.SIGKILL
        assert count(out) < EPOCHS
    done = processes.run(*command)
    assert done.returncode == 0, done.stderr
    processes.assert_as_undisturbed(out)


@matrix.campaign
def test_signals_say_how_to_go_on(processes, tmp_path):
    """SIGINT in the second epoch, SIGTERM in the third, both with batches to come.

    Each prints the command that goes on; the last one ends as if undisturbed.
    """
    out = tmp_path / "run"
    command = ["fit", "--epochs", EPOCHS, "--out", out]
    for epoch, number in ((2, signal.SIGINT), (3, signal.SIGTERM)):
        code = STOPPING.format(epoch=epoch, number=int(number))
        stopped = processes.run(*command, code=code)
        assert stopped.returncode == 128 + number
        assert "Traceback" not in stopped.stderr
        assert "interrupted in " in stopped.stdout
        assert f"Stopped after epoch {epoch - 1} and batch " in stopped.stdout
        config = checkpoint.read_config(out)
        assert config["epoch"] == epoch - 1
        assert 1 < config["batch"] < 29
        words = shlex.split(stopped.stdout.splitlines()[-1])
        assert words[:3] == ["Continue", "with:", "ctep"]
        command = words[3:]
    done = processes.run(*command)
    assert done.returncode == 0, done.stderr
    processes.assert_as_undisturbed(out)
