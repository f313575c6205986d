"""The epochs of a run."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from .._network import AbstractNetwork, EnergyNetwork
from .._text import counted
from .._weights.resolution import resolve
from .devices import hosts
from .devices.feed import AbstractFeed, Unreadable
from .loop import Loop, Sums
from .progress import Reporter
from .result import Result
from .score import as_inputs, determination
from .signals import Interruption
from .store.history import KEYS
from .store.run import Position, Run
from .watch import Watch, failed, not_finite, not_finite_states

# Between chunks progress is shown and signals are served; nothing is computed then.
_CHUNK_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Job:
    """What does not change while a run trains.

    Fields:
        loop: the compiled functions.
        run: where positions and records are kept.
        splits: the data: "train", and perhaps "validation" and "test".
        probe: examples and labels, perhaps none.
        epochs: number of epochs of the whole run.
        watch: what counts as a fault.
        exact: whether the rule is to give the exact gradient.
        told: what is trained, in a sentence.
        callback: a function of an epoch's record and the network after it, or None.
    """

    loop: Loop
    run: Run
    splits: dict[str, AbstractFeed]
    probe: tuple[np.ndarray, np.ndarray]
    epochs: int
    watch: Watch
    exact: bool
    told: str
    callback: Callable[[dict, AbstractNetwork], Any] | None = None


def train(job: Job, position: Position, progress: bool | str) -> Result:
    """Train from `position` to the last epoch, a signal, a failure or a fault."""
    # `good` stays behind: an epoch whose fault ends the run is not returned.
    batches, good = job.splits["train"].order.batches, position
    done = position.epoch * batches + position.batch
    show = progress if hosts.first() else False
    reporter = Reporter(job.epochs, batches, done, show)
    with Interruption() as interruption, reporter:
        stopped = job.watch.exhausted(position.history)
        if position.epoch < job.epochs and not stopped:
            reporter.say(job.told)
        else:
            done = counted(position.epoch, "epoch")
            reporter.say(f"The run was complete, after {done}: nothing is left to do.")
        while position.epoch < job.epochs and not stopped:
            position, failure = _epoch(job, position, interruption, reporter)
            if not bool(position.state.sums.finite):
                # No checkpoint, here and after any last fault: the newest stays good.
                where = position.epoch + 1, position.batch + 1
                fault = not_finite(*where, _has_energy(job))
                history = [*position.history, _broken(job, position, fault)]
                job.run.record(history[-1])
                good = dataclasses.replace(good, seconds=0.0, history=history)
                return _result(job, good, "diverged", fault["text"], None)
            record = None
            if position.batch == batches and not failure:
                try:
                    record = _record(job, position)
                except Exception as error:
                    failure = _failure(error)
            # With all batches done, too: then a resumed run only has to evaluate.
            if record is None:
                job.run.save(position)
                reason = f"{failure} {_where(job, position)}".lstrip()
                return _result(
                    job, position, "interrupted", reason, interruption.signal
                )
            position = Position(
                _anew(job, position.state),
                position.epoch + 1,
                0,
                0.0,
                [*position.history, record],
            )
            # Before the checkpoint: to resume drops the lines beyond the newest one.
            job.run.record(record)
            reporter.epoch(record)
            if reason := job.watch.ends(record["faults"]):
                # The new record has the seconds of its whole epoch, so `good` must add
                # none that it had when it was restored within it.
                good = dataclasses.replace(
                    good, batch=0, seconds=0.0, history=position.history
                )
                return _result(job, good, "diverged", reason, None)
            good = position
            job.run.save(position)
            stopped = job.watch.exhausted(position.history) or _called(job, position)
    return _result(job, good, "completed", stopped, None)


def _epoch(job, position, interruption, reporter):
    """Do the rest of an epoch, in chunks, up to a signal, a NaN or a failure."""
    feed, state, batch = job.splits["train"], position.state, position.batch
    batches, epoch, failure = feed.order.batches, position.epoch, ""
    begin, chunk = time.monotonic() - position.seconds, 1
    try:
        blocks = feed.blocks(epoch, batch)
        block, found = None, range(batch, batch)
        while batch < batches:
            if batch == found.stop:
                block, found = next(blocks)
            stop = min(found.stop, batch + chunk)
            # Each process has its own clock, and chunks of different lengths would
            # wait for each other for ever.
            stop, interruption.signal = hosts.agree(stop, interruption.signal)
            if interruption.signal is not None:
                break
            start = time.monotonic()
            # Places in the block, and as arrays: a number would be compiled in.
            first, last = np.array([batch, stop]) - found.start
            after = job.loop.train(state, block, first, last, np.array(epoch))
            if stop == found.stop < batches:
                block, found = next(blocks)  # while the devices are busy
            finite = bool(after.sums.finite)  # waits for the chunk
            took = max(time.monotonic() - start, 1e-6)
            # The first chunk was mostly compilation: it says little about the next.
            chunk = max(
                1, min(4 * chunk, round((stop - batch) * _CHUNK_SECONDS / took))
            )
            state, batch = after, stop
            reporter.batch(epoch + 1, epoch * batches + batch)
            if not finite:
                break
    except Exception as error:
        failure = _failure(error)
        if interruption.signal is not None:  # which may have reached readers first
            failure = ""
    seconds = time.monotonic() - begin
    return Position(state, epoch, batch, seconds, position.history), failure


def _called(job, position):
    """Call the user's function, and return why the run is to stop, or ""."""
    if job.callback is None:
        return ""
    # After the checkpoint, so that an error of the function costs nothing.
    network, _ = job.loop.returned(job.loop.place.whole(position.state))
    record = dict(position.history[-1])
    wants = job.callback(record, job.loop.rule.subject(network)) is True
    _, wants = hosts.agree(0, 1 if wants else None)
    return f"`callback` ended it after epoch {position.epoch}." if wants else ""


