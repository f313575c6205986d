from .base import AbstractSolver as AbstractSolver
from .equilibrium import (
    RESULTS as RESULTS,
    SUCCESSFUL as SUCCESSFUL,
    Equilibrium as Equilibrium,
    explain as explain,
    first_failure as first_failure,
    judge as judge,
)
from .fixed_point import FixedPoint as FixedPoint
from .ode import ODE as ODE
from .order import (
    AbstractOrder as AbstractOrder,
    Alternating as Alternating,
    Backward as Backward,
    Forward as Forward,
    Synchronous as Synchronous,
)
from .sweeps import Sweeps as Sweeps
from .units import Rescaled as Rescaled
