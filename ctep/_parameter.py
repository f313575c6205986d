"""What of a module is trained: what its class says."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from paramax import NonTrainable

# On the field and not on the array, in whose place each update puts another one.
_KEY = "ctep.parameter"


def parameter(**options) -> Any:
    """Declare a field of a module whose arrays `ctep.fit` trains.

    ```python
    import ctep, jax

    class Springs(ctep.EnergyNetwork):
        weight: jax.Array = ctep.parameter()
        mask: jax.Array  # a constant
    ```

    An energy, a nudge and a loss are trained nowhere else: masks, class weights and
    other constants are arrays too. Of an operator or an activation that declares
    nothing all arrays are trained.

    Args:
        options: keywords of `equinox.field`, such as `default`.
    """
    metadata = {**options.pop("metadata", {}), _KEY: True}
    options.setdefault("converter", _as_jax)
    return eqx.field(metadata=metadata, **options)


def declared(tree: PyTree, *, otherwise: bool = False) -> PyTree:
    """Return a tree of booleans: the arrays in fields made by `parameter`.

    Those within `paramax.NonTrainable` never count.

    Args:
        tree: a module, or a tree of modules.
        otherwise: whether arrays count too where no class on the way declares any.
    """

    def one(path, leaf):
        if isinstance(leaf, NonTrainable):
            return jax.tree_util.tree_map(lambda _: False, leaf)
        fields = list(_fields(tree, path))
        # A declared field is trained with all modules in it, whatever they declare.
        said = any(own[name] for own, name in fields)
        silent = otherwise and not any(any(own.values()) for own, _ in fields)
        return eqx.is_inexact_array(leaf) and (said or silent)

    return jax.tree_util.tree_map_with_path(
        one, tree, is_leaf=lambda leaf: isinstance(leaf, NonTrainable)
    )


def _fields(node, path):
    """Yield for each module on the way to a leaf what it declares, and the field."""
    for owner, name in owners(node, path):
        if dataclasses.is_dataclass(owner):
            yield {f.name: _KEY in f.metadata for f in dataclasses.fields(owner)}, name


def owners(node: Any, path: tuple) -> Iterator[tuple[Any, str]]:
    """Yield each object on the way to a leaf, and the field that the way goes by."""
    for key in path:
        if isinstance(key, jax.tree_util.GetAttrKey):
            yield node, key.name
            node = getattr(node, key.name)
        elif isinstance(key, jax.tree_util.SequenceKey):
            node = node[key.idx]
        elif isinstance(key, jax.tree_util.DictKey):
            node = node[key.key]
        else:  # a container of somebody's own, of whose inside nothing is known
            return


def _as_jax(value):
    return jax.tree_util.tree_map(
        lambda leaf: jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf, value
    )
