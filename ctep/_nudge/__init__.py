from .base import (
    AbstractNudge as AbstractNudge,
    Frozen as Frozen,
    Head as Head,
    Pull as Pull,
    Scaled as Scaled,
    Sum as Sum,
)
from .distillation import Distillation as Distillation
from .local_error import LocalError as LocalError
from .loss import (
    AbstractLoss as AbstractLoss,
    CrossEntropy as CrossEntropy,
    SquaredError as SquaredError,
)
from .output_error import OutputError as OutputError
from .schedule import (
    cosine as cosine,
    exponential as exponential,
    linear as linear,
)
