"""Many devices and many processes: the same run as on one, up to rounding."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time

import matrix
import pytest

CTEP = "from ctep.cli import main; main()"
FIT = ("fit", "digits", "--epochs", "3")


def devices(count):
    """Return the variable that makes so many devices of one processor."""
    flags = f"--xla_force_host_platform_device_count={count}"
    return {"XLA_FLAGS": f"{flags} {os.environ.get('XLA_FLAGS', '')}"}


@contextlib.contextmanager
def start(*args, **variables):
    """Start `ctep` in a process of its own, in float64."""
    environment = {**os.environ, "JAX_ENABLE_X64": "1", **variables}
    command = [sys.executable, "-c", CTEP, *map(str, args)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def finish(process, code=0, timeout=120):
    out, err = process.communicate(timeout=timeout)
    assert process.returncode == code, err[-2000:]
    return out


def history(out):
    return list(map(json.loads, (out / "history.jsonl").read_text().splitlines()))


def assert_same(out, other):
    """Every figure of every epoch, but the time, to 1e-5 of itself."""
    ours, theirs = history(out), history(other)
    assert len(ours) == len(theirs) == 3
    for a, b in zip(ours, theirs, strict=True):
        assert a.pop("seconds") > 0
        assert b.pop("seconds") > 0
        assert a.pop("faults") == b.pop("faults") == []
        missing = "gradient_cosine_missing"
        assert a.pop(missing) == b.pop(missing) == ""
        assert a == pytest.approx(b, rel=1e-5, abs=1e-12)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run on one device."""
    out = tmp_path_factory.mktemp("alone") / "run"
    with start(*FIT, "--out", out) as process:
        finish(process)
    return out


@matrix.campaign
def test_eight_devices(alone, tmp_path):
    """Batches of 50 on eight devices, which they do not divide.

    The data are streamed and the weights divided, up to an interruption; the rest of
    the run is on two devices, from memory.
    """
    out = tmp_path / "run"
    spread = "--shard-parameters", "--workers", "0"
    with start(*FIT, *spread, "--out", out, **devices(8)) as process:
        wait(process, out, 1)
        process.terminate()
        text = finish(process, 143)
    assert f"--shard-parameters --workers 0 --out {out} --resume" in text
    assert len(history(out)) < 3
    with start(*FIT, "--out", out, "--resume", **devices(2)) as process:
        finish(process)
    assert_same(out, alone)


def pair(out, *args, **variables):
    """Return the arguments of two processes of one run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    common = *FIT, "--out", out, "--coordinator", address, "--processes", 2, *args
    return [start(*common, "--process", i, **variables) for i in range(2)]


def wait(process, out, epochs):
    for _ in range(1200):
        path = out / "history.jsonl"
        if path.exists() and path.read_bytes().count(b"\n") >= epochs:
            return
        assert process.poll() is None, process.communicate()[1][-2000:]
        time.sleep(0.1)
    pytest.fail("the process did not come that far in two minutes")


@matrix.campaign
def test_two_processes_of_which_one_is_killed(alone, tmp_path):
    """The other stops with a sentence; resumed by two, the run is that of one."""
    out = tmp_path / "run"
    first, second = pair(out)
    with first as a, second as b:
        wait(a, out, 1)
        b.kill()
        text = finish(a, 1, timeout=60)
    assert "Another process of this run is gone, and none can go on alone" in text
    assert len(history(out)) < 3
    first, second = pair(out, "--resume")
    with first as a, second as b:
        assert "completed in" in finish(a)
        assert "completed" not in finish(b)  # one of them speaks
    assert_same(out, alone)


@matrix.campaign
def test_processes_that_differ(tmp_path):
    """Another seed in the second process is an error in both, and nothing is written.

    They meet through the variables of Slurm.
    """
    slurm = {"SLURM_NTASKS": "2", "SLURM_JOB_ID": str(10_000 + os.getpid() % 4000)}
    slurm |= {"SLURM_STEP_NODELIST": "localhost", "SLURM_LOCALID": "0"}
    out = tmp_path / "run"
    common = *FIT, "--out", out
    with (
        start(*common, "--seed", 1, SLURM_PROCID="0", **slurm) as a,
        start(*common, "--seed", 2, SLURM_PROCID="1", **slurm) as b,
    ):
        for process in (a, b):
            err = process.communicate(timeout=120)[1]
            assert "start all of them with the same arguments" in err
    assert not out.exists()


def test_an_indexed_job_knows_its_number(monkeypatch):
    """Kubernetes' variable, and JAX's; alone, neither makes a run of many."""
    from ctep._train.devices import hosts

    said = []
    monkeypatch.setattr(
        "jax.distributed.initialize", lambda *args, **_: said.append(args)
    )
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "10.0.0.1:1234")
    hosts.join(None, None, None)
    assert said == []
    hosts.join(None, None, 2)
    hosts.join("here:1", 0, 2)
    assert said == [("10.0.0.1:1234", 2, 1), ("here:1", 2, 0)]


@pytest.mark.parametrize(
    ("args", "match"),
    [
        (("--coordinator", "here:1"), "`process` is missing, but the processes of"),
        (
            ("--coordinator", "here", "--process", 0, "--processes", 2),
            "`coordinator` is 'here', but must be HOST:PORT: pass for example",
        ),
        (
            ("--coordinator", "here:1", "--process", 2, "--processes", 2),
            "`process` is 2 of 2 `processes`, but must be from 0 to one less",
        ),
    ],
)
def test_bad_addresses(args, match):
    from ctep._train.devices.hosts import join

    options = dict(zip(args[::2], args[1::2], strict=True))
    given = [options.get(f"--{name}") for name in ("coordinator", "process")]
    with pytest.raises(ValueError, match=match):
        join(*given, options.get("--processes"))
