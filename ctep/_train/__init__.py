from .evaluate import (
    Score as Score,
    as_inputs as as_inputs,
    evaluate as evaluate,
    predict as predict,
    score as score,
    settle as settle,
)
from .fit import fit as fit
from .restore import restore as restore
from .result import Result as Result
from .store.checkpoint import CheckpointError as CheckpointError
from .watch import Watch as Watch
