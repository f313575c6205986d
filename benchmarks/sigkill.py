"""A run of `ctep fit` that is killed again and again, and what it ends with.

SIGKILL strikes at moments drawn uniformly between the start of a process and half as
long again as its first epoch takes to be saved: while it imports, compiles, trains and
writes. What lies beyond the first epoch is counted from there, since a busy machine
may take longer to begin. Each time the run is resumed. Once all kills are spent it may
finish, and its last checkpoint and history are compared, bit for bit, with those of a
run that nothing disturbed. A run that is done before is compared too, and another one
is begun.
"""

import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

from _report import ROOT, options, report

from ctep._train.store import checkpoint

_MAIN = "from ctep.cli import main; main()"
_LIMIT = 600


def start(out, words):
    """Start `ctep fit`, or go on where it was killed, as a user would."""
    words = ["fit", "digits", *words, "--out", str(out)]
    words += ["--resume"] if (out / "run.json").exists() else []
    return subprocess.Popen(
        [sys.executable, "-c", _MAIN, *words],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def fault(code, said, *allowed):
    """Return what is wrong with an ended process, `None` if nothing."""
    complaints = [line for line in said.splitlines() if not line.startswith("epoch")]
    if code in (0, *allowed) and not complaints:
        return None
    return f"ended with code {code} and {' '.join(complaints)!r:.300}"


def finish(out, words):
    """Return what is wrong with a process that nobody disturbs, `None` if nothing."""
    process = start(out, words)
    _, said = process.communicate(timeout=_LIMIT)
    return fault(process.returncode, said)


def undisturbed(out, words):
    """Return the seconds to the first epoch's checkpoint, and to the end, of a run."""
    begin, process = time.monotonic(), start(out, words)
    while process.poll() is None and not checkpoint.checkpoints(out):
        time.sleep(0.01)
    first = time.monotonic() - begin
    _, said = process.communicate(timeout=_LIMIT)
    if wrong := fault(process.returncode, said):
        sys.exit(f"The undisturbed run {wrong}")
    return first, time.monotonic() - begin


def strike(out, words, delay, first):
    """Kill a process after `delay`; return whether it was done, and what is wrong."""
    before = checkpoint.checkpoints(out)[:1]
    process = start(out, words)
    if delay > first:
        while process.poll() is None and checkpoint.checkpoints(out)[:1] == before:
            time.sleep(0.01)
        delay -= first
    try:
        _, said = process.communicate(timeout=delay)
    except subprocess.TimeoutExpired:
        process.kill()
        _, said = process.communicate()
    wrong = fault(process.returncode, said, -signal.SIGKILL)
    return process.returncode == 0 and not wrong, wrong


def newest(out):
    """Return the epoch of the newest checkpoint, all of which must be whole."""
    for path in checkpoint.checkpoints(out):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            checkpoint.read_config(path)
    if not checkpoint.checkpoints(out):
        return 0
    return checkpoint.read_config(out)["epoch"]


def end(out):
    """Return a run's last checkpoint and its history, but for the seconds."""
    path = checkpoint.checkpoints(out)[0]
    header, _, payload = path.read_bytes().partition(b"\n")
    header = json.loads(header)
    records = [json.loads(line) for line in (out / "history.jsonl").open()]
    histories = records, header["config"].pop("history")
    for record in (*histories[0], *histories[1]):
        del record["seconds"]
    del header["sha256"], header["config"]["seconds"]
    return path.name, header, histories, payload


def main():
    args = options(__doc__).parse_args()
    args.dataset = "digits"
    kills, epochs = (3, 4) if args.toy else (40, 300)
    words = ["--epochs", str(epochs), "--seed", str(args.seed)]
    words += ["--scale", "0.1"] if args.toy else []
    generator = random.Random(args.seed)
    faults, rows, runs = [], [], 1
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        first, total = undisturbed(folder / "whole", words)
        whole, out = end(folder / "whole"), folder / "run"
        longest = 1.5 * first
        print(f"  undisturbed: {first:.1f} s to the first epoch, {total:.1f} s in all")
        while len(rows) < kills:
            delay, before = generator.uniform(0, longest), newest(out)
            done, wrong = strike(out, words, delay, first)
            if done:
                if end(out) != whole:
                    faults.append(f"run {runs} was done and differs")
                shutil.rmtree(out)
                runs += 1
                continue
            try:
                after = newest(out)
            except (OSError, UserWarning) as error:
                wrong, after = str(error), before
            if after < before:
                wrong = f"epoch {before} was saved and then only {after}"
            rows.append({"seconds": delay, "epochs": after - before, "epoch": after})
            faults += [f"kill {len(rows)}: {wrong}"] if wrong else []
            print(f"  kill {len(rows)} after {delay:.2f} s, at epoch {after}: "
                  f"{wrong or 'whole'}", flush=True)  # fmt: skip
        wrong = finish(out, words)
        faults += [f"the last resumption {wrong}"] if wrong else []
        same = [a == b for a, b in zip(end(out), whole, strict=True)]
        if not all(same):
            faults.append(f"file, header, history, payload are the same: {same}")
    trained = sum(row["epochs"] > 0 for row in rows)
    for wrong in faults:
        print(f"  FAULT: {wrong}")
    line = (
        f"ctep fit digits, {epochs} epochs, {len(rows)} SIGKILLs within "
        f"{longest:.1f} s of the start ({trained} after it had saved an epoch, "
        f"{len(rows) - trained} before), over {runs} run{'s' if runs > 1 else ''}: "
        f"{len(faults)} faults; last checkpoint and history those of an undisturbed "
        f"run, bit for bit: {'yes' if all(same) else 'NO'}"
    )
    details = {"kills": rows, "faults": faults, "first_epoch": first, "whole": total}
    report("sigkill", line, args, value=[len(rows), len(faults)], details=details)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
