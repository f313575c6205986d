"""Couplings: which layer drives which, and what comes back."""

import equinox as eqx
from jaxtyping import PRNGKeyArray

from .. import _checks as checks
from .operator import AbstractOperator


class Tied(eqx.Module):
    r"""Feedback by the exact adjoint of the forward map, times `scale` ($\gamma$).

    Scale 1 makes the coupling symmetric; a scale well below 1 regulates the feedback.

    Raises:
        ValueError: if `scale` is not positive (for no feedback pass `None`).
    """

    # Static: whether there is an energy, and what a nudge weighs in each layer, is
    # decided by it in Python. Another scale compiles anew.
    scale: float = eqx.field(static=True, default=1.0, converter=checks.number)

    def __check_init__(self):
        _check_scale(self.scale)


class Fixed(eqx.Module):
    r"""Feedback through independent random weights that are never trained.

    Args:
        scale: $\gamma$, multiplies the operator's adjoint.
        operator: the weights, drawn by the builders when `None`.

    Raises:
        ValueError: if `scale` is not positive (for no feedback pass `None`).
    """

    scale: float = eqx.field(static=True, default=1.0, converter=checks.number)
    operator: AbstractOperator | None = None

    def __check_init__(self):
        _check_scale(self.scale)
        kinds, example = (AbstractOperator, type(None)), "ctep.Dense((5,), (3,), key=k)"
        name, noun = "operator", "an operator or None"
        checks.instance(name, self.operator, kinds, noun, example)


class Coupling(eqx.Module):
    r"""A coupling from layer `source` to layer `target`.

    Adds `forward(s_source)` to the drive of the target and $\gamma$ times the
    feedback of `s_target` to the drive of the source. Layer 0 is the clamped input and
    receives no feedback.

    ```python
    import ctep, jax

    weights = ctep.Dense((16,), (8,), key=jax.random.key(0))
    coupling = ctep.Coupling(1, 2, weights, ctep.Tied(0.1))  # from layer 1 to layer 2
    ```

    Args:
        source: 0 for the input, else the number of a layer, counted from 1.
        target: the number of a layer.
        forward: the operator, or `None` for a coupling that only feeds back.
        feedback: `Tied(scale)`, `Fixed(scale, operator)` or `None`.

    Raises:
        ValueError: if the coupling does nothing, ties feedback to a forward map that
            is not there, lacks its fixed weights, or joins a layer to itself.
    """

    source: int = eqx.field(static=True, converter=checks.number)
    target: int = eqx.field(static=True, converter=checks.number)
    forward: AbstractOperator | None
    feedback: Tied | Fixed | None = None

    def __check_init__(self):
        kinds = (AbstractOperator, type(None))
        example = "ctep.Dense((784,), (512,), key=key)"
        checks.instance("forward", self.forward, kinds, "an operator or None", example)
        kinds = (Tied, Fixed, type(None))
        noun, example = "Tied, Fixed or None", "ctep.Tied(0.1)"
        checks.instance("feedback", self.feedback, kinds, noun, example)
        checks.integer("source", self.source, "0")
        checks.integer("target", self.target, "1")
        name = f"the coupling {self.source} -> {self.target}"
        if self.source == self.target:
            raise ValueError(
                f"`target` of {name} is its own source, but a layer cannot drive "
                "itself within a block update: couple two layers."
            )
        if self.forward is None and self.feedback is None:
            raise ValueError(
                f"`forward` and `feedback` of {name} are both None, so it does "
                "nothing: give it an operator or leave it out."
            )
        fixed = not (self.feedback is None or self.tied)
        own = self.feedback.operator if fixed else None  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]
        if self.tied and self.forward is None:
            raise ValueError(
                f"`feedback` of {name} is Tied, but there is no `forward` to be tied "
                "to: pass an operator or use `Fixed`."
            )
        if fixed and own is None:
            raise ValueError(
                f"`feedback` of {name} is Fixed without an `operator`: pass "
                "`Fixed(scale, operator)`, or let a builder such as `ctep.graph` "
                "draw it."
            )
        # Where to unpool stands in the forward map's tape, and a linear map has none.
        if own and not own.linear and (self.forward is None or self.forward.linear):
            raise ValueError(
                f"`feedback` of {name} pools, but there is no pooled `forward` "
                "that says where to: use linear feedback, or pool both ways."
            )
        if own and not own.linear and _tapes(own) != _tapes(self.forward):
            raise ValueError(
                f"`feedback` of {name} pools in another way than its `forward`, which "
                "says where to: give both the same pools in the same places."
            )

    @property
    def tied(self) -> bool:
        """Whether what returns passes the forward weights."""
        return isinstance(self.feedback, Tied)

    @property
    def returning(self) -> AbstractOperator | None:
        """The operator whose adjoint carries the feedback, if any reaches a layer."""
        if self.feedback is None or self.source == 0:
            return None
        return self.forward if self.tied else self.feedback.operator  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def scale(self) -> float:
        """The feedback scale, 0 without feedback."""
        return 0.0 if self.returning is None else self.feedback.scale  # pyright: ignore[reportOptionalMemberAccess]


def drawn(feedback, operator, key: PRNGKeyArray):
    """Return `feedback` with its fixed weights drawn like those of `operator`.

    Args:
        feedback: `Tied`, `Fixed` with or without weights, or `None`.
        operator: function of a key that builds the operator of the forward direction.
        key: random key that the weights of `Fixed` are drawn by.
    """
    if isinstance(feedback, Fixed) and feedback.operator is None:
        return Fixed(feedback.scale, operator(key))
    return feedback


def _tapes(operator):
    """Return what the parts of an operator keep for their adjoints, if anything."""
    parts = getattr(operator, "operators", (operator,))
    return [None if p.linear else (type(p), p.in_shape, p.out_shape) for p in parts]


def _check_scale(scale):
    checks.real("scale", scale, "0.1")
    if not scale > 0:
        raise ValueError(
            f"`scale` is {scale}, but a feedback scale must be positive: pass e.g. "
            "0.1, or `feedback=None` for no feedback."
        )
