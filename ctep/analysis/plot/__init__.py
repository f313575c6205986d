"""Figures of what `ctep.analysis` returns; each function returns its figure."""

from ._axes import NEUTRAL as NEUTRAL
from ._captions import CAPTIONS as CAPTIONS
from ._dynamics import (
    convergence_time as convergence_time,
    energy_trace as energy_trace,
    lyapunov as lyapunov,
    nudge_plane as nudge_plane,
    robustness as robustness,
    spectral_radius as spectral_radius,
)
from ._gradients import (
    contraction as contraction,
    depth_profile as depth_profile,
    gradient_check as gradient_check,
    gradient_curve as gradient_curve,
    history as history,
    recommended_beta as recommended_beta,
    recommended_settings as recommended_settings,
    weight_statistics as weight_statistics,
)
from ._study import study as study, swept as swept
