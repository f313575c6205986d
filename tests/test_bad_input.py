import ast
import functools
import importlib
import math
import re
import traceback
from pathlib import Path
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import optimistix as optx
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

import ctep
from ctep._rule.underived import underived

KEY = jax.random.key(0)
PACKAGE = Path(ctep.__file__).parent
FOLDERS = "_checks", "_network", "_nudge", "_rule", "_solver"
KNOWN = "ValueError", "TypeError"


class Accepted(Exception):
    """The input passed every check: what comes next is compilation."""


@pytest.fixture(autouse=True)
def uncompiled(monkeypatch):
    """Run each test as a user runs the package, and stop where compilation starts."""

    def accept(*args):
        raise Accepted

    module = importlib.import_module("ctep._rule.gradient")
    monkeypatch.setattr(module, "_gradient", accept)
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@functools.cache
def network():
    return ctep.mlp((4, 5, 3), key=KEY)


def data():
    return np.ones((8, 4), np.float32), np.arange(8) % 3


def gradient(x=None, y=None, net=None, **kwargs):
    """Call `ctep.gradient` with a valid batch, but for what is given."""
    x = np.ones((2, 4), np.float32) if x is None else x
    y = np.array([0, 2]) if y is None else y
    return ctep.gradient(network() if net is None else net, x, y, **kwargs)


def result():
    parts = network(), ctep.OutputError(), [], "completed", "", 0.0, None
    return ctep.Result(*parts)


class Odd(ctep.AbstractLoss):
    def __call__(self, output, target):
        return jnp.sum(output, -1)


class Packed(ctep.EnergyNetwork):
    """An energy that takes its state for one block, and not for a tuple of it."""

    weight: jax.Array = ctep.parameter()
    input_shape: tuple = eqx.field(static=True, default=(4,))
    shapes: tuple = eqx.field(static=True, default=((3,),))
    step: float = 0.3

    def energy(self, state, x):
        return 0.5 * state @ state - state @ (self.weight @ x)


def packed():
    return Packed(jnp.ones((3, 4)))


def dense(source, target):
    return ctep.Dense(source, target, key=KEY)


def layers(*sizes):
    return [ctep.Layer((size,), ctep.Tanh()) for size in sizes]


INPUT = ctep.Coupling(0, 1, dense((4,), (3,)))
SQUARE = ctep.Coupling(1, 2, dense((3,), (3,)))


def build(*couplings, count=2, readout=None):
    return ctep.Network((4,), layers(*[3] * count), couplings, readout)


def image_output():
    shaped = ctep.Layer((2, 2), ctep.Tanh())
    into = ctep.Coupling(0, 1, dense((4,), (2, 2)))
    return ctep.Network((4,), [shaped], [into])


class Softplus(ctep.AbstractActivation):
    lipschitz = 1.0

    def __call__(self, h):
        return jax.nn.softplus(h)


def no_energy():
    net = ctep.mlp((4, 3, 3, 2), feedback=None, key=KEY)
    return net.energies(net.zeros(jnp.ones((1, 4))), jnp.ones((1, 4)))


def graph(edges, *back, sizes=(4, 3, 3, 3, 2)):
    return ctep.graph(sizes, edges, feedback_edges=back or None, key=KEY)


def conv(*args, **kwargs):
    return ctep.Conv(*args, key=KEY, **kwargs)


def vgg(*args, **kwargs):
    return ctep.vgg(*args, input_shape=(8, 8, 3), key=KEY, **kwargs)


STUDENT = ctep.mlp((4, 3, 3, 2), key=KEY)
STACKED = ctep.mlp((4, 3, 3, 3, 2), stack=True, key=KEY)
INTO = ctep.Coupling(0, 1, ctep.Dense((3,), (3,), key=KEY))


def stack(**changes):
    (own,) = STACKED.layers
    fields = {"shape": own.shape, "activation": own.activation, "forward": own.forward}
    return ctep.Stack(**fields | changes)


IMAGE = jnp.ones((1, 4)), jnp.zeros(1, jnp.int32)
CIRCLE = ctep.Holomorphic()
MODULE = ctep.Module(lambda x: x, (4,))
LOOPED = ctep.Network(
    (4,),
    layers(3, 3),
    [INPUT, SQUARE, ctep.Coupling(2, 1, dense((3,), (3,)))],
)


def taught(*pairs, teacher=STUDENT, network=STUDENT, **kwargs):
    nudge = ctep.Distillation(teacher, pairs, **kwargs)
    return ctep.gradient(network, *IMAGE, nudge=nudge)


def blocks(**fields):
    return ctep.residual(
        (2,), 3, input_shape=(8, 8, 1), key=jax.random.key(0), **fields
    )


def local(*args, network=STUDENT, **kwargs):
    return ctep.gradient(network, *IMAGE, nudge=ctep.LocalError(*args, **kwargs))


def pooled_back():
    pool = ctep.Chain((ctep.MaxPool((2, 2, 1)), dense((1, 1, 1), (3,))))
    return ctep.Coupling(1, 2, dense((2, 2, 1), (3,)), ctep.Fixed(1.0, pool))


class Bowl(ctep.EnergyNetwork):
    input_shape: tuple = (4,)
    shapes: tuple = ((2,),)
    step: float = 0.1

    def energy(self, state, x):
        return jnp.sum(jnp.abs(state[0]) ** 3)


class Absolute(ctep.AbstractLoss):
    def __call__(self, output, target):
        return jnp.sum(jnp.abs(output), -1)


# What is wrong, and what comes of it: the type, and how the message begins.
class Vector(Bowl):
    def energy(self, state, x):
        return state[0] ** 2


class Pinned(Bowl):
    pins: Any = None

    def __init__(self, pins):
        self.pins = pins


class Gain(ctep.AbstractActivation):
    gain: jax.Array
    formula = "gain h"
    lipschitz = 1.0
    range = (-np.inf, np.inf)
    pole = complex("inf")

    def __call__(self, h):
        return self.gain * h

    def potential(self, s):
        return s**2 / (2 * self.gain)


def pushed(function, *s):
    return ctep.difference(function, *s)[1]


def deep():
    """Return a chain whose feedback is beyond float32."""
    return ctep.mlp((4, *[2] * 50, 2), feedback=0.1, key=KEY)


