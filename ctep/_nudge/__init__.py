from .base import (
    AbstractNudge as AbstractNudge,
    Frozen as Frozen,
    Pull as Pull,
    Scaled as Scaled,
    Sum as Sum,
)
from .loss import (
    AbstractLoss as AbstractLoss,
    CrossEntropy as CrossEntropy,
    SquaredError as SquaredError,
)
from .output_error import OutputError as OutputError
