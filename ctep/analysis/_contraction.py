"""Contraction: bounds under which a nudged network has one rest, reached from all."""

import dataclasses
import inspect
import math
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from .. import _checks as checks
from .._keywords import suggests_keywords
from .._network import (
    AbstractNetwork,
    AbstractOperator,
    AveragePool,
    Chain,
    Conv,
    Dense,
    EnergyNetwork,
    MaxPool,
    Network,
    Readout,
    with_precision,
)
from .._nudge import (
    AbstractNudge,
    CrossEntropy,
    Distillation,
    Frozen,
    LocalError,
    OutputError,
    Scaled,
    SquaredError,
    Sum,
)
from .._nudge.layers import check_layers
from .._rule import check_batch, check_kinds
from ._inputs import nudge_at

# Singular values of larger matrices take minutes.
WIDEST = 4096


@dataclasses.dataclass(frozen=True)
class Bound:
    r"""Lipschitz constants of a nudged map in one norm.

    Fields:
        norm: "2" or "infinity": of each block, and between the weighted blocks.
        kind: "proved" for every state, or "estimated" from sampled ones.
        k1: $K_1$, of the free map.
        k2: $K_2$, of the force of the output's error at $\beta = 1$.
        k3: $\kappa K_3$, of all other forces, with their weights.
        weights: $v_n$ of each block in the norm.
    """

    norm: str
    kind: str
    k1: float
    k2: float
    k3: float
    weights: tuple[float, ...]

    def factor(self, beta: float) -> float:
        r"""Return $K_1 + |\beta| (K_2 + \kappa K_3)$."""
        return self.k1 + (abs(beta) * (self.k2 + self.k3) if beta else 0.0)

    @property
    def largest_beta(self) -> float:
        r"""The $|\beta|$ below which the factor is below 1; 0 if it never is."""
        if not self.k1 < 1:
            return 0.0
        force = self.k2 + self.k3
        return (1 - self.k1) / force if force > 0 else math.inf


@dataclasses.dataclass(frozen=True)
class Contraction:
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
        return any(b.factor(self.beta) < 1 for b in self._certificates())

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

    def __str__(self):
        rows = [["norm", "kind", "K1", "K2", "kappa K3", "factor", "beta below"]]
        for b in self.bounds:
            values = (b.k1, b.k2, b.k3, b.factor(self.beta), b.largest_beta)
            rows.append([b.norm, b.kind, *(f"{v:.4g}" for v in values)])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.rjust, row, widths)) for row in rows]
        head = f"factor = K1 + |beta| (K2 + kappa K3) at beta = {self.beta:g}"
        return "\n".join([head, *lines, self._verdict()])

    def _verdict(self):
        if self.proved:
            return (
                f"Proved: one rest, which every state approaches by a factor of "
                f"{self.rate:.4g} per step; it stays so below beta = "
                f"{self.largest_beta:.4g}."
            )
        why = f" {self.obstacle}" if self.obstacle else ""
        return f"Not proved.{why} The network may settle all the same."


@suggests_keywords
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
    2-norms or infinity-norms (absolute row sums). The 2-norm of a matrix up to 4096
    wide is its largest singular value; that of a wider one is bounded by
    $\sqrt{\|W\|_1 \|W\|_\infty}$ or Frobenius' norm, that of a convolution by its
    circular one on the padded image, of which it is a part. All are rounded upwards;
    the rounding of the network's own arithmetic is not counted.

    Nothing is proved, and a bound is infinite, where feedback returns through a
    maximum (it jumps when the maximum moves) or a softmax pool, and where a user's
    nudge, operator, activation, loss or energy gives no bound. A subclass may compute
    something else than the class that it is made of, so it inherits no bound: it gives
    one by a `lipschitz` in its own body. Nothing is proved of a subclass of
    `ctep.Network`.

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
    if x is not None and not isinstance(network, Network | EnergyNetwork):
        raise ValueError(
            f"`x` is given, but how a {type(network).__name__} passes a force on is "
            "not known, and an estimate needs that: pass a `ctep.Network` or a "
            "`ctep.EnergyNetwork`, or leave `x` and `y` out."
        )
    terms = list(_terms(nudge))
    bounds, weights = [], (1.0,) * len(network.shapes)
    if type(network) is Network:
        bounds = [_proved(network, terms, norm) for norm in ("2", "infinity")]
        weights = bounds[0].weights
    obstacle = _obstacle(network, bounds)
    if x is not None:
        x, y = checks.array("x", x), checks.array("y", y)
        check_batch(network, nudge, x, y)
        x = x.astype(network.dtype)
        scale = jnp.asarray(weights, x.dtype)
        split = _split(terms)
        found = _estimated(network, x, y, nudge, split, scale, steps, iterations)
        k1, k2, k3 = map(float, found)
        bounds.append(Bound("2", "estimated", k1, k2, k3, weights))
    return Contraction(float(beta), tuple(bounds), obstacle)


