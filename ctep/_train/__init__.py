from .checkpoint import CheckpointError as CheckpointError
from .fit import fit as fit, restore as restore
from .loop import inputs as inputs, score as score
from .result import Result as Result
from .watch import Watch as Watch
