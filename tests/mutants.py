"""Does the suite notice a mistake? Make one at a time in a copy, and run the tests.

    python tests/mutants.py [--only NAME ...] [--list]

Each mutant changes one piece of text in a copy of the tree and runs the tests that
ought to notice. First the tests must pass without any mutant. Exits with 1 if one
survives.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 900  # seconds per run; a mutant that hangs is a mutant that was noticed

ACTIVATION, CONV = "_network/activation.py", "_network/conv.py"
NETWORK, PHASES = "_network/network.py", "_network/phases.py"
ENERGY, PROBLEM = "_network/energy_network.py", "_network/problem.py"
SWEEPS, VERDICT = "_solver/sweeps.py", "_solver/equilibrium.py"
ORDER, ODE = "_solver/order.py", "_solver/ode.py"
STACK, VISITS, PATHS = "_network/stack.py", "_solver/visits.py", "_network/paths.py"
LINEAR, FIXED = "_solver/linear.py", "_solver/fixed_sweeps.py"
COUPLED, TURNING = "_rule/coupled.py", "_rule/oscillating.py"
COMPLEX, CONTRASTS = "_rule/complex.py", "_network/contrasts.py"
CHECKPOINT, RUN = "_train/store/checkpoint.py", "_train/store/run.py"
TRAIN = "_train/train.py"
ROWS, STREAM = "data/selection.py", "data/stream.py"
FEED, PLACE = "_train/devices/feed.py", "_train/devices/placement.py"
NUDGE, STENCIL, IMPLICIT = "_nudge/base.py", "_rule/stencil.py", "_rule/implicit.py"
RULE, RAMPED = "_rule/base.py", "_rule/ramped.py"
IDENTITY, EVALUATE = "_train/store/identity.py", "_train/evaluate.py"
REBUILD, SCORE = "_train/store/rebuild.py", "_train/score.py"
OWN, RECIPE = "recipes/_own.py", "recipes/run.py"


@dataclass(frozen=True)
class Mutant:
    """A change of `old` into `new`, and what ought to notice.

    `tests` names files, "solver" for `test_solver.py`, or tests in them,
    "solver::test_throw".
    """

    name: str
    file: str
    old: str
    new: str
    tests: str


MUTANTS = [
    # ---------------------------------------------------------- activations
    Mutant(
        "potential of tanh changes sign",
        ACTIVATION,
        "value = 0.5 * (_xlog1p(1 + s, s) + _xlog1p(1 - s, -s))",
        "value = -0.5 * (_xlog1p(1 + s, s) + _xlog1p(1 - s, -s))",
        "activation",
    ),
    Mutant(
        "potential of a clip loses its half",
        ACTIVATION,
        "jnp.where(inside, 0.5 * s * s, jnp.inf)",
        "jnp.where(inside, s * s, jnp.inf)",
        "activation",
    ),
    Mutant(
        "pole of a sigmoid forgets its shift",
        ACTIVATION,
        "return complex(self.shift, math.pi / self.slope)",
        "return complex(0, math.pi / self.slope)",
        "activation",
    ),
    Mutant(
        "increment of tanh is that of a sigmoid",
        ACTIVATION,
        "return 2 * _logistic_increment(anchor, 2 * u, scale)",
        "return 2 * _logistic_increment(anchor, u, scale)",
        "increments",
    ),
    Mutant(
        "increment of a sigmoid forgets the slope",
        ACTIVATION,
        "return _logistic_increment(anchor, self.slope * u, scale)",
        "return _logistic_increment(anchor, u, scale)",
        "increments",
    ),
    Mutant(
        "increment of a sigmoid cancels",
        ACTIVATION,
        "inward, jnp.expm1(inward)",
        "inward, jnp.exp(inward) - 1",
        "increments",
    ),
    Mutant(
        "tiny increments of a sigmoid are lost in tiny units",
        ACTIVATION,
        "little = jnp.abs(w) < jnp.finfo(w.dtype).eps",
        "little = jnp.abs(w) < 0",
        "increments",
    ),
    Mutant(
        "a clip's excess in units of the state",
        ACTIVATION,
        "return s, (h - s) / scale",
        "return s, h - s",
        "increments",
    ),
    Mutant(
        "increment of a clip forgets what was clipped",
        ACTIVATION,
        "return jnp.clip(u + excess,",
        "return jnp.clip(u,",
        "increments",
    ),
    # ---------------------------------------------------------- networks
    Mutant(
        "feedback at full strength",
        PHASES,
        "parts.append((-1, coupling.scale * back))",
        "parts.append((-1, back))",
        "network",
    ),
    Mutant(
        "feedback of increments at full strength",
        PHASES,
        "share = wiring.ratio(first, last, coupling.scale)",
        "share = wiring.ratio(first, last)",
        "increments",
    ),
    Mutant(
        "bias dropped from the drive",
        PHASES,
        "drives.append(added(h, own))",
        "drives.append(h)",
        "network",
    ),
    Mutant(
        "input enters with the wrong sign",
        PHASES,
        "h = h + c.forward.apply(x)[0]",
        "h = h - c.forward.apply(x)[0]",
        "network",
    ),
    Mutant(
        "force on a state not attenuated",
        PHASES,
        "return weight * self.pull(n, state, self.data[1])",
        "return self.pull(n, state, self.data[1])",
        "energy",
    ),
    Mutant(
        "increments arrive from below at full strength",
        PHASES,
        "parts.append((0, times(wiring.ratio(last, first), out)))",
        "parts.append((0, out))",
        "energy",
    ),
    Mutant(
        "force on an increment taken at the free state",
        PHASES,
        "self.pull(n, self.network.moved(self.data[3], state), self.data[5])",
        "self.pull(n, self.data[3], self.data[5])",
        "energy",
    ),
    Mutant(
        "memory goes stale",
        PHASES,
        "return tuple(h if k == n else own for k, own in enumerate(drives))",
        "return drives",
        "solver",
    ),
    Mutant(
        "first sweep skips the wrong products",
        PHASES,
        "if i == n and coupling.returning and j not in zero:",
        "if i == n and coupling.returning and i not in zero:",
        "solver",
    ),
    Mutant(
        "fixed feedback passes for tied",
        NETWORK,
        "c.tied for c in inner",
        "c.feedback is not None for c in inner",
        "network::test_attenuation_and_energy_of_chains",
    ),
    Mutant(
        "attenuation is that of the last path",
        PATHS,
        "found[i] = max(found.get(i, -math.inf), found[j] + log)",
        "found[i] = found[j] + log",
        "network::test_attenuation_and_energy_of_graphs",
    ),
    Mutant(
        "layers weigh alike in the energy",
        CONTRASTS,
        "_sum(local, layer.shape) / unit",
        "_sum(local, layer.shape)",
        "energy",
    ),
    Mutant(
        "couplings weigh alike in the energy",
        CONTRASTS,
        "_sum(product, shape) / attenuation[first]",
        "_sum(product, shape)",
        "energy",
    ),
    Mutant(
        "contrast of energies drops its second order",
        CONTRASTS,
        "weighed(weights, _target(network, c, moved))",
        "weighed(weights, 0 * _target(network, c, moved) + _target(network, c, state))",
        "increments",
    ),
    Mutant(
        "contrast of energies drops the forward term",
        CONTRASTS,
        "- jnp.vdot(_target(network, c, real), image)\n        total = total - _plain",
        "\n        total = total - _plain",
        "increments",
    ),
    Mutant(
        "contrast of energies forgets the ratio of two layers",
        CONTRASTS,
        "nudged = ratio * weighed(",
        "nudged = weighed(",
        "increments",
    ),
    Mutant(
        "contrast of fields forgets the feedback's scale",
        CONTRASTS,
        "back = c.scale * c.returning.adjoint(target, tape)",
        "back = c.returning.adjoint(target, tape)",
        "gradient",
    ),
    Mutant(
        "fixed feedback is trained",
        NETWORK,
        "jax.tree_util.tree_map(lambda _: False, f)",
        "jax.tree_util.tree_map(lambda _: True, f)",
        "network",
    ),
    Mutant(
        "adjoint of an increment is left out",
        "_network/operator.py",
        "return _by_parts(self.transposed, e)",
        "return 0 * _by_parts(self.transposed, e)",
        "increments",
    ),
    Mutant(
        "a sum takes a product's place without brackets",
        "_network/describe.py",
        "return drive if opens and ends else enclosed(drive)",
        "return drive",
        "network::test_print_brackets_what_it_substitutes",
    ),
    # ---------------------------------------------------------- stacks
    Mutant(
        "a stack is driven from the wrong end",
        STACK,
        "start, end = ends[::-1] if back else ends",
        "start, end = ends if back else ends[::-1]",
        "stack::test_rests_and_gradients_in_every_order",
    ),
    Mutant(
        "a layer of a stack hears how the one before it was",
        STACK,
        "sent = up(c, new)",
        "sent = up(c, now)",
        "stack::test_rests_and_gradients_in_every_order",
    ),
    Mutant(
        "a layer of a stack hears how the one after it was",
        STACK,
        "sent = down(c, new)",
        "sent = down(c, now)",
        "stack::test_rests_and_gradients_in_every_order",
    ),
    Mutant(
        "a stack without feedback passes on what comes from above",
        STACK,
        "return jnp.zeros_like(carry) if sent is None else sent, out",
        "return carry if sent is None else sent, out",
        "stack::test_rests_and_gradients_in_every_order[one-way-backward]",
    ),
    Mutant(
        "the layers of a stack weigh alike in the energy",
        CONTRASTS,
        "_sum((local - below * s) / unit, layer.shape)",
        "_sum(local - below * s, layer.shape)",
        "stack::test_energies",
    ),
    Mutant(
        "all layers of a stack move with some of them",
        VISITS,
        "(n, mask if len(mask) > 1",
        "(n, np.ones_like(mask) if len(mask) > 1",
        "stack::test_rests_and_gradients_in_every_order",
    ),
    Mutant(
        "a stack has one residual",
        PROBLEM,
        "stacked = self.network.depths[n] > 1",
        "stacked = False",
        "stack::test_rests_and_gradients_in_every_order",
    ),
    Mutant(
        "the last layer of a stack alone is judged",
        SWEEPS,
        "tuple(jnp.max(f, 0) for f in found)",
        "tuple(f[-1] for f in found)",
        "stack::test_rests_and_gradients_in_every_order",
    ),
    Mutant(
        "a sweep of tangents moves the state on",
        LINEAR,
        "return primals[0], tangents[1]",
        "return primals[1], tangents[1]",
        "derivative stack::test_gradients_of_every_rule",
    ),
    Mutant(
        "a ratio is a quotient of what underflows",
        PATHS,
        "log = math.log(scale) + self.grades[i] - self.grades[n]",
        "log = math.log(scale * self.units[i] / self.units[n])",
        "stack::test_nothing_is_lost_at_any_scale_and_depth "
        "stack::test_all_digits_at_a_thousand_layers",
    ),
    Mutant(
        "units of deep layers are zero",
        PATHS,
        "max(math.exp(grade), self.least) for grade",
        "math.exp(grade) for grade",
        "stack::test_no_unit_is_zero",
    ),
    Mutant(
        "feedback leaves the edge of chaos where it was",
        "_network/initial.py",
        "math.sqrt(weights) / (1 + feedback)",
        "math.sqrt(weights)",
        "initial",
    ),
    # ---------------------------------------------------------- circles and time
    Mutant(
        "one nudge of a conjugate pair is enough",
        "_rule/holomorphic.py",
        "(2 * k == count), 1, 2)",
        "(2 * k == count), 1, 1)",
        "holomorphic",
    ),
    Mutant(
        "what has left the disc is averaged in",
        RULE,
        "weight = jnp.where(used, self.weight, 0)",
        "weight = self.weight",
        "holomorphic::test_an_example_outside_the_disc_is_left_out",
    ),
    Mutant(
        "complex states are conjugated",
        CONTRASTS,
        "total = total - jnp.vdot(a.imag, b.imag)",
        "total = total + jnp.vdot(a.imag, b.imag)",
        "holomorphic",
    ),
    Mutant(
        "truncation adds steps",
        "_rule/unrolled.py",
        "start, self.steps - last)",
        "start, self.steps)",
        "rules",
    ),
    # ---------------------------------------------------------- images
    Mutant(
        "a skip returns as much as an edge",
        "_network/images.py",
        "feedback.scale ** (target - source)",
        "feedback.scale",
        "operators",
    ),
    Mutant(
        "the last of equal maxima wins",
        "_network/pool.py",
        "above = (part > top) | jnp.isnan(part)",
        "above = (part >= top) | jnp.isnan(part)",
        "operators",
    ),
    Mutant(
        "a moved maximum keeps what it leaves",
        "_network/pool.py",
        " - jnp.where(left, u, 0)",
        "",
        "operators",
    ),
    Mutant(
        "the slack of a moved maximum is forgotten",
        "_network/pool.py",
        "b + jnp.where(old == k, 0, a)",
        "b",
        "operators",
    ),
    Mutant(
        "maxima that tie move for any increment",
        "_network/pool.py",
        "tie = -jnp.finfo(top.dtype).eps * jnp.abs(top)",
        "tie = -0 * jnp.abs(top)",
        "operators",
    ),
    Mutant(
        "transposed convolution is padded like the convolution",
        "_network/conv.py",
        "low = taps - 1 - (first + padding[0] - tap) // stride",
        "low = (first + padding[0] - tap) // stride",
        "operators",
    ),
    Mutant(
        "gradient of kernels pairs the wrong taps",
        "_network/conv.py",
        "rows = slice(i, i + (height - 1) * a + 1, a)",
        "rows = slice(0, (height - 1) * a + 1, a)",
        "operators",
    ),
    Mutant(
        "a teacher is trained",
        "_nudge/distillation.py",
        "jax.tree_util.tree_map(lambda _: False, mask.teacher)",
        "mask.teacher",
        "nudges",
    ),
    Mutant(
        "a twin keeps its feedback",
        NETWORK,
        "Coupling(c.source, c.target, c.forward)\n",
        "c\n",
        "nudges",
    ),
    Mutant(
        "a user's energy is climbed",
        ENERGY,
        "return -jax.grad(energy, holomorphic=",
        "return jax.grad(energy, holomorphic=",
        "network",
    ),
    Mutant(
        "nudge of a user's energy is frozen",
        ENERGY,
        "self.pull(n, nudged, context)",
        "self.pull(n, free, context)",
        "increments",
    ),
    # ---------------------------------------------------------- solvers
    Mutant(
        "residual of the norm hides small units",
        PROBLEM,
        "jnp.max(force - rtol * value, axes)",
        "jnp.max(force, axes) - rtol * jnp.max(value, axes)",
        "solver::test_a_large_unit_hides_no_small_one",
    ),
    Mutant(
        "increments measured in units of the state",
        PROBLEM,
        "unit = jnp.where(size < numbers.tiny, about, size)",
        "unit = jnp.ones_like(size)",
        "solver::test_increments_are_measured_in_units_of_their_block",
    ),
    Mutant(
        "absolute tolerance ignored",
        PROBLEM,
        "return worst, most - atol",
        "return worst, most",
        "solver::test_an_example_is_not_touched_once_it_has_settled",
    ),
    Mutant(
        "relative tolerance ignored",
        PROBLEM,
        "jnp.max(force - rtol * value, axes)",
        "jnp.max(force, axes)",
        "solver::test_a_large_unit_hides_no_small_one",
    ),
    Mutant(
        "time constants ignored",
        PROBLEM,
        "(t - s) / tau\n",
        "(t - s)\n",
        "network::test_velocity_is_per_time_constant",
    ),
    Mutant(
        "increments not rescaled for solvers",
        PROBLEM,
        "return tuple(jnp.where(size > 0, size, 1) for size in sizes)",
        "return tuple(jnp.ones_like(size) for size in sizes)",
        "solver::test_every_solver_solves_increments_however_small",
    ),
    Mutant(
        "settled examples move on",
        SWEEPS,
        "moving = along(active, found[1].ndim) & (found[1] > 0) & chosen",
        "moving = (found[1] == found[1]) & chosen",
        "solver::test_an_example_is_not_touched_once_it_has_settled",
    ),
    Mutant(
        "settled examples are counted on",
        SWEEPS,
        "steps = steps + active",
        "steps = steps + 1",
        "solver",
    ),
    Mutant(
        "settled examples are judged again",
        SWEEPS,
        "residual = jnp.where(active, measured[0], residual)",
        "residual = measured[0]",
        "solver",
    ),
    Mutant(
        "default orders swapped",
        SWEEPS,
        "Backward() if problem.incremental else Forward()",
        "Forward() if problem.incremental else Backward()",
        "solver",
    ),
    Mutant(
        "one sweep too many",
        SWEEPS,
        "(count < self.max_sweeps)",
        "(count <= self.max_sweeps)",
        "solver",
    ),
    Mutant(
        "relaxation ignored",
        SWEEPS,
        "moved = old + self.relaxation * change",
        "moved = old + change",
        "solver",
    ),
    Mutant(
        "over-relaxed states leave their range",
        SWEEPS,
        "moved = jnp.clip(moved, *bounds)",
        "pass",
        "solver",
    ),
    Mutant(
        "over-relaxed increments leave their range",
        PHASES,
        "return (least - image) / unit, (largest - image) / unit",
        "return None",
        "solver",
    ),
    Mutant(
        "increments are bounded by a state that is not quite at rest",
        PHASES,
        "_share(self, self.wiring.units, n), self.data[4][n]",
        "_share(self, self.wiring.units, n), self.data[3][n]",
        "solver",
    ),
    Mutant(
        "a place that is left over in a narrower batch is put back",
        SWEEPS,
        '.set(own, mode="drop")',
        '.set(own, mode="clip")',
        "solver",
    ),
    Mutant(
        "gathered examples are given those of others as data",
        SWEEPS,
        "problem.take(jnp.minimum(index, size - 1), lead)",
        "problem.take(jnp.minimum(index, 0), lead)",
        "solver",
    ),
    Mutant(
        "narrower batches may sweep as often again",
        SWEEPS,
        "groups, (few, count), widths[1:])",
        "groups, (few, count * 0), widths[1:])",
        "solver",
    ),
    Mutant(
        "patches of tiny images out of order",
        CONV,
        "for i, j in itertools.product(*map(range, size))",
        "for j, i in itertools.product(*map(range, size))",
        "operators",
    ),
    Mutant(
        "alternating updates neighbours together",
        ORDER,
        "color[j] = 1 - color[i]",
        "color[j] = color[i]",
        "solver",
    ),
    Mutant(
        "backward goes forward",
        ORDER,
        "return tuple((n,) for n in reversed(range(count)))",
        "return tuple((n,) for n in range(count))",
        "solver",
    ),
    Mutant(
        "divergence passes for slowness",
        VERDICT,
        "runaway = ~settled & (size > _RUNAWAY)",
        "runaway = settled & (size > _RUNAWAY)",
        "solver",
    ),
    Mutant(
        "NaN passes for slowness",
        VERDICT,
        "return RESULTS.where(finite, out, RESULTS.not_finite)",
        "return out",
        "solver",
    ),
    Mutant(
        "one settled example silences the others",
        VERDICT,
        "state = member.error_if(state, jnp.any(found.result == member))",
        "state = member.error_if(state, jnp.all(found.result == member))",
        "solver::test_throw",
    ),
    Mutant(
        "last failure instead of the first",
        VERDICT,
        "return RESULTS.where((a == RESULTS.successful) | milder, b, a)",
        "return RESULTS.where((b == RESULTS.successful) | milder, a, b)",
        "solver::test_first_failure",
    ),
    Mutant(
        "time limit overrun by an interval",
        ODE,
        "t_next = jnp.minimum(t + self.interval, self.t1)",
        "t_next = t + self.interval",
        "solver",
    ),
    Mutant(
        "the last block alone is judged",
        "_arrays.py",
        "out = jnp.maximum(out, value)",
        "out = value",
        "verdict::test_what_has_settled_stays_within_the_tolerance",
    ),
    Mutant(
        "the last sweep moves what is at rest",
        SWEEPS,
        "moving = along(active, found[1].ndim) & (found[1] > 0) & chosen",
        "moving = along(active, found[1].ndim) & chosen",
        "verdict::test_what_has_settled_stays_within_the_tolerance",
    ),
    Mutant(
        "nobody's last sweep comes before the slowest one's",
        SWEEPS,
        "active = active & (excess > 0)",
        "active = active & jnp.any(excess > 0)",
        "solver::test_each_example_stops_by_itself",
    ),
    Mutant(
        "a group remembers what came before its blocks",
        SWEEPS,
        "memory = problem.refreshed(state, memory)",
        "pass",
        "verdict::test_synchronous_sweeps_are_the_synchronous_map",
    ),
    Mutant(
        "a free state that still moves is left behind",
        FIXED,
        "jax.lax.cond(moving, move, stay, free)",
        "stay(free)",
        "unsettled::test_fixed_sweeps_are_taken_as_published",
    ),
    Mutant(
        "a free state that goes on keeps its first memory",
        FIXED,
        "return dataclasses.replace(free, state=state, memory=memory)",
        "return dataclasses.replace(free, state=state)",
        "unsettled::test_fixed_sweeps_are_taken_as_published",
    ),
    Mutant(
        "the adjoint lacks its last transposed sweep",
        LINEAR,
        "return _as(back(w)[1], given), steps, solved",
        "return _as(w, given), steps, solved",
        "derivative::test_linear_problems_are_solved_at_any_depth",
    ),
    Mutant(
        "a linear problem passes for solved",
        LINEAR,
        "return value, steps, finite & (solution.result == lx.RESULTS.successful)",
        "return value, steps, finite",
        "derivative::test_a_linear_problem_that_is_not_solved_says_so",
    ),
    # ---------------------------------------------------------- nudges
    Mutant(
        "force points up the cost",
        NUDGE,
        "return -jax.grad(total, holomorphic",
        "return jax.grad(total, holomorphic",
        "energy",
    ),
    Mutant(
        "nudge applied without beta",
        NUDGE,
        "return beta.reshape(beta.shape + axes) * force",
        "return (0 * beta.reshape(beta.shape + axes) + 1) * force",
        "rules",
    ),
    Mutant(
        "force forgets the weight of its nudge",
        NUDGE,
        "return None if force is None else self._number * force",
        "return force",
        "rules",
    ),
    Mutant(
        "cost forgets the weight of its nudge",
        NUDGE,
        "return self._number * self.nudge.cost(network, state, target)",
        "return self.nudge.cost(network, state, target)",
        "rules",
    ),
    Mutant(
        "squared error loses its half",
        "_nudge/loss.py",
        "return 0.5 * jnp.sum(",
        "return jnp.sum(",
        "network gradient",
    ),
    Mutant(
        "smoothing spreads over one output less",
        "_nudge/loss.py",
        "values = (1 - spread) * values + spread / output.shape[-1]",
        "values = (1 - spread) * values + spread / (output.shape[-1] - 1)",
        "smoothing",
    ),
    # ---------------------------------------------------------- practice
    Mutant(
        "images are turned the other way",
        "data/randaugment.py",
        "[[c, -s, x - c * x + s * y], [s, c, y - s * x - c * y]],",
        "[[c, s, x - c * x - s * y], [-s, c, y + s * x - c * y]],",
        "pipeline",
    ),
    Mutant(
        "equalize counts the highest level",
        "data/randaugment.py",
        "step = (height * width - top) // 255",
        "step = (height * width) // 255 + 0 * top",
        "pipeline",
    ),
    Mutant(
        "the square that is cut is not the mean",
        "data/pipeline.py",
        "return jnp.where(i[:, None, None] & j[:, None], 0, x)",
        "return jnp.where(i[:, None, None] & j[:, None], -1, x)",
        "pipeline",
    ),
    Mutant(
        "the average keeps its bias",
        "_train/average.py",
        "share = (1 - decay) / -jnp.expm1(count * math.log(decay))",
        "share = (1 - decay) + 0.0 * count",
        "average",
    ),
    Mutant(
        "the weights are returned, not their average",
        "_train/loop.py",
        "trained = state.trained if average is None else average.weights",
        "trained = state.trained",
        "average",
    ),
    # ---------------------------------------------------------- rules
    Mutant(
        "centered loses its half",
        STENCIL,
        "return self.beta * signs, signs / (2 * self.beta)",
        "return self.beta * signs, signs / self.beta",
        "rules",
    ),
    Mutant(
        "phases swapped",
        STENCIL,
        "return self.beta * signs, signs / (2 * self.beta)",
        "return -self.beta * signs, signs / (2 * self.beta)",
        "rules",
    ),
    Mutant(
        "one-sided multiplies by beta",
        STENCIL,
        "return self.beta * np.ones(1), np.ones(1) / self.beta",
        "return self.beta * np.ones(1), np.ones(1) * self.beta",
        "rules",
    ),
    Mutant(
        "a ramp is a step late",
        RAMPED,
        "jnp.asarray(k + 1, betas.dtype)",
        "jnp.asarray(k, betas.dtype)",
        "rules",
    ),
    Mutant(
        "a ramp is divided by one of its steps",
        RAMPED,
        "np.ones(1) / last",
        "np.ones(1) / self.beta",
        "rules",
    ),
    Mutant(
        "contrast attenuated twice",
        STENCIL,
        "(1.0 if self.rescale else a) * _weighted(weights, v).real",
        "a * _weighted(weights, v).real",
        "gradient",
    ),
    Mutant(
        "contrast never attenuated",
        STENCIL,
        "if self.rescale and network.has_energy:",
        "if network.has_energy:",
        "rules",
    ),
    Mutant(
        "direct gradient dropped",
        STENCIL,
        "total = task.cost(network, nudge, state)",
        "total = 0 * task.cost(network, nudge, state)",
        "gradient::test_centered_in_float32_against_the_exact_gradient_in_float64",
    ),
    Mutant(
        "sum instead of mean over the batch",
        RULE,
        "weight = jnp.full(count, 1 / count, x.dtype)",
        "weight = jnp.full(count, 1.0, x.dtype)",
        "network gradient",
    ),
    Mutant(
        "what has failed is put at zero",
        RULE,
        "one = jnp.take(leaf, jnp.argmax(used)[None], axis)",
        "one = jnp.zeros_like(jnp.take(leaf, jnp.array([0]), axis))",
        "unsettled::test_a_cost_that_stands_no_zero_is_learnt_from_the_others",
    ),
    Mutant(
        "what has failed stays where it is",
        RULE,
        "return jnp.where(jnp.expand_dims(used, others), leaf, one)",
        "return leaf",
        "holomorphic::test_an_example_that_is_not_finite_is_left_out",
    ),
    Mutant(
        "the weight of what has failed is lost",
        RULE,
        "weight = weight / jnp.where(share > 0, share, 1)",
        "pass",
        "unsettled::test_an_unsettled_example_takes_no_part",
    ),
    Mutant(
        "adjoint equation with the wrong sign",
        LINEAR,
        "lambda v: tuple(a - b for a, b in zip(v, contraction(v), strict=True))",
        "lambda v: tuple(a + b for a, b in zip(v, contraction(v), strict=True))",
        "derivative::test_linear_problems_are_solved_at_any_depth",
    ),
    Mutant(
        "implicit rule ignores the weight of examples",
        IMPLICIT,
        "jnp.sum(along(task.weight, w.ndim) * w * t)",
        "jnp.sum(w * t)",
        "gradient::test_rows_of_weight_zero_change_nothing",
    ),
    Mutant(
        "one label too many",
        "_rule/arguments.py",
        "if low < 0 or high >= classes:",
        "if low < 0 or high > classes:",
        "bad_input::test_message",
    ),
    # ---------------------------------------------------------- rules at random, held
    Mutant(
        "random signs are not undone",
        STENCIL,
        "return sign * betas, sign * weights",
        "return sign * betas, weights",
        "rules",
    ),
    Mutant(
        "all examples have one sign",
        STENCIL,
        "sign = signs(task.keys)[None]",
        "sign = signs(task.keys)[None, :1]",
        "rules",
    ),
    Mutant(
        "the output is held at the wrong side",
        COUPLED,
        "last = along(betas, error.ndim + 1) * error[None]",
        "last = -along(betas, error.ndim + 1) * error[None]",
        "rules::test_coupled_learning_is_the_contrastive_hebbian_rule",
    ),
    Mutant(
        "the output is not held",
        COUPLED,
        "if n == len(self.shapes) - 1:",
        "if n == len(self.shapes):",
        "rules",
    ),
    # ---------------------------------------------------------- nudges that turn
    Mutant(
        "the nudge turns backwards",
        TURNING,
        "jnp.exp(2j * jnp.pi * t / self.period)",
        "jnp.exp(-2j * jnp.pi * t / self.period)",
        "holomorphic",
    ),
    Mutant(
        "the transient is averaged in",
        TURNING,
        "orbit = tuple(s[1:] for s in orbit)",
        "orbit = tuple(s[:-1] for s in orbit)",
        "holomorphic",
    ),
    Mutant(
        "an open orbit counts",
        TURNING,
        "(-1 - self.points, -1)",
        "(-1, -1)",
        "holomorphic",
    ),
    Mutant(
        "negative frequencies are half missed",
        COMPLEX,
        "waves[:, _POINTS // 2 :].max()",
        "waves[:, _POINTS // 2 : -1].max()",
        "holomorphic",
    ),
    Mutant(
        "blocks that feel nothing judge themselves",
        PROBLEM,
        "return jnp.where(felt, s, along(most, s.ndim))",
        "return s",
        "solver",
    ),
    # ---------------------------------------------------------- checkpoints
    Mutant(
        "a damaged checkpoint passes",
        CHECKPOINT,
        'elif header.pop("sha256", None) != _digest(header, payload):',
        'elif header.pop("sha256", None) is None:',
        "checkpoint",
    ),
    Mutant(
        "a cut checkpoint passes",
        CHECKPOINT,
        'elif header.get("bytes") != len(payload):',
        'elif header.get("bytes") is None:',
        "checkpoint",
    ),
    Mutant(
        "weak types are forgotten",
        CHECKPOINT,
        "return weak if weak.dtype == strong.dtype else strong",
        "return strong",
        "checkpoint",
    ),
    Mutant(
        "the oldest checkpoint is taken",
        CHECKPOINT,
        "key=lambda path: int(path.stem[11:]), reverse=True)",
        "key=lambda path: int(path.stem[11:]))",
        "checkpoint",
    ),
    Mutant(
        "one checkpoint too many is kept",
        CHECKPOINT,
        "present[present.index(path) + keep :]",
        "present[present.index(path) + keep + 1 :]",
        "checkpoint",
    ),
    Mutant(
        "the best checkpoint is removed",
        CHECKPOINT,
        "        if old != spared:",
        "        if True:",
        "resume",
    ),
    Mutant(
        "a resumed run forgets its history",
        RUN,
        'log.rewrite(folder, config["history"])',
        "log.rewrite(folder, [])",
        "resume",
    ),
    Mutant(
        "an unfinished epoch takes the name of the last one",
        RUN,
        "position.epoch + (position.batch > 0)",
        "position.epoch",
        "resume",
    ),
    Mutant(
        "a refusing disk ends the run",
        RUN,
        "        except OSError as error:\n"
        "            warn(str(error))\n\n    def record",
        "        except ZeroDivisionError as error:\n"
        "            warn(str(error))\n\n    def record",
        "resume",
    ),
    Mutant(
        "what a function reads is no part of a run",
        IDENTITY,
        ', "reads": self(reads)}',
        "}",
        "identity::test_a_global_that_a_schedule_reads",
    ),
    Mutant(
        "the code of a function is no part of a run",
        IDENTITY,
        '{"code": _digest(_code(value.__code__))}',
        "{}",
        "identity",
    ),
    Mutant(
        "the code of a class is no part of a run",
        IDENTITY,
        'return {"code": _digest(b"".join(parts))} if parts else {}',
        "return {}",
        "identity",
    ),
    Mutant(
        "weights to begin with are part of a run",
        IDENTITY,
        "drawn = list(_arrays(network, network.trainable()))",
        "drawn = []",
        "identity::test_what_may_change",
    ),
    Mutant(
        "another version of one library excuses all others",
        IDENTITY,
        '.split(".")[0] in versions - {"ctep"} for kind in kinds)',
        " for kind in kinds) and bool(versions)",
        "identity::test_what_another_version_describes_otherwise",
    ),
    Mutant(
        "what is printed tells runs apart",
        "_train/store/folder.py",
        "for key, value in told.items() if not _is_printed(key)}",
        "for key, value in told.items()}",
        "identity",
    ),
    # ---------------------------------------------------------- the loop and its data
    Mutant(
        "sums run on into the next epoch",
        TRAIN,
        "job.loop.place.put(eqx.tree_at(lambda s: s.sums, state, sums))",
        "job.loop.place.put(state)",
        "fit",
    ),
    Mutant(
        "the loss of what has not settled is scored",
        SCORE,
        "jnp.sum(jnp.where(used, cost, 0))",
        "jnp.sum(jnp.where(present, cost, 0))",
        "unsettled",
    ),
    Mutant(
        "rows that fill up a batch are scored",
        SCORE,
        "used = usable(free.result) & present",
        "used = usable(free.result)",
        "use::test_scores_count_what_they_say",
    ),
    Mutant(
        "rows that fill up a batch are mistaken for others",
        SCORE,
        "jax.nn.one_hot(_labels(y), output.shape[-1]) * present[:, None]",
        "jax.nn.one_hot(_labels(y), output.shape[-1])",
        "use::test_a_confusion_counts_every_example",
    ),
    Mutant(
        "a confusion has its classes in columns",
        SCORE,
        "(rows.T @ columns)",
        "(columns.T @ rows)",
        "use::test_a_confusion_counts_every_example",
    ),
    Mutant(
        "an array that no checkpoint holds is made",
        REBUILD,
        "if not arrays:",
        "if False:",
        "rebuild::test_an_array_that_no_checkpoint_holds_is_refused",
    ),
    Mutant(
        "rows that fill up the last part are predicted",
        EVALUATE,
        "return jnp.concatenate(parts)[: len(x)]",
        "return jnp.concatenate(parts)",
        "use::test_predictions_are_the_outputs_at_rest",
    ),
    Mutant(
        "weights count as reached from either end",
        "_train/trained.py",
        "return c.target - 1 in reached or back",
        "return c.target - 1 in reached or c.source - 1 in reached",
        "grades::test_arrays_that_no_gradient_reaches_are_named",
    ),
    Mutant(
        "all epochs have one order",
        ROWS,
        "default_rng([*self.seed, epoch])",
        "default_rng([*self.seed, 0])",
        "fit",
    ),
    Mutant(
        "a held-out example is streamed",
        STREAM,
        "wanted if index is None else index[wanted]",
        "wanted",
        "stream",
    ),
    Mutant(
        "a stream goes on where it should begin",
        FEED,
        "self._ahead is None or number != self._next",
        "self._ahead is None",
        "stream",
    ),
    Mutant(
        "a batch loses what devices do not divide",
        PLACE,
        "-(-batch_size // self.mesh.size) * self.mesh.size",
        "max(batch_size // self.mesh.size, 1) * self.mesh.size",
        "parallel",
    ),
    Mutant(
        "a run needs an installed package",
        IDENTITY,
        "except metadata.PackageNotFoundError:",
        "except KeyError:",
        "resume::test_a_package_that_is_not_installed",
    ),
    # -------------------------------------------------------------- recipes
    Mutant(
        "deep recipes keep their first rate",
        OWN,
        "optax.adam(cosine_decay(3e-4, epochs, steps))",
        "optax.adam(3e-4)",
        "recipes",
    ),
    Mutant(
        "a teacher that was interrupted teaches",
        RECIPE,
        'if result.status != "completed":',
        'if result.status == "diverged":',
        "cli",
    ),
    Mutant(
        "a run is opened at full width",
        RECIPE,
        'scale, rule = float(kept.get("scale", 1.0)), ',
        "scale, rule = 1.0, ",
        "recipes",
    ),
]


def copy(folder):
    """Copy what the tests need into `folder`."""
    for name in ("ctep", "tests"):
        shutil.copytree(
            ROOT / name,
            folder / name,
            ignore=shutil.ignore_patterns("__pycache__", ".hypothesis"),
        )
    shutil.copy(ROOT / "pyproject.toml", folder)


def run(folder, arguments):
    """Run Python in the copy, which shadows an installed ctep."""
    environment = os.environ | {
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    try:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None


def tests_pass(folder, tests, *, stop):
    """Return whether tests pass in the copy, and the last line of their output."""
    parts = [name.partition("::") for name in tests]
    files = [f"tests/test_{file}.py{colons}{test}" for file, colons, test in parts]
    flags = ["-x", "-n0"] if stop else []
    flags += ["-m", "", "-p", "no:cacheprovider"]  # the campaign, too
    done = run(folder, ["-m", "pytest", "-q", *flags, *files])
    if done is None:
        return False, f"no end after {LIMIT} s"
    if done.returncode not in (0, 1):
        sys.exit(f"The tests do not even start:\n{done.stdout}{done.stderr}")
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    return done.returncode == 0, failed[0] if failed else ""


def mutated(mutant):
    """Return the text of the mutant's file with the mutation, none if it moved."""
    path = ROOT / "ctep" / mutant.file
    text = path.read_text() if path.exists() else ""
    return text.replace(mutant.old, mutant.new) if text.count(mutant.old) == 1 else ""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="parts of names")
    parser.add_argument("--list", action="store_true", help="check texts, and no run")
    options = parser.parse_args()
    only = options.only or [""]
    chosen = [m for m in MUTANTS if any(part in m.name for part in only)]
    assert len({m.name for m in MUTANTS}) == len(MUTANTS)
    texts = {m.name: mutated(m) for m in MUTANTS}
    if moved := [m for m in MUTANTS if not texts[m.name]]:
        lines = [f"{m.name}: {m.file} must hold once\n    {m.old}" for m in moved]
        sys.exit("\n".join(["Some texts have moved.", *lines]))
    if options.list or not chosen:
        print(*(m.name for m in MUTANTS), sep="\n")
        sys.exit(0 if options.list else f"no mutant is called {options.only}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        copy(folder)
        where = run(folder, ["-c", "import ctep; print(ctep.__file__)"]).stdout
        assert where.startswith(str(folder)), f"the copy does not shadow {where}"
        files = sorted({name for m in chosen for name in m.tests.split()})
        passed, report = tests_pass(folder, files, stop=False)
        if not passed:
            sys.exit(f"The tests fail without any mutant: {report}")
        survivors = []
        for mutant in chosen:
            path, start = folder / "ctep" / mutant.file, time.perf_counter()
            original = path.read_text()
            path.write_text(texts[mutant.name])
            passed, report = tests_pass(folder, mutant.tests.split(), stop=True)
            path.write_text(original)
            seconds = time.perf_counter() - start
            survivors += [mutant.name] if passed else []
            word = "SURVIVED" if passed else "killed"
            print(f"{word:<9}{seconds:5.0f} s  {mutant.name:<50} {report}", flush=True)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutants caught")
    sys.exit(1 if survivors else 0)


if __name__ == "__main__":
    main()