# ------------------------------------------------------------ who gives a bound


def _own(part: Any, *args) -> float:
    """Return the `lipschitz` of a part, infinity if its class has none of its own."""
    kind = type(part)
    if "lipschitz" not in {*vars(kind), *inspect.get_annotations(kind)}:
        return math.inf
    # A property of activations and losses, a method of operators and nudges.
    parts = AbstractOperator, AbstractNudge
    return float(part.lipschitz(*args) if isinstance(part, parts) else part.lipschitz)


def _product(*factors: float) -> float:
    """Return a product of bounds: 0 of a constant, whatever else is unknown."""
    return math.prod(factors) if all(factors) else 0.0


# ------------------------------------------------------------ norms of operators


def operator_norm(
    operator: AbstractOperator, norm: str, adjoint: bool = False
) -> float:
    """Return a proved bound on an operator's norm, infinity if there is none.

    Args:
        operator: any.
        norm: "2" or "infinity".
        adjoint: whether that of the adjoint at a given tape is asked for.
    """
    # Of the library's own the matrix is known; a subclass may compute another one.
    if type(operator) is Chain:
        parts = [operator_norm(o, norm, adjoint) for o in operator.operators]
        return _product(*parts)
    if norm == "2":
        if type(operator) is Dense:
            return _matrix_norm(np.asarray(operator.weight, np.float64))
        if type(operator) is Conv:
            return _convolution_norm(operator)
        if type(operator) is AveragePool:
            return math.nextafter(math.prod(operator.window.size) ** -0.5, math.inf)
        return _own(operator)
    if type(operator) is MaxPool:
        return 1.0
    ends = operator.in_shape, operator.out_shape
    source, target = ends[::-1] if adjoint else ends
    if type(operator) not in (Dense, Conv, AveragePool):
        return math.sqrt(math.prod(source)) * operator_norm(operator, "2")
    size = with_precision(jax.tree_util.tree_map(jnp.abs, operator), "float32")
    ones = jnp.ones(source)
    rows = size.transposed(ones) if adjoint else size.product(ones)
    assert rows.shape == target
    # Rounded upwards, by more than the sums can have lost.
    terms = math.prod(source) * jnp.finfo(rows.dtype).eps
    return float(jnp.max(rows)) * (1 + 2 * float(terms))


def _matrix_norm(matrix):
    """Return the largest singular value or a bound on it, rounded upwards."""
    absolute, eps = np.abs(matrix), np.finfo(np.float64).eps
    size = float(np.linalg.norm(matrix))
    rough = math.sqrt(absolute.sum(0).max() * absolute.sum(1).max())
    rough = min(rough, size) * (1 + matrix.size * eps)
    if min(matrix.shape) > WIDEST:
        return rough
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    largest = max(float(np.linalg.eigvalsh(tall.conj().T @ tall)[-1]), 0.0)
    # The product and its eigenvalue are off by less than this.
    largest += 4 * sum(matrix.shape) * eps * size**2
    return min(rough, math.sqrt(largest))


