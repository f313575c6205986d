"""Why a network settles, and whether its gradients can be trusted."""

from . import plot as plot
from ._certificate import Bound as Bound
from ._contraction import Contraction as Contraction, contraction as contraction
from ._convergence import (
    ConvergenceTime as ConvergenceTime,
    convergence_time as convergence_time,
)
from ._depth import DepthProfile as DepthProfile, depth_profile as depth_profile
from ._energy_trace import energy_trace as energy_trace
from ._gradient_check import (
    GradientCheck as GradientCheck,
    gradient_check as gradient_check,
)
from ._gradient_curve import (
    GradientCurve as GradientCurve,
    gradient_curve as gradient_curve,
)
from ._lyapunov import lyapunov as lyapunov
from ._nudge_plane import NudgePlane as NudgePlane, nudge_plane as nudge_plane
from ._recommended_beta import (
    Recommendation as Recommendation,
    recommended_beta as recommended_beta,
)
from ._recommended_settings import (
    RecommendedSettings as RecommendedSettings,
    recommended_settings as recommended_settings,
)
from ._report import analyse as analyse
from ._robustness import NoiseLevel as NoiseLevel, robustness as robustness
from ._settings import Setting as Setting
from ._spectrum import spectral_radius as spectral_radius
from ._weights import (
    WeightStatistics as WeightStatistics,
    weight_statistics as weight_statistics,
)
