"""Certificates of contraction: a subclass does not inherit its parent's."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

import ctep
from ctep.analysis import contraction

KEY = jax.random.key(0)
BETA = 0.5
STRONG = 16.0  # what a subclass here does more than its parent


def under(parent, **body):
    """Return a subclass of a library class."""
    return type("Strong", (parent,), body)


def times(parent, name):
    """Return a method that returns the parent's result, but `STRONG` times."""
    method = getattr(parent, name)

    def stronger(self, *args):
        found = method(self, *args)
        return None if found is None else STRONG * found

    return stronger


def linear(parent):
    """Return what makes a subclass of a linear operator the stronger one."""
    return {name: times(parent, name) for name in ("image", "transposed")}


def _apply(parent):
    def apply(self, v):
        out, tape = parent.apply(self, v)
        return STRONG * out, tape

    return {"apply": apply}


# ------------------------------------------------------------ operators

_CONV = (4, 4, 2), 3
OPERATORS = {
    "dense": (ctep.Dense, linear, lambda kind: kind((5,), (4,), key=KEY)),
    "conv": (ctep.Conv, linear, lambda kind: kind(*_CONV, key=KEY)),
    "average": (ctep.AveragePool, linear, lambda kind: kind((4, 4, 2))),
    "skip": (ctep.Skip, linear, lambda kind: kind((4, 3), (4, 5))),
    "multiplier": (ctep.Multiplier, linear, lambda kind: kind((4,), -0.3)),
    "maximum": (ctep.MaxPool, _apply, lambda kind: kind((4, 4, 2))),
    "chain": (
        ctep.Chain,
        _apply,
        lambda kind: kind((ctep.Dense((5,), (4,), key=KEY),)),
    ),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", OPERATORS)
def test_no_operator_stretches_more_than_its_norm(name):
    """Oracle: numpy's norms of the dense Jacobian at a random state."""
    parent, stronger, build = OPERATORS[name]
    operator = build(under(parent, **stronger(parent)))
    v = jax.random.normal(jax.random.key(1), operator.in_shape)
    matrix = np.asarray(jax.jacfwd(lambda v: operator.apply(v)[0])(v))
    matrix = matrix.reshape(math.prod(operator.out_shape), -1)
    kind = under(parent, **stronger(parent))
    ctep.operator_norm.register(kind)(lambda operator, order: 1000.0)
    own, below = build(kind), build(under(kind))
    for order in (1, 2, math.inf):
        size = np.linalg.norm(matrix, order)
        assert ctep.operator_norm(build(parent), order) < size
        for other in (operator, below):
            assert ctep.operator_norm(other, order) == math.inf
        assert size <= ctep.operator_norm(own, order) < math.inf
        if operator.linear:  # the adjoint, in the dual order
            back = np.linalg.norm(matrix.T, {1: math.inf, 2: 2, math.inf: 1}[order])
            assert back <= ctep.operator_norm(own, order)


# ------------------------------------------------------------ networks and nudges


def base(activation):
    p = oracles.chain(feedback=0.5, init=oracles.centred(0.3), activation=activation)
    return p.network, p.x[:1], p.y[:1]


def steepest(network, nudge, x, y, bound, count=20):
    """Return the largest norm of the nudged map's dense Jacobian at random states."""
    rng = np.random.default_rng(0)
    states = rng.uniform(-1, 1, (count, sum(map(math.prod, network.shapes))))
    target = nudge.targets(x, y)
    problem = network.free(x)

    def image(flat):
        state = tuple(s[None] for s in oracles.split(network, flat))
        context = nudge.context(network, state, target)
        _, (_, drives) = problem.image(state)
        out = []
        for n, layer in enumerate(network.layers):
            force = nudge.force(n, network, state, context)
            pull = 0.0 if force is None else BETA * network.attenuation[n] * force
            out.append(layer.activation(drives[n] + pull))
        return jnp.concatenate([s.ravel() for s in out])

    v = np.repeat(bound.weights, [math.prod(s) for s in network.shapes])
    jacobians = oracles.FAST(jax.vmap(jax.jacfwd(image)))
    matrices = np.asarray(jacobians(jnp.asarray(states)))
    matrices = matrices * v / v[:, None]
    if bound.norm == "2":
        return max(np.linalg.norm(m, 2) for m in matrices)
    return np.abs(matrices).sum(2).max()


def _layer(network, kind):
    at = lambda n: n.layers[0].activation  # noqa: E731
    return eqx.tree_at(at, network, kind())


def _dense(network, kind):
    old = network.couplings[1].forward
    new = eqx.tree_at(lambda o: o.weight, kind((5,), (4,), key=KEY), old.weight)
    return eqx.tree_at(lambda n: n.couplings[1].forward, network, new)


def _readout(network, kind):
    old = network.readout
    return eqx.tree_at(lambda n: n.readout, network, kind(old.operator, old.bias))


def _local(network, kind):
    return ctep.OutputError() + kind((1, 2), temperature=1.0).drawn(network, KEY)


def _distilled(network, kind):
    teacher = ctep.Module(lambda x: x[..., :5], (6,))
    return ctep.OutputError() + kind(teacher, ((1, 1),), 1.0)


# Kind: the parent, what a subclass of it does more, and either the network that holds
# one or the nudge that is or holds one.
_COST = ("cost",)
NETWORKS = {
    "activation": (ctep.Tanh, ("__call__",), _layer),
    "operator": (ctep.Dense, ("image", "transposed"), _dense),
    "readout": (ctep.Readout, ("__call__",), _readout),
}
NUDGES = {
    "cross-entropy": (
        ctep.CrossEntropy,
        ("__call__",),
        lambda _, kind: ctep.OutputError(kind()),
    ),
    "squared error": (
        ctep.SquaredError,
        ("__call__",),
        lambda _, kind: ctep.OutputError(kind()),
    ),
    "output": (ctep.OutputError, _COST, lambda _, kind: kind()),
    "local": (ctep.LocalError, _COST, _local),
    "distilled": (ctep.Distillation, _COST, _distilled),
    "sum": (
        type(ctep.OutputError() + ctep.OutputError()),
        ("force",),
        lambda _, kind: kind((ctep.OutputError(),)),
    ),
    "scaled": (
        type(1.0 * ctep.OutputError()),
        ("force",),
        lambda _, kind: kind(weight=1.0, nudge=ctep.OutputError()),
    ),
}


def _force(self, n, network, state, context):
    """Be frozen no more."""
    target = context[n] if isinstance(context, dict) else context
    return self.nudge.force(n, network, state, target)


def build(name, kind):
    """Return network, nudge, input and target where something is of a kind."""
    # A strong force would saturate a bounded activation.
    inside = name in ("activation", "operator")
    network, x, y = base(ctep.Tanh() if inside else ctep.Identity())
    make = (NETWORKS | NUDGES)[name][2]
    if name in NETWORKS:
        return make(network, kind), ctep.OutputError(), x, y
    return network, make(network, kind), x, y


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", [*NETWORKS, *NUDGES])
def test_a_subclass_has_no_certificate_of_its_parents(name):
    """Oracle: dense Jacobians of the nudged map, steeper than the parent's bound.

    The estimate from samples, which has no more to go by, is above them too.
    """
    parent, methods, _ = (NETWORKS | NUDGES)[name]
    body = {method: times(parent, method) for method in methods}
    network, nudge, x, y = build(name, under(parent, **body))
    found = contraction(network, nudge, BETA, x=x, y=y, steps=3)
    of_parent = contraction(*build(name, parent)[:2], BETA)
    for bound, old in zip(found.bounds[:2], of_parent.bounds, strict=True):
        steep = steepest(network, nudge, x, y, old)
        assert steep > old.factor(BETA)
        assert bound.factor(BETA) == math.inf
    assert not found.proved
    assert "Not proved. " in str(found)
    estimate = found.bounds[2]
    assert 0 < estimate.factor(BETA) < math.inf


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", [*NETWORKS, *NUDGES])
def test_a_subclass_may_declare_its_own(name):
    """Oracle: the dense Jacobians again, below the bound that the class states."""
    parent, methods, _ = (NETWORKS | NUDGES)[name]
    body = {method: times(parent, method) for method in methods}
    kind = under(parent, **body, **_declared(parent))
    if issubclass(parent, ctep.AbstractOperator):
        ctep.operator_norm.register(kind)(lambda operator, order: 1000.0)
    network, nudge, x, y = build(name, kind)
    found = contraction(network, nudge, BETA)
    bound = found.bounds[0]
    if name == "readout":  # which is no place for one
        assert not found.proved
        return
    assert steepest(network, nudge, x, y, bound) <= bound.factor(BETA) < math.inf


def _declared(parent):
    """Return the body of a class that states a bound."""
    if issubclass(parent, ctep.AbstractNudge):
        head = ctep.Head(None, ctep.SquaredError(), weight=1000.0)
        return {"heads": lambda self, network: (head,)}
    if issubclass(parent, ctep.AbstractLoss):
        return {"curvature": lambda self, order: 1000.0}
    return {"lipschitz": 1000.0}


@pytest.mark.usefixtures("x64")
def test_a_frozen_force_that_thaws_has_no_certificate():
    """Oracle: the force's own derivative, which is not zero."""
    network, _, _ = base(ctep.Tanh())
    body = {
        "context": lambda self, *args: self.nudge.context(*args),
        "force": _force,
    }
    found = contraction(network, under(ctep.Frozen, **body)(ctep.OutputError()))
    assert not found.proved
    assert contraction(network, ctep.Frozen(ctep.OutputError())).proved


@pytest.mark.usefixtures("x64")
def test_nothing_is_proved_of_a_subclass_of_a_network():
    """Oracle: one whose free phase is another network's, which does not contract."""
    network, x, y = base(ctep.Tanh())
    wild = oracles.chain(init=oracles.centred(3.0)).network
    kind = under(ctep.Network, free=lambda self, x: wild.free(x))
    other = kind(network.input_shape, network.layers, network.couplings,
                 network.readout)  # fmt: skip
    assert contraction(network).proved
    found = contraction(other, x=x, y=y)
    assert not found.proved
    assert "curvature of a Strong" in str(found)
    assert found.bounds[0].kind == "estimated"
    assert found.bounds[0].k1 > 1
