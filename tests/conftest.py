import gc
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["MPLBACKEND"] = "Agg"  # before anything imports matplotlib
# Nearly all time goes to compiling programs that run once. Child processes inherit it.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
# Many processes of a session train the same network. The first one, which starts the
# others, keeps what they compile, and drops it in the end.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _compiled = tempfile.TemporaryDirectory()
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _compiled.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
    # XLA's older way to emit code takes half the time, where there still is one. An
    # unknown flag ends the process, so another one tries it first.
    _flags = "--xla_cpu_use_fusion_emitters=false " + os.environ.get("XLA_FLAGS", "")
    _tried = subprocess.run(
        [sys.executable, "-c", "import jax; jax.devices()"],
        env=os.environ | {"XLA_FLAGS": _flags.strip(), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        check=False,
    )
    if _tried.returncode == 0:
        os.environ["XLA_FLAGS"] = _flags.strip()

import hypothesis
import jax
import pytest

# A job in the background of a shell ignores Ctrl-C, and so would what is tested.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

gc.set_threshold(20_000, 20, 20)  # tracing makes many objects that stay

# Every run draws the same examples, and a slow machine fails no test.
hypothesis.settings.register_profile(
    "ctep", derandomize=True, deadline=None, database=None
)
hypothesis.settings.load_profile("ctep")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Run a test marked `unhurried` in a process that emits code as users' do.

    Two programs that do the same may differ in the last bit if it is emitted otherwise.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    usual = flags.replace("--xla_cpu_use_fusion_emitters=false", "")
    if pyfuncitem.get_closest_marker("unhurried") is None or usual == flags:
        return None
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n0", "-m", "", pyfuncitem.nodeid],
        cwd=pyfuncitem.config.rootpath,
        env=os.environ | {"XLA_FLAGS": usual.strip()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return True


@pytest.fixture(autouse=True, scope="module")
def _programs():
    """Drop compiled programs after each file: each holds memory maps, 65530 at most."""
    yield
    jax.clear_caches()


@pytest.fixture
def x64():
    """Run the test in float64. JAX's default, float32, holds everywhere else."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def mnist() -> Path:
    """Return the TFDS directory that holds MNIST, or skip the test."""
    folder = os.environ.get("TFDS_DATA_DIR")
    if not folder:
        pytest.skip("TFDS_DATA_DIR is not set, so there is no MNIST to read")
    prepared = Path(folder).expanduser()
    if not any(prepared.glob("mnist/*/dataset_info.json")):
        pytest.skip(f"TFDS_DATA_DIR={folder} holds no prepared MNIST")
    return prepared
