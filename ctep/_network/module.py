"""Feed-forward modules as networks: teachers, and baselines trained by backprop."""

import math
from collections.abc import Callable, Sequence
from typing import NoReturn

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from .. import _checks as checks
from .._custom_types import Shape
from .._html import as_html
from .._parameter import parameter
from .base import AbstractNetwork
from .problem import AbstractProblem


class Module(AbstractNetwork):
    """Any Equinox module that maps one input to its outputs, as a network.

    Its state is what the module returns, and is at rest at once. It can teach, see
    `ctep.Distillation`, and be trained by `ctep.Backprop`.

    Args:
        module: function of one input, `input_shape`, that returns the outputs, or a
            tuple of layers to teach from with the outputs at its end.
        input_shape: shape of one input.

    Raises:
        ValueError: if the outputs are no vector.
    """

    module: Callable[..., PyTree] = parameter()
    input_shape: Shape = eqx.field(static=True)
    shapes: tuple[Shape, ...] = eqx.field(static=True)

    def __init__(self, module: Callable[..., PyTree], input_shape: Sequence[int]):
        checks.function("module", module, "equinox.nn.MLP(4, 2, 8, 1, key=key)")
        self.module = module
        self.input_shape = checks.positive_shape("input_shape", input_shape)
        x = jax.ShapeDtypeStruct(self.input_shape, jnp.result_type(float))
        out = eqx.filter_eval_shape(self._layers, x)
        self.shapes = tuple(layer.shape for layer in out)
        if len(self.shapes[-1]) != 1:
            raise ValueError(
                f"`module` returns outputs of shape {self.shapes[-1]}, but they must "
                "be a vector: flatten them."
            )

    @property
    def edges(self):
        return ()

    @property
    def attenuation(self):
        return (1.0,) * len(self.shapes)

    @property
    def output_shape(self):
        return self.shapes[-1]

    @property
    def has_energy(self):
        return False

    def output(self, state):
        return state[-1]

    def without_feedback(self):
        return self

    def free(self, x):
        # The module runs here, once, however often a solver asks for T.
        return _Constant(network=self, data=jax.vmap(self._layers)(x))

    def nudged(self, x, pull, context):
        self.check_nudged(())

    def increments(self, x, state, memory, pull, context):
        self.check_nudged(())

    def energy_contrast(self, x, state, increments, weights):
        self.check_nudged(())

    def field_contrast(self, x, state, tangent):
        self.check_nudged(())

    def __str__(self):
        names = " x ".join(map(str, self.input_shape))
        return (
            f"Module: {names} inputs, {math.prod(self.shapes[-1])} outputs, a "
            f"feed-forward {type(self.module).__name__}"
        )

    def _repr_html_(self):
        return as_html([str(self)])

    def _layers(self, x):
        out = self.module(x)
        return tuple(out) if isinstance(out, tuple | list) else (out,)

    def check_nudged(self, blocks) -> NoReturn:
        raise ValueError(
            "`network` is a feed-forward `ctep.Module`, which no nudge can move: pass "
            "`rule=ctep.Backprop()`."
        )


class _Constant(AbstractProblem):
    """A problem that is solved: `data` is the state."""

    network: Module
    data: PyTree

    @property
    def incremental(self):
        return False

    def recall(self, state, zero=frozenset()):
        return ()

    def update(self, n, state, memory, zero=frozenset()):
        return self.data[n], memory
