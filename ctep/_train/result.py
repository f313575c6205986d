"""What `fit` returns."""

import dataclasses
from pathlib import Path

from .._network import AbstractNetwork
from .._nudge import AbstractNudge
from .history import table


@dataclasses.dataclass(frozen=True)
class Result:
    """A trained network and the record of its training.

    Fields:
        network: after the last good epoch.
        nudge: likewise, with what it owns trained.
        history: one plain record per epoch, see `ctep.fit`.
        status: "completed", "interrupted" or "diverged".
        reason: one sentence on why the run stopped early, else "".
        seconds: of all epochs together.
        out: folder of the run, if there is one.
        signal: number of the signal that interrupted the run, if one did.
    """

    network: AbstractNetwork
    nudge: AbstractNudge
    history: list[dict]
    status: str
    reason: str
    seconds: float
    out: Path | None
    signal: int | None = None

    def __str__(self):
        lines = [table(self.history)] if self.history else ["no epoch was finished"]
        if self.history:
            lines += ["", *_evidence(self.history), *_faults(self.history)]
        lines.append(f"{self.status} in {self.seconds:.1f} s. {self.reason}".rstrip())
        if self.out is not None:
            lines.append(f"Checkpoints and history are in {self.out}.")
        return "\n".join(lines)


def _evidence(history):
    whole = [record for record in history if record["loss"] is not None]
    if not whole:
        return
    last = whole[-1]
    known = [r for r in history if r.get("test_accuracy") is not None]
    if known:
        best = max(known, key=lambda r: r["test_accuracy"])
        yield (
            f"Test accuracy: {100 * last['test_accuracy']:.2f} % at the final epoch, "
            f"{100 * best['test_accuracy']:.2f} % at the best (epoch {best['epoch']})."
        )
    if last.get("validation_accuracy") is not None:
        yield f"Validation accuracy: {100 * last['validation_accuracy']:.2f} %."
    unsettled = last["unsettled"]
    rest = "every example came to rest" if unsettled == 0 else (
        f"{100 * unsettled:.2f} % of the examples did not come to rest"
    )  # fmt: skip
    cosine = last["gradient_cosine"]
    text = "" if cosine is None else f"; cosine with the exact gradient {cosine:.4f}"
    yield f"Evidence at the final epoch: {rest}{text}."


def _faults(history):
    """Yield each kind of fault once per layer, as it was seen first."""
    found = {}
    for record in history:
        for fault in record.get("faults", ()):
            found.setdefault((fault["kind"], fault["layer"]), []).append(fault["text"])
    for (kind, _), texts in found.items():
        times = "" if len(texts) == 1 else f" (and in {len(texts) - 1} more epochs)"
        yield f"Fault, {kind}{times}: {texts[0]}"
