"""Operators of residual connections: the skip, and the scalar on its branch."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .. import _checks as checks
from .._custom_types import Number, Shape
from .norms import operator_norm
from .operator import AbstractLinear, enclosed


class Skip(AbstractLinear):
    r"""$c(v) = v$, with zeros in the channels that the target has beyond the source's.

    What a residual connection passes on: the drive of its target is the branch plus
    the source's own state. Tied feedback of a skip around a branch is that of the
    branch's couplings multiplied, $\gamma^2$ around two, so that there is an energy.

    ```python
    import ctep, jax

    one, two, out = jax.random.split(jax.random.key(0), 3)
    layer, shape = ctep.Layer((8,), ctep.Tanh()), (8,)
    network = ctep.Network(
        (4,),
        [layer, layer, layer],
        [
            ctep.Coupling(0, 1, ctep.Dense((4,), shape, key=one)),
            ctep.Coupling(1, 2, ctep.Dense(shape, shape, key=two), ctep.Tied(0.1)),
            ctep.Coupling(2, 3, ctep.Dense(shape, shape, key=out), ctep.Tied(0.1)),
            ctep.Coupling(1, 3, ctep.Skip(shape), ctep.Tied(0.01)),
        ],
    )
    print(network)  # s3 = tanh(W2_3 s2 + s1)
    ```

    To a smaller image pool first: `Chain((pool, Skip(pool.out_shape, (8, 8, 32))))`.

    Args:
        in_shape: shape of the source.
        out_shape: that of the target, by default the same; only its last axis may be
            longer.

    Raises:
        ValueError: if an axis has no units, or the shapes differ in another way.

    Cost: one addition; there is nothing to train.

    References:
        He et al., 2015, arXiv:1512.03385 (its option A where channels are added).
    """

    in_shape: Shape = eqx.field(static=True)
    out_shape: Shape = eqx.field(static=True)

    def __init__(self, in_shape: Shape, out_shape: Shape | None = None):
        self.in_shape = source = checks.positive_shape("in_shape", in_shape)
        target = source if out_shape is None else checks.shape("out_shape", out_shape)
        if target[:-1] != source[:-1] or target[-1:] < source[-1:]:
            raise ValueError(
                f"`out_shape` is {target}, but a skip from {source} only adds "
                "channels: make all but the last axis equal and that one no shorter, "
                "or couple the layers by `ctep.Conv` with a kernel of 1."
            )
        self.out_shape = target

    def image(self, v):
        if self.out_shape == self.in_shape:
            return v
        more = self.out_shape[-1] - self.in_shape[-1]
        return jnp.pad(v, [(0, 0)] * (v.ndim - 1) + [(0, more)])

    def transposed(self, u):
        return u if self.out_shape == self.in_shape else u[..., : self.in_shape[-1]]

    def formula(self, weight, state):
        return state

    def adjoint_formula(self, weight, state):
        return state


class Multiplier(AbstractLinear):
    r"""$c(v) = m\, v$ with one number $m$ that is trained.

    At the end of a residual branch, $s_j = \rho(s_i + m\, W * s_k + b_j)$, it decides
    how much of the branch there is: 0 at first, as in SkipInit, every block is the
    identity; 1 at first, it is the multiplier of Fixup.

    ```python
    import ctep, jax

    conv = ctep.Conv((8, 8, 4), 4, key=jax.random.key(0))
    branch = ctep.Chain((conv, ctep.Multiplier(conv.out_shape, 0.0)))
    ```

    Args:
        in_shape: shape of what is multiplied.
        value: $m$ at first.

    Raises:
        ValueError: if an axis has no units, or `value` is not finite.

    References:
        SkipInit: De and Smith, 2020, arXiv:2002.10444. Fixup: Zhang et al., 2019,
        arXiv:1901.09321.
    """

    in_shape: Shape = eqx.field(static=True)
    value: Float[Array, "..."]

    def __init__(self, in_shape: Shape, value: Number | Array = 1.0):
        self.in_shape = checks.positive_shape("in_shape", in_shape)
        # An array stays as it is: in a stack there is one number per layer.
        self.value = _scalar(checks.number(value))

    @property
    def out_shape(self):
        return self.in_shape

    def image(self, v):
        return v * self.value

    def transposed(self, u):
        return u * self.value

    def formula(self, weight, state):
        return f"{weight.replace('W', 'm')} {enclosed(state)}"

    def adjoint_formula(self, weight, state):
        return self.formula(weight, state)


def _scalar(value):
    if isinstance(value, jax.Array):
        return value
    value = checks.real("value", value, "1.0")
    if not math.isfinite(value):
        raise ValueError(
            f"`value` is {value}, but a multiplier is finite: pass for example 1.0."
        )
    return jnp.asarray(value, float)


@operator_norm.register
def _(operator: Skip, order):
    return 1.0


@operator_norm.register
def _(operator: Multiplier, order):
    # Upwards, for a product is rounded.
    return abs(float(operator.value)) * (1 + float(jnp.finfo(operator.value.dtype).eps))
