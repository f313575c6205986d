"""Programs are shared where, and only where, all that they read is the same."""

import argparse
import dataclasses
import functools
import itertools
import operator
import os
import sys
import types

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ctep
from ctep._same import compiled, reads
from ctep._train.same import Optimizer

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
    "other injected": lambda: optax.inject_hyperparams(optax.adam)(learning_rate=0.1),
    "own schedule": lambda: optax.sgd(lambda step: 0.1),
    "other own schedule": lambda: optax.sgd(lambda step: 0.2),
    "mask": lambda: optax.masked(optax.sgd(0.1), {"a": True}),
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


# What functions can read. Each kind returns a function, and one that sets its value.

VALUE = 1.0


def set_global(value):
    globals()["VALUE"] = value


def helper():
    return VALUE


class Base:
    rate = 1.0
    unread = 0


class Config(Base):
    __slots__ = ("slot",)

    def __init__(self, rate=1.0):
        self.rate = self.slot = rate
        self.inner = None

    @property
    def twice(self):
        return 2 * self.rate

    def scaled(self, x):
        return self.rate * x

    @staticmethod
    def of_global(x):
        return VALUE * x

    @classmethod
    def of_class(cls, x):
        return cls.rate * x

    def __getitem__(self, x):
        return self.slot * x


class Schedule:
    def __init__(self, config):
        self.config = config

    def __call__(self, x):
        return x * self.config.inner.rate


class Module(eqx.Module):
    config: Config = eqx.field(static=True)

    def __call__(self, x):
        return self._rate() * x

    def _rate(self):
        return VALUE * self.config.rate


class Late(Module):
    def _rate(self):
        return self.config.twice


class Number(float):
    pass


@dataclasses.dataclass
class Options:
    rate: float = 1.0


def by_global():
    return (lambda x: VALUE * x), set_global


def by_nested_function():
    return (lambda x: sum((lambda: VALUE * x)() for _ in range(2))), set_global


def by_another_function():
    return (lambda x: helper() * x), set_global


def by_variable_of_the_enclosing_function():
    rate = 1.0

    def put(value):
        nonlocal rate
        rate = value

    return (lambda x: rate * x), put


def by_default():
    def function(x, rate=1.0, *, other=1.0):
        return rate * other * x

    def put(value):
        function.__defaults__, function.__kwdefaults__ = (value,), {"other": value}

    return function, put


def by_attribute():
    config = Config()
    return (lambda x: config.rate * x), functools.partial(setattr, config, "rate")


def by_slot():
    config = Config()
    return (lambda x: config[x]), functools.partial(setattr, config, "slot")


def by_property():
    config = Config()
    return (lambda x: config.twice * x), functools.partial(setattr, config, "rate")


def by_method():
    config = Config()
    return config.scaled, functools.partial(setattr, config, "rate")


def by_static_method():
    return Config().of_global, set_global


def by_class():
    return (lambda x: Base.rate * x), functools.partial(setattr, Base, "rate")


def by_inherited_attribute():
    return Config().of_class, functools.partial(setattr, Base, "rate")


def by_nested_object():
    config = Config()
    config.inner = Options()
    return Schedule(config), functools.partial(setattr, config.inner, "rate")


def by_partial():
    config = {"rate": 1.0}
    return functools.partial(lambda c, x: c["rate"] * x, config), functools.partial(
        config.__setitem__, "rate"
    )


def by_list():
    rates = [1.0, 1.0]
    return (lambda x: rates[1] * x), functools.partial(rates.__setitem__, 1)


def by_array():
    rates = np.ones(2000)
    return (lambda x: rates[-1] * x), functools.partial(rates.__setitem__, -1)


def by_namespace():
    config = types.SimpleNamespace(rate=1.0)
    return (lambda x: config.rate * x), functools.partial(setattr, config, "rate")


def by_arguments():
    config = argparse.Namespace(rate=1.0)
    return (lambda x: config.rate * x), functools.partial(setattr, config, "rate")


def by_getter():
    config, get = Options(), operator.attrgetter("rate")
    return (lambda x: get(config) * x), functools.partial(setattr, config, "rate")


def by_name_of_the_attribute():
    config, name = Options(), "rate"
    return (lambda x: getattr(config, name) * x), functools.partial(
        setattr, config, "rate"
    )


def by_all_attributes():
    config = Options()
    return (lambda x: dataclasses.asdict(config)["rate"] * x), functools.partial(
        setattr, config, "rate"
    )


def by_module():
    module = types.ModuleType("settings_of_a_test")
    module.rate = 1.0
    sys.modules[module.__name__] = module

    def function(x):
        import settings_of_a_test as settings

        return settings.rate * x

    return function, functools.partial(setattr, module, "rate")