CASES = {
    # operators of images
    "no image": (
        lambda: conv((8, 8), 4),
        ValueError,
        r"`in_shape` is \(8, 8\), but an image has \(height, width, channels\)",
    ),
    "kernel": (
        lambda: conv((8, 8, 3), 4, kernel=(3, 3, 3)),
        ValueError,
        r"`kernel` is \(3, 3, 3\), but must be one positive whole number or two",
    ),
    "kernel leaves nothing": (
        lambda: conv((4, 4, 3), 4, kernel=5, padding="valid"),
        ValueError,
        r"`kernel` is \(5, 5\) .* leaves nothing of an image of 4 x 4",
    ),
    "padding": (
        lambda: conv((4, 4, 3), 4, padding="full"),
        ValueError,
        "`padding` is 'full', but must be 'same', 'valid'",
    ),
    "padding below nothing": (
        lambda: conv((4, 4, 3), 4, padding=-1),
        ValueError,
        "`padding` is -1, but",
    ),
    "precision": (
        lambda: ctep.with_precision(STUDENT, "float8"),
        ValueError,
        "`precision` is 'float8', but",
    ),
    "pool leaves nothing": (
        lambda: ctep.MaxPool((1, 1, 3)),
        ValueError,
        r"`size` is \(2, 2\), which leaves nothing of an image of 1 x 1",
    ),
    "vgg pools too often": (
        lambda: vgg((4,) * 5),
        ValueError,
        r"`size` is \(2, 2\), which leaves nothing of an image of 1 x 1",
    ),
    "vgg without channels": (lambda: vgg(()), ValueError, r"`channels` is \(\), but"),
    "vgg pooled where": (
        lambda: vgg((4, 4), pooled=(3,)),
        ValueError,
        "`pooled` holds 3, but there are 2 convolutions",
    ),
    "vgg initialisers": (
        lambda: vgg((4, 4), init=[jax.nn.initializers.zeros] * 2),
        ValueError,
        "`init` holds 2 initialisers, but there are 3 couplings",
    ),
    "empty chain": (lambda: ctep.Chain(()), ValueError, "`operators` is empty, but"),
    "chain that breaks": (
        lambda: ctep.Chain((dense((4,), (3,)), dense((2,), (3,)))),
        ValueError,
        r"`operators` holds one that returns shape \(3,\) before one that takes",
    ),
    # differences
    "increment of another shape": (
        lambda: pushed(jnp.tanh, jnp.ones(2))(jnp.ones(3)),
        ValueError,
        r"`e` holds an increment of shape \(3,\), but its argument has shape \(2,\)",
    ),
    "increments of more": (
        lambda: pushed(jnp.tanh, jnp.ones(2))(jnp.ones(2), jnp.ones(2)),
        ValueError,
        "`e` has the structure .*: give each array an increment, or None",
    ),
    "increment of a callback": (
        lambda: pushed(lambda s: jax.pure_callback(np.sin, s, s), jnp.ones(2))(
            jnp.ones(2)
        ),
        NotImplementedError,
        "`function` uses the primitive `pure_callback`, which has neither a rule nor",
    ),
    "feedback pooled otherwise": (
        lambda: ctep.Coupling(
            1,
            2,
            ctep.MaxPool((4, 4, 1)),
            ctep.Fixed(1.0, ctep.SoftmaxPool((4, 4, 1))),
        ),
        ValueError,
        "`feedback` of the coupling 1 -> 2 pools in another way than its `forward`",
    ),
    "feedback of other parts": (
        lambda: ctep.Coupling(
            1,
            2,
            ctep.Chain((conv((4, 4, 1), 1), ctep.MaxPool((4, 4, 1)))),
            ctep.Fixed(1.0, ctep.MaxPool((4, 4, 1))),
        ),
        ValueError,
        "`feedback` of the coupling 1 -> 2 pools in another way than its `forward`",
    ),
    "pooled feedback": (pooled_back, ValueError, "`feedback` .* pools, but there is"),
    # nudges of hidden layers
    "local layer": (
        lambda: local((3,)),
        ValueError,
        "`layers` holds 3, but this network has the layers 1 to 2",
    ),
    "local layer twice": (
        lambda: local((1, 1)),
        ValueError,
        r"`layers` is \(1, 1\), which names a layer twice",
    ),
    "projections not drawn": (
        lambda: local((1,)),
        ValueError,
        "`projections` of `LocalError` is None, but",
    ),
    "projections of another network": (
        lambda: local((1,), projections=(dense((2,), (2,)),)),
        ValueError,
        r"`projections` maps \(2,\) to \(2,\) at layer 1, but",
    ),
    "patches of no images": (
        lambda: ctep.whitening(np.ones((4, 4, 1))),
        ValueError,
        r"`images` has shape \(4, 4, 1\), but",
    ),
    "a branch of one convolution": (
        lambda: blocks(branch_init=[jax.nn.initializers.zeros]),
        ValueError,
        "`branch_init` holds 1 initialisers, but",
    ),
    "a stem of other images": (
        lambda: blocks(stem=ctep.Skip((4, 4, 1))),
        ValueError,
        r"`stem` takes shape \(4, 4, 1\), but",
    ),
    "a skip to a smaller image": (
        lambda: ctep.Skip((4, 4, 1), (2, 2, 1)),
        ValueError,
        r"`out_shape` is \(2, 2, 1\), but",
    ),
    "a multiplier without end": (
        lambda: ctep.Multiplier((4,), math.inf),
        ValueError,
        "`value` is inf, but",
    ),
    "a pair of solvers in a pair": (
        lambda: ctep.Phases(ctep.Sweeps(), ctep.Phases(ctep.Sweeps(), ctep.Sweeps())),
        ValueError,
        "`nudged` is a pair of solvers, but",
    ),
    "no pairs": (taught, ValueError, "`pairs` is empty, but"),
    "mapping": (
        lambda: taught((1, 1), mapping="dense"),
        ValueError,
        "`mapping` is 'dense', but must be None or 'linear'",
    ),
    "teacher of other data": (
        lambda: taught((1, 1), teacher=ctep.mlp((5, 3, 2), key=KEY)),
        ValueError,
        r"`teacher` takes inputs of shape \(5,\), but the student takes \(4,\)",
    ),
    "teacher of another shape": (
        lambda: taught((1, 1), teacher=ctep.mlp((4, 5, 2), key=KEY)),
        ValueError,
        r"`pairs` joins layer 1 of shape \(3,\) to the teacher's layer 1 of shape \(5",
    ),
    "maps not drawn": (
        lambda: taught((1, 1), mapping="linear"),
        ValueError,
        "`maps` of `Distillation` is None, but",
    ),
    "maps of another network": (
        lambda: taught((1, 1), mapping="linear", maps=(dense((2,), (2,)),)),
        ValueError,
        r"`maps` leads from \(2,\) to \(2,\) at the pair \(1, 1\), but",
    ),
    # feed-forward twins
    "module with an image": (
        lambda: ctep.Module(lambda x: x, (2, 2)),
        ValueError,
        r"`module` returns outputs of shape \(2, 2\), but",
    ),
    "module nudged": (
        lambda: ctep.gradient(MODULE, *IMAGE),
        ValueError,
        "`network` is a feed-forward `ctep.Module`, which no nudge can move",
    ),
    "twin of an energy": (
        lambda: Bowl().without_feedback(),
        ValueError,
        "`network` is a Bowl, and an energy has no feed-forward twin",
    ),
    "twin of a loop": (
        lambda: LOOPED.without_feedback(),
        ValueError,
        "`network` couples layer 2 forward to layer 1, so it has no feed-forward twin",
    ),
    "module to align": (
        lambda: ctep.gradient(MODULE, *IMAGE, rule=ctep.FeedbackAlignment()),
        ValueError,
        "`network` is a Module, which has no feedback to be aligned with: pass `rule=",
    ),
    "alignment of tied feedback": (
        lambda: ctep.gradient(STUDENT, *IMAGE, rule=ctep.FeedbackAlignment()),
        ValueError,
        "`network` has tied feedback from layer 2 to 1, but",
    ),
    "circle around a clip": (
        lambda: ctep.gradient(
            ctep.mlp((4, 3, 2), activation=ctep.ReLU6(), key=KEY),
            *IMAGE,
            rule=CIRCLE,
        ),
        ValueError,
        r"`network` has the activation clip\(h, 0, 6\) in layer 1, which does not",
    ),
    "circle around a maximum": (
        lambda: ctep.gradient(
            ctep.vgg(
                (2, 2),
                classes=2,
                input_shape=(4, 4, 1),
                key=KEY,
                activation=ctep.Tanh(),
            ),
            jnp.ones((1, 4, 4, 1)),
            IMAGE[1],
            rule=CIRCLE,
        ),
        ValueError,
        "`network` takes a maximum between layers 1 and 2, which does not extend",
    ),
    "circle around an energy": (
        lambda: ctep.gradient(Bowl(), *IMAGE, rule=CIRCLE),
        ValueError,
        "`network` is a Bowl, which does not extend to complex states",
    ),
    "circle with another nudge": (
        lambda: ctep.gradient(
            STUDENT, *IMAGE, rule=CIRCLE, nudge=ctep.OutputError(Absolute())
        ),
        ValueError,
        r"`nudge` is OutputError\(loss=Absolute\(\)\), whose force is not known to",
    ),
    "turning with a frozen nudge": (
        lambda: ctep.gradient(
            STUDENT,
            *IMAGE,
            rule=ctep.Oscillating(),
            nudge=2.0 * ctep.Frozen(ctep.OutputError()),
        ),
        ValueError,
        "`nudge` is .*, frozen at the free state, but `Oscillating` has no free phase",
    ),
    "energy that cannot be tried": (
        lambda: ctep.Holomorphic().check(Bowl(), ctep.OutputError()),
        ValueError,
        "`network` is a Bowl, whose functions cannot be tried inside `jit`",
    ),
    "one period": (
        lambda: ctep.Oscillating(periods=1),
        ValueError,
        "`periods` is 1, but must be a whole number of at least 2: pass for example",
    ),
    "signs without a key": (
        lambda: ctep.gradient(STUDENT, *IMAGE, rule=ctep.RandomSign()),
        ValueError,
        "`key` is None, but `RandomSign` draws at random",
    ),
    "held beyond the target": (
        lambda: ctep.Coupled(1.5),
        ValueError,
        "`eta` is 1.5, but 1 already holds the output at its target",
    ),
    "held readout": (
        lambda: ctep.gradient(STUDENT, *IMAGE, rule=ctep.Coupled()),
        ValueError,
        "`network` reads its output out of the last layer, but only a layer can be",
    ),
    "held against labels": (
        lambda: ctep.gradient(
            ctep.mlp((4, 3, 2), readout=False, key=KEY), *IMAGE, rule=ctep.Coupled()
        ),
        ValueError,
        "`nudge` is .*, but the output is held between its state and a target value",
    ),
    "feedback edges without feedback": (
        lambda: ctep.graph(
            (4, 3, 3, 2),
            [(0, 1), (1, 2)],
            feedback_edges=[(2, 1)],
            feedback=None,
            key=KEY,
        ),
        ValueError,
        r"`feedback_edges` holds \(2, 1\), but `feedback` is None",
    ),
    # activations
    "slope": (lambda: ctep.Sigmoid(0.0), ValueError, "`slope` is 0.0, but"),
    "slope nan": (lambda: ctep.Sigmoid(np.nan), ValueError, "`slope` is nan, but"),
    "range": (lambda: ctep.Clip(1.0, 1.0), ValueError, "`lo` is 1.0 and `hi` is 1.0"),
    # layers
    "layer shape": (
        lambda: ctep.Layer((3, 0), ctep.Tanh()),
        ValueError,
        r"`shape` is \(3, 0\), but a layer needs at least one unit",
    ),
    "activation class": (
        lambda: ctep.Layer((3,), ctep.Tanh),
        TypeError,
        "`activation` is .*Tanh.*, but must be an activation object",
    ),
    "activation name": (
        lambda: ctep.mlp((4, 3, 2), activation="tanh", key=KEY),
        TypeError,
        "`activation` is 'tanh', but",
    ),
    "tau": (
        lambda: ctep.Layer((3,), ctep.Tanh(), tau=0.0),
        ValueError,
        "`tau` is 0.0, but a time constant must be positive",
    ),
    "bias": (
        lambda: ctep.Layer((2, 3), ctep.Tanh(), jnp.ones(2)),
        ValueError,
        r"`bias` has shape \(2,\), which does not broadcast to .* \(2, 3\)",
    ),
    "bias rank": (
        lambda: ctep.Layer((3,), ctep.Tanh(), jnp.ones((1, 3))),
        ValueError,
        r"`bias` has shape \(1, 3\)",
    ),
    # couplings
    "tied scale": (lambda: ctep.Tied(0.0), ValueError, "`scale` is 0.0, but a feed"),
    "fixed scale": (lambda: ctep.Fixed(-1.0), ValueError, "`scale` is -1.0, but"),
    "feedback zero": (
        lambda: ctep.mlp((4, 3, 3, 2), feedback=0, key=KEY),
        ValueError,
        r"`scale` is 0(\.0)?, but .* `feedback=None`",
    ),
    "own source": (
        lambda: ctep.Coupling(1, 1, dense((3,), (3,))),
        ValueError,
        "`target` of the coupling 1 -> 1 is its own source",
    ),
    "nothing": (
        lambda: ctep.Coupling(1, 2, None),
        ValueError,
        "`forward` and `feedback` of the coupling 1 -> 2 are both None",
    ),
    "tied to nothing": (
        lambda: ctep.Coupling(1, 2, None, ctep.Tied()),
        ValueError,
        "`feedback` of the coupling 1 -> 2 is Tied, but there is no `forward`",
    ),
    "fixed without weights": (
        lambda: ctep.Coupling(1, 2, dense((3,), (3,)), ctep.Fixed()),
        ValueError,
        "`feedback` of the coupling 1 -> 2 is Fixed without an `operator`",
    ),
    # networks
    "no layers": (
        lambda: ctep.Network((4,), [], []),
        ValueError,
        "`layers` is empty, but",
    ),
    "layer that is not there": (
        lambda: build(INPUT, ctep.Coupling(1, 3, dense((3,), (3,)))),
        ValueError,
        "`couplings` holds 1 -> 3, but the layers are numbered 1 to 2",
    ),
    "into the input": (
        lambda: build(INPUT, ctep.Coupling(1, 0, dense((3,), (4,)))),
        ValueError,
        "`couplings` holds 1 -> 0, but the layers are numbered",
    ),
    "twice": (
        lambda: build(INPUT, SQUARE, SQUARE),
        ValueError,
        "`couplings` holds 1 -> 2 twice",
    ),
    "forward shapes": (
        lambda: build(INPUT, ctep.Coupling(1, 2, dense((3,), (4,)))),
        ValueError,
        r"`couplings` holds 1 -> 2 with an operator from \(3,\) to \(4,\), but these "
        r"layers have shapes \(3,\) and \(3,\)",
    ),
    "feedback shapes": (
        lambda: build(
            INPUT,
            ctep.Coupling(1, 2, SQUARE.forward, ctep.Fixed(1.0, dense((2,), (3,)))),
        ),
        ValueError,
        r"`couplings` holds 1 -> 2 with an operator from \(2,\) to \(3,\)",
    ),
    "out of reach": (
        lambda: build(INPUT),
        ValueError,
        "`couplings` leaves layer 2 out of the input's reach",
    ),
    "reached by feedback alone": (
        lambda: build(
            INPUT, ctep.Coupling(1, 2, None, ctep.Fixed(1.0, SQUARE.forward))
        ),
        ValueError,
        "`couplings` leaves layer 2 out of",
    ),
    "readout": (
        lambda: build(INPUT, SQUARE, readout=ctep.Readout(dense((4,), (2,)))),
        ValueError,
        r"`readout` reads shape \(4,\), but the last layer has shape \(3,\)",
    ),
    "no energy": (no_energy, ValueError, "`energies` needs feedback that is tied eve"),
    "no potential": (
        lambda: Softplus().potential(0.5),
        ValueError,
        "`potential` is not defined by Softplus, so energies have no value",
    ),
    "no energy at all": (
        lambda: MODULE.energies(MODULE.zeros(jnp.ones((1, 4))), jnp.ones((1, 4))),
        ValueError,
        "`energies` is not defined, since this Module has no energy",
    ),
    # builders
    "too few sizes": (
        lambda: ctep.mlp((4, 3), key=KEY),
        ValueError,
        r"`sizes` is \(4, 3\), but .* at least 3",
    ),
    "too few layers": (
        lambda: ctep.mlp((4,), readout=False, key=KEY),
        ValueError,
        r"`sizes` is \(4,\), but .* at least 2",
    ),
    "size": (lambda: ctep.mlp((4, 0, 2), key=KEY), ValueError, "`sizes` holds 0, but"),
    "size of a shape": (
        lambda: ctep.mlp(((4, -1), 3, 2), key=KEY),
        ValueError,
        r"`sizes` holds \(4, -1\), but every size must be a positive integer",
    ),
    "edge to nowhere": (
        lambda: graph([(0, 1), (1, 4)]),
        ValueError,
        r"`edges` holds \(1, 4\), but the nodes are 0 \(the input\) to 3",
    ),
    "edge backwards": (
        lambda: graph([(0, 1), (2, 1)]),
        ValueError,
        r"`edges` holds \(2, 1\), but .* or use `feedback_edges`",
    ),
    "edge twice": (
        lambda: graph([(0, 1), (1, 2), (1, 2)]),
        ValueError,
        r"`edges` holds \(1, 2\) twice",
    ),
    "layer out of reach": (
        lambda: graph([(0, 1), (1, 2)]),
        ValueError,
        "`couplings` leaves layer 3 out of",
    ),
    "feedback edge forwards": (
        lambda: graph([(0, 1), (1, 2), (2, 3)], (1, 2)),
        ValueError,
        r"`feedback_edges` holds \(1, 2\), but .* or use `edges`",
    ),
    "feedback edge to the input": (
        lambda: graph([(0, 1), (1, 2), (2, 3)], (2, 0)),
        ValueError,
        r"`feedback_edges` holds \(2, 0\)",
    ),
    "feedback edge with nothing to share": (
        lambda: graph([(0, 1), (1, 2), (2, 3)], (3, 1)),
        ValueError,
        r"`feedback_edges` holds \(3, 1\), but there is no edge \(1, 3\)",
    ),
    # solvers
    "rtol": (lambda: ctep.Sweeps(rtol=-1e-3), ValueError, "`rtol` is -0.001, but"),
    "atol": (lambda: ctep.ODE(atol=np.nan), ValueError, "`atol` is nan, but"),
    "fixed point tolerance": (
        lambda: ctep.FixedPoint(rtol=-1.0),
        ValueError,
        "`rtol` is -1.0, but a tolerance must be 0 or more",
    ),
    "max_sweeps": (lambda: ctep.Sweeps(0), ValueError, "`max_sweeps` is 0, but"),
    "no relaxation": (
        lambda: ctep.Sweeps(relaxation=0.0),
        ValueError,
        r"`relaxation` is 0.0, but .* within \(0, 2\)",
    ),
    "relaxation": (
        lambda: ctep.Sweeps(relaxation=2.0),
        ValueError,
        "`relaxation` is 2.0, but",
    ),
    "gather all": (
        lambda: ctep.Sweeps(gather=(1.0,)),
        ValueError,
        r"`gather` is \(1.0,\), but holds shares .* that fall within \(0, 1\)",
    ),
    "gather more and more": (
        lambda: ctep.Sweeps(gather=(0.1, 0.5)),
        ValueError,
        r"`gather` is \(0.1, 0.5\), but",
    ),
    "max_steps": (
        lambda: ctep.FixedPoint(max_steps=0),
        ValueError,
        "`max_steps` is 0, but",
    ),
    "implicit and explicit": (
        lambda: ctep.ODE(dfx.KenCarp4()),
        ValueError,
        "`solver` is a KenCarp4, which is for equations of several terms",
    ),
    "noise": (
        lambda: ctep.Oscillating(solver=dfx.EulerHeun()),
        ValueError,
        "`solver` is a EulerHeun, which is for equations of several terms",
    ),
    "times": (
        lambda: ctep.ODE(dfx.Euler(), dfx.StepTo(jnp.linspace(0, 1, 3))),
        ValueError,
        "`stepsize_controller` is a StepTo, whose times are fixed",
    ),
    "bisection": (
        lambda: ctep.FixedPoint(optx.Bisection(1e-5, 1e-5)),
        ValueError,
        "`solver` is a Bisection, which finds one number",
    ),
    "no step": (
        lambda: ctep.fit(
            network(), data(), optimizer=optax.adamw(1e-3, mask=network().trainable())
        ),
        ValueError,
        "`optimizer` cannot take a step",
    ),
    "narrow": (
        lambda: ctep.fit(
            jax.tree.map(
                lambda v: v.astype("float16") if eqx.is_inexact_array(v) else v,
                network(),
            ),
            data(),
        ),
        ValueError,
        "`network` is float16, in which a step of training",
    ),
    "traced": (
        lambda: eqx.filter_jit(ctep.analysis.weight_statistics)(network()),
        TypeError,
        "`network` is traced, but `weight_statistics` needs",
    ),
    "t1": (lambda: ctep.ODE(t1=0.0), ValueError, "`t1` is 0.0, but a time must be"),
    "interval": (lambda: ctep.ODE(interval=-1.0), ValueError, "`interval` is -1.0"),
    "dt0": (
        lambda: ctep.ODE(dfx.Euler(), dfx.ConstantStepSize()),
        ValueError,
        "`dt0` is None, but a constant step size needs it",
    ),
    # nudges and rules
    "weight": (
        lambda: ctep.OutputError() * "a",
        TypeError,
        "`weight` is 'a', but must be a number or a function of the epoch",
    ),
    "order of a norm": (
        lambda: ctep.operator_norm(SQUARE.forward, 3),
        ValueError,
        "`order` is 3, but a norm is that of order 1, 2 or infinity",
    ),
    "weight of no epoch": (
        lambda: (ctep.linear(0.5, 3) * ctep.OutputError()).cost(STUDENT, (), IMAGE[1]),
        ValueError,
        r"`weight` is _Linear\(start=0.5, epochs=3\), a function of the epoch, but a",
    ),
    "beta": (lambda: ctep.Centered(0.0), ValueError, "`beta` is 0.0, but must be"),
    "beta negative": (lambda: ctep.OneSided(-0.1), ValueError, "`beta` is -0.1, but"),
    "beta nan": (lambda: ctep.Centered(np.nan), ValueError, "`beta` is nan, but"),
    "no feedback": (
        lambda: gradient(net=ctep.mlp((4, 3, 3, 3), feedback=None, key=KEY)),
        ValueError,
        "`network` has no feedback, so no nudge moves layer 1",
    ),
    "gradients beyond numbers": (
        lambda: ctep.Centered(rescale=False).check(deep(), ctep.OutputError()),
        ValueError,
        "`rescale` is False, so that gradients are as small",
    ),
    "negative feedback has no edge": (
        lambda: ctep.edge_of_chaos(ctep.Tanh(), feedback=-0.1),
        ValueError,
        "`feedback` is -0.1, but must be 0 or more",
    ),
    "one layer is no stack": (
        lambda: stack(shape=(1, 3)),
        ValueError,
        r"`shape` is \(1, 3\), but must hold a depth of at least 2",
    ),
    "stack of another depth": (
        lambda: stack(shape=(4, 3)),
        ValueError,
        r"`forward` has arrays whose first axis is \[\(2,\)\]",
    ),
    "stack that learns": (
        lambda: stack(activation=Gain(jnp.ones(()))),
        ValueError,
        "`activation` has arrays, of which every layer needs its own",
    ),
    "local error in a stack": (
        lambda: ctep.LocalError((1, 2)).heads(STACKED),
        ValueError,
        r"`layers` is \(1, 2\), but this network has stacks",
    ),
    "held stack": (
        lambda: ctep.Coupled().check(
            ctep.Network((3,), list(STACKED.layers), [INTO]),
            ctep.OutputError(ctep.SquaredError()),
        ),
        ValueError,
        "`network` has its outputs within a stack",
    ),
    "no edge of chaos": (
        lambda: ctep.edge_of_chaos(ctep.Sigmoid()),
        ValueError,
        "`variance` is 0.05, but with a gain of 4",
    ),
    "orbit of a gain": (
        lambda: ctep.Oscillating().check(
            ctep.mlp((4, 3, 2), activation=Gain(jnp.ones(())), key=KEY),
            ctep.OutputError(),
        ),
        ValueError,
        "`network` has an activation with arrays of its own in layer 1",
    ),
    "a gain that is held": (
        lambda: ctep.Coupled().check(
            ctep.mlp((4, 3, 2), activation=Gain(jnp.ones(())), readout=False, key=KEY),
            ctep.OutputError(ctep.SquaredError()),
        ),
        ValueError,
        "`network` has an activation with arrays of its own in its last layer",
    ),
    "energy of each unit": (
        lambda: gradient(y=np.array([0, 1]), net=Vector()),
        ValueError,
        r"`energy` of `Vector` returns an array of shape \(2,\)",
    ),
    "masked field": (
        lambda: Pinned(np.ma.masked_less(np.ones(2), 2)),
        TypeError,
        "`pins` is a masked array, whose mask no array of JAX knows",
    ),
    "derivative of a gradient": (
        lambda: jax.grad(lambda x: underived(x, x).sum())(jnp.ones(2)),
        ValueError,
        "`gradient` has no derivative, since the phases behind it stop",
    ),
    # the gradient
    "network": (
        lambda: gradient(net="mlp"),
        TypeError,
        "`network` is 'mlp', but must be a network",
    ),
    "nudge": (
        lambda: gradient(nudge=ctep.CrossEntropy()),
        TypeError,
        r"`nudge` is CrossEntropy\(\), but must be a nudge",
    ),
    "rule": (
        lambda: gradient(rule="centered"),
        TypeError,
        "`rule` is 'centered', but must be a rule: pass for example `ctep.Centered",
    ),
    "rule class": (
        lambda: gradient(rule=ctep.Centered),
        TypeError,
        "`rule` is the class Centered, but must be a rule",
    ),
    "solver": (
        lambda: gradient(solver=dfx.Tsit5()),
        TypeError,
        r"`solver` is Tsit5\(.*\), but must be a solver",
    ),
    "x shape": (
        lambda: gradient(np.ones((2, 5))),
        ValueError,
        r"`x` has shape \(2, 5\), but this network needs \(batch, 4\)",
    ),
    "x of one example": (
        lambda: gradient(np.ones(4)),
        ValueError,
        r"`x` has shape \(4,\), but",
    ),
    "x of no axes": (lambda: gradient(1.0), ValueError, r"`x` has shape \(\), but"),
    "x empty": (
        lambda: gradient(np.ones((0, 4)), np.zeros(0, int)),
        ValueError,
        "`x` is empty, but",
    ),
    "x dtype": (
        lambda: gradient(np.ones((2, 4), np.uint8)),
        TypeError,
        "`x` has dtype uint8, but states are real",
    ),
    "x nan": (
        lambda: gradient(np.full((2, 4), np.nan)),
        ValueError,
        "`x` holds NaN or infinity",
    ),
    "y count": (
        lambda: gradient(y=np.array([0, 1, 2])),
        ValueError,
        r"`y` has shape \(3,\), but `x` holds 2 examples",
    ),
    "y of no axes": (lambda: gradient(y=1), ValueError, r"`y` has shape \(\), but"),
    "y rank": (
        lambda: gradient(y=np.zeros((2, 3), int)),
        ValueError,
        r"`y` has shape \(2, 3\), but labels are one integer per example",
    ),
    "y values": (
        lambda: gradient(y=np.zeros((2, 4))),
        ValueError,
        r"`y` has shape \(2, 4\) and dtype float32, but .* \(batch, 3\)",
    ),
    "y labels of floats": (
        lambda: gradient(y=np.zeros(2)),
        ValueError,
        r"`y` has shape \(2,\) and dtype float32, but .* integer labels \(batch,\)",
    ),
    "label": (
        lambda: gradient(y=np.array([0, 3])),
        ValueError,
        "`y` holds the label 3, but this network has the classes 0 to 2",
    ),
    "label negative": (
        lambda: gradient(y=np.array([-1, 0])),
        ValueError,
        "`y` holds the label -1, but",
    ),
    "y nan": (
        lambda: gradient(y=np.full((2, 3), np.inf)),
        ValueError,
        "`y` holds NaN or infinity",
    ),
    "output of two axes": (
        lambda: gradient(net=image_output()),
        ValueError,
        r"`nudge` compares outputs of shape \(2, 2\) with a target",
    ),
    "nested nudge": (
        lambda: gradient(
            y=np.zeros((2, 4)),
            nudge=ctep.Frozen(ctep.OutputError()) + 0.5 * ctep.OutputError(),
        ),
        ValueError,
        r"`y` has shape \(2, 4\)",
    ),
    # misspelt keywords
}

