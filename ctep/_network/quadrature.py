"""Increments of any smooth function, by quadrature of its derivative."""

import jax
import jax.numpy as jnp
import numpy as np

# Gauss-Legendre nodes on [0, 1]: exact for polynomials of degree 7.
# Plain numbers, since NumPy's scalars would promote float32 where x64 is enabled.
_NODES, _WEIGHTS = (
    tuple(float(v) for v in a)
    for a in (
        0.5 * (np.polynomial.legendre.leggauss(4)[0] + 1),
        0.5 * np.polynomial.legendre.leggauss(4)[1],
    )
)


# A quadrature that is this many roundings away from the plain difference is wrong.
_ROUNDINGS = 16


def path_integral(slope):
    r"""Return $\int_0^1 \mathrm{slope}(t)\,dt$ by four Gauss-Legendre nodes.

    With `slope(t)` linear in a small increment the result keeps the increment's
    relative precision, which a difference of two values does not. Its own error is of
    order nine in the increment, and of order one if the way crosses a kink.

    Args:
        slope: function of the fraction `t` of the way to a tree of arrays.

    Returns:
        A tree with the structure of `slope(t)`.
    """
    terms = [
        jax.tree_util.tree_map(lambda leaf, w=w: w * leaf, slope(t))
        for t, w in zip(_NODES, _WEIGHTS, strict=True)
    ]
    return jax.tree_util.tree_map(lambda *leaves: sum(leaves), *terms)


def change(slope, before, after, size):
    r"""Return `after - before`, or the integral of `slope` where both agree.

    A difference of two values is right to about $\epsilon$ times what has been added
    up in them, on any way. The quadrature is right to the relative precision of the
    increment, but not across a kink or on a long way. So wherever the two are further
    apart than rounding explains, it is the quadrature that is wrong.

    Args:
        slope: function of the fraction `t` of the way to a tree of arrays.
        before: what it is the slope of, at `t` = 0; a tree of arrays.
        after: the same at `t` = 1.
        size: how large the terms are that add up to `before`, from `sizes`.

    Returns:
        A tree with the structure of `slope(t)`.
    """

    def one(integral, before, after, size):
        difference = after - before
        rounding = jnp.finfo(difference.dtype).eps * (jnp.abs(after) + size)
        # Comparisons with NaN are false: the integral stays, unless it is what is NaN.
        apart = jnp.abs(difference - integral) > _ROUNDINGS * rounding
        lost = jnp.isnan(integral) & ~jnp.isnan(difference)
        return jnp.where(apart | lost, difference, integral)

    return jax.tree_util.tree_map(one, path_integral(slope), before, after, size)


def sizes(function, start, lead):
    r"""Return the sizes of what `function(*start)` adds up, element by element.

    The force at a rest is zero, but the terms that cancel in it are not, and they are
    what rounds. Their size is that of $J (g \circ s)$ with $J$ the Jacobian and $g$
    normal: of eight of them, so that none is small by chance.

    Args:
        function: takes trees of arrays and returns one.
        start: the arguments at which it is asked.
        lead: number of leading axes along which all elements share one $g$.

    Returns:
        A tree of real arrays, with the structure of the function's value.
    """
    leaves, treedef = jax.tree_util.tree_flatten(start)
    # The same draw in every call, or no run could be repeated to the last bit.
    keys = jax.random.split(jax.random.key(0), (8, len(leaves)))

    def moved(keys):
        tangent = [
            # One g for all examples, so that none depends on its place in the batch.
            leaf * jax.random.normal(key, leaf.shape[lead:], leaf.dtype)
            for key, leaf in zip(keys, leaves, strict=True)
        ]
        return jax.jvp(function, start, treedef.unflatten(tangent))[1]

    return jax.tree_util.tree_map(
        lambda value, moves: jnp.abs(value) + jnp.sum(jnp.abs(moves), 0),
        function(*start),
        # One after the other: all at once would hold eight times the intermediates.
        jax.lax.map(moved, keys),
    )
