"""Equilibrium propagation with complex nudges on a circle."""

import equinox as eqx
import numpy as np

from .. import _checks as checks
from .._custom_types import Number
from .complex import check_holomorphic
from .stencil import AbstractStencil


class Holomorphic(AbstractStencil):
    r"""Nudges on a circle in the complex plane, error $O(r^N)$.

    $$\frac{dL}{d\theta} = \frac{1}{N} \sum_{k=0}^{N-1} \frac{1}{\beta_k}
    \frac{\partial E}{\partial\theta}\big(s(\beta_k)\big) + \frac{\partial C}
    {\partial\theta}(s), \qquad \beta_k = r\,e^{2\pi i k/N}$$

    Where energy, activations and cost are holomorphic, so is the rest $s(\beta)$, in
    the disc around zero in which $1 - \partial T/\partial s$ stays invertible and no
    drive meets a pole of its activation. This is the trapezoidal rule for Cauchy's
    formula on a circle within it: finite nudges, no limit. One point is `OneSided`, two
    are `Centered`. Parameters and inputs are real, so that rests come in conjugate
    pairs and only those with $\mathrm{Im}\,\beta \ge 0$ are solved. What comes back
    along a coupling is the plain transpose. An example whose nudge lies outside the
    disc has a phase that does not settle, and takes no part.

    ```python
    import ctep, jax

    network = ctep.mlp((4, 8, 8, 3), feedback=0.3, key=jax.random.key(0))
    x, y = jax.numpy.ones((2, 4)), jax.numpy.arange(2)
    loss, gradient = ctep.gradient(network, x, y, rule=ctep.Holomorphic(0.3, points=4))
    ```

    Args:
        radius: $r$, the circle's; `ctep.analysis.nudge_plane` shows where rests are.
        points: $N$, number of nudges on the circle, from 1.
        rescale: whether increments are divided by the attenuation of the feedback.

    Raises:
        ValueError: if `radius` or `points` is not positive; with a network, if an
            activation, a pooling or the nudge is not holomorphic.

    Cost: one free phase and $\lfloor N/2 \rfloor + 1$ nudged ones (as one phase of as
    many times the batch), in complex numbers for three points and more. Memory does not
    depend on their length.

    References:
        Laborieux and Zenke, 2022, arXiv:2209.00530.
    """

    radius: Number = eqx.field(default=0.1, converter=checks.number)
    points: int = eqx.field(default=4, converter=checks.number)
    rescale: bool = eqx.field(default=True, converter=checks.number)

    def __check_init__(self):
        checks.nudge("radius", self.radius)
        checks.count("points", self.points, "4")

    @property
    def order(self):
        return self.points

    def check(self, network, nudge, example=None):
        super().check(network, nudge, example)
        if self.points > 2:
            check_holomorphic(network, nudge, example)

    def stencil(self):
        count = self.points
        k = np.arange(count // 2 + 1)
        # Points on the real axis stand for themselves, the others for a pair.
        pairs = np.where((k == 0) | (2 * k == count), 1, 2)
        circle = np.exp(2j * np.pi * k / count)
        # Else nudges that are real in value would make all states complex.
        nudges = self.radius * (np.real(circle) if count <= 2 else circle)
        return nudges, pairs / (count * nudges)
