from .base import AbstractSolver as AbstractSolver
from .equilibrium import (
    RESULTS as RESULTS,
    SUCCESSFUL as SUCCESSFUL,
    Equilibrium as Equilibrium,
    explain as explain,
    first_failure as first_failure,
    judge as judge,
    raised as raised,
    usable as usable,
)
from .fixed_point import FixedPoint as FixedPoint
from .fixed_sweeps import FixedSweeps as FixedSweeps
from .linear import Adjoint as Adjoint, differentiable as differentiable
from .ode import ODE as ODE, check_solver as check_solver
from .order import (
    AbstractOrder as AbstractOrder,
    Alternating as Alternating,
    Backward as Backward,
    Forward as Forward,
    Synchronous as Synchronous,
)
from .phases import Phases as Phases
from .sweeps import Sweeps as Sweeps
from .units import Rescaled as Rescaled