CASES |= {
    # numbers, shapes and weights that no array has
    "number beyond arrays": (
        lambda: ctep.Tied(2**63),
        ValueError,
        "`scale` is 9223372036854775808, which no array can hold: pass for example",
    ),
    "shape beyond arrays": (
        lambda: dense((2**31,), (3,)),
        ValueError,
        r"`in_shape` is \(2147483648,\), which no array can have",
    ),
    "shape of nothing": (
        lambda: dense((4, 0), (3,)),
        ValueError,
        r"`in_shape` is \(4, 0\), but must hold positive whole numbers",
    ),
    "weights of another shape": (
        lambda: ctep.mlp((4, 3, 2), init=lambda *args: jnp.ones(3), key=KEY),
        ValueError,
        r"`init` is .*, which returns an array of shape \(3,\), but weights are floats",
    ),
    "maps too few": (
        lambda: ctep.LocalError((1, 2), projections=(dense((3,), (2,)),)),
        ValueError,
        "`projections` holds 1 operators, but 2 are needed",
    ),
    "turn of endless steps": (
        lambda: ctep.Oscillating(period=1e300),
        ValueError,
        "`period` is 1e[+]300, but with `dt` of 0.5 it takes 2e[+]300 steps",
    ),
}

# Objects of the wrong kind, which a type checker would refuse but Python does not,
# and the argument that the message is about.
chain = ctep.mlp((6, 4, 4, 4, 3), feedback=0.1, stack=True, key=KEY)
ended = ctep.mlp((4, 3, 3, 3), readout=False, stack=True, key=KEY)


