"""Bad input, generated: what answers it, and in how many words.

A valid call of everything public, of the command line, on a run's folder or on data
gets one or two arguments replaced. What comes must be one line of a documented
exception, raised by the package itself and not from inside a library, that names an
argument or a file, within seconds; from the command line one line and exit code 2.
Values that turn out to be legal are counted apart.
"""

import collections
import contextlib
import functools
import io
import itertools
import os
import random
import re
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # what is legal runs once

import hypothesis
import jax
from _bad_calls import cells, targets
from _bad_files import command, corrupted, prepare, process
from _report import options, report

import ctep

PACKAGE = Path(ctep.__file__).parent
LIMIT = 20  # seconds
# Of 2000 cases.
SHARES = {
    "constructors": 430, "builders": 270, "nudges and schedules": 170, "rules": 170,
    "solvers": 110, "pipelines": 90, "ctep.gradient": 150, "ctep.fit": 130,
    "analysis": 150, "datasets": 100, "command line": 100, "processes": 20,
    "files of a run": 110,
}  # fmt: skip


class TooSlow(BaseException):
    """No part of the package catches it."""


def stop(number, frame):
    raise TooSlow


def words(value):
    """Return a value as code, in short."""
    kind = type(value)
    if (
        not isinstance(value, type)
        and hasattr(value, "shape")
        and hasattr(value, "dtype")
    ):
        text = f"<{kind.__name__} {value.dtype}{list(value.shape)}: {value!s:.40}>"
    else:
        text = repr(value)
    text = " ".join(text.split())
    return text if len(text) < 90 else f"{text[:80]}...>"


def complaint(error):
    """Return what is wrong with an answer, `None` if nothing."""
    text, frames = str(error), traceback.extract_tb(error.__traceback__)
    where = Path(frames[-1].filename)
    if not isinstance(error, ValueError | TypeError | OSError | RuntimeError):
        return f"{type(error).__name__} is not documented: {text:.150}"
    if PACKAGE not in where.parents:
        inner = [f for f in frames if PACKAGE in Path(f.filename).parents]
        at = f"{Path(inner[-1].filename).name}:{inner[-1].lineno}" if inner else "?"
        return f"{type(error).__name__} from {where.name} by {at}: {text:.150}"
    at = f"{where.name}:{frames[-1].lineno}"
    if "\n" in text.strip() or len(text) >= 600:
        return f"{type(error).__name__} of {len(text)} letters at {at}: {text:.150}"
    if not re.search(r"`|/", text):
        return f"{type(error).__name__} names nothing at {at}: {text:.150}"
    return None


def judged(call):
    """Return "accepted", "refused" or a complaint, and the seconds it took.

    Args:
        call: that raises, or returns a verdict or nothing.
    """
    begin = time.monotonic()
    signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            verdict = call() or "accepted"
    except TooSlow:
        verdict = f"slower than {LIMIT} s"
    except Exception as error:
        verdict = complaint(error) or "refused"
    finally:
        signal.alarm(0)
    return verdict, time.monotonic() - begin


def spoil(case):
    target, spoilt = case
    out = target.function(**{**target.wanted, **spoilt})
    if target.use is not None:
        target.use(out)


def shown(case):
    target, spoilt = case
    arguments = ", ".join(f"{name}={words(value)}" for name, value in spoilt.items())
    return f"{target.name}({arguments})"


def drawn(strategy, count, seed):
    """Return draws of a strategy, the same ones for a seed."""
    out = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count, phases=[hypothesis.Phase.generate], database=None,
        deadline=None, suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    @hypothesis.given(strategy)
    def collect(value):
        out.append(value)

    collect()
    return out