def by_import_of_a_name():
    _, put = by_module()

    def function(x):
        from settings_of_a_test import rate

        return rate * x

    return function, put


def by_environment():
    def put(value):
        os.environ["RATE_OF_A_TEST"] = str(value)

    put(1.0)
    return (lambda x: float(os.environ["RATE_OF_A_TEST"]) * x), put


def by_attribute_of_a_function():
    def function(x):
        return function.rate * x

    return function, functools.partial(setattr, function, "rate")


def by_decorated_function():
    @functools.wraps(helper)
    def function(x):
        return helper() * x

    return jax.vmap(function), set_global


def by_method_of_a_module():
    return Module(Config()), set_global


def by_field_of_a_module():
    config = Config()
    return Late(config), functools.partial(setattr, config, "rate")


def by_number_of_an_own_class():
    return (lambda x: VALUE * x), lambda value: set_global(Number(value))


def by_shadowed_builtin():
    def put(value):
        globals()["abs"] = lambda x: value * x

    return (lambda x: abs(x)), put


def by_optax():
    config = {0: 1.0}
    schedule = optax.join_schedules([lambda step: VALUE, lambda step: 0.0], [9])
    return (lambda x: schedule(0) * x * config[0]), set_global


KINDS = {name[3:]: make for name, make in globals().items() if name[:3] == "by_"}


def counted():
    """Return a compiled function that applies its first argument, and its traces."""
    traces = []

    @compiled
    def apply(function, x):
        traces.append(function)
        return function(x)

    return apply, traces


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_read_is_read_anew(kind, monkeypatch):
    """Oracle: the same function, not compiled. Equal values share their program."""
    monkeypatch.setattr(sys.modules[__name__], "VALUE", 1.0)
    monkeypatch.setattr(Base, "rate", 1.0)
    monkeypatch.setattr(sys.modules[__name__], "abs", abs, raising=False)
    monkeypatch.setenv("RATE_OF_A_TEST", "1")
    function, put = KINDS[kind]()
    x, (apply, traces) = jnp.arange(3.0), counted()
    for value in (2.0, 5.0, 5.0, 2.0):
        put(value)
        np.testing.assert_allclose(apply(function, x), function(x), rtol=1e-6)
    assert len(traces) == 2
    sys.modules.pop("settings_of_a_test", None)


def test_what_cannot_be_held_is_never_shared():
    """Oracle: a generator, which gives another number each time."""
    numbers = (float(n) for n in itertools.count(1))
    apply, _ = counted()
    function = lambda x: next(numbers) * x  # noqa: E731
    for number in (1, 2, 3):
        with pytest.warns(UserWarning, match="reads a generator, which cannot be"):
            assert float(apply(function, 1.0)) == number
    file = open(os.devnull)
    with file:
        assert reads(lambda x: file) != reads(lambda x: file)
    assert reads(lambda x: eval("VALUE")) != reads(lambda x: eval("VALUE"))


def test_what_is_not_read_or_only_counted_does_not_matter():
    """Oracle: the number of traces, which loggers and other attributes leave at one."""
    config, calls, count, table = Config(), [], 0, {"n": 0}
    apply, traces = counted()

    def function(x):
        nonlocal count
        count += 1
        calls.append(x)
        table["n"] += 1
        config.calls.append(1)
        config.count += 1
        return config.rate * x

    config.calls, config.count = [], 0
    for step in range(3):
        config.unread = step
        assert float(apply(function, 3.0)) == 3
    assert len(traces) == count == len(calls) == table["n"] == config.count == 1


def test_objects_that_callbacks_may_write_into_are_told_apart():
    """Oracle: each of two equal functions is told of its own call."""

    def make():
        log = []

        def schedule(step):
            jax.debug.callback(lambda value: log.append(float(value)), step)
            return 0.1

        return log, Optimizer(optax.sgd(schedule))

    (_, first), (_, second) = make(), make()
    assert first == first
    assert first != second


def test_the_librarys_own_parts_read_nothing():
    """Oracle: a constant, which is found without a look at any number."""
    network = ctep.mlp((4, 3, 3, 2), key=jax.random.key(0))
    nudge = ctep.linear(0.5, 3) * ctep.OutputError() + ctep.LocalError((1,))
    parts = [network, nudge, ctep.Centered(), ctep.Sweeps(), ctep.FixedPoint()]
    parts += [ctep.Module(eqx.nn.MLP(4, 2, 8, 1, key=jax.random.key(0)), (4,))]
    parts += [optax.cosine_decay_schedule(1.0, 3) * ctep.OutputError(), ctep.ODE()]
    nothing = reads()
    for part in parts:
        assert reads(part) is nothing
    assert reads(*parts) is nothing
    assert reads(*parts, lambda x: x) is not nothing


