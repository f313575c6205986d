"""The spectral radius: how fast small disturbances of the rest die out."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, ArrayLike, Float

from .. import _checks as checks
from .._concrete import concrete
from .._custom_types import State
from .._network import AbstractNetwork, AbstractProblem, Identity
from .._solver import AbstractSolver
from .._weights.resolution import effective
from ._inputs import inputs, layered, rest, solver_or
from ._norms import norm, unit


@concrete
@effective
def spectral_radius(
    network: AbstractNetwork,
    x: ArrayLike | None = None,
    *,
    of: str = "jacobian",
    solver: AbstractSolver | None = None,
    tol: float = 1e-3,
    dimension: int = 40,
    max_restarts: int = 100,
    throw: bool = True,
) -> Float[np.ndarray, "*batch"]:
    r"""Return the largest modulus of an eigenvalue, example by example.

    Of the Jacobian of the synchronous map at the free equilibrium by default,

    $$\varrho = \max_i |\lambda_i(J)|, \qquad
    J = \frac{\partial T}{\partial s}(s^*), \qquad s^* = T(s^*)$$

    Below 1 the equilibrium attracts: synchronous steps approach it like
    $\varrho^t$. With `of="weights"`, of the matrix of all couplings between layers,
    feedback scales included, without slopes of activations, inputs and readout; this
    is the spectral radius that papers on recurrent networks quote. Tied feedback of
    scale $\gamma$ in a chain makes it $\sqrt\gamma$ times that at $\gamma = 1$.

    Eigenvalues are found by Arnoldi's method from Jacobian-vector products, restarted
    with the leading Schur vectors. Blocks are measured in units of
    $\sqrt{\mathrm{attenuation}}$, a similarity that makes chains with weak feedback
    nearly normal. An eigenvalue counts as found once its residual times its condition
    number, the first-order bound of its error in a matrix that is not normal, is
    within `tol`.

    Args:
        network: any network; for `of="weights"` a `ctep.Network` of linear operators.
        x: inputs, `(batch, *input_shape)`; not needed for `of="weights"`.
        of: `"jacobian"` or `"weights"`.
        solver: for the free equilibrium; by default
            `Sweeps` to within 100 roundings of the network's dtype.
        tol: relative error of the result.
        dimension: of the Krylov space. A cluster of leading eigenvalues, as a large
            random matrix has, needs more.
        max_restarts: when to give up.
        throw: whether to raise if an example has not settled or its eigenvalue not
            converged; otherwise its result is NaN.

    Returns:
        `(batch,)`, or for `of="weights"` one number, `()`.

    Raises:
        TypeError: if an argument is not of its kind.
        ValueError: if an argument is out of range, `x` does not fit the network, or
            the network has no weight matrix.
        RuntimeError: if `throw` and an example has not settled, or an eigenvalue has
            not converged.

    Cost: `dimension` Jacobian-vector products, and half as many per restart. Memory:
    `dimension` states per example.

    References:
        Stewart, 2001, doi:10.1137/S0895479800371529 (restarts).
    """
    checks.flag("throw", throw)
    checks.choice("of", of, ("jacobian", "weights"))
    checks.positive("tol", tol, "1e-3")
    checks.count("max_restarts", max_restarts, "100")
    checks.count("dimension", dimension, "40")
    if dimension < 4:
        raise ValueError(
            f"`dimension` is {dimension}, but restarts need at least 4: pass for "
            "example `40`."
        )
    if of == "weights":
        network = _linear(network)
        x = jnp.zeros((1, *network.input_shape), network.dtype)
        state, settled = network.zeros(x), np.ones(1, bool)
    elif x is None:
        raise ValueError(
            "`x` is None, but the Jacobian depends on the inputs: pass "
            '(batch, *input_shape), or `of="weights"`.'
        )
    else:
        x, solver = inputs(network, x), solver_or(solver, network.dtype)
        free = rest(network, x, solver, throw)
        state, settled = free.state, np.asarray(free.settled)
    radius, error = _arnoldi(network.free(x), state, tol, dimension, max_restarts)
    # With equality, for a Jacobian without loops has the radius 0 and no error.
    found = error <= tol * radius
    if throw and not found[settled].all():
        missing = settled & ~found
        worst = np.max(error[missing] / np.maximum(radius[missing], 1e-300))
        raise RuntimeError(
            f"The leading eigenvalue of {missing.sum()} of {len(found)} examples has "
            f"not converged after {max_restarts} restarts: its relative error may be "
            f"{worst:.1g}. Raise `dimension` or `max_restarts`, loosen `tol`, or use "
            "float64."
        )
    radius = np.where(found & settled, radius, np.nan)
    return radius.reshape(()) if of == "weights" else radius


def _linear(network):
    """Return the network whose free Jacobian is the matrix of the couplings."""
    network = layered(network)
    for c in network.couplings:
        if c.source and not all(o.linear for o in (c.forward, c.returning) if o):
            raise ValueError(
                f'`of` is "weights", but the coupling {c.source} -> {c.target} takes a '
                'maximum, so there is no weight matrix: pass `of="jacobian"`.'
            )
    layers = [dataclasses.replace(n, activation=Identity()) for n in network.layers]
    return dataclasses.replace(network, layers=layers)


def _arnoldi(problem, state, tol, dimension, max_restarts):
    """Return the largest modulus of an eigenvalue per example, and its error bound."""
    count, size = len(state[0]), sum(s[0].size for s in state)
    m = min(dimension, size)
    dtype = state[0].dtype
    basis = np.zeros((count, m + 1, size))
    basis[:, 0] = np.random.default_rng(0).standard_normal((count, size))
    basis = jnp.asarray(basis, dtype)
    kept = np.zeros(count, int)
    matrix = np.zeros((count, m + 1, m))
    rotation = np.zeros((count, m + 1, m + 1))
    rotation[:, 0, 0] = 1
    radius, error = np.zeros(count), np.full(count, np.inf)
    todo = np.arange(count)
    # As many products as blocks: without loops of couplings they leave nothing.
    first = -len(state)
    for _ in range(1 + max_restarts):
        small = (jnp.asarray(a, dtype) for a in (matrix, rotation))
        at = jnp.asarray(kept), jnp.asarray(first)
        basis, extended = _extend(problem, state, basis, *small, *at)
        matrix, rotation = np.array(extended, float), np.zeros_like(rotation)
        # On the host: JAX has no ordered Schur form, which restarts need.
        for i in todo:
            radius[i], error[i] = _leading(matrix[i], jnp.finfo(dtype).eps)
        # What is not finite stays so.
        todo = np.flatnonzero(np.isfinite(radius) & ~(error <= tol * radius))
        # A space as large as the Jacobian is all there is: a restart adds nothing.
        if m == size or len(todo) == 0:
            break
        for i in todo:
            vectors = _wanted(matrix[i, :m])
            kept[i] = k = vectors.shape[1]
            # Krylov-Schur: the leading vectors and the residual's way stay.
            rotation[i, :k, :m], rotation[i, k, m] = vectors.T, 1
            restarted = np.zeros((m + 1, m))
            restarted[:k, :k] = vectors.T @ matrix[i, :m] @ vectors
            restarted[k, :k] = matrix[i, m] @ vectors
            matrix[i] = restarted
        # From the emptiest basis on: fuller ones keep their columns until then.
        first = kept[todo].min()
    return radius, error


def _leading(matrix, eps):
    """Return the largest modulus of a Ritz value, and the bound of its error.

    Args:
        matrix: of the Arnoldi relation, `(m + 1, m)`; its last row is the residual.
        eps: relative precision of its elements.
    """
    if not np.isfinite(matrix).all():
        return np.nan, np.inf
    square, last = matrix[:-1], matrix[-1]
    values, left, right = scipy.linalg.eig(square, left=True)  # pyright: ignore[reportAssignmentType]
    k = np.argmax(np.abs(values))
    slope = np.abs(np.vdot(left[:, k], right[:, k]))
    residual = np.abs(last @ right[:, k]) + eps * np.linalg.norm(square)
    if slope > 0:
        error = residual / slope
    else:
        # Left and right vectors at a right angle: a Jordan block, which nothing bounds.
        error = np.inf if residual > 0 else 0.0
    return np.abs(values[k]), error


def _wanted(square):
    """Return an orthonormal basis of the invariant subspace of the leading half."""
    sizes = np.sort(np.abs(np.linalg.eigvals(square)))[::-1]
    # Cut where the gap is widest, so that neither pairs nor rounding can matter.
    low, high = max(len(sizes) // 4, 1), max(3 * len(sizes) // 4, 2)
    ratios = sizes[low:high] / np.maximum(sizes[low - 1 : high - 1], 1e-300)
    edge = low + int(np.argmin(ratios))
    cut = 0.5 * (sizes[edge - 1] + sizes[edge])
    leading = lambda re, im: np.hypot(re, im) > cut  # noqa: E731
    _, vectors, count = scipy.linalg.schur(square, output="real", sort=leading)  # pyright: ignore[reportAssignmentType]
    return vectors[:, :count]


@eqx.filter_jit
def _extend(
    problem: AbstractProblem,
    state: State,
    basis: Float[Array, "batch m1 units"],
    matrix: Float[Array, "batch m1 m"],
    rotation: Float[Array, "batch m1 m1"],
    kept: Array,
    first: Array,
):
    """Rotate the bases, then fill each up after its first `kept` rows.

    Steps count from `first`; those below 0 are of the power iteration.
    """

    def one(problem, state, basis, matrix, rotation, kept):
        product = _product(problem, state)
        eps = jnp.finfo(basis.dtype).eps

        def step(j, carry):
            basis, matrix = carry
            i = jnp.maximum(j, 0)
            image = product(basis[i])
            column, v = jnp.zeros_like(matrix[:, 0]), image
            for _ in range(2):  # once leaves rounding behind
                part = basis @ v
                column, v = column + part, v - part @ basis
            # Below rounding only noise is left: a space that is used up ends in zeros.
            v, size = unit(v, 10 * eps * norm(image))
            column = column.at[i + 1].add(size)
            power = j < 0
            row = jnp.where(power, 0, i + 1)
            old = basis[row]
            v = jnp.where(power, unit(image)[0], jnp.where(j < kept, old, v))
            column = jnp.where(j < kept, matrix[:, i], column)
            return basis.at[row].set(v), matrix.at[:, i].set(column)

        carry = rotation @ basis, matrix
        return jax.lax.fori_loop(first, matrix.shape[1], step, carry)

    return problem.per_example(one, state, basis, matrix, rotation, kept)


def _product(problem, state):
    """Return the balanced Jacobian of one example as a function of flat vectors."""

    # Unscaled, ten tied layers at a feedback of 0.001 have a condition of 1e13.
    def flat(a, s):
        return jnp.ravel(jnp.broadcast_to(jnp.asarray(a**0.5, s.dtype), s.shape))

    attenuation = problem.network.spread(problem.network.attenuation)
    units = [flat(a, s) for a, s in zip(attenuation, state, strict=True)]
    edges = np.cumsum([s.size for s in state])[:-1]
    _, tangent = jax.linearize(problem.map, state)

    def product(v):
        parts = zip(units, jnp.split(v, edges), state, strict=True)
        image = tangent(tuple((u * p).reshape(s.shape) for u, p, s in parts))
        pairs = zip(units, image, strict=True)
        return jnp.concatenate([jnp.ravel(p) / u for u, p in pairs])

    return product