def mixed(targets, count, seed):
    """Yield spoilt calls, in which each argument of each target has its turn."""
    known, generator = cells(targets), random.Random(seed)
    generator.shuffle(known)
    for n, (target, name, values) in enumerate(known):
        others = [(o, v) for t, o, v in known if t is target and o != name]
        each = max(1, count // len(known))
        # The first draws are the simplest, and alike everywhere.
        for value in generator.sample(drawn(values, 3 * each + 9, seed + n), each):
            spoilt = {name: value}
            if others and generator.random() < 0.25:
                other, more = generator.choice(others)
                spoilt[other] = drawn(more, 9, generator.getrandbits(32))[-1]
            yield target, spoilt


def families(run):
    """Return per family what draws cases, what runs one and what shows it.

    Args:
        run: folder of a finished run.
    """
    found = {
        name: (functools.partial(mixed, group), spoil, shown)
        for name, group in targets().items()
    }
    for name, others in (("command line", command), ("processes", process),
                         ("files of a run", corrupted)):  # fmt: skip
        strategy, *rest = others(run)
        found[name] = (functools.partial(drawn, strategy), *rest)
    return found


def tried(family, wanted, seed):
    """Return rows (verdict, seconds, case) until enough of them were not accepted."""
    draw, execute, show = family
    turns = (draw(wanted, seed + 10**6 * turn) for turn in range(50))
    rows, seen, bad = [], set(), 0
    for case in itertools.chain.from_iterable(turns):
        text = show(case)
        if text not in seen:
            seen.add(text)
            verdict, seconds = judged(lambda case=case: execute(case))
            rows.append((verdict, seconds, text))
            bad += verdict != "accepted"
        if bad == wanted:
            break
    return rows


def measure(cases, seed):
    """Return the rows of each family of which cases are wanted, a number by name."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        known = families(prepare(Path(folder)))
        for name, wanted in cases.items():
            found[name] = tried(known[name], wanted, seed)
            print(line(name, found[name]), flush=True)
    return found


def count(rows):
    """Return how many rows were accepted, refused or failed."""
    return collections.Counter(
        v if v in ("accepted", "refused") else "failed" for v, *_ in rows
    )


def line(name, rows):
    counts = count(rows)
    slowest = max((s for _, s, _ in rows), default=0.0)
    return (
        f"  {name:<22} {len(rows) - counts['accepted']:>5} {counts['refused']:>8} "
        f"{counts['accepted']:>9} {counts['failed']:>7} {slowest:>8.1f} s"
    )


def faults(found):
    """Return each distinct complaint with its shortest case, and how often it came."""
    kinds = collections.defaultdict(list)
    for rows in found.values():
        for verdict, _, text in rows:
            if verdict not in ("accepted", "refused"):
                kinds[re.sub(r": .*", "", verdict)].append((len(text), text, verdict))
    return [(*min(cases)[1:], len(cases)) for cases in kinds.values()]


def main():
    parser = options(__doc__)
    parser.add_argument("--cases", type=int, help="2000 by default, 60 for a toy")
    parser.add_argument("--family", action="append", choices=SHARES)
    args = parser.parse_args()
    args.dataset = "none: generated"
    jax.config.update(
        "jax_traceback_filtering", "off"
    )  # the last frame is the true one
    cases = args.cases or (60 if args.toy else 2000)
    shares = {
        name: max(1, round(cases * share / sum(SHARES.values())))
        for name, share in SHARES.items()
        if args.family is None or name in args.family
    }
    print(f"  {'family':<22} cases  refused  accepted  failed   slowest")
    found = measure(shares, args.seed)
    everything = [row for rows in found.values() for row in rows]
    print(line("all", everything))
    kinds = faults(found)
    for case, verdict, times in sorted(kinds, key=lambda kind: -kind[-1]):
        print(f"  FAULT ({times}): {case}\n    {verdict}")
    counts = count(everything)
    bad = len(everything) - counts["accepted"]
    slowest = max(seconds for _, seconds, _ in everything)
    text = (
        f"{bad} bad inputs: {counts['refused']} answered by one line of the package's "
        f"own, {counts['failed']} otherwise, slowest {slowest:.1f} s; "
        f"{counts['accepted']} more were legal"
    )
    details = {
        "families": {
            name: {**count(rows), "slowest_seconds": max(s for _, s, _ in rows)}
            for name, rows in found.items()
        },
        "faults": kinds,
    }
    report("bad-input", text, args, value=[counts["refused"], bad], details=details)
    sys.exit(counts["failed"] > 0)


if __name__ == "__main__":
    main()