CASES |= {
    # stacks, and the edge of chaos
    "a stack of one layer": (
        lambda: ctep.Stack((1, 4), ctep.Tanh(), None, 1.0, chain.layers[0].forward),
        ValueError,
        r"`shape` is .* a depth of at least 2",
    ),
    "a stack of parametric activations": (
        lambda: ctep.Stack(
            (3, 4), Gain(jnp.ones(())), None, 1.0, chain.layers[0].forward
        ),
        ValueError,
        "`activation` has arrays, of which every layer needs its own",
    ),
    "a stack with one operator for all": (
        lambda: ctep.Stack((3, 4), ctep.Tanh(), None, 1.0, dense((4,), (4,))),
        ValueError,
        "`forward` has arrays whose first axis",
    ),
    "a nudge within a stack": (
        lambda: ctep.gradient(
            chain,
            np.ones((2, 6)),
            [0, 2],
            nudge=ctep.OutputError() + ctep.LocalError((1, 2)),
        ),
        ValueError,
        r"`layers` is \(1, 2\), but this network has stacks",
    ),
    "a held output within a stack": (
        lambda: ctep.gradient(ended, np.ones((2, 4)), [0, 2], rule=ctep.Coupled()),
        ValueError,
        "`network` has its outputs within a stack, which cannot be held alone",
    ),
    "fewest layers of a stack": (
        lambda: chain.stacked(1),
        ValueError,
        "`least` is 1, but must be a whole number of at least 2",
    ),
    "edge of negative feedback": (
        lambda: ctep.edge_of_chaos(ctep.Tanh(), feedback=-0.1),
        ValueError,
        r"`feedback` is -0.1, but must be 0 or more",
    ),
}


