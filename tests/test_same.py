import functools

import jax.numpy as jnp
import optax
import pytest

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


def test_a_users_functions_are_equal_to_themselves_alone():
    """They may read globals that have changed since."""
    make = lambda: lambda step: 0.1  # noqa: E731
    rate = make()
    assert Optimizer(optax.sgd(rate)) == Optimizer(optax.sgd(rate))
    assert Optimizer(optax.sgd(rate)) != Optimizer(optax.sgd(make()))
    assert Optimizer(optax.sgd(functools.partial(rate))) == Optimizer(
        optax.sgd(functools.partial(rate))
    )
