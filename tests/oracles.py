"""Independent truths: small problems whose equilibria and gradients are known.

Nothing here uses a solver, a rule or a nudge of the package. Drives, activations and
losses are written down again from the equations, equilibria are roots of Newton's
iteration with a dense Jacobian, and gradients come from dense linear solves.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx

import ctep

# Compiling is most of what these tests cost.
FAST = functools.partial(
    eqx.filter_jit,
    compiler_options={
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    },
)

# ---------------------------------------------------------------- problems


class Problem(eqx.Module):
    """A network, a batch, and what its nudge costs, written in plain jnp.

    `loss` is of the output and its target, `more` what hidden layers add to it, a
    function of network, flat state, input and target.
    """

    network: ctep.AbstractNetwork
    x: jax.Array
    y: jax.Array
    nudge: ctep.AbstractNudge
    loss: Callable = eqx.field(static=True)
    more: Callable = eqx.field(static=True, default=lambda *_: 0.0)

    def cost(self, network, flat, x, y):
        return self.loss(readout(network, flat), y) + self.more(network, flat, x, y)

    def gradient(self, **kwargs):
        return ctep.gradient(self.network, self.x, self.y, nudge=self.nudge, **kwargs)


def cross_entropy(output, label):
    return jax.scipy.special.logsumexp(output) - output[label]


def squared_error(output, value):
    return 0.5 * jnp.sum((output - value) ** 2)


def problem(network, *, seed=0, batch=3, values=False):
    """Return `network` with a random batch: labels, or values if asked for."""
    rng = np.random.default_rng(seed)
    (inputs,), (outputs,) = network.input_shape, network.output_shape
    x = jnp.asarray(rng.uniform(-1, 1, (batch, inputs)))
    if values:
        y = jnp.asarray(rng.uniform(-1, 1, (batch, outputs)))
        nudge = ctep.OutputError(ctep.SquaredError())
        return Problem(network, x, y, nudge, squared_error)
    y = jnp.asarray(rng.integers(0, outputs, batch))
    return Problem(network, x, y, ctep.OutputError(), cross_entropy)


def randomised(network, seed=1, scale=0.3):
    """Return `network` with random biases: zeros would hide mistakes."""
    rng = np.random.default_rng(seed)

    def draw(leaf):
        noise = rng.uniform(-scale, scale, leaf.shape)
        return jnp.asarray(noise, leaf.dtype) if leaf.ndim == 1 else leaf

    return jax.tree_util.tree_map(draw, network)


class Hopfield(ctep.EnergyNetwork):
    r"""Two blocks with $E = \sum (s^2/2 + s^4/4) - x U s_1 - s_1 V s_2 - b s_2$."""

    u: jax.Array = ctep.parameter()
    v: jax.Array = ctep.parameter()
    b: jax.Array = ctep.parameter()
    input_shape: tuple = eqx.field(static=True, default=(6,))
    shapes: tuple = eqx.field(static=True, default=((4,), (3,)))
    step: float = eqx.field(static=True, default=0.5)

    def energy(self, state, x):
        first, last = state
        local = sum(jnp.sum(s**2 / 2 + s**4 / 4) for s in state)
        return local - x @ self.u @ first - first @ self.v @ last - self.b @ last


class Quartic(ctep.EnergyNetwork):
    r"""Quartic wells around $m = x W + b$, mixed by $(s_1 - m_1) V (s_2 - m_2)$.

    The minimum is at $m$, whatever V.
    """

    weight: jax.Array = ctep.parameter()
    bias: jax.Array = ctep.parameter()
    mixing: jax.Array = ctep.parameter()
    input_shape: tuple = eqx.field(static=True, default=(6,))
    shapes: tuple = eqx.field(static=True, default=((4,), (3,)))
    step: float = eqx.field(static=True, default=0.5)

    def minimum(self, x):
        m = x @ self.weight + self.bias
        return m[..., :4], m[..., 4:]

    def energy(self, state, x):
        u, v = (s - m for s, m in zip(state, self.minimum(x), strict=True))
        wells = sum(jnp.sum(w**2 / 2 + w**4 / 4) for w in (u, v))
        return wells + u @ self.mixing @ v


def quartic():
    rng = np.random.default_rng(5)
    shapes = (6, 7), (7,), (4, 3)
    weight, bias, mixing = (jnp.asarray(rng.uniform(-0.4, 0.4, s)) for s in shapes)
    return problem(Quartic(weight, bias, mixing), values=True)


def _hopfield():
    rng = np.random.default_rng(4)
    u, v, b = (rng.uniform(-0.6, 0.6, s) for s in ((6, 4), (4, 3), (3,)))
    return problem(Hopfield(*map(jnp.asarray, (u, v, b))), values=True)


def chain(sizes=(6, 5, 4, 3), *, seed=0, values=False, batch=3, **kwargs):
    network = ctep.mlp(sizes, key=jax.random.key(seed), **kwargs)
    return problem(randomised(network), seed=seed, values=values, batch=batch)


SKIPS = ((0, 1), (1, 2), (2, 3), (1, 3), (0, 3))


def skips(seed=0, **kwargs):
    network = ctep.graph((6, 5, 4, 4, 3), SKIPS, key=jax.random.key(seed), **kwargs)
    return problem(randomised(network), seed=seed)


LINEAR = dict(activation=ctep.Identity(), readout=False, values=True)


def centred(rng=0.3):
    """Weights of both signs within the given range."""
    return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -rng, rng)


# Networks with an energy: equilibrium propagation is exact as beta vanishes.
GRADED = {
    "tanh symmetric": lambda: chain(init=centred(0.5)),
    "tanh regulated": lambda: chain(feedback=0.1),
    "sigmoid": lambda: chain(activation=ctep.Sigmoid(4.0, 0.5), init=centred(0.4)),
    # With some seeds Newton's iteration cycles between the pieces of a clip.
    "hard sigmoid": lambda: chain(
        activation=ctep.HardSigmoid(), init=centred(0.6), seed=2
    ),
    "relu6": lambda: chain(activation=ctep.ReLU6(), init=centred(0.5)),
    "linear": lambda: chain(init=centred(0.25), **LINEAR),
    "skips symmetric": lambda: skips(init=centred(0.4)),
    "energy": _hopfield,
}

# Networks without one: an approximation, with a limit of its own.
UNGRADED = {
    "skips regulated": lambda: skips(feedback=0.3),
    "fixed feedback": lambda: chain(feedback=ctep.Fixed(0.5)),
    "feed-forward": lambda: chain(feedback=None),
}

NETWORKS = GRADED | UNGRADED

_TIGHT = dict(rtol=1e-10, atol=1e-10)
_CONTROL = dfx.PIDController(1e-9, 1e-11)

SOLVERS = {
    "forward": lambda: ctep.Sweeps(1000, order=ctep.Forward(), **_TIGHT),
    "tsit5": lambda: ctep.ODE(dfx.Tsit5(), _CONTROL, rtol=1e-8, atol=1e-8),
    "fixed point": lambda: ctep.FixedPoint(**_TIGHT),
    "backward": lambda: ctep.Sweeps(1000, order=ctep.Backward(), **_TIGHT),
    "euler": lambda: ctep.ODE(
        dfx.Euler(), dfx.ConstantStepSize(), 0.5, 999.0, **_TIGHT
    ),
    "newton": lambda: ctep.FixedPoint(optx.Newton(1e-12, 1e-12), **_TIGHT),
    "alternating": lambda: ctep.Sweeps(1000, order=ctep.Alternating(), **_TIGHT),
    "synchronous": lambda: ctep.Sweeps(1000, order=ctep.Synchronous(), **_TIGHT),
}

# Rules, each with the relative error that it may have.
RULES = {
    "one-sided": (lambda: ctep.OneSided(1e-4), 1e-3),
    "centered": (lambda: ctep.Centered(1e-2), 1e-3),
    "random sign": (lambda: ctep.RandomSign(1e-4), 1e-3),
    "holomorphic": (lambda: ctep.Holomorphic(0.05, 6), 1e-5),
    "oscillating": (lambda: ctep.Oscillating(0.05, 400.0), 1e-2),
    "implicit": (lambda: ctep.Implicit(1e-10), 1e-6),
    "unrolled": (lambda: ctep.Unrolled(300), 1e-6),
    "backprop": (lambda: ctep.Backprop(), 1e-9),
}
COMPLEX = "holomorphic", "oscillating"
STENCILS = "one-sided", "centered", "random sign", *COMPLEX


def _output(p):
    return p


def _frozen(p):
    return dataclasses.replace(p, nudge=ctep.Frozen(p.nudge))


def _local(p):
    """Add half the local error of the first layer, at a temperature of 4."""
    own = ctep.LocalError((1,), p.nudge.loss).drawn(p.network, jax.random.key(7))
    weight = own.projections[0].weight

    def more(network, flat, x, y):
        return 0.5 * p.loss(split(network, flat)[0] @ weight / 4, y)

    return dataclasses.replace(p, nudge=p.nudge + 0.5 * own, more=more)


def _distilled(p):
    """Add twice what the first layer differs from a random one, at temperature 3."""
    shape = (6, *p.network.shapes[0])
    weight = jax.random.uniform(jax.random.key(8), shape, minval=-3.0, maxval=3.0)
    teacher = ctep.Module(lambda x: x @ weight, (6,))

    def more(network, flat, x, y):
        wanted = jax.nn.softmax(x @ weight / 3)
        return -2.0 * wanted @ jax.nn.log_softmax(split(network, flat)[0] / 3)

    nudge = ctep.Distillation(teacher, [(1, 1)], 3.0)
    return dataclasses.replace(p, nudge=p.nudge + 2.0 * nudge, more=more)


# What is added to the problem's own nudge, or done to it.
NUDGES = {
    "output": _output,
    "frozen": _frozen,
    "local": _local,
    "distilled": _distilled,
}


def refusal(network, nudge, rule):
    """Return the sentence that refuses a cell, `None` for a legal one."""
    if network == "feed-forward" and rule in STENCILS and nudge in ("output", "frozen"):
        return "`network` has no feedback, so no nudge moves layer 1"
    if rule in COMPLEX and network in ("hard sigmoid", "relu6"):
        return "`network` has the activation .* does not extend to complex states"
    if rule == "oscillating" and nudge == "frozen":
        return "`nudge` is .* but `Oscillating` has no free phase"
    if rule == "backprop" and network == "energy":
        return "`network` is a Hopfield, and an energy has no feed-forward twin"
    return None


def cells(everything=False):
    """Return (network, nudge, solver, rule), all of them or a covering selection.

    The selection holds every pair of a network and a rule, and with it every pair of
    a nudge or a solver with a rule or a network.
    """
    nudges, solvers = list(NUDGES), list(SOLVERS)
    if everything:
        return list(itertools.product(NETWORKS, NUDGES, SOLVERS, RULES))
    return [
        (network, nudges[(i + k) % 4], solvers[(i + k + i // 8) % 8], rule)
        for i, network in enumerate(NETWORKS)
        for k, rule in enumerate(RULES)
    ]


# ---------------------------------------------------------------- the equations


def rho(activation, h):
    if isinstance(activation, ctep.Tanh):
        return jnp.tanh(h)
    if isinstance(activation, ctep.Sigmoid):
        return 1 / (1 + jnp.exp(-activation.slope * (h - activation.shift)))
    if isinstance(activation, ctep.Clip):
        return jnp.where(
            h < activation.lo,
            activation.lo,
            jnp.where(h > activation.hi, activation.hi, h),
        )
    assert isinstance(activation, ctep.Identity)
    return h


def drives(network, state, x):
    """Return the drive of each layer of a dense network, for one example."""
    nodes = (x, *state)
    h = [0.0 if layer.bias is None else layer.bias for layer in network.layers]
    for c in network.couplings:
        if c.forward is not None:
            h[c.target - 1] = h[c.target - 1] + nodes[c.source] @ c.forward.weight
        if c.source and c.feedback is not None:
            tied = isinstance(c.feedback, ctep.Tied)
            operator = c.forward if tied else c.feedback.operator
            back = c.feedback.scale * operator.weight @ nodes[c.target]
            h[c.source - 1] = h[c.source - 1] + back
    return h


def attenuation(network):
    """Return per layer the largest product of scales on a path from the output."""
    count = len(network.shapes)
    if not isinstance(network, ctep.Network):
        return [1.0] * count
    out = [0.0] * (count - 1) + [1.0]
    for n in reversed(range(count - 1)):
        for c in network.couplings:
            if c.source == n + 1 and c.feedback is not None:
                out[n] = max(out[n], c.feedback.scale * out[c.target - 1])
    return [a or 1.0 for a in out]


def split(network, flat):
    edges = np.cumsum([np.prod(shape) for shape in network.shapes])[:-1]
    parts = jnp.split(flat, edges)
    return tuple(p.reshape(s) for p, s in zip(parts, network.shapes, strict=True))


def join(state):
    return jnp.concatenate([jnp.ravel(s) for s in state])


def residual(network, flat, x, pull=0.0):
    """Return what vanishes at rest; `pull` is the force per unit, flat."""
    state = split(network, flat)
    if isinstance(network, ctep.EnergyNetwork):
        return pull - join(jax.grad(network.energy)(state, x))
    scale = join(
        jnp.full(s, a)
        for s, a in zip(network.shapes, attenuation(network), strict=True)
    )
    forces = split(network, scale * pull + jnp.zeros_like(flat))
    h = drives(network, state, x)
    image = [
        rho(layer.activation, h_n + f_n)
        for layer, h_n, f_n in zip(network.layers, h, forces, strict=True)
    ]
    return join(image) - flat


def readout(network, flat):
    last = split(network, flat)[-1]
    layered = isinstance(network, ctep.Network)
    if not layered or network.readout is None:
        return last
    out = last @ network.readout.operator.weight
    return out if network.readout.bias is None else out + network.readout.bias


# ---------------------------------------------------------------- roots


def newton(network, x, pull=lambda flat: 0.0, relax=300, steps=8):
    """Return the root nearest to rest: a damped relaxation, then Newton's method."""
    field = lambda flat: residual(network, flat, x, pull(flat))  # noqa: E731
    flat = jnp.zeros(sum(int(np.prod(s)) for s in network.shapes), x.dtype)
    flat = jax.lax.fori_loop(0, relax, lambda _, s: s + 0.5 * field(s), flat)
    step = lambda _, s: s - jnp.linalg.solve(jax.jacfwd(field)(s), field(s))  # noqa: E731
    return jax.lax.fori_loop(0, steps, step, flat)