CASES |= {
    "weights in another order of bytes": (
        lambda: gradient(
            net=eqx.tree_at(lambda n: n.layers[0].bias, network(), np.zeros(5, ">f4"))
        ),
        TypeError,
        "`network` holds an array of dtype >f4, which JAX does not have",
    ),
    # what is often taken for something else
    "rate": (
        lambda: ctep.fit(network(), data(), lr=0.1),  # pyright: ignore[reportCallIssue]
        TypeError,
        "`lr` is no argument, .*: pass `optimizer=optax.adam",
    ),
    "rate by its name": (
        lambda: ctep.fit(network(), data(), learning_rate=0.1),  # pyright: ignore[reportCallIssue]
        TypeError,
        "`learning_rate` is no argument",
    ),
    "result": (
        lambda: ctep.predict(result(), data()[0]),
        TypeError,
        "`network` is .* the class Result, but .*: pass its `network`, as in `result.",
    ),
    "relu of JAX": (
        lambda: ctep.mlp((4, 5, 3), activation=jax.nn.relu, key=KEY),
        TypeError,
        r"`activation` is the function relu, but .*: pass `ctep.ReLU\(\)`, or for a",
    ),
    "function of one's own": (
        lambda: ctep.mlp((4, 5, 3), activation=lambda h: h, key=KEY),
        TypeError,
        "`activation` is the function <lambda>, .* `ctep.AbstractActivation`",
    ),
    "loss for a nudge": (
        lambda: gradient(nudge=ctep.SquaredError()),
        TypeError,
        r"`nudge` is .*, `ctep.OutputError\(ctep.SquaredError\(\)\)`",
    ),
    "own loss for a nudge": (
        lambda: gradient(nudge=Odd()),
        TypeError,
        r"`nudge` is .*, `ctep.OutputError\(loss\)`",
    ),
    "schedule": (
        lambda: ctep.fit(
            network(), data(), optimizer=optax.cosine_decay_schedule(0.1, 10)
        ),
        TypeError,
        r"`optimizer` is the function schedule, .* `optax.adam\(schedule\)`",
    ),
    **{
        f"state that is not unpacked: {name}": (
            call,
            ValueError,
            r"`network` is of the class Packed, whose `energy\(state, x\)` fails .*, "
            r"so unpack it, one alone by `\(s,\) = state`",
        )
        for name, call in {
            "fit": lambda: ctep.fit(packed(), data()),
            "fit, implicit": lambda: ctep.fit(packed(), data(), rule=ctep.Implicit()),
            "gradient": lambda: gradient(net=packed()),
            "settle": lambda: ctep.settle(packed(), np.ones((2, 4))),
        }.items()
    },
}


