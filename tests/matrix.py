"""Which cases of a matrix run by default, and which are the campaign.

`pytest` leaves out what is marked `campaign`: long runs, and the cases of a matrix
beyond a few in which every value of every axis appears. `pytest -m campaign` runs
those, and `pytest -m ""` runs all. `.ci/run` leaves out nothing.
"""

import itertools

import pytest

import ctep
from ctep import analysis

campaign = pytest.mark.campaign

# Functions of a network, inputs and targets: an array of what each analysis finds.
ANALYSES = {
    "spectral_radius": lambda n, x, y: analysis.spectral_radius(n, x),
    "weights": lambda n, x, y: analysis.spectral_radius(n, of="weights"),
    "convergence_time": lambda n, x, y: analysis.convergence_time(n, x).steps,
    "lyapunov": lambda n, x, y: analysis.lyapunov(n, x, steps=20)[0],
    "contraction": lambda n, x, y: analysis.contraction(n, beta=0.1).bounds[0].k1,
    "gradient_check": lambda n, x, y: (
        analysis.gradient_check(n, x, y, [ctep.Centered(0.1)]).relative_error
    ),
    "gradient_curve": lambda n, x, y: analysis.gradient_curve(n, x, y).ep_norm,
    "depth_profile": lambda n, x, y: analysis.depth_profile(n, x, y).gradient,
    "nudge_plane": lambda n, x, y: analysis.nudge_plane(n, x, y, points=3).distance,
    "weight_statistics": lambda n, x, y: analysis.weight_statistics(n).norm,
}


def cover(cells, strength=1):
    """Return few of the cells that hold all that the cells hold, `strength` at a time.

    With a strength of 2 every pair of values of any two axes appears that appears in
    the cells. Greedily: each is the first of those that add the most.
    """

    def holds(cell):
        return set(itertools.combinations(enumerate(cell), strength))

    missing, chosen = set().union(*map(holds, cells)), []
    while missing:
        best = max(cells, key=lambda cell: len(holds(cell) & missing))
        chosen.append(best)
        missing -= holds(best)
    return chosen


def parametrize(names, cases, default):
    """Parametrise by all cases, of which `default` run by default."""
    cases, default = list(cases), list(default)
    assert all(case in cases for case in default)
    several = not isinstance(names, str)
    return pytest.mark.parametrize(
        names,
        [
            pytest.param(
                *(case if several else [case]),
                marks=[] if case in default else campaign,
            )
            for case in cases
        ],
    )


def product(names, *axes, strength=1):
    """Parametrise by the product of axes; by default as many cells as `cover` takes."""
    cells = list(itertools.product(*axes))
    return parametrize(names, cells, cover(cells, strength))