@FAST
def roots(p):
    """Return the free equilibrium of each example, flat."""
    return jax.vmap(lambda x: newton(p.network, x))(p.x)


def loss(p):
    """Return the mean loss at the Newton roots."""
    cost = functools.partial(p.cost, p.network)
    return jnp.mean(jax.vmap(cost)(roots(p), p.x, p.y))


# ---------------------------------------------------------------- gradients


def _untrained(gradient):
    """Zero the gradient of fixed feedback, which is constant by definition."""
    if not isinstance(gradient, ctep.Network):
        return gradient
    return eqx.tree_at(
        lambda g: [c.feedback for c in g.couplings],
        gradient,
        replace_fn=lambda f: jax.tree_util.tree_map(jnp.zeros_like, f),
        is_leaf=lambda v: v is None or isinstance(v, ctep.Tied | ctep.Fixed),
    )


@FAST
def _batched(p, one, roots):
    gradients = jax.vmap(functools.partial(one, p))(p.x, p.y, roots)
    mean = jax.tree_util.tree_map(lambda leaf: leaf.mean(0), gradients)
    return _untrained(mean)


def exact(p):
    """Return the gradient by dense implicit differentiation at the Newton root."""

    def one(p, x, y, root):
        jacobian = jax.jacfwd(lambda s: residual(p.network, s, x))(root)
        pull = jax.grad(lambda s: p.cost(p.network, s, x, y))(root)
        adjoint = jnp.linalg.solve(jacobian.T, pull)

        def lagrangian(network):
            cost = p.cost(network, root, x, y)
            return cost - adjoint @ residual(network, root, x)

        return eqx.filter_grad(lagrangian)(p.network)

    return _batched(p, one, roots(p))


