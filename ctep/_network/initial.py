"""Initial weights at the edge of chaos, where signals pass through any depth."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import _checks as checks
from .._custom_types import Number
from .activation import AbstractActivation

# A normal variable has all but 1e-15 of its weight there. None is 0, where kinks are.
_Z = np.linspace(-8, 8, 8000)
_DENSITY = np.exp(-0.5 * _Z**2) / np.exp(-0.5 * _Z**2).sum()


class EdgeOfChaos(NamedTuple):
    """The scale of weights, and the standard deviation of biases."""

    gain: float
    bias: float


def edge_of_chaos(
    activation: AbstractActivation, variance: Number = 0.05, feedback: Number = 0.0
) -> EdgeOfChaos:
    r"""Return the initial gain and biases at which a deep network passes signals on.

    $$\chi = \sigma_w^2\, \mathbb{E}[\rho'(\sqrt q\, z)^2] = 1, \qquad
    q = \sigma_w^2\, \mathbb{E}[\rho(\sqrt q\, z)^2] + \sigma_b^2, \qquad
    z \sim \mathcal{N}(0, 1)$$

    In wide layers with weights of variance $\sigma_w^2$ over the fan-in drives keep the
    variance $q$, and $\chi$ is what a layer does to the square of a small difference,
    and of a gradient on its way back. Below 1 both fade with depth, above 1 they
    explode. Orthogonal weights pass on all directions alike, not only their mean.

    Feedback moves the edge. A difference that grows by $\lambda$ per layer comes back
    from the next one as well, $\lambda = \sqrt\chi\,(1 + \gamma\lambda^2)$, and
    $\lambda = 1$ asks for a gain that is smaller by $1 + \gamma$. In a hundred layers
    nobody sees it; a thousand of them at $\gamma = 0.1$ and the gain of their twin are
    chaotic, and float32 and float64 settle in different states.

    ```python
    import ctep, jax

    gain, _ = ctep.edge_of_chaos(ctep.Tanh())  # 1.05
    network = ctep.mlp(
        (784, *[64] * 20, 10), feedback=0.03, bias=False,
        init=jax.nn.initializers.orthogonal(gain), key=jax.random.key(0),
    )
    ```

    For convolutions take `jax.nn.initializers.delta_orthogonal(gain)`.

    Args:
        activation: of all layers.
        variance: $q$. Small ones keep tanh near its linear range, where the gain is 1.
        feedback: $\gamma$ of tied feedback, which matters in very deep chains; 0 is
            the edge of the feed-forward twin.

    Returns:
        `gain`, $\sigma_w$, and `bias`, $\sigma_b$ (of tanh at small variances nearly
        0, so that biases may be left out).

    Raises:
        ValueError: if `variance` is not positive, `feedback` is negative, or the
            activation cannot have that variance: the states of a sigmoid are so large
            that their own share is more.

    References:
        Poole et al., 2016, arXiv:1606.05340; Pennington et al., 2017,
        arXiv:1711.04735; convolutions: Xiao et al., 2018, arXiv:1806.05393.
    """
    kind, example = AbstractActivation, "ctep.Tanh()"
    checks.instance("activation", activation, kind, "an activation", example)
    variance = checks.positive("variance", variance, "0.05")
    feedback = float(checks.real("feedback", feedback, "0.1"))
    if not 0 <= feedback < math.inf:
        raise ValueError(
            f"`feedback` is {feedback}, but must be 0 or more: pass the scale of the "
            "network's feedback."
        )
    with jax.ensure_compile_time_eval():  # a gain is a number, also while one traces
        drives = jnp.asarray(math.sqrt(variance) * _Z)
        states, slopes = (
            float(np.sum(_DENSITY * np.square(np.asarray(f(drives), np.float64))))
            for f in (activation, activation.derivative)
        )
    weights = 1 / slopes if slopes else math.inf
    biases = variance - weights * states
    # Up to the digits of float32: of a rectifier it is 0 at every variance.
    if not biases > -1e-5 * variance:
        raise ValueError(
            f"`variance` is {variance:g}, but with a gain of {math.sqrt(weights):.3g} "
            f"the states of {activation.formula} alone make drives of variance "
            f"{weights * states:.3g}: pass a larger one, or use another activation."
        )
    gain = math.sqrt(weights) / (1 + feedback)
    return EdgeOfChaos(gain, math.sqrt(max(biases, 0.0)))


def unit_gain(activation: AbstractActivation) -> float:
    r"""Return the gain with which a layer of unit variance is followed by one.

    $1 / \sqrt{\mathrm{Var}\,\rho(z)}$ for a normal $z$, of a rectifier
    $\sqrt{2 / (1 - 1/\pi)}$ (arXiv:2101.08692).
    """
    with jax.ensure_compile_time_eval():
        states = np.asarray(activation(jnp.asarray(_Z)), np.float64)
    mean = np.sum(_DENSITY * states)
    return 1 / math.sqrt(np.sum(_DENSITY * np.square(states - mean)))
