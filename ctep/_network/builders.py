"""Builders: whole networks from a line of numbers."""

import numbers
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from .. import _checks as checks
from .._custom_types import Number
from .activation import AbstractActivation, Tanh
from .coupling import Coupling, Fixed, Tied, drawn
from .dense import Dense
from .layer import Layer, Readout
from .network import Network

_GLOROT = jax.nn.initializers.glorot_uniform()


def mlp(
    sizes: Sequence[int | tuple[int, ...]],
    *,
    activation: AbstractActivation = Tanh(),
    feedback: Number | Tied | Fixed | None = 1.0,
    bias: bool = True,
    readout: bool = True,
    output_activation: AbstractActivation | None = None,
    init=_GLOROT,
    stack: bool | None = None,
    key: PRNGKeyArray,
) -> Network:
    r"""Return a chain of dense layers.

    $$s_n = \rho(W_{n-1,n} s_{n-1} + \gamma W_{n,n+1}^\top s_{n+1} + b_n),
    \qquad \text{output} = W_{out} s_L + b_{out}$$

    ```python
    import ctep, jax

    network = ctep.mlp((784, 512, 10), feedback=0.1, key=jax.random.key(0))
    print(network)  # its equations
    ```

    Args:
        sizes: inputs, layers and outputs, such as `(784, 512, 512, 10)`; the input
            may be a shape, such as `(28, 28, 1)`.
        activation: what every layer does with its drive.
        feedback: $\gamma$ of tied feedback; `Fixed(scale)` for random weights that are
            never trained; `None` for a feed-forward network.
        bias: whether layers and readout have one (zero at first).
        readout: whether the last of `sizes` is a linear readout outside the dynamics;
            otherwise it is a layer of its own.
        output_activation: that of the last layer if there is no readout; `activation`
            by default.
        init: initialiser of all weights.
        stack: whether runs of equal layers become one block each, see
            `Network.stacked`, with which programs do not grow; by default those of 32
            layers or more do.
        key: random key that the initial weights are drawn by.

    Raises:
        ValueError: if `sizes` has fewer than three entries (two without a readout) or
            one that is not positive.
    """
    checks.flag("readout", readout)
    if stack is not None:
        checks.flag("stack", stack)
    sizes = checks.sizes(sizes, 3 if readout else 2)
    edges = [(n, n + 1) for n in range(len(sizes) - (2 if readout else 1))]
    network = graph(
        sizes,
        edges,
        activation=activation,
        feedback=feedback,
        bias=bias,
        readout=readout,
        output_activation=output_activation,
        init=init,
        key=key,
    )
    # Shorter ones stay layers, which a user finds one by one in the network's fields.
    return network if stack is False else network.stacked(2 if stack else 32)


