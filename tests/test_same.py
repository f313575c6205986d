"""Programs are shared where, and only where, all that they read is the same."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import matrix
import numpy as np
import optax
import pytest

import ctep
from ctep._train.programs import Optimizer, Reads

MAKERS = {
    "adam": lambda: optax.adam(1e-3),
    "another rate": lambda: optax.adam(2e-3),
    "another decay": lambda: optax.adam(1e-3, b1=0.8),
    "a whole rate": lambda: optax.adam(1),
    "the same rate in floats": lambda: optax.adam(1.0),
    "an array": lambda: optax.adam(jnp.asarray(1e-3)),
    "momentum": lambda: optax.sgd(0.1, 0.9),
    "nesterov": lambda: optax.sgd(0.1, 0.9, nesterov=True),
    "schedule": lambda: optax.sgd(optax.cosine_decay_schedule(1e-2, 4)),
    "longer schedule": lambda: optax.sgd(optax.cosine_decay_schedule(1e-2, 5)),
    "pieces": lambda: optax.sgd(optax.piecewise_constant_schedule(0.1, {9: 0.1})),
    "chain": lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3)),
    "injected": lambda: optax.inject_hyperparams(optax.adam)(learning_rate=1e-3),
}


@pytest.mark.parametrize("name", MAKERS)
def test_transformations_made_alike_are_equal(name):
    """Oracle: the calls that made them; no other call makes an equal one."""
    own = Optimizer(MAKERS[name]())
    again = Optimizer(MAKERS[name]())
    assert own == again
    assert hash(own) == hash(again)
    equal = [other for other, make in MAKERS.items() if Optimizer(make()) == own]
    assert equal == [name]


def test_a_users_functions_are_never_equal_to_what_they_were():
    """They may read globals that have changed since."""
    rate = lambda step: 0.1  # noqa: E731
    for made in (rate, functools.partial(rate)):
        assert Optimizer(optax.sgd(made)) != Optimizer(optax.sgd(made))
    joined = optax.join_schedules([rate, rate], [3])  # within a closure of optax
    assert Optimizer(optax.sgd(joined)) != Optimizer(optax.sgd(joined))


X = np.random.default_rng(0).uniform(-1, 1, (20, 4)).astype(np.float32)
Y = np.argmax(X[:, :3], 1)
RATE = 1.0


class Config:
    rate = 1.0


def network():
    return ctep.mlp((4, 3, 3), feedback=0.1, key=jax.random.key(0))


def test_parts_of_the_library_are_equal_by_their_numbers():
    """Oracle: the calls that made them."""
    parts = (
        lambda: ctep.linear(0.5, 3) * ctep.OutputError(),
        lambda: optax.cosine_decay_schedule(0.5, 3) * ctep.OutputError(),
        lambda: ctep.OutputError(ctep.SquaredError()),
        lambda: ctep.Sweeps(order=ctep.Forward()),
    )
    for make in parts:
        assert Reads(network(), make()) == Reads(network(), make())
    made = [Reads(make()) for make in parts]
    assert all(a != b for k, a in enumerate(made) for b in made[:k])


def by_global():
    def change(value):
        globals()["RATE"] = value

    return (lambda: RATE), change


def by_attribute():
    config = Config()
    return (lambda: config.rate), functools.partial(setattr, config, "rate")


def by_class():
    return (lambda: Config.rate), functools.partial(setattr, Config, "rate")


def by_closure():
    rate = 1.0

    def change(value):
        nonlocal rate
        rate = value

    return (lambda: rate), change


def schedule(read):
    return {"optimizer": optax.sgd(lambda step: 0.1 * read())}


def weight(read):
    nudge = (lambda epoch: read()) * ctep.OutputError()
    return {"nudge": nudge, "optimizer": optax.sgd(0.1)}


def loss(read):
    class Loss(ctep.AbstractLoss):
        def __call__(self, output, target):
            return read() * ctep.CrossEntropy()(output, target)

    return {"nudge": ctep.OutputError(Loss()), "optimizer": optax.sgd(0.1)}


def method(read):
    class Halved(ctep.CrossEntropy):
        def __call__(self, output, target):
            return self.scale() * ctep.CrossEntropy()(output, target)

        def scale(self):
            return read()

    return {"nudge": ctep.OutputError(Halved()), "optimizer": optax.sgd(0.1)}


@matrix.product(
    ("kind", "use"),
    [by_global, by_attribute, by_class, by_closure],
    [schedule, weight, loss, method],
)
def test_a_second_fit_reads_anew(kind, use, monkeypatch):
    """Oracle: a step of gradient descent is as long as what is read."""
    monkeypatch.setattr(Config, "rate", 1.0)
    monkeypatch.setitem(globals(), "RATE", 1.0)
    read, change = kind()
    options, moved = use(read), []
    for value in (1.0, 0.25):
        change(value)
        result = ctep.fit(
            network(), (X, Y), rule=ctep.OneSided(1e-3), epochs=1, batch_size=20,
            probe=0, progress=False, **options,
        )  # fmt: skip
        pairs = zip(
            jax.tree_util.tree_leaves(eqx.filter(result.network, eqx.is_array)),
            jax.tree_util.tree_leaves(eqx.filter(network(), eqx.is_array)),
            strict=True,
        )
        moved.append(np.concatenate([np.ravel(a - b) for a, b in pairs]))
    np.testing.assert_allclose(moved[1], 0.25 * moved[0], rtol=1e-2, atol=1e-6)


def test_equal_runs_share_their_program():
    """Oracle: a count of compilations. Numbers of rule, solver and state are data."""
    options = {"epochs": 1, "batch_size": 20, "probe": 0, "progress": False}
    injected = optax.inject_hyperparams(optax.adam)

    def run(rate=3e-3, beta=0.01, tolerance=1e-3, made=optax.adam):
        ctep.fit(
            network(), (X, Y), optimizer=made(rate), rule=ctep.OneSided(beta),
            solver=ctep.Sweeps(rtol=tolerance, atol=tolerance), **options,
        )  # fmt: skip

    run()
    run(made=injected)
    count = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: (
            count.append(event) if "backend_compile" in event else None
        )
    )
    for same in ({}, {"beta": 0.1}, {"tolerance": 1e-2}):
        run(**same)
        run(**same, made=injected)
    run(4e-3, made=injected)
    assert not count
    run(4e-3)
    assert count


def test_a_schedule_of_optax_does_not_part_runs():
    """Oracle: a count. Where it is used a schedule of optax changes its own numbers."""
    options = {"epochs": 1, "batch_size": 20, "probe": 0, "progress": False}

    def run(seed):
        rate = optax.cosine_decay_schedule(1e-3, 7)
        model = ctep.mlp((4, 3, 3), feedback=0.1, key=jax.random.key(seed))
        ctep.fit(model, (X, Y), optimizer=optax.adam(rate), **options)

    run(0)
    count = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: (
            count.append(event) if "backend_compile" in event else None
        )
    )
    run(1)
    assert not count