KINDS = {
    "y masked": (
        lambda: gradient(y=np.ma.array([0, 2], mask=[False, True])),
        "y",
    ),
    "x of masked rows": (
        lambda: gradient([np.ma.array(np.ones(4), mask=[0, 0, 1, 0])] * 2),
        "x",
    ),
    "x masked in an analysis": (
        lambda: ctep.analysis.spectral_radius(
            network(), np.ma.array(np.ones((1, 4)), mask=[[0, 0, 1, 0]])
        ),
        "x",
    ),
    "y that would wrap": (lambda: gradient(y=np.array([0, 2**32 + 2])), "y"),
    "y that would wrap, in a list": (lambda: gradient(y=[0, 2**32 + 2]), "y"),
    "y unsigned that would wrap": (
        lambda: gradient(y=np.array([0, 2**32 + 2], np.uint64)),
        "y",
    ),
    "x that would overflow": (lambda: gradient(np.full((2, 4), 1e39)), "x"),
    "x of objects": (lambda: gradient(np.ones((2, 4), object)), "x"),
    "x of records": (lambda: gradient(np.zeros(2, [("a", float, 4)])), "x"),
    "y beyond arrays": (lambda: gradient(y=-(2**63)), "y"),
    "norm of a layer": (lambda: ctep.operator_norm(STUDENT.layers[0]), "operator"),
    "weight of an array": (lambda: np.ones(2) * ctep.OutputError(), "weight"),
    "edges of no axes": (lambda: graph(np.array(3)), "edges"),
    "sizes of no axes": (lambda: ctep.mlp(np.array(3), key=KEY), "sizes"),
    "bias of integers": (lambda: ctep.Layer((3,), ctep.Tanh(), jnp.arange(3)), "bias"),
    "bias of a list": (lambda: ctep.Readout(dense((3,), (2,)), [0.0, 0.0]), "bias"),
    "init of nothing": (lambda: ctep.mlp((4, 3, 2), init=3, key=KEY), "init"),
    "init of one argument": (lambda: ctep.mlp((4, 3, 2), init=len, key=KEY), "init"),
    "epoch of many": (lambda: gradient(epoch=jnp.zeros(2, int)), "epoch"),
    "epoch of a half": (lambda: gradient(epoch=0.5), "epoch"),
    "throw of text": (lambda: gradient(throw="no"), "throw"),
    "beta of truth": (lambda: ctep.Centered(True), "beta"),
    "tau of text": (lambda: ctep.Layer((3,), ctep.Tanh(), tau="1"), "tau"),
    "range of text": (lambda: ctep.Clip("0", 1.0), "lo"),
    "feedback of a number": (lambda: ctep.Fixed(0.5, 1), "operator"),
    "coupling by name": (lambda: ctep.Coupling("in", 1, SQUARE.forward), "source"),
    "readout of text": (lambda: ctep.mlp((4, 3, 2), readout="no", key=KEY), "readout"),
    "difference of a number": (lambda: ctep.difference(3), "function"),
    "module of text": (lambda: ctep.Module("net", (4,)), "module"),
    "operators alone": (lambda: ctep.Chain(dense((4,), (3,))), "operators"),
    "pool of text": (lambda: vgg((4,), pool="max"), "pool"),
    "maps of numbers": (lambda: ctep.LocalError((1,), projections=(3,)), "projections"),
    "recipe of a number": (lambda: ctep.recipes.get(5), "recipe"),
    "x of text": (lambda: gradient("abc"), "x"),
    "x ragged": (lambda: gradient([[1.0, 2.0], [3.0]]), "x"),
    "y of text": (lambda: gradient(y=np.array(["cat", "dog"])), "y"),
    "y complex": (lambda: gradient(y=np.zeros((2, 3), complex)), "y"),
    "size of text": (lambda: ctep.mlp(("784", 3, 2), key=KEY), "sizes"),
    "size of a half": (lambda: ctep.mlp((4, 2.5, 2), key=KEY), "sizes"),
    "sizes of one number": (lambda: ctep.mlp(784, key=KEY), "sizes"),
    "graph of an input": (lambda: graph([], sizes=(4,)), "sizes"),
    "graph of nothing": (lambda: graph([], sizes=()), "sizes"),
    "key": (lambda: ctep.mlp((4, 3, 2), key=0), "key"),
    "feedback name": (
        lambda: ctep.mlp((4, 3, 3, 2), feedback="tied", key=KEY),
        "feedback",
    ),
    "feedback class": (
        lambda: ctep.mlp((4, 3, 3, 2), feedback=ctep.Tied, key=KEY),
        "feedback",
    ),
    "feedback number": (lambda: ctep.Coupling(1, 2, SQUARE.forward, 0.5), "feedback"),
    "edge of three": (lambda: graph([(0, 1, 2)]), "edges"),
    "edge of one": (lambda: graph([0, 1]), "edges"),
    "edge of a half": (lambda: graph([(0, 1), (1.0, 2)]), "edges"),
    "layer shape": (lambda: ctep.Layer(3, ctep.Tanh()), "shape"),
    "layers": (lambda: ctep.Network((4,), [3], [INPUT]), "layers"),
    "readout": (
        lambda: build(INPUT, SQUARE, readout=dense((3,), (2,))),
        "readout",
    ),
    "readout bias": (
        lambda: build(
            INPUT, SQUARE, readout=ctep.Readout(dense((3,), (2,)), jnp.ones(5))
        ),
        "bias",
    ),
    "operator": (
        lambda: build(ctep.Coupling(0, 1, jnp.ones((4, 3))), SQUARE),
        "forward",
    ),
    "max_sweeps of a half": (lambda: ctep.Sweeps(2.5), "max_sweeps"),
    "max_sweeps of text": (lambda: ctep.Sweeps("10"), "max_sweeps"),
    "tolerance": (lambda: ctep.Sweeps(rtol=None), "rtol"),
    "gather of a number": (lambda: ctep.Sweeps(gather=0.25), "gather"),
    "gather of text": (lambda: ctep.Sweeps(gather=("0.25",)), "gather"),
    "order class": (lambda: ctep.Sweeps(order=ctep.Forward), "order"),
    "order name": (lambda: ctep.Sweeps(order="forward"), "order"),
    "ode solver class": (lambda: ctep.ODE(dfx.Euler), "solver"),
    "step backwards": (lambda: ctep.ODE(dt0=-0.1), "dt0"),
    "fixed point solver": (lambda: ctep.FixedPoint("newton"), "solver"),
    "beta of text": (lambda: ctep.Centered("0.1"), "beta"),
    "implicit tolerance": (lambda: ctep.Implicit(-1.0), "tolerance"),
    "implicit restart": (lambda: ctep.Implicit(restart=0), "restart"),
    "circle of no size": (lambda: ctep.Holomorphic(0.0), "radius"),
    "circle of no points": (lambda: ctep.Holomorphic(points=0), "points"),
    "turn of no size": (lambda: ctep.Oscillating(radius=0.0), "radius"),
    "turn for ever": (lambda: ctep.Oscillating(period=np.inf), "period"),
    "turn in no time": (lambda: ctep.Oscillating(period=-1.0), "period"),
    "turn in no steps": (lambda: ctep.Oscillating(dt=0.0), "dt"),
    "turn of two points": (lambda: ctep.Oscillating(points=2), "points"),
    "turn by name": (lambda: ctep.Oscillating(solver="heun"), "solver"),
    "random sign of nothing": (lambda: ctep.RandomSign(0.0), "beta"),
    "ramp of no size": (lambda: ctep.Ramped(0.0), "beta"),
    "ramp in no steps": (lambda: ctep.Ramped(steps=0), "steps"),
    "ramp in half a step": (lambda: ctep.Ramped(steps=0.5), "steps"),
    "key of a rule": (lambda: gradient(key=0), "key"),
    "held nowhere": (lambda: ctep.Coupled(0.0), "eta"),
    "unrolled steps": (lambda: ctep.Unrolled(0), "steps"),
    "unrolled truncate": (lambda: ctep.Unrolled(truncate=0), "truncate"),
    "unrolled beyond": (lambda: ctep.Unrolled(10, truncate=11), "truncate"),
    "implicit steps": (lambda: ctep.Implicit(max_steps=0), "max_steps"),
    "loss class": (lambda: ctep.OutputError(ctep.SquaredError), "loss"),
    "loss name": (lambda: ctep.OutputError("mse"), "loss"),
    "smoothing": (lambda: ctep.CrossEntropy(label_smoothing=1.0), "label_smoothing"),
    "frozen loss": (lambda: ctep.Frozen(ctep.CrossEntropy()), "nudge"),
}


