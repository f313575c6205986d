"""Which cases of a matrix run by default, and which are the campaign.

`pytest` leaves out what is marked `campaign`: long runs, and the cases of a matrix
beyond a few in which every value of every axis appears. `pytest -m campaign` runs
those, and `pytest -m ""` runs all. `.ci/run` leaves out nothing.
"""

import itertools

import pytest

campaign = pytest.mark.campaign


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
