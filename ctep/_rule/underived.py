"""A value that is not to be differentiated, and says so where it is."""

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import PyTree


def underived(value: PyTree, given: PyTree) -> PyTree:
    """Return `value`, which must not be differentiated by what is `given`.

    Backwards an error is raised where it is used. Forwards nobody can tell whether it
    is, so that its derivative is NaN: at least no number.

    Args:
        value: a tree of arrays.
        given: the arrays that it was made of, a tree.
    """

    @jax.custom_jvp
    def kept(value, given):
        return value

    @kept.defjvp
    def moved(primals, tangents):
        leaves = jax.tree_util.tree_leaves(tangents[1])
        # Times the tangents: a constant would not be transposed, and so not refused.
        some = _one_way.bind(sum(jnp.sum(leaf) for leaf in leaves) * jnp.nan)
        out = jax.tree_util.tree_map(lambda leaf: jnp.full_like(leaf, some), primals[0])
        return primals[0], out

    return kept(jax.lax.stop_gradient(value), given)


def _refuse(*_):
    raise ValueError(
        "`gradient` has no derivative, since the phases behind it stop at a "
        "tolerance: differentiate the loss, which `ctep.gradient` returns first, or "
        "what JAX makes of `ctep.Unrolled()`."
    )


# A `custom_vjp` within the rule would be differentiated, not transposed, and
# `linear_call` cannot be batched.
_one_way = Primitive("one_way")
_one_way.def_impl(lambda x: x)
_one_way.def_abstract_eval(lambda x: x)
ad.deflinear2(_one_way, _refuse)
batching.defvectorized(_one_way)
mlir.register_lowering(_one_way, lambda _, x: [x])
