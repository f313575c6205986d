"""The same run on one device, on eight, and in two processes: how far histories differ.

Each run is a `ctep fit` of the digits; devices beyond the first are virtual, processes
meet on this machine. Largest relative difference of any figure but the seconds, in
float64 and in float32.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from _report import ROOT, options, report

_MAIN = "from ctep.cli import main; main()"
_EIGHT = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}


def start(out, epochs, *words, **variables):
    command = [sys.executable, "-c", _MAIN, "fit", "digits", "--out", str(out)]
    return subprocess.Popen(
        [*command, "--epochs", str(epochs), *words],
        cwd=ROOT,
        env={**os.environ, **variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def together(out, epochs, **variables):
    """Return two processes of one run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    words = "--coordinator", address, "--processes", "2", "--process"
    return [start(out, epochs, *words, str(i), **variables) for i in range(2)]


def history(out, processes):
    """Return the records of a run once all its processes have ended well."""
    codes = [process.wait(timeout=600) for process in processes]
    if any(codes):
        raise RuntimeError(f"{out.name} ended with {codes}")
    return [json.loads(s) for s in (out / "history.jsonl").read_text().splitlines()]


def largest(records, others):
    """Return the largest relative difference of each figure."""
    found = {}
    for a, b in zip(records, others, strict=True):
        for name in a.keys() - {"seconds", "faults", "gradient_cosine_missing"}:
            scale = max(abs(a[name]), 1e-30)
            found[name] = max(found.get(name, 0.0), abs(a[name] - b[name]) / scale)
    return found


def main():
    parser = options(__doc__)
    parser.add_argument("--epochs", type=int, default=5)
    args = parser.parse_args()
    epochs, details = 1 if args.toy else args.epochs, {}
    with tempfile.TemporaryDirectory() as folder:
        for name, wide in (("float64", "1"), ("float32", "0")):
            x64, root = {"JAX_ENABLE_X64": wide}, Path(folder) / name
            alone = history(root / "one", [start(root / "one", epochs, **x64)])
            eight = [start(root / "eight", epochs, **x64, **_EIGHT)]
            two = together(root / "two", epochs, **x64)
            details[name] = {
                "8 devices": largest(alone, history(root / "eight", eight)),
                "2 processes": largest(alone, history(root / "two", two)),
            }
    value = [max(d.values()) for d in details["float64"].values()]
    single = {
        name: max(d[name] for d in details["float32"].values())
        for name in details["float32"]["8 devices"]
    }
    worst = max(single, key=lambda name: single[name])
    rest = max(v for name, v in single.items() if name != worst)
    line = (
        f"largest relative difference of a history of {epochs} epochs to that on one "
        f"device, float64: {value[0]:.1e} on 8 devices, {value[1]:.1e} in 2 processes; "
        f"float32: {single[worst]:.1e} ({worst}), of all else {rest:.1e}"
    )
    args.dataset = "digits"
    report("devices", line, args, value=value, details=details)


if __name__ == "__main__":
    main()
