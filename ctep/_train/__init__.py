from .evaluate import (
    evaluate as evaluate,
    predict as predict,
    settle as settle,
)
from .fit import fit as fit
from .restore import restore as restore
from .result import Result as Result
from .score import Score as Score, as_inputs as as_inputs
from .store.checkpoint import CheckpointError as CheckpointError
from .watch import Watch as Watch
