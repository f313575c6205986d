"""Functions whose differences `increments.py` takes, and what they are taken at."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy import linalg, special

_KEYS = jax.random.split(jax.random.key(0), 6)
_NAMES = ("NHWC", "HWIO", "NHWC")
with jax.enable_x64(True):
    _W = np.asarray(jax.random.normal(_KEYS[0], (6, 6)), np.float64)
    _KERNEL = np.asarray(jax.random.normal(_KEYS[1], (3, 3, 2, 4)), np.float64)
_SHAPES = {
    "rows": [(5, 6)],
    "positive": [(5, 6)],
    "square": [(6, 6)],
    "two": [(5, 6), (5, 6)],
    "image": [(2, 8, 8, 2)],
    "image and change": [(2, 8, 8, 2), (2, 4, 4, 4)],
}


def arguments(kind):
    """Return where a function of that kind is looked at, and its increments."""
    with jax.enable_x64(True):
        s, e = (
            [
                np.asarray(jax.random.normal(key, shape), np.float64)
                for key, shape in zip(keys, _SHAPES[kind], strict=False)
            ]
            for keys in (_KEYS[2:4], _KEYS[4:])
        )
    if kind == "positive":
        s, e = [np.abs(x) + 0.3 for x in s], [0.2 * x for x in e]
    return s, e


def _like(array, s):
    return jnp.asarray(array, s.dtype)


def _of(s):
    """Return a matrix that is far from singular."""
    return s + 3 * jnp.eye(6, dtype=s.dtype)


def _covariance(s):
    return s @ s.T + jnp.eye(6, dtype=s.dtype)


def _heads(s):
    """Causal attention, queries and keys by two matrices."""
    scores = (s @ _like(_W, s)) @ (s @ _like(_W.T, s)).T
    seen = jnp.tril(jnp.ones((len(s), len(s)), bool))
    return jax.nn.softmax(jnp.where(seen, scores, -jnp.inf)) @ s


def _norm(s):
    centred = s - s.mean(-1, keepdims=True)
    return centred / jnp.sqrt(jnp.square(centred).mean(-1, keepdims=True) + 1e-6)


def _conv(v, stride=1, spread=1):
    return lax.conv_general_dilated(
        v, _like(_KERNEL, v), (stride, stride), "SAME",
        rhs_dilation=(spread, spread), dimension_numbers=_NAMES,
    )  # fmt: skip


def _pooled(v):
    parts = [_conv(v)[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    return jnp.max(jnp.stack(parts), 0)


def _windows(v):
    steps = (1, 3, 3, 1), (1, 2, 2, 1)
    return lax.reduce_window(_conv(v), -jnp.inf, lax.max, *steps, "SAME")


def _strided(v):
    return jnp.tanh(_conv(v, 2, 2))


def _adjoint(function):
    return lambda v, u: jax.vjp(function, v)[1](u)[0]


def _memory(s):
    """The gradient of an energy: an associative memory's."""

    def energy(s):
        stored = jax.nn.logsumexp(4 * s @ _like(_W, s), -1)
        return jnp.sum(s * s) / 2 - jnp.sum(stored)

    return jax.grad(energy)(s)


def _recurrent(s):
    def step(carry, x):
        new = jnp.tanh(carry @ _like(_W, s) / 2 + x)
        return new, new

    return lax.scan(step, s[0], s)[1]


# By name, with the kind of its arguments.
FUNCTIONS = {
    "attention": (_heads, "rows"),
    "its adjoint": (_adjoint(_heads), "two"),
    "layer norm": (_norm, "rows"),
    "its adjoint too": (_adjoint(_norm), "two"),
    "GELU": (jax.nn.gelu, "rows"),
    "GELU by erf": (lambda s: jax.nn.gelu(s, approximate=False), "rows"),
    "SiLU": (jax.nn.silu, "rows"),
    "steep softplus": (lambda s: jax.nn.softplus(10 * s), "rows"),
    "saturated tanh": (lambda s: jnp.tanh(5 * s), "rows"),
    "logsumexp": (lambda s: jax.nn.logsumexp(30 * s, -1), "rows"),
    "sharp softmax": (lambda s: jax.nn.softmax(20 * s), "rows"),
    "entropy": (
        lambda s: -(jax.nn.softmax(s) * jax.nn.log_softmax(s)).sum(-1), "rows",
    ),
    "convolution, then max": (_pooled, "image"),
    "adjoint of convolution, then max": (_adjoint(_pooled), "image and change"),
    "convolution, windows' maxima": (_windows, "image"),
    "adjoint of convolution, windows' maxima": (_adjoint(_windows), "image and change"),
    "adjoint of strided, dilated convolution": (_adjoint(_strided), "image and change"),
    "gradient of a user's energy": (_memory, "rows"),
    "einsum of three": (
        lambda s: jnp.einsum("ij,kj,kl->il", s, jnp.tanh(s), s), "rows",
    ),
    "modulus of a Fourier transform": (lambda s: jnp.abs(jnp.fft.fft2(s)), "rows"),
    "circular convolution by Fourier transform": (
        lambda s: jnp.fft.irfft(jnp.fft.rfft(s) ** 2), "rows",
    ),
    "linear system": (lambda s: jnp.linalg.solve(_of(s), s[:, :2]), "square"),
    "inverse": (lambda s: jnp.linalg.inv(_of(s)), "square"),
    "Cholesky factor": (lambda s: jnp.linalg.cholesky(_covariance(s)), "square"),
    "log-determinant": (lambda s: jnp.linalg.slogdet(_covariance(s))[1], "square"),
    "eigenvalues": (lambda s: jnp.linalg.eigvalsh(_covariance(s)), "square"),
    "singular values": (
        lambda s: jnp.linalg.svd(_of(s), compute_uv=False), "square",
    ),
    "matrix exponential": (lambda s: linalg.expm(s / 3), "square"),
    "running sum": (lambda s: jnp.cumsum(jnp.tanh(s), -1), "rows"),
    "running maximum": (lambda s: lax.cummax(s, 1), "rows"),
    "running product": (lambda s: jnp.cumprod(s, -1), "rows"),
    "sort": (lambda s: jnp.sort(s, -1), "rows"),
    "the three largest": (lambda s: lax.top_k(s, 3)[0], "rows"),
    "only the three largest": (
        lambda s: jnp.where(s >= lax.top_k(s, 3)[0][:, -1:], s, 0), "rows",
    ),
    "median": (lambda s: jnp.median(s, -1), "rows"),
    "deviation": (lambda s: s.std(0), "rows"),
    "gamma function's logarithm": (special.gammaln, "positive"),
    "power": (lambda s: s ** s[::-1], "positive"),
    "angle": (lambda s: jnp.arctan2(s, s[::-1] + 3), "rows"),
    "recurrent network": (_recurrent, "rows"),
}  # fmt: skip