def graph(
    sizes: Sequence[int | tuple[int, ...]],
    edges: Iterable[tuple[int, int]],
    *,
    feedback_edges: Iterable[tuple[int, int]] | None = None,
    activation: AbstractActivation = Tanh(),
    feedback: Number | Tied | Fixed | Callable[[int, int], Any] | None = 1.0,
    bias: bool = True,
    readout: bool = True,
    output_activation: AbstractActivation | None = None,
    init=_GLOROT,
    key: PRNGKeyArray,
) -> Network:
    r"""Return dense layers coupled along the edges of a graph.

    ```python
    import ctep, jax

    network = ctep.graph(
        (20, 32, 32, 5),
        edges=[(0, 1), (1, 2), (0, 2)],  # 5 outputs read layer 2
        feedback=lambda i, j: 0.3 ** (j - i),
        key=jax.random.key(0),
    )
    print(network.has_energy)  # True
    ```

    Args:
        sizes: inputs, layers and outputs, numbers or shapes. Node 0 is the input.
        edges: pairs (source, target) of nodes with source < target.
        feedback_edges: pairs (from, to) of layers with from > to that carry
            `feedback`; by default the reverse of every one of `edges`. One that has
            no edge to be the reverse of needs `Fixed` feedback.
        activation: what every layer does with its drive.
        feedback: $\gamma$, `Tied`, `Fixed` or `None`, or a function of source and
            target that returns one. With $\gamma^{target - source}$ a graph of any
            skips has an energy.
        bias: whether layers and readout have one (zero at first).
        readout: whether the last of `sizes` is a linear readout of the last layer,
            without an edge; otherwise it is a layer of its own.
        output_activation: that of the last layer if there is no readout; `activation`
            by default.
        init: initialiser of all weights.
        key: random key. Each edge's weights depend on the key and on the edge alone, so
            that adding an edge changes no other weight.

    Raises:
        ValueError: if an edge names a node that does not exist, runs the wrong way or
            comes twice, if feedback along an edge has nothing to be tied to, if a
            layer is out of the input's reach, or if a size is not positive.
    """
    checks.flag("bias", bias)
    checks.flag("readout", readout)
    shapes = checks.sizes(sizes, 3 if readout else 2)
    nodes = len(shapes) - (1 if readout else 0)
    checks.key(key)

    def back(source, target):
        # A class is callable too: `feedback=ctep.Fixed`, its brackets forgotten, is to
        # be refused as such and not to be called with the numbers of two layers.
        if isinstance(feedback, type) or not callable(feedback):
            return feedback
        return feedback(source, target)

    edges = checks.pairs("edges", edges)
    _check_edges("edges", edges, nodes, lambda i, j: i < j)
    if feedback_edges is None:
        returns = [(j, i) for i, j in edges if i > 0]
    else:
        returns = checks.pairs("feedback_edges", feedback_edges)
        _check_edges("feedback_edges", returns, nodes, lambda i, j: i > j > 0)

    def dense(source, target, salt=0):
        subkey = jax.random.fold_in(jax.random.fold_in(key, source), target)
        operator = lambda k: Dense(shapes[source], shapes[target], key=k, init=init)  # noqa: E731
        # Salted, or `Fixed` feedback would start with the weights of the forward map.
        return operator, jax.random.fold_in(subkey, salt)

    layers = [
        Layer(
            shape,
            output_activation
            if output_activation is not None and not readout and n == nodes - 1
            else activation,
            jnp.zeros(shape) if bias else None,
        )
        for n, shape in enumerate(shapes[:nodes])
        if n > 0
    ]
    backs = {(j, i): feedback_of(back(j, i)) for i, j in returns}
    if feedback_edges is not None:
        _check_fixed(backs, edges)
    couplings = []
    for source, target in [*edges, *(e[::-1] for e in returns if e[::-1] not in edges)]:
        operator, subkey = dense(source, target)
        forward = operator(subkey) if (source, target) in edges else None
        own = None
        if (target, source) in returns:
            own = backs[source, target]
            own = drawn(own, operator, dense(source, target, 1)[1])
        couplings.append(Coupling(source, target, forward, own))
    out = None
    if readout:
        operator, subkey = dense(nodes - 1, nodes)
        out = Readout(operator(subkey), jnp.zeros(shapes[-1]) if bias else None)
    # Pyright takes the abstract field `shapes` for an argument; here it is a property.
    return Network(shapes[0], layers, couplings, out)  # pyright: ignore[reportArgumentType, reportCallIssue]


def feedback_of(value) -> Tied | Fixed | None:
    """Return the feedback that a number or an object stands for."""
    value = checks.number(value)
    if isinstance(value, numbers.Real):
        return Tied(value)  # pyright: ignore[reportArgumentType]
    kinds = (Tied, Fixed, type(None))
    checks.instance("feedback", value, kinds, "a number, Tied, Fixed or None", "0.1")
    return value


def _check_fixed(feedback, edges):
    for (early, late), value in feedback.items():
        if value is None:
            raise ValueError(
                f"`feedback_edges` holds {(late, early)}, but `feedback` is None "
                "there, which says that nothing returns: pass "
                "`feedback=ctep.Fixed(0.1)`."
            )
        if not isinstance(value, Fixed) and (early, late) not in edges:
            raise ValueError(
                f"`feedback_edges` holds {(late, early)}, but there is no edge "
                f"{(early, late)} whose weights its feedback could share: pass "
                "`feedback=ctep.Fixed(0.1)`, or add the edge."
            )


def _check_edges(name, edges, nodes, allowed):
    seen = set()
    for edge in edges:
        i, j = edge
        if not (0 <= i < nodes and 0 <= j < nodes):
            raise ValueError(
                f"`{name}` holds {edge}, but the nodes are 0 (the input) to "
                f"{nodes - 1}: join nodes that exist."
            )
        if not allowed(i, j):
            order = "from a lower to a higher node" if name == "edges" else (
                "from a higher to a lower layer"
            )  # fmt: skip
            raise ValueError(
                f"`{name}` holds {edge}, but they run {order}: turn it around or use "
                f"`{'feedback_edges' if name == 'edges' else 'edges'}`."
            )
        if edge in seen:
            raise ValueError(f"`{name}` holds {edge} twice: leave one out.")
        seen.add(edge)
