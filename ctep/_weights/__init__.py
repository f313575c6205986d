from .apply import (
    dale as dale,
    frozen as frozen,
    masked as masked,
    mismatched as mismatched,
    noisy as noisy,
    nonnegative as nonnegative,
    quantized as quantized,
    standardized as standardized,
    weight_norm as weight_norm,
)
from .bounded import contractive as contractive
from .resolution import resolve as resolve