def _failure(error):
    """Return a sentence on an error of the world outside, or raise another again."""
    if isinstance(error, Unreadable):
        return str(error)
    if hosts.lost(error):
        return hosts.LOST
    raise error


def _record(job, position):
    """Return the record of the epoch that `position` has just finished."""
    start, sums = time.monotonic(), position.state.sums
    count = float(sums.count)
    part = count - float(sums.unsettled)
    record = {
        "epoch": position.epoch + 1,
        "loss": float(sums.loss) / part if part else None,
        "train_accuracy": None,
        "test_accuracy": None,
        "sweeps": float(sums.sweeps) / count,
        "unsettled": float(sums.unsettled) / count,
        "residual": float(sums.residual),
        "gradient_cosine": None,
        "seconds": 0.0,
        "as_published": float(sums.published) / count,
        "gradient_cosine_missing": "",
    }
    seen = {
        "states": (np.asarray(sums.states) / count).tolist(),
        "saturated": [],
        "majority": float(np.max(sums.labels)) / count,
        "examples": count,
        "rise": None,
        "exact": job.exact,
        "energy": _has_energy(job),
        "phases": "",
    }
    share, figure = float(sums.right) / count, "accuracy"
    if not job.loop.classes:
        figure = "r2"
        share = determination(share, job.splits["train"].variance)
    record[f"train_{figure}"] = share
    for name in ("test", "validation"):
        if name in job.splits:
            score = job.loop.score(position.state, job.splits[name])
            record[f"{name}_{figure}"] = getattr(score, figure)
    if len(job.probe[1]):
        # On one device: a few examples are not worth dividing.
        state, epoch = job.loop.place.whole(position.state), np.array(position.epoch)
        probed = job.loop.probe(state, *job.probe, epoch)
        record |= _cosine(probed, len(job.probe[1]))
        seen["saturated"] = np.asarray(probed["saturated"]).tolist()
        seen["rise"] = None if probed["rise"] is None else float(probed["rise"])
        if job.watch.misses(record["unsettled"]):
            # One more program, which runs that settle never compile.
            seen["phases"] = _phases(job, state, int(probed["used"]))
    record["faults"] = job.watch.faults(record, seen)
    record["seconds"] = position.seconds + time.monotonic() - start
    return record


def _cosine(probed, examples):
    """Return the cosine of a probe, or why it is evidence of nothing."""
    used, unsolved = int(probed["used"]), int(probed["unsolved"])
    cosine, reason = float(probed["cosine"]), ""
    if not used:
        reason = f"none of the {examples} probe examples came to rest"
    elif unsolved:
        reason = (
            f"the exact gradient was not found for {unsolved} of {used} probe "
            "examples: the linear problem at their rest did not converge"
        )
    elif not math.isfinite(cosine):
        reason = "a gradient that vanishes or is not finite has no direction"
    return {
        "gradient_cosine": None if reason else cosine,
        "gradient_cosine_missing": reason,
    }


def _phases(job, state, used):
    """Return which phase fails on the probe batch, of which `used` examples rest."""
    network = resolve(job.loop.rule.subject(job.loop.model(state)[0]))
    x = as_inputs(job.loop.pipeline, jnp.asarray(job.probe[0]), network)
    return failed(_free(network, job.loop.solver, x), used)


@eqx.filter_jit
def _free(network, solver, x):
    rest = solver.solve(network.free(x), network.zeros(x), zeros=True, throw=False)
    return rest.result


def _has_energy(job):
    return isinstance(job.loop.static[0], EnergyNetwork)


def _broken(job, position, fault):
    """Return the record of an epoch of which no figure is left."""
    epoch, sums = position.epoch + 1, position.state.sums
    shares = (np.asarray(sums.states) / float(sums.count)).tolist()
    known = {"epoch": epoch, "seconds": position.seconds}
    known["faults"] = [fault, *not_finite_states(epoch, shares, _has_energy(job))]
    return {**dict.fromkeys(KEYS), **known}


def _anew(job, state):
    """Return the state at the begin of the next epoch."""
    sums = Sums.zero(len(state.sums.states), len(state.sums.labels))
    return job.loop.place.put(eqx.tree_at(lambda s: s.sums, state, sums))


def _result(job, position, status, reason, signal):
    try:
        network, nudge = job.loop.returned(job.loop.place.whole(position.state))
    except Exception as error:
        raise RuntimeError(_failure(error)) from error
    seconds = sum(record["seconds"] for record in position.history)
    return Result(
        job.loop.rule.subject(network),
        nudge,
        position.history,
        status,
        reason,
        seconds + position.seconds,
        job.run.folder,
        signal,
    )


def _where(job, position):
    where = f"Stopped after epoch {position.epoch}"
    if position.batch:
        batches = job.splits["train"].order.batches
        where += f" and batch {position.batch} of {batches}"
    if job.run.folder is None:
        return f"{where}; without `out` there is nothing to resume from."
    return f"{where}; continue with `resume=True` and the same `out`."
