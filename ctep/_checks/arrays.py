"""Arrays: real numbers that JAX can hold, of the shape and dtype that is wanted."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array
from paramax import AbstractUnwrappable

from .arguments import function, instance, key, shown


def native(value: np.ndarray) -> np.ndarray:
    """Return numbers in a dtype that JAX knows: in this machine's order of bytes.

    Those of more than 64 bits, of which NumPy has some, become floats of 64.
    """
    dtype = value.dtype
    if dtype.kind not in "iufc":
        return value
    if dtype.char in "gG":  # long doubles, of the size that the machine has
        dtype = np.dtype(np.float64 if dtype.kind == "f" else np.complex128)
    return value.astype(dtype.newbyteorder("="), copy=False)


def array(name: str, value: Any) -> Array:
    """Return real numbers as an array, or raise if it would hold others than these."""
    unmasked(name, value)
    try:
        # NumPy keeps what JAX would wrap or overflow, but cannot read what is traced.
        given = value if _is_of_jax(value) else np.asarray(value)
        with np.errstate(over="ignore"):  # what overflows is reported below
            out = jnp.asarray(given if _is_of_jax(given) else native(given))
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(
            f"`{name}` cannot be made an array of numbers, but must be one: convert "
            "text to labels and give all rows the same length."
        ) from error
    if jnp.iscomplexobj(out):
        raise TypeError(
            f"`{name}` has dtype {out.dtype}, but must be real: pass its real part."
        )
    if isinstance(given, np.ndarray) and given.dtype.itemsize > out.dtype.itemsize:
        info = jnp.iinfo if given.dtype.kind in "iu" else jnp.finfo
        low, high = info(out.dtype).min, info(out.dtype).max
        # An infinity is one in any dtype; what was finite must not become one, or wrap.
        beyond = given[np.isfinite(given) & ((given < low) | (given > high))]
        if beyond.size:
            raise ValueError(
                f"`{name}` holds {beyond[0]}, which {out.dtype} cannot hold: bring its "
                "numbers into that range, or set `jax_enable_x64`."
            )
    return out


def unmasked(name: str, value: Any) -> None:
    """Raise `ValueError` if numbers are masked."""
    if _is_masked(value):
        raise ValueError(
            f"`{name}` is a masked array, but a mask would be dropped: leave those "
            "examples out, or fill them, for example with `numpy.ma.filled`."
        )


def _is_masked(value):
    return any(map(np.ma.is_masked, _items(value)))


def _is_of_jax(value):
    return any(
        isinstance(item, jax.Array) or getattr(item, "__jax_array__", False)
        for item in _items(value)
    )


def _items(value):
    """Return what nested lists and tuples hold, arrays as one."""
    if not isinstance(value, list | tuple):
        return [value]
    return [item for part in value for item in _items(part)]


def arrays(name: str, value: Any) -> None:
    """Raise `TypeError` if a module holds an array of numbers that JAX has not."""
    for leaf in jax.tree_util.tree_leaves(value):
        dtype = getattr(leaf, "dtype", None) if isinstance(leaf, np.ndarray) else None
        wide = dtype is not None and dtype.type in (np.longdouble, np.clongdouble)
        if dtype is not None and (wide or not dtype.isnative):
            raise TypeError(
                f"`{name}` holds an array of dtype {dtype}, which JAX does not have: "
                "convert it with `array.astype('float32')`."
            )


def numbers_or_none(name: str, value: Any) -> None:
    """Raise `TypeError` unless `value` is `None`, an array of floats or makes one."""
    kinds = (jax.Array, np.ndarray, type(None), AbstractUnwrappable)
    instance(name, value, kinds, "an array or None", "jax.numpy.zeros(10)")
    if isinstance(value, AbstractUnwrappable):
        return
    if value is not None and not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(
            f"`{name}` has dtype {value.dtype}, but must be floating: convert it."
        )
    arrays(name, value)


def same_shape(name: str, value: Any, wanted: tuple[int, ...]) -> None:
    """Raise unless `value` is `None` or real numbers of the shape `wanted`."""
    numbers_or_none(name, value)
    got = getattr(value, "shape", wanted)
    if got != wanted:
        raise ValueError(
            f"`{name}` has shape {got}, but must have shape {wanted}: change it."
        )


def weights(init: Any, random: Any, shape: tuple[int, ...]) -> Array:
    """Return what an initialiser makes of a random key, or raise if it cannot."""
    example = "jax.nn.initializers.he_uniform()"
    key(random)
    function("init", init, example)
    try:
        out = init(random, shape, jnp.result_type(float))
    except TypeError as error:
        raise TypeError(
            f"`init` is {shown(init)}, which makes no weights of a key, the shape "
            f"{shape} and a dtype: pass for example `{example}`."
        ) from error
    if getattr(out, "shape", None) != shape or not jnp.issubdtype(
        out.dtype, jnp.floating
    ):
        raise ValueError(
            f"`init` is {shown(init)}, which returns {shown(out)}, but weights are "
            f"floats of shape {shape}: pass for example `{example}`."
        )
    return out


def traced(*trees: Any) -> bool:
    """Return whether nothing can be tried on values yet, as inside somebody's `jit`.

    There even what is made of constants has no value.
    """
    leaves = jax.tree_util.tree_leaves(trees)
    with jax.transfer_guard("allow"):
        leaves.append(jnp.zeros(()) + 0)
    return any(isinstance(leaf, Tracer) for leaf in leaves)