def origin(error):
    """Return the file and line that raised."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return Path(frame.filename), frame.lineno


def is_sentence(text):
    """Return whether `text` is one sentence that begins with an argument's name."""
    inner = text.replace("e.g. ", "").rstrip(".?")
    one = not re.search(r"[.?!]\s+\w", inner) and "\n" not in text
    return one and re.match(r"`[\w=]+` ", text) and text[-1] in ".?"


@pytest.mark.parametrize("name", CASES)
def test_message(name):
    """Oracle: the sentence, which names the argument and what it got."""
    call, kind, pattern = CASES[name]
    with pytest.raises(kind, match="^" + pattern) as caught:
        call()
    assert type(caught.value) is kind
    assert is_sentence(str(caught.value))
    assert PACKAGE in origin(caught.value)[0].parents


@pytest.mark.parametrize("name", KINDS)
def test_wrong_kinds_get_a_sentence(name):
    """Oracle: the argument that is named; the package itself answers, not JAX."""
    call, argument = KINDS[name]
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    assert PACKAGE in origin(caught.value)[0].parents
    assert f"`{argument}`" in str(caught.value)
    assert is_sentence(str(caught.value))


def _raised():
    """Return the file and line of every ValueError and TypeError of the folders."""
    files = [path for folder in FOLDERS for path in (PACKAGE / folder).glob("*.py")]
    found = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            call = node.exc if isinstance(node, ast.Raise) else None
            if isinstance(call, ast.Call) and call.func.id in KNOWN:
                found.add((path, node.lineno))
    return found