def _convolution_norm(conv):
    """Return the norm of the circular convolution on the padded image.

    A convolution with zeros around the image, at some of its places, is a part of the
    circular one on a torus that holds the image and the zeros.
    """
    weight = np.asarray(conv.weight, np.float64)
    down, across = (
        _fourier(n + sum(pad), k)
        for n, pad, k in zip(conv.in_shape, conv.padding, weight.shape, strict=False)
    )
    largest = 0.0
    # A real kernel has the same norms at opposite frequencies.
    for row in down[: len(down) // 2 + 1]:
        part = np.tensordot(row, weight, 1)
        for column in across:
            largest = max(largest, _matrix_norm(np.tensordot(column, part, 1)))
    return largest


def _fourier(size, taps):
    """Return the discrete Fourier transform of the places of a kernel's taps."""
    return np.exp(-2j * np.pi * np.outer(np.arange(size), np.arange(taps)) / size)


# ------------------------------------------------------------ the certificate


def _obstacle(network, bounds):
    """Return why no bound is finite, or `None`."""
    if not bounds:
        return f"Nothing bounds the curvature of a {type(network).__name__}."
    for c in network.couplings:
        if c.returning is not None and not c.returning.linear:
            return (
                f"The feedback from layer {c.target} to {c.source} returns through a "
                "pool that is not linear, which has no Lipschitz constant."
            )
    if all(math.isinf(b.k1) for b in bounds):
        for n, layer in enumerate(network.layers, 1):
            if math.isinf(_own(layer.activation)):
                return (
                    f"The activation of layer {n}, {type(layer.activation).__name__}, "
                    "has no known Lipschitz constant: give its class a `lipschitz` of "
                    "its own."
                )
        return "Some coupling has no known Lipschitz constant."
    if all(math.isinf(b.k2 + b.k3) for b in bounds):
        return "The nudge's force has no known Lipschitz constant."
    return None


def _proved(network, terms, norm) -> Bound:
    slopes = _slopes(network)
    matrix = np.zeros((len(slopes),) * 2)
    for c in network.couplings:
        i, j = c.source - 1, c.target - 1
        if i >= 0 and c.forward is not None:
            matrix[j, i] += _product(slopes[j], operator_norm(c.forward, norm))
        if c.returning is not None:
            back = operator_norm(c.returning, norm, adjoint=True)
            matrix[i, j] += _product(slopes[i], c.scale, back)
            if not c.returning.linear:
                matrix[i, i] = math.inf
    weights, k1 = _perron(matrix, norm)
    k2, k3 = (_force(network, part, slopes, norm, weights) for part in _split(terms))
    return Bound(norm, "proved", k1, k2, k3, tuple(weights))


def _split(terms):
    """Return the terms that are the output's error, and all others, but for zeros."""
    return tuple(
        tuple((w, n) for w, n in terms if w and isinstance(n, OutputError) == own)
        for own in (True, False)
    )


def _perron(matrix, norm) -> tuple[list[float], float]:
    """Return weights of the blocks, and the norm of a non-negative matrix in them."""
    finite = np.where(np.isfinite(matrix), matrix, 0.0)
    # Without a way back some weights would vanish.
    linked = finite + 1e-12 * (finite.max() or 1.0)
    linked = linked / np.abs(np.linalg.eigvals(linked)).max()
    # Sums of positive numbers alone: each weight has its full relative precision.
    power = linked + np.eye(len(matrix))
    for _ in range(20):
        power = power @ power
        power = power / power.max()
    right, left = power.sum(1), power.sum(0)
    weights = np.sqrt(right / left) if norm == "2" else right
    weights = weights / weights[-1]
    if not np.isfinite(matrix).all():
        return weights.tolist(), math.inf
    scaled = matrix * weights / weights[:, None]
    order = 2 if norm == "2" else np.inf
    return weights.tolist(), float(np.linalg.norm(scaled, order))


def _slopes(network):
    if isinstance(network, EnergyNetwork):
        return [float(network.step)] * len(network.shapes)
    return [_own(layer.activation) for layer in network.layers]


def _terms(nudge) -> Iterator[tuple[float, AbstractNudge]]:
    """Yield the parts of a nudge whose force depends on the state, with weights."""
    if type(nudge) is Sum:
        for part in nudge.nudges:
            yield from _terms(part)
    elif type(nudge) is Scaled:
        for inner, part in _terms(nudge.nudge):
            yield float(nudge.weight) * inner, part
    elif type(nudge) is not Frozen:
        yield 1.0, nudge


def _force(network, terms, slopes, norm, weights):
    """Return the bound of a sum of forces, as the activations pass it on."""
    pairs = zip(slopes, network.attenuation, strict=True)
    gains = [_product(slope, share) for slope, share in pairs]
    # It may carry what one layer does to any other one.
    mixed = max(weights) / min(weights)
    if norm == "infinity":
        mixed *= math.sqrt(sum(math.prod(shape) for shape in network.shapes))
    own, anywhere = [0.0] * len(gains), 0.0
    for weight, nudge in terms:
        heads = _heads(network, nudge)
        if heads is None:
            bound = _own(nudge, network)
            anywhere += _product(abs(weight), max(gains), mixed, bound)
            continue
        # Each layer's force depends on that layer alone.
        for n, *head in heads:
            own[n] += _product(abs(weight), gains[n], _curvature(head, norm))
    return max(own) + anywhere


def _heads(network, nudge):
    """Return (block, map to logits, loss, temperature) of a known nudge, or `None`."""
    if type(nudge) is OutputError:
        head = network.readout
        # A subclass of it may return something else than its operator does.
        operator = head.operator if type(head) is Readout else head
        return [(len(network.shapes) - 1, operator, nudge.loss, 1.0)]
    if type(nudge) is LocalError:
        check_layers("layers", nudge.layers, network)
        pairs = zip(nudge.layers, nudge._projections(), strict=True)
        return [(n - 1, p, nudge.loss, nudge.temperature) for n, p in pairs]
    if type(nudge) is Distillation:
        check_layers("pairs", [s for s, _ in nudge.pairs], network)
        maps = (None,) * len(nudge.pairs) if nudge.mapping is None else nudge._maps()
        return [
            (s - 1, operator, CrossEntropy(), nudge.temperature)
            for (s, _), operator in zip(nudge.pairs, maps, strict=True)
        ]
    return None


def _curvature(head, norm):
    operator, loss, temperature = head
    bound = _own(loss) / temperature**2
    if norm == "infinity" and type(loss) not in (CrossEntropy, SquaredError):
        return math.inf
    if operator is None:
        return bound
    if not (isinstance(operator, AbstractOperator) and operator.linear):
        return math.inf  # the gradient goes back through a maximum
    there, back = (operator_norm(operator, norm, way) for way in (False, True))
    return _product(bound, there, back)


# ------------------------------------------------------------ the estimate


@eqx.filter_jit
def _estimated(network, x, y, nudge, split, scale, steps, iterations):
    """Return the largest norms of the Jacobians of map and forces on the way."""
    problem = network.free(x)
    known = _slopes(network)

    def force(terms, slopes):
        def function(state):
            total = [jnp.zeros_like(s) for s in state]
            for weight, part in terms:
                target = jax.lax.stop_gradient(part.targets(x, y))
                own = part.context(network, state, target)
                for n in part.blocks(network):
                    pull = part.force(n, network, state, own)
                    gain = weight * slopes[n] * network.attenuation[n]
                    total[n] = total[n] + gain * pull
            return tuple(total)

        return function

    def met(n, state):
        """Return the slope of an activation, the largest here if none is known."""
        if math.isfinite(known[n]):
            return known[n]
        drive = problem.image(state)[1][1][n]
        activation = network.layers[n].activation
        slope = jax.jvp(activation, (drive,), (jnp.ones_like(drive),))[1]
        return jnp.max(jnp.abs(slope))

    def step(carry, _):
        state, largest = carry
        slopes = [met(n, state) for n in range(len(known))]
        forces = [force(terms, slopes) if terms else None for terms in split]
        functions = [problem.map, *forces]
        largest = [
            old if f is None else jnp.maximum(old, _norm(f, state, scale, iterations))
            for f, old in zip(functions, largest, strict=True)
        ]
        return (problem.map(state), largest), None

    carry = (network.zeros(x), [jnp.zeros((), x.dtype)] * 3)
    return jax.lax.scan(step, carry, None, length=steps)[0][1]


def _norm(function, state, scale, iterations):
    """Return the largest weighted 2-norm of any example's Jacobian, from below."""
    _, forward = jax.linearize(function, state)
    _, backward = jax.vjp(function, state)
    divide = lambda v: tuple(a / b for a, b in zip(v, scale, strict=True))  # noqa: E731
    multiply = lambda v: tuple(a * b for a, b in zip(v, scale, strict=True))  # noqa: E731

    def size(v):
        return jnp.sqrt(sum(jnp.sum(a**2, tuple(range(1, a.ndim))) for a in v))

    def turn(v, _):
        length = size(v)
        unit = jnp.where(length > 0, length, 1)
        v = tuple(a / unit.reshape((-1,) + (1,) * (a.ndim - 1)) for a in v)
        image = divide(forward(multiply(v)))
        return multiply(backward(divide(image))[0]), size(image)

    keys = jax.random.split(jax.random.key(0), len(state))
    start = tuple(
        jax.random.normal(key, s.shape, s.dtype)
        for key, s in zip(keys, state, strict=True)
    )
    return jnp.max(jax.lax.scan(turn, start, None, length=iterations)[1][-1])