def limit(p):
    r"""Return what the vector-field contrast tends to as $\beta \to 0$.

    $-\sum_n \langle c_n\, ds_n/d\beta, \partial h_n/\partial\theta\rangle$ plus the
    direct gradient, with the response $ds/d\beta$ from a dense linear solve.
    """

    def one(p, x, y, root):
        jacobian = jax.jacfwd(lambda s: residual(p.network, s, x))(root)
        pull = jax.grad(lambda s: p.cost(p.network, s, x, y))(root)
        forced = lambda f: residual(p.network, root, x, f)  # noqa: E731
        _, push = jax.jvp(forced, (jnp.zeros_like(pull),), (-pull,))
        response = split(p.network, -jnp.linalg.solve(jacobian, push))

        def contrast(network):
            h = drives(network, split(network, root), x)
            total = p.cost(network, root, x, y)
            for d, h_n, a in zip(response, h, attenuation(network), strict=True):
                total = total - jnp.sum(d * h_n) / a
            return total

        return eqx.filter_grad(contrast)(p.network)

    return _batched(p, one, roots(p))


def slope(p, direction, step=1e-5):
    """Return the central difference of the loss along `direction`."""
    params, rest = eqx.partition(p.network, eqx.is_inexact_array)

    def at(distance):
        moved = jax.tree_util.tree_map(lambda w, v: w + distance * v, params, direction)
        network = eqx.combine(moved, rest)
        return float(loss(eqx.tree_at(lambda p: p.network, p, network)))

    return (at(step) - at(-step)) / (2 * step)