def test_every_message_is_tested():
    """Oracle: the source, in which each `raise` has a case that reaches it."""
    reached = set()
    for call, *_ in (*CASES.values(), *KINDS.values()):
        try:
            call()
        except (ValueError, TypeError, NotImplementedError) as error:
            reached.add(origin(error))
    raised = _raised()
    assert len(raised) > 30
    assert sorted(f"{path.name}:{line}" for path, line in raised - reached) == []


# ------------------------------------------------------------ drawn at random

FLOATS = "float16", "float32", "float64"
INTEGERS = "int8", "uint8", "int32", "int64"
dtypes = st.sampled_from((*FLOATS, *INTEGERS, "bool", "complex64"))
shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)
shapes_of_x = st.sampled_from([(2, 4), (2, 4, 1), (4,), (2, 3), (0, 4), ()])
shapes_of_y = st.sampled_from([(2,), (2, 3), (1,), (2, 1), (3,), ()])
values = st.sampled_from([0.0, 1.0, 2.0, 3.0, -1.0, np.nan, np.inf])


def _is_valid(x, y):
    """Return whether the documentation allows this batch; bits are undecided."""
    right = x.ndim == 2 and x.shape[1] == 4 and len(x) > 0 and x.dtype.kind == "f"
    if not right or not np.all(np.isfinite(x)):
        return False
    if y.dtype.kind in "iu":
        return y.shape == (len(x),) and 0 <= y.min() and y.max() < 3
    return y.shape == (len(x), 3) and y.dtype.kind in "fb" and np.all(np.isfinite(y))


def _fill(shape, dtype, value):
    with np.errstate(invalid="ignore"):
        if np.dtype(dtype).kind not in "fc" and not np.isfinite(value):
            value = 0
        if np.dtype(dtype).kind == "u":
            value = abs(value)
        return np.full(shape, value).astype(dtype)


def _answered(x, y):
    with pytest.raises((Accepted, ValueError, TypeError)) as caught:
        gradient(x, y)
    if _is_valid(x, y):
        assert caught.type is Accepted
    else:
        assert caught.type in (ValueError, TypeError)
        assert PACKAGE in origin(caught.value)[0].parents
        assert is_sentence(str(caught.value))


drawn = functools.partial(
    settings,
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@drawn()
@given(x=st.builds(_fill, shapes_of_x | shapes, dtypes, values))
def test_any_inputs_are_accepted_or_answered_with_a_sentence(x):
    """Oracle: the documented shapes and dtypes; nothing from inside JAX."""
    _answered(x, np.array([0, 2]))


@drawn()
@given(y=st.builds(_fill, shapes_of_y | shapes, dtypes, values))
def test_any_targets_are_accepted_or_answered_with_a_sentence(y):
    """Oracle: the documented shapes, dtypes and labels; nothing from inside JAX."""
    _answered(np.ones((2, 4), np.float32), y)


def test_valid_batches_of_every_dtype_are_accepted():
    """Oracle: the documentation; `accepted` is where compilation would start."""
    for dtype in FLOATS[:2]:
        for labels in INTEGERS[:3]:
            with pytest.raises(Accepted):
                gradient(np.ones((2, 4), dtype), np.array([0, 2], labels))
        with pytest.raises(Accepted):
            gradient(np.ones((2, 4), dtype), np.ones((2, 3), dtype))