# Through the whole of training.

X = np.random.default_rng(0).uniform(-1, 1, (20, 4)).astype(np.float32)
Y = np.argmax(X[:, :3], 1)
TRACES = []


def network():
    return ctep.mlp((4, 3, 3), feedback=0.1, key=jax.random.key(0))


def change(**options):
    """Return by how much a fit of one step changes the weights."""
    before = network()
    options = {"optimizer": optax.sgd(0.1), "batch_size": 20} | options
    run = {"epochs": 1, "probe": 0, "progress": False}
    after = ctep.fit(before, (X, Y), rule=ctep.OneSided(0.01), **run, **options)
    difference = jax.tree.map(jnp.subtract, after.network, before)
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(difference)])


def schedule(step):
    TRACES.append(step)
    return VALUE


def test_fits_read_their_schedule_anew(monkeypatch):
    """Oracle: a step of gradient descent is as long as its rate; equal ones share."""
    optimizer, steps = optax.sgd(schedule), []
    TRACES.clear()
    for rate in (1e-3, 1e-1):
        monkeypatch.setattr(sys.modules[__name__], "VALUE", rate)
        steps.append(change(optimizer=optimizer))
    np.testing.assert_allclose(steps[1], 100 * steps[0], rtol=1e-3, atol=1e-6)
    count = len(TRACES)
    np.testing.assert_array_equal(change(optimizer=optimizer), steps[1])
    assert len(TRACES) == count


class Weighted(ctep.AbstractLoss):
    factor = 1.0

    def __call__(self, output, target):
        TRACES.append(output)
        return self.factor * VALUE * ctep.CrossEntropy()(output, target)


def test_fits_read_their_nudge_anew(monkeypatch):
    """Oracle: the gradient is as long as the loss is weighted; equal ones share."""
    nudge, steps = ctep.OutputError(Weighted()), []
    TRACES.clear()
    for factor, value in ((1.0, 1.0), (1.0, 0.5), (4.0, 0.5)):
        monkeypatch.setattr(Weighted, "factor", factor)
        monkeypatch.setattr(sys.modules[__name__], "VALUE", value)
        steps.append(change(nudge=nudge) / factor / value)
    np.testing.assert_allclose(steps[1], steps[0], rtol=1e-2, atol=1e-6)
    np.testing.assert_allclose(steps[2], steps[0], rtol=1e-2, atol=1e-6)
    count = len(TRACES)
    change(nudge=nudge)
    # What is not compiled asks it too, such as the check of the rule.
    assert len(TRACES) - count < count // 3


class Spring(ctep.EnergyNetwork):
    weight: jax.Array
    input_shape: tuple = eqx.field(static=True, default=(4,))
    shapes: tuple = eqx.field(static=True, default=((3,),))
    step: float = 1.0

    def energy(self, state, x):
        return 0.5 * jnp.sum(state[0] ** 2) - VALUE * state[0] @ (self.weight @ x)


def linear():
    class Linear(ctep.AbstractActivation):
        formula, lipschitz, range, pole = "h", 1.0, (-np.inf, np.inf), complex("inf")

        def __call__(self, h):
            return VALUE * h

        def potential(self, s):
            return 0.5 * s**2 / VALUE

    return Linear()


def test_gradients_read_anew(monkeypatch):
    """Oracle: closed forms of the loss, and a class that no program knows yet."""
    weight = jnp.asarray(np.random.default_rng(1).uniform(-1, 1, (3, 4)), jnp.float32)
    nudge, spring, activation = schedule * ctep.OutputError(), Spring(weight), linear()
    TRACES.clear()
    for value in (1.0, 2.0, 0.5, 2.0):
        count = len(TRACES)
        monkeypatch.setattr(sys.modules[__name__], "VALUE", value)
        logits = value * X @ np.asarray(weight).T
        wanted = np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(20), Y])
        loss, _ = ctep.gradient(spring, X, Y, nudge=nudge, throw=False)
        np.testing.assert_allclose(loss, value * wanted, rtol=1e-4)
    assert len(TRACES) == count
    for value in (1.0, 3.0):
        monkeypatch.setattr(sys.modules[__name__], "VALUE", value)
        known, new = (
            ctep.gradient(
                ctep.mlp((4, 3, 3), activation=a, feedback=0.1, key=jax.random.key(0)),
                X, Y, throw=False,
            )[0]
            for a in (activation, linear())
        )  # fmt: skip
        np.testing.assert_allclose(known, new, rtol=1e-5)
