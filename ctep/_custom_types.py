"""Names for the arrays and trees that recur in signatures."""

from typing import TypeAlias

from jaxtyping import Array, Float, Inexact, PyTree

Shape: TypeAlias = tuple[int, ...]
# One array per block (layer), each `(*lead, *shape)`; `lead` is the batch, with
# an axis for the nudges before it when several phases are solved at once.
State: TypeAlias = tuple[Inexact[Array, "..."], ...]
Lead: TypeAlias = Float[Array, "..."]
Memory: TypeAlias = PyTree
