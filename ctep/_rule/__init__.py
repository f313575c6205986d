from .arguments import (
    check_batch as check_batch,
    check_inputs as check_inputs,
    check_kinds as check_kinds,
)
from .backprop import Backprop as Backprop, FeedbackAlignment as FeedbackAlignment
from .base import (
    AbstractRule as AbstractRule,
    Estimate as Estimate,
    Task as Task,
    partition as partition,
)
from .coupled import Coupled as Coupled
from .gradient import gradient as gradient
from .holomorphic import Holomorphic as Holomorphic
from .implicit import Implicit as Implicit
from .oscillating import Oscillating as Oscillating
from .ramped import Ramped as Ramped
from .stencil import (
    AbstractStencil as AbstractStencil,
    Centered as Centered,
    OneSided as OneSided,
    RandomSign as RandomSign,
)
from .unrolled import Unrolled as Unrolled
