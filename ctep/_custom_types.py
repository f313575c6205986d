"""Names for the arrays and trees that recur in signatures."""

from typing import Any, TypeAlias

import jax
import numpy as np
from jaxtyping import Array, Float, Inexact, PyTree

Shape: TypeAlias = tuple[int, ...]
# One array per block (layer), each `(*lead, *shape)`; `lead` is the batch, with
# an axis for the nudges before it when several phases are solved at once.
State: TypeAlias = tuple[Inexact[Array, "..."], ...]
# One number per example: of the shape `lead`.
Lead: TypeAlias = Float[Array, "..."]
# What a problem keeps of a state between two block updates; see docs/notation.md.
Memory: TypeAlias = PyTree

# A number, or an array of one element per example and block that may be traced.
Scale: TypeAlias = float | jax.Array

# A `Network`, for what it is made of and calls: to name its class would close a circle.
Layered: TypeAlias = Any

# A number of Python, or one of NumPy or JAX that is made one.
Number: TypeAlias = int | float | np.number | np.ndarray | jax.Array
