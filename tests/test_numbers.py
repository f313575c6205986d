"""Numbers of NumPy and JAX as hyperparameters: the Python number, and nothing else."""

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import matrix
import numpy as np
import optax
import pytest

import ctep

FLOATS = (np.float64, np.float32, np.float16, np.array, jnp.float32)
WHOLE = (np.int64, np.uint8, np.array, jnp.int32)
KEY = jax.random.key(0)

# What a constructor cannot do without, and values for numbers that are None or wrong
# for every wrapper, since 0.25 is the same in each dtype and 200 is a byte.
NEEDED = {
    "Clip": {"lo": 0.0, "hi": 1.0},
    "Layer": {"shape": (3,), "activation": ctep.Tanh()},
    "Stack": {
        "shape": (3, 4),
        "activation": ctep.Tanh(),
        "forward": ctep.mlp((4, 4, 4, 4, 2), stack=True, key=KEY).layers[0].forward,
    },
    "Fixed": {},
    "Coupling": {
        "source": 1,
        "target": 2,
        "forward": ctep.Dense((3,), (2,), key=KEY),
    },
    "LocalError": {"layers": (1,)},
    "Distillation": {"teacher": ctep.mlp((4, 3, 2), key=KEY), "pairs": [(1, 1)]},
    "AveragePool": {"in_shape": (4, 4, 1)},
    "MaxPool": {"in_shape": (4, 4, 1)},
    "SoftmaxPool": {"in_shape": (4, 4, 1)},
    "Skip": {"in_shape": (4, 4, 1)},
    "Multiplier": {"in_shape": (4, 4, 1)},
    "Conv": {"in_shape": (4, 4, 1), "channels": 2, "key": KEY},
    "Dense": {"in_shape": (3,), "out_shape": (2,), "key": KEY},
    "linear": {"start": 0.5, "epochs": 4},
    "exponential": {"start": 0.5},
    "cosine": {"start": 0.5, "epochs": 4},
    "mlp": {"sizes": (4, 3, 2), "key": KEY},
    "graph": {"sizes": (4, 3, 2), "edges": [(0, 1)], "key": KEY},
    "vgg": {"channels": (2,), "dense": (), "classes": 2, "input_shape": (4, 4, 1)}
    | {"key": KEY},
    "hopfield_resnet": {"channels": (2,), "classes": 2, "input_shape": (4, 4, 1)}
    | {"key": KEY},
    "residual": {"channels": (2,), "classes": 2, "input_shape": (4, 4, 1), "key": KEY},
    "whitening": {"images": np.ones((2, 4, 4, 1))},
}
# Of which 0.25 is none, or above another.
VALUES = {
    "ODE.dt0": 0.5,
    "Implicit.tolerance": 0.25,
    "Unrolled.truncate": 20,
    "Watch.patience": 5,
    "Oscillating.points": 8,
    "Pipeline.mean": 0.25,
    "Pipeline.std": 0.25,
}


def _plain(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


def cases():
    owners = [ctep, ctep.data]
    for name, make in [(n, getattr(o, n)) for o in owners for n in sorted(dir(o))]:
        made = inspect.isclass(make) and dataclasses.is_dataclass(make)
        if name[0].isupper() and (not made or inspect.isabstract(make)):
            continue
        if name == "Head" or (not made and name not in NEEDED):
            continue  # a head is what a nudge tells, and not what a user passes
        signature = inspect.signature(make).parameters
        for parameter in signature.values():
            own = NEEDED.get(name, {})
            value = own.get(parameter.name, parameter.default)
            value = VALUES.get(f"{name}.{parameter.name}", value)
            if _plain(value):
                kept = 0.25 if value in (float("inf"),) else value
                yield name, make, {**own, parameter.name: kept}, parameter.name


@pytest.mark.parametrize(
    ("make", "options", "name"),
    [pytest.param(*rest, id=f"{n}-{rest[-1]}") for n, *rest in cases()],
)
def test_a_number_of_any_library_is_that_number(make, options, name):
    """Oracle: what the Python number of the same value makes: types, hash, leaves."""
    value = options[name]
    kinds = WHOLE if isinstance(value, int) else FLOATS
    for kind in kinds:
        if isinstance(value, int) and kind is np.uint8 and value > 255:
            continue
        got = make(**options | {name: kind(value)})
        wanted = make(**options | {name: kind(value).item()})
        assert_same(got, wanted)


def assert_same(got, wanted):
    leaves, tree = jax.tree_util.tree_flatten(got)
    others, other = jax.tree_util.tree_flatten(wanted)
    assert tree == other
    assert hash(tree) == hash(other)
    for u, v in zip(leaves, others, strict=True):
        assert type(u) is type(v)
        assert np.array_equal(u, v)
    # A dataclass that is no module is a leaf.
    assert repr(got) == repr(wanted)


def test_all_constructors_are_walked():
    """Oracle: the axes of the library, of which each has numbers."""
    walked = {name for name, *_ in cases()}
    rules = {"OneSided", "Centered", "RandomSign", "Ramped", "Holomorphic", "Coupled"}
    rules |= {"Oscillating", "Implicit", "Unrolled"}
    solvers = {"Sweeps", "FixedSweeps", "ODE", "FixedPoint"}
    others = {
        "Sigmoid",
        "Clip",
        "Layer",
        "Stack",
        "Tied",
        "Fixed",
        "Coupling",
        "LocalError",
    }
    others |= {"Distillation", "Watch", "Pipeline", "SoftmaxPool", "Conv", "cosine"}
    assert rules | solvers | others <= walked


@pytest.mark.parametrize("kind", [np.float32, np.float64, jnp.float32, np.array])
def test_weights_and_feedback(kind):
    """Oracle: the same nudge and network, of the Python number."""
    assert_same(kind(0.5) * ctep.OutputError(), 0.5 * ctep.OutputError())
    assert_same(ctep.OutputError() * kind(0.5), 0.5 * ctep.OutputError())
    networks = [ctep.mlp((4, 3, 2), feedback=f, key=KEY) for f in (kind(0.5), 0.5)]
    assert_same(*networks)
    assert_same(ctep.Sweeps(gather=(kind(0.5),)), ctep.Sweeps(gather=(0.5,)))


@matrix.campaign
def test_fit_takes_them_and_compiles_nothing_more():
    """Oracle: the run of Python numbers, bit for bit, and its programs."""
    network = ctep.mlp((4, 3, 2), feedback=0.5, key=KEY)
    x = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    data = x, (x[:, 0] > 0).astype(int)
    common = {"progress": False, "optimizer": optax.sgd(0.1)}

    def run(real, whole):
        return ctep.fit(
            network, data, rule=ctep.OneSided(real(0.25)), epochs=whole(2),
            solver=ctep.Sweeps(whole(50), rtol=real(0.5**10)), batch_size=whole(4),
            probe=whole(4), keep=whole(1), validation=real(0.25),
            watch=ctep.Watch(unsettled=real(0.5)), **common,
        )  # fmt: skip

    first = run(float, int)
    for real, whole in ((np.float32, np.int64), (jnp.float32, np.array)):
        other = run(real, whole)
        assert_same(other.network, first.network)
        loss = [record["loss"] for record in other.history]
        assert loss == [record["loss"] for record in first.history]
