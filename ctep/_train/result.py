"""What `fit` returns."""

import dataclasses
from pathlib import Path

from .._html import as_html
from .._network import AbstractNetwork
from .._nudge import AbstractNudge
from .._text import counted
from .store.history import JUDGED, History, best, is_known, rows, table


@dataclasses.dataclass(frozen=True)
class Result:
    """A trained network and the record of its training.

    Fields:
        network: the network after the last good epoch; with the average of its
            weights, where `ctep.fit` kept one.
        nudge: the nudge after the last good epoch, with what it owns trained, likewise.
        history: one plain record per epoch, see `ctep.fit`.
        status: "completed", "interrupted" or "diverged".
        reason: one sentence on why the run stopped early, else "".
        seconds: how long all epochs took together.
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

    def __post_init__(self):
        object.__setattr__(self, "history", History(self.history))

    def __str__(self):
        first = table(self.history) if self.history else "no epoch was finished"
        return "\n".join([first, *([""] if self.history else []), *self._words()])

    def _repr_html_(self):
        first = rows(self.history) if self.history else "no epoch was finished"
        return as_html([first, *self._words()], left=0)

    def _words(self):
        """Yield the evidence, the faults, and how the run ended."""
        if self.history:
            yield from _evidence(self.history)
            yield from _faults(self.history)
        yield f"{self.status} in {self.seconds:.1f} s. {self.reason}".rstrip()
        if self.out is not None:
            yield f"Checkpoints and history are in {self.out}."


def _evidence(history):
    # The last record of a run that broke holds nothing but its fault.
    whole = [r for r in history if r["unsettled"] is not None]
    if not whole:
        return
    # The first that is known decides which epoch is marked in the table.
    names = [n for n in JUDGED if any(is_known(r, n) for r in whole)]
    for name in names[::-1]:
        known = [r for r in whole if is_known(r, name)]
        split, figure = name.split("_")
        title = f"{split.capitalize()} {figure.replace('r2', 'R2')}"
        top = max(known, key=lambda r: r[name])
        mark = ", marked *" if name == names[0] else ""
        yield (
            f"{title}: {_figure(known[-1], name)} at the final epoch, "
            f"{_figure(top, name)} at the best (epoch {top['epoch']}{mark})."
        )
    if not names and (star := best(whole)) is not None:
        yield f"The smallest loss is that of epoch {star}, marked *."
    yield from _rest(whole)
    yield from _exactness(whole)


def _figure(record, name):
    value = record[name]
    return f"{100 * value:.2f} %" if name.endswith("accuracy") else f"{value:.4f}"


def _rest(records):
    """Yield how many examples came to rest, in the worst epoch."""
    worst = max(records, key=lambda r: r["unsettled"])
    if worst["unsettled"] == 0:
        text = "every example came to rest, in every epoch"
        # Runs that began with 0.1.0 have records without this name.
        if any(r.get("as_published") for r in records):
            text = "no phase failed"
    else:
        text = (
            f"{100 * worst['unsettled']:.3g} % of the examples did not come to rest "
            f"in epoch {worst['epoch']}, the worst, and took no part"
        )
    yield f"Rest: {text}."
    short = max(records, key=lambda r: r.get("as_published") or 0)
    if short.get("as_published"):
        yield (
            f"As published: {100 * short['as_published']:.3g} % of the examples took "
            f"part short of rest in epoch {short['epoch']}, the most. The cosine says "
            "what that costs."
        )


def _exactness(records):
    """Yield the cosine with the exact gradient, in the worst epoch and the last."""
    known = [r for r in records if r["gradient_cosine"] is not None]
    if known:
        worst, last = min(known, key=lambda r: r["gradient_cosine"]), known[-1]
        yield (
            f"Cosine with the exact gradient: {worst['gradient_cosine']:.4f} in epoch "
            f"{worst['epoch']}, the worst; {last['gradient_cosine']:.4f} at the end."
        )
    missing = [r for r in records if r.get("gradient_cosine_missing")]
    if missing:
        epochs = ", ".join(str(r["epoch"]) for r in missing[:5])
        more = "" if len(missing) <= 5 else f" and {len(missing) - 5} more"
        reason = missing[-1]["gradient_cosine_missing"]
        yield f"No cosine in epoch {epochs}{more}: {reason}."


def _faults(history):
    """Yield each kind of fault once per layer, as it was seen first."""
    found = {}
    for record in history:
        for fault in record.get("faults", ()):
            found.setdefault((fault["kind"], fault["layer"]), []).append(fault["text"])
    for (kind, _), texts in found.items():
        more = counted(len(texts) - 1, "more epoch")
        times = "" if len(texts) == 1 else f" (and in {more})"
        yield f"Fault, {kind}{times}: {texts[0]}"
