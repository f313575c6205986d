"""Arrays whose sharding is part of their type, as on the axes of `jax.make_mesh`."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

_F = TypeVar("_F", bound=Callable[..., Any])


def automatic(mesh: Mesh) -> Mesh:
    """Return a mesh of the same devices, over which the compiler divides the work."""
    return Mesh(mesh.devices, mesh.axis_names)


def without_mesh(function: _F) -> _F:
    """Let a function that places arrays itself ignore the mesh that a caller has set.

    Arrays made under that mesh lie on all of its devices, with it in their type, and
    may not meet others in one operation: such arguments are taken off it.
    """

    @functools.wraps(function)
    def wrapped(*args, **options):
        none = Mesh(np.empty((), object), ())
        empty = jax.sharding.get_abstract_mesh().empty
        with contextlib.nullcontext() if empty else jax.set_mesh(none):
            args, options = jax.tree_util.tree_map(_placeless, (args, options))
            return function(*args, **options)

    return wrapped  # pyright: ignore[reportReturnType]


def _placeless(leaf):
    """Return an array of several devices as one that follows those that it meets."""
    several = isinstance(leaf, jax.Array) and len(leaf.sharding.device_set) > 1
    if not several or not leaf.is_fully_addressable:
        return leaf
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = jnp.asarray(np.asarray(jax.random.key_data(leaf)))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    return jnp.asarray(np.asarray(leaf))


def compiler_divides(outputs: Callable[[Any, Any], PyTree]) -> Callable[[_F], _F]:
    """Let a function of a network and inputs take arrays with explicit shardings.

    Within, every one of their axes is the compiler's: an operation between examples
    would else ask for a sharding of its result, and no library code knows the mesh.

    Args:
        outputs: function of the network and the inputs that returns arrays whose
            shardings the results get, a prefix of their tree.
    """

    def around(function):
        @functools.wraps(function)
        def wrapped(network, x, *args, **options):
            given = (network, x, args, options)
            arrays, rest = eqx.partition(
                given, lambda leaf: isinstance(leaf, jax.Array)
            )
            mesh = _common(jax.tree_util.tree_leaves(arrays))
            if mesh is None:
                return function(network, x, *args, **options)

            # What keeps out of the mesh is put on it, or the derivative by it would
            # come back with the compiler's axes in its type.
            arrays = jax.tree_util.tree_map(
                lambda leaf: jax.sharding.reshard(
                    leaf, NamedSharding(mesh, like(leaf))
                ),
                arrays,
            )

            def inner(arrays):
                network, x, args, options = eqx.combine(arrays, rest)
                return function(network, x, *args, **options)

            shardings = jax.tree_util.tree_map(
                lambda spec: NamedSharding(mesh, spec),
                outputs(network, x),
                is_leaf=lambda leaf: isinstance(leaf, PartitionSpec),
            )
            return jax.sharding.auto_axes(inner, out_sharding=shardings)(arrays)

        return wrapped  # pyright: ignore[reportReturnType]

    return around  # pyright: ignore[reportReturnType]


def like(leaf: Any) -> PartitionSpec:
    """Return how an array is divided, by its type."""
    return PartitionSpec() if _mesh(leaf) is None else jax.typeof(leaf).sharding.spec


def by_example(_, x: Any) -> PartitionSpec:
    """Return the division of arrays that have the inputs' first axis."""
    return PartitionSpec(*like(x)[:1])


def like_weights(network: Any, _) -> tuple[PartitionSpec, PyTree]:
    """Return the division of a number and of a network's gradient."""
    weights = eqx.filter(network, eqx.is_inexact_array)
    return PartitionSpec(), jax.tree_util.tree_map(like, weights)


def _common(leaves):
    """Return the mesh of arrays, or the one that the caller has set; else `None`."""
    # That of a traced array is abstract, which eager code cannot transpose by.
    leaves = [leaf for leaf in leaves if _mesh(leaf) is not None]
    for leaf in leaves:
        if not isinstance(leaf, Tracer):
            return leaf.sharding.mesh
    if leaves:
        return _mesh(leaves[0])
    mesh = jax.sharding.get_abstract_mesh()
    return mesh if AxisType.Explicit in mesh.axis_types else None


def _mesh(leaf):
    """Return the mesh that an array's type names, `None` without explicit axes."""
    if not isinstance(leaf, jax.Array):
        return None
    mesh = jax.typeof(leaf).sharding.mesh
    return mesh if AxisType.Explicit in mesh.axis_types else None
