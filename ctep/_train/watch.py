"""What can go wrong with a network that trains, by name."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from .. import _checks as checks
from .._custom_types import Number, State
from .._network import AbstractNetwork, Network
from .._solver import RESULTS, AbstractSolver, FixedSweeps, Sweeps, usable
from .._solver.descent import descent
from .._text import counted
from .store.history import best

KINDS = ("non-finite loss", "non-finite state", "unsettled", "saturated", "chance")
KINDS += ("rising energy", "cosine")
_FLAT = 1e-3  # of the largest slope: a unit that passes nothing on
_SWEEPS = 10

# What to try where examples do not settle, by what `failed` says: of a network of
# layers, and of an `EnergyNetwork`.
_NUDGED = (
    "most of them rest in the free phase and not in the nudged one, so make the nudge "
    "(`beta` or `radius`) smaller"
)
_GROWS = "most of their states grow without bound: "
_UNSETTLED = (
    {
        "": "raise `max_sweeps`, weaken the feedback or lower the learning rate",
        "free": "raise `max_sweeps`, weaken the feedback or lower the learning rate",
        "nudged": f"{_NUDGED}, raise `max_sweeps` or weaken the feedback",
        "grows": f"{_GROWS}weaken the feedback, lower the learning rate, or use an "
        "activation with a bounded range",
    },
    {
        "": "raise `max_sweeps`, or lower `step` or the learning rate",
        "free": "raise `max_sweeps`, or lower `step` or the learning rate",
        "nudged": f"{_NUDGED}, lower `step` or raise `max_sweeps`",
        "grows": f"{_GROWS}the energy has no lower bound, or `step` is too large for "
        "its curvature",
    },
)


@dataclasses.dataclass(frozen=True)
class Watch:
    r"""What counts as a fault of a run, and which faults end it.

    Faults are found once per epoch, named in its record and in the report with the
    layer and what to try. They are, by `kind`:

    - "non-finite loss": the loss or a weight became NaN or infinite; ends every run.
    - "non-finite state": a layer did, for some examples. These take no part in the
      update.
    - "unsettled": a larger fraction of the examples than `unsettled` had a phase that
      did not come to rest. These take no part either.
    - "saturated": more than the fraction `saturated` of a layer's units, over the probe
      batch, pass on less than a thousandth of a change of their drive, $\sigma'(h) <
      10^{-3} \max \sigma'$.
    - "chance": after `chance` epochs the training accuracy is within three standard
      errors of naming the most frequent class, or R2 is not above 0.
    - "rising energy": a sweep of the free phase, on the probe batch, raised the energy
      of an example by more than the fraction `rise` of the range it went through.
    - "cosine": the gradient's cosine with the exact one, on the probe batch, fell below
      `cosine`, though rule and network promise the exact gradient (with an energy, for
      small nudges).

    ```python
    import ctep, jax

    watch = ctep.Watch(unsettled=0.2, stop=("unsettled",))
    network = ctep.mlp((64, 32, 10), key=jax.random.key(0))
    result = ctep.fit(network, "digits", epochs=1, watch=watch, progress=False)
    print(result.history[-1]["faults"])  # []
    ```

    Args:
        unsettled: fraction of the examples. Where all fail the run ends in any case.
        saturated: fraction of a layer's units.
        chance: number of epochs; 0 never looks.
        rise: fraction of the range of an example's energy.
        stop: kinds that end the run; the others are only told.
        cosine: smallest cosine that is no fault, from -1, which is never missed, to 1.
        patience: number of epochs without a better validation accuracy (or R2) after
            which a run is complete; `None` trains all epochs. `ctep.restore` returns
            the best epoch with `best=True`.

    Raises:
        TypeError: if an argument is not of its kind.
        ValueError: if an argument is out of range.
    """

    unsettled: Number = 0.5
    saturated: Number = 0.99
    chance: Number = 5
    rise: Number = 1e-3
    stop: Sequence[str] = ("unsettled",)
    cosine: Number = 0.9
    patience: Number | None = None

    def __post_init__(self):
        checks.plain(self)
        for name in ("unsettled", "saturated"):
            value = getattr(self, name)
            checks.real(name, value, "0.5")
            if not 0 <= value <= 1:
                raise ValueError(
                    f"`{name}` is {value}, but a fraction lies in 0 to 1: pass for "
                    "example 0.5."
                )
        checks.integer("chance", self.chance, "5")
        if self.chance < 0:
            raise ValueError(
                f"`chance` is {self.chance}, but epochs are counted from 1: pass 5, or "
                "0 never to look."
            )
        checks.positive("rise", self.rise, "1e-3")
        checks.real("cosine", self.cosine, "0.9")
        if not -1 <= self.cosine <= 1:
            raise ValueError(
                f"`cosine` is {self.cosine}, but a cosine lies in -1 to 1: pass for "
                "example 0.9."
            )
        if self.patience is not None:
            checks.count("patience", self.patience, "5")
        kinds = [self.stop] if isinstance(self.stop, str) else self.stop
        checks.instance("stop", kinds, list | tuple, "a list of kinds", '["unsettled"]')
        for kind in kinds:
            if kind not in KINDS:
                raise ValueError(
                    f"`stop` holds {kind!r}, but must name kinds of faults: choose "
                    f"among {', '.join(KINDS)}."
                )
        object.__setattr__(self, "stop", tuple(kinds))

    def faults(self, record: dict[str, Any], seen: dict[str, Any]) -> list[dict]:
        """Return the faults of an epoch, each with `kind`, `layer`, `value` and `text`.

        Args:
            record: what `history` keeps of the epoch.
            seen: what else is known of it: `states`, `saturated` (fractions, one per
                layer), `majority` (share of the most frequent class), `examples`,
                `rise`, `exact` (whether the rule is to give the exact gradient),
                `energy` (whether the network is an `EnergyNetwork`), `phases` (what
                `failed` says of the probe batch, "" if it was not asked).
        """
        epoch = record["epoch"]
        found = not_finite_states(epoch, seen["states"], seen["energy"])

        def add(kind, value, text, layer=None):
            found.append(_fault(kind, epoch, layer, value, text))

        share = record["unsettled"]
        if self.misses(share):
            remedy = _UNSETTLED[seen["energy"]][seen["phases"]]
            add(
                "unsettled", share,
                f"{_percent(share)} of the examples did not come to rest (limit: "
                f"`Watch(unsettled={self.unsettled:g})`): {remedy}.",
            )  # fmt: skip
        for layer, share in enumerate(seen["saturated"], 1):
            if share > self.saturated:
                add(
                    "saturated", share,
                    f"passes nothing on in {_percent(share)} of its units: lower the "
                    "learning rate, draw smaller weights, or normalise the inputs.",
                    layer,
                )  # fmt: skip
        chance, accuracy = seen["majority"], record["train_accuracy"]
        advice = "look at `gradient_cosine`, and try another learning rate."
        late, explained = 0 < self.chance <= epoch, record.get("train_r2")
        if late and accuracy is not None and 0 <= chance < 1:
            error = math.sqrt(chance * (1 - chance) / seen["examples"])
            if accuracy <= chance + 3 * error:
                add(
                    "chance", accuracy,
                    f"the training accuracy is {_percent(accuracy)}, that of naming "
                    f"the most frequent class ({_percent(chance)}): check the targets, "
                    f"{advice}",
                )  # fmt: skip
        if late and explained is not None and explained <= 0:
            add(
                "chance", explained,
                f"the training R2 is {explained:.3f}, no better than the mean of the "
                f"targets: standardise these, {advice}",
            )  # fmt: skip
        if seen["rise"] is not None and seen["rise"] > self.rise:
            add(
                "rising energy", seen["rise"],
                f"a sweep raised the energy by {seen['rise']:.1e} of its range: use "
                "`order=Forward()`, `relaxation=1.0`, or a smaller `step` of an "
                "`EnergyNetwork`.",
            )  # fmt: skip
        cosine = record["gradient_cosine"]
        if seen["exact"] and cosine is not None and cosine < self.cosine:
            add(
                "cosine", cosine,
                f"the cosine with the exact gradient is {cosine:.3f} on the probe "
                f"batch (`cosine` is {self.cosine:g}): make `beta` smaller, tighten "
                "`rtol` and `atol`, or lower the learning rate.",
            )  # fmt: skip
        return found

    def misses(self, unsettled: float) -> bool:
        """Return whether so large a fraction of unsettled examples is a fault."""
        return bool(unsettled > self.unsettled or unsettled == 1)

    def exhausted(self, history: list[dict]) -> str:
        """Return why a run needs no more epochs, or ""."""
        last = best(history)
        if self.patience is None or last is None:
            return ""
        if history[-1]["epoch"] - last < self.patience:
            return ""
        return (
            "The validation has not become better for "
            f"{counted(self.patience, 'epoch')}: epoch {last} was the best."
        )

    def ends(self, faults: list[dict]) -> str:
        """Return the text of the first fault that ends a run, or ""."""
        nothing = [f for f in faults if f["kind"] == "unsettled" and f["value"] == 1]
        told = [f for f in faults if f["kind"] in self.stop] or nothing
        return told[0]["text"] if told else ""


def failed(free: RESULTS, nudged: int) -> str:
    """Return which phase leaves most of the unsettled ones of some examples unsettled.

    Args:
        free: how the free phase of each ended.
        nudged: number of those of which every phase did come to rest.

    Returns:
        "nudged", "free", or of the latter "grows" where states left all bounds; "" if
        all did come to rest.
    """
    rests, wild = usable(free), free == RESULTS.diverged
    wild |= free == RESULTS.not_finite
    left = rests.size - int(jnp.sum(rests))
    if nudged == rests.size:
        return ""
    if rests.size - left - nudged > left:
        return "nudged"
    return "grows" if 2 * int(jnp.sum(wild)) > left else "free"


def not_finite_states(epoch: int, shares: list[float], energy: bool) -> list[dict]:
    """Return a fault per layer that was not finite for a share of the examples."""
    text = "became NaN or infinite for {} of the examples: " + (
        "bound the energy from below, take a smaller `step`, or scale the inputs."
        if energy
        else "weaken the feedback, scale the inputs, or use an activation with a "
        "bounded range."
    )
    return [
        _fault("non-finite state", epoch, layer, share, text.format(_percent(share)))
        for layer, share in enumerate(shares, 1)
        if share > 0
    ]


def not_finite(epoch: int, batch: int, energy: bool) -> dict:
    """Return the fault of a loss that is not finite."""
    remedy = (
        "take a smaller `step`, or bound the energy from below"
        if energy
        else "weaken the feedback, or use an activation with a bounded range"
    )
    text = (
        f"The loss or a weight became NaN or infinite in epoch {epoch} before batch "
        f"{batch}: lower the learning rate, {remedy}."
    )
    return {"kind": "non-finite loss", "layer": None, "value": batch, "text": text}


def _fault(kind, epoch, layer, value, text):
    where = "" if layer is None else f" layer {layer}"
    text = f"In epoch {epoch}{where} {text}"
    return {"kind": kind, "layer": layer, "value": value, "text": text}


def _percent(share):
    return f"{100 * share:.1f} %"


def saturated(network: AbstractNetwork, x: Array, state: State) -> Float[Array, " n"]:
    """Return per layer the fraction of units that pass nothing on, none if unknown."""
    if not isinstance(network, Network):
        return jnp.zeros(0)
    problem, found = network.free(x), []
    memory = problem.recall(state)
    for n, layer in enumerate(network.layers):
        # For the drive of this very state; what the layer would become is dropped.
        _, memory = problem.update(n, state, memory)
        slope = jnp.abs(layer.activation.derivative(memory[1][n]))
        steepest = layer.activation.lipschitz
        if math.isinf(steepest):  # nobody knows it: the largest one here
            steepest = jnp.max(slope)
        found.append(layer.means(slope < _FLAT * steepest))
    return jnp.concatenate(found)


def rise(
    network: AbstractNetwork, x: Array, solver: AbstractSolver
) -> Float[Array, ""] | None:
    """Return the largest rise of an energy in a sweep, as a fraction of its range.

    It is that of the first sweeps of a free phase; `None` without an energy or sweeps.
    """
    solver = solver.of(network.free(x))
    if isinstance(solver, FixedSweeps):
        solver = solver.sweeps(solver.free)
    if not (network.has_energy and isinstance(solver, Sweeps)):
        return None
    # A layer weighs one over its attenuation, which the dtype may be unable to hold.
    if min(network.attenuation) < jnp.finfo(x.dtype).tiny / jnp.finfo(x.dtype).eps:
        return None
    # Without tolerances, within which a sweep moves nothing and no energy could rise.
    sweep = dataclasses.replace(solver, max_sweeps=1, rtol=0.0, atol=0.0)
    problem, state = network.free(x), network.zeros(x)
    steps = min(_SWEEPS, solver.max_sweeps)
    trace = descent(lambda s: network.energies(s, x), problem, state, sweep, steps)
    # An energy that stands still has no range, and 0 / 0 would pass for a rise.
    span = jnp.maximum(jnp.max(trace, 0) - jnp.min(trace, 0), jnp.finfo(x.dtype).tiny)
    # An energy that runs away rises too, by a number that JSON knows.
    large = jnp.finfo(x.dtype).max
    return jnp.max(jnp.nan_to_num(jnp.diff(trace, axis=0) / span, nan=large))
