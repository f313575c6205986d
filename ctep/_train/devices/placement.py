"""Where arrays lie: batches over all devices, weights on each of them or spread too."""

from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from ..._sharding import automatic


class Placement(eqx.Module):
    """Places arrays on the devices of a mesh.

    Args:
        mesh: batches are divided along all its axes together, whatever their type.
        shard_parameters: whether each weight, and what the optimiser knows of it, is
            divided along its widest axis that the devices divide evenly.
    """

    # On explicit axes each operation between examples would have to name a sharding.
    mesh: Mesh = eqx.field(static=True, converter=automatic)
    shard_parameters: bool = eqx.field(static=True, default=False)

    @staticmethod
    def default() -> "Placement":
        """Return the placement on all devices, of other processes too."""
        chosen = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
        devices = jax.devices() if chosen is None else [chosen]
        return Placement(Mesh(np.array(devices), ("batch",)))

    def width(self, batch_size: int) -> int:
        """Return the entries of a batch that the devices divide evenly."""
        return -(-batch_size // self.mesh.size) * self.mesh.size

    def columns(self, width: int) -> slice:
        """Return the entries of a batch that lie on this process's devices."""
        sharding = self._sharding(self.mesh.axis_names)
        parts = sharding.addressable_devices_indices_map((width,)).values()
        edges = [part[0].indices(width)[:2] for part in parts if part]
        # In one piece: the devices of a process are taken to be neighbours in the mesh.
        return slice(min(a for a, _ in edges), max(b for _, b in edges))

    def batch(self, tree: PyTree) -> PyTree:
        """Divide arrays along their first axis, in compiled code."""
        if self.mesh.size == 1:
            return tree
        sharding = self._sharding(self.mesh.axis_names)
        return jax.lax.with_sharding_constraint(tree, sharding)

    def stack(self, local: np.ndarray, width: int) -> jax.Array:
        """Put batches `(batches, entries, ...)` on the devices, given `columns`."""
        sharding = self._sharding(None, self.mesh.axis_names)
        shape = (len(local), width, *local.shape[2:])
        return jax.make_array_from_process_local_data(sharding, local, shape)

    def everywhere(self, array: np.ndarray) -> jax.Array:
        """Put a copy of an array on every device."""
        array = np.asarray(array, jax.dtypes.canonicalize_dtype(array.dtype))
        return jax.make_array_from_callback(
            array.shape, self._sharding(), lambda i: array[i]
        )

    def put(self, state: Any) -> Any:
        """Put a `TrainState` on the devices."""
        arrays, rest = eqx.partition(state, eqx.is_array)
        return eqx.combine(_move(arrays, self._shardings(arrays)), rest)

    def keep(self, state: Any) -> Any:
        """Leave a `TrainState` where `put` has put it, in compiled code."""
        if self.mesh.size == 1:
            return state
        arrays, rest = eqx.partition(state, eqx.is_array)
        # Arrays that came back elsewhere would have the next call compiled anew.
        arrays = jax.lax.with_sharding_constraint(arrays, self._shardings(arrays))
        return eqx.combine(arrays, rest)

    def whole(self, state: Any) -> Any:
        """Return a `TrainState` on one device of this process."""
        arrays, rest = eqx.partition(state, eqx.is_array)
        if not all(leaf.is_fully_replicated for leaf in jax.tree.leaves(arrays)):
            arrays = _move(arrays, self._sharding())
        return eqx.combine(jax.tree.map(_local, arrays), rest)

    def room(self) -> float:
        """Return the bytes that the smallest device of this process can hold."""
        limits = [
            # A processor states no limit: there data are held whatever their size.
            (device.memory_stats() or {}).get("bytes_limit", np.inf)
            for device in self.mesh.local_devices
        ]
        return float(min(limits))

    def _sharding(self, *axes):
        return NamedSharding(self.mesh, PartitionSpec(*axes))

    def _shardings(self, state):
        everywhere = self._sharding()
        shardings = jax.tree.map(lambda _: everywhere, state)
        if not self.shard_parameters:
            return shardings

        def widest(leaf):
            axes = [i for i, n in enumerate(leaf.shape) if n % self.mesh.size == 0]
            if not axes:
                return everywhere
            axis = max(axes, key=lambda i: leaf.shape[i])
            return self._sharding(*[None] * axis, self.mesh.axis_names)

        def learned(s):
            return s.trained, s.average, s.optimizer

        return eqx.tree_at(
            learned,
            shardings,
            jax.tree.map(widest, learned(state)),
            is_leaf=lambda node: node is None,  # no average
        )


def _move(arrays, shardings):
    if jax.process_count() == 1:
        return jax.device_put(arrays, shardings)
    # Only compiled code moves arrays between processes.
    return jax.jit(_same, out_shardings=shardings)(arrays)


# Of the module, so that `jit` knows it again; a lambda is another one each time.
def _same(tree):
    return tree


def _local(array):
    return array.addressable_data(0)