def random_like(tree, key):
    leaves, structure = jax.tree_util.tree_flatten(tree)
    keys = jax.random.split(key, len(leaves))
    noise = [
        jax.random.normal(k, leaf.shape, leaf.dtype)
        for k, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree_util.tree_unflatten(structure, noise)


def backprop(p):
    """Return the gradient of a feed-forward network by plain differentiation.

    Feedback, if there is any, is left out.
    """

    def mean_loss(network):
        def one(x, y):
            state = [x] + [None] * len(network.layers)
            for n, layer in enumerate(network.layers):
                h = 0.0 if layer.bias is None else layer.bias
                for c in network.couplings:
                    if c.target == n + 1:
                        h = h + state[c.source] @ c.forward.weight
                state[n + 1] = rho(layer.activation, h)
            return p.loss(readout(network, join(state[1:])), y)

        return jnp.mean(jax.vmap(one)(p.x, p.y))

    return eqx.filter_grad(mean_loss)(p.network)


def linear_state(network, x):
    """Return the rest of one example of a linear network, by a dense solve in numpy."""
    count = sum(s[0] for s in network.shapes)
    zero = np.zeros(count)
    affine = lambda s: np.asarray(join(drives(network, split(network, s), x)))  # noqa: E731
    offset = affine(zero)
    matrix = np.stack([affine(e) - offset for e in np.eye(count)], 1)
    return np.linalg.solve(np.eye(count) - matrix, offset)


def linear_gradient(p):
    """Return the gradient by differentiating `jnp.linalg.solve`."""

    def mean_loss(network):
        def one(x, y):
            affine = lambda s: join(drives(network, split(network, s), x))  # noqa: E731
            zero = jnp.zeros(sum(s[0] for s in network.shapes))
            matrix = jax.jacfwd(affine)(zero)
            rest = jnp.linalg.solve(jnp.eye(zero.size) - matrix, affine(zero))
            return p.loss(readout(network, rest), y)

        return jnp.mean(jax.vmap(one)(p.x, p.y))

    return _untrained(eqx.filter_grad(mean_loss)(p.network))


# ---------------------------------------------------------------- comparisons


def vector(gradient):
    leaves = jax.tree_util.tree_leaves(gradient)
    return np.concatenate([np.ravel(np.asarray(leaf, np.float64)) for leaf in leaves])


def error(gradient, truth):
    """Return the largest relative error of a leaf; where the truth is 0, its norm."""
    pairs = zip(
        jax.tree_util.tree_leaves(gradient),
        jax.tree_util.tree_leaves(truth),
        strict=True,
    )
    errors = []
    for got, want in pairs:
        got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
        size = np.linalg.norm(want)
        errors.append(np.linalg.norm(got - want) / (size or 1.0))
    return max(errors)


def cosine(a, b):
    a, b = (np.ravel(np.asarray(v, np.float64)) for v in (a, b))
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def as_double(tree):
    """Return `tree` in float64, to the bit."""
    return jax.tree_util.tree_map(
        lambda v: v.astype(jnp.float64) if eqx.is_inexact_array(v) else v, tree
    )
