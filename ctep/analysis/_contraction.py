"""Contraction: bounds under which a nudged network has one rest, reached from all."""

import dataclasses
import math

import jax.numpy as jnp
from jax.typing import ArrayLike

from .. import _checks as checks
from .._concrete import concrete
from .._network import AbstractNetwork
from .._nudge import AbstractNudge
from .._rule import check_batch, check_kinds
from .._weights.resolution import effective
from ._certificate import Bound, certificate, slopes, split
from ._inputs import nudge_at
from ._jacobian_norms import estimated
from ._shown import Shown


@dataclasses.dataclass(frozen=True)
class Contraction(Shown):
    r"""What is known of whether a nudged map contracts.

    Fields:
        beta: the nudge.
        bounds: in every norm that was tried, the proved ones first.
        obstacle: why nothing can be proved of the network or the nudge, or `None`.
    """

    beta: float
    bounds: tuple[Bound, ...]
    obstacle: str | None

    @property
    def proved(self) -> bool:
        """Whether the map is proved to be a contraction."""
        return self.rate < 1

    @property
    def rate(self) -> float:
        """The smallest proved factor by which one step shrinks distances."""
        factors = [b.factor(self.beta) for b in self._certificates()]
        return min(factors, default=math.inf)

    @property
    def largest_beta(self) -> float:
        r"""The $|\beta|$ below which the map is proved to be a contraction."""
        return max((b.largest_beta for b in self._certificates()), default=0.0)

    def _certificates(self):
        return [b for b in self.bounds if b.kind == "proved"]

    def _parts(self):
        rows = [["norm", "kind", "K1", "K2", "kappa K3", "factor", "beta below"]]
        for b in self.bounds:
            values = (b.k1, b.k2, b.k3, b.factor(self.beta), b.largest_beta)
            rows.append([b.norm, b.kind, *(f"{v:.4g}" for v in values)])
        head = f"factor = K1 + |beta| (K2 + kappa K3) at beta = {self.beta:g}"
        return [head, rows, self._verdict()]

    def _verdict(self):
        if self.proved:
            return (
                f"Proved: one rest, which every state approaches by a factor of "
                f"{self.rate:.4g} per step; it stays so below beta = "
                f"{self.largest_beta:.4g}."
            )
        why = f" {self.obstacle}" if self.obstacle else ""
        return f"Not proved.{why} The network may settle all the same."


@concrete
@effective
def contraction(
    network: AbstractNetwork,
    nudge: AbstractNudge | None = None,
    beta: float = 0.1,
    *,
    x: ArrayLike | None = None,
    y: ArrayLike | None = None,
    epoch: int = 0,
    steps: int = 20,
    iterations: int = 30,
) -> Contraction:
    r"""Bound how much one synchronous step of the nudged map shrinks distances.

    If $T$ has the Lipschitz constant $K_1$, the force $-\partial C/\partial s$ of the
    output's error $K_2$ and that of local errors and teachers $K_3$, and

    $$K_1 + |\beta| K_2 + |\beta \kappa| K_3 < 1,$$

    the nudged map is a contraction: it has one rest, reached geometrically from every
    state (Banach). With the blocks' operator norms and the activations' largest slopes
    $\lambda_n$,

    $$\|T_n(s) - T_n(s')\| \le \sum_m M_{nm} \|s_m - s'_m\|, \qquad
    M_{nm} = \lambda_n \sum_{c: m \to n} \|c\| + \lambda_n \sum_{c: n \to m}
    \gamma_c \|c^*\|$$

    The norm $\max_n \|s_n\|/v_n$, or its counterpart of squares, is weighted by the
    Perron vectors of $M$, which makes $K_1$ the spectral radius of $M$. Norms are
    2-norms or infinity-norms (absolute row sums), as `ctep.operator_norm` finds them,
    rounded upwards; the rounding of the network's own arithmetic is not counted.

    Nothing is proved, and a bound is infinite, where feedback returns through a
    maximum (it jumps when the maximum moves) or a softmax pool, and where a user's
    nudge, operator, activation, loss or energy gives no bound. A subclass may compute
    something else than the class that it is made of, so it inherits no bound. It gives
    one in its own body: an activation a `lipschitz`, a loss a `curvature`, a nudge
    `heads`; an operator's is registered with `ctep.operator_norm`. Nothing is proved of
    a subclass of `ctep.Network`.

    Args:
        network: any network that a nudge can move.
        nudge: `OutputError()` by default. Every force is attenuated as the network
            does it. `OutputError` counts as $K_2$, everything else as $K_3$. Targets
            are labels or distributions.
        beta: $\beta$.
        x: inputs, `(batch, *input_shape)`; adds an estimate, the largest 2-norm of the
            Jacobian at the states of a synchronous relaxation from zero.
        y: targets of `x`, as in `ctep.gradient`.
        epoch: for weights of nudges that are scheduled.
        steps: of that relaxation.
        iterations: of the power method for each norm, which it approaches from below.

    Raises:
        TypeError: if an argument is not of its kind.
        ValueError: if only one of `x` and `y` is given, they do not fit, or the nudge
            does not; with them, if the network is neither a `ctep.Network` nor a
            `ctep.EnergyNetwork`.

    Cost: one eigenvalue problem per coupling, or one per frequency of a padded image.
    The estimate: `2 * steps * iterations` sweeps; its memory is that of a few states.

    References:
        Scalable equilibrium propagation via intermediate error signals, 2025,
        arXiv:2508.15989, for the condition; Stoer and Witzgall, 1962,
        doi:10.1007/BF01386313, for the weights.
    """
    nudge = nudge_at(nudge, epoch)
    check_kinds(network=network)
    network = network.unstacked()
    # Of the map itself, whichever blocks this nudge reaches.
    network.check_nudged(range(len(network.shapes)))
    checks.real("beta", beta, "0.1")
    checks.count("steps", steps, "20")
    checks.count("iterations", iterations, "30")
    if (x is None) != (y is None):
        given, missing = ("y", "x") if x is None else ("x", "y")
        raise ValueError(
            f"`{missing}` is None, but `{given}` is given, and an estimate needs both: "
            "pass both, or neither."
        )
    if x is not None and slopes(network) is None:
        raise ValueError(
            f"`x` is given, but how a {type(network).__name__} passes a force on is "
            "not known, and an estimate needs that: pass a `ctep.Network` or a "
            "`ctep.EnergyNetwork`, or leave `x` and `y` out."
        )
    parts = split(nudge)
    bounds, obstacle = certificate(network, parts)
    if x is not None:
        x, y = checks.array("x", x), checks.array("y", y)
        check_batch(network, nudge, x, y)
        x = x.astype(network.dtype)
        # Those of the 2-norm, so that the estimate stands beside that proof.
        weights = bounds[0].weights if bounds else (1.0,) * len(network.shapes)
        scale = jnp.asarray(weights, x.dtype)
        found = estimated(network, x, y, parts, scale, steps, iterations)
        k1, k2, k3 = map(float, found)
        bounds.append(Bound("2", "estimated", k1, k2, k3, weights))
    return Contraction(float(beta), tuple(bounds), obstacle)
