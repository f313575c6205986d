"""What every benchmark shares: its options, and how a figure is reported."""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import jax

from ctep._train.store.identity import version

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
_FOLDERS = ("--results", "--out")
_NEEDED = ("--data", "--runs")  # without which a command does something else
_PACKAGES = "ctep jax jaxlib equinox diffrax optimistix lineax optax numpy".split()


def options(doc: str) -> argparse.ArgumentParser:
    """Return a parser with what all benchmarks understand."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--dataset", help="mnist by default, digits for a toy")
    parser.add_argument("--seed", type=int, default=0)
    text = "seconds instead of minutes; its figure means nothing"
    parser.add_argument("--toy", action="store_true", help=text)
    text = "folder of the JSON file; docs/results by default, none for a toy"
    parser.add_argument("--results", type=Path, help=text)
    return parser


def machine() -> dict:
    """Return the processor, the cores this process may use, and the devices."""
    lines = []
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "device": f"{jax.default_backend()} ({jax.devices()[0].device_kind})",
        "system": f"{platform.system()} {platform.machine()}",
    }


def commit() -> str:
    """Return the commit of the code, marked if the package differs from it."""
    try:
        name = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--", "ctep", "benchmarks/*.py")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return name + (" with local changes" if changed else "")


def report(name: str, line: str, args, *, value, details: dict, seeds=None) -> None:
    """Print a figure with its protocol, and keep both as JSON.

    Args:
        name: of the file.
        line: the figure, in one line.
        args: the options.
        value: the number that the target speaks of.
        details: everything else worth keeping.
        seeds: that were used; `--seed` by default.
    """
    record = {
        "name": name,
        "figure": line,
        "value": value,
        "details": details,
        "seeds": [args.seed] if seeds is None else seeds,
        "dataset": dataset_name(args),
        "toy": args.toy,
        "machine": machine(),
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in _PACKAGES},
        "commit": commit(),
        "command": " ".join(_words(sys.argv)),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    folder = folder_of(args)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False)
        (folder / f"{name}.json").write_text(text + "\n")
    print(f"{'toy: ' if args.toy else ''}{line}")
    for key in ("machine", "versions", "commit", "seeds", "dataset", "command"):
        entry = record[key]
        if isinstance(entry, dict):
            entry = ", ".join(f"{k} {v}" for k, v in entry.items())
        print(f"  {key}: {entry}")


def keep(name: str, records, args) -> None:
    """Keep a history as JSON lines beside the figure of the same name."""
    folder = folder_of(args)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (folder / f"{name}.jsonl").write_text(lines)


def folder_of(args) -> Path | None:
    """Return where results go, `None` for a toy run that names no folder."""
    return args.results or (None if args.toy else RESULTS)


def dataset_name(args) -> str:
    """Return the dataset that the options ask for."""
    return args.dataset or ("digits" if args.toy else "mnist")


def _words(argv):
    """Return the command, and not where its files lie, which is no protocol."""
    kept, before = ["python", f"benchmarks/{Path(argv[0]).name}"], ""
    for word in argv[1:]:
        name, equals, _ = word.partition("=")
        if before in _NEEDED:
            kept.append("FOLDER")
        elif name in _NEEDED:
            kept += [name, "FOLDER"] if equals else [name]
        elif before not in _FOLDERS and name not in _FOLDERS:
            kept.append(word)
        before = word
    return kept


def _git(*words):
    done = subprocess.run(
        ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
