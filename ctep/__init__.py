"""Networks that settle: equilibrium propagation and its relatives, on JAX."""

# Network: what moves.
from . import analysis as analysis, data as data, recipes as recipes
from ._difference import (
    custom_difference as custom_difference,
    difference as difference,
)
from ._network import (
    AbstractActivation as AbstractActivation,
    AbstractLinear as AbstractLinear,
    AbstractNetwork as AbstractNetwork,
    AbstractOperator as AbstractOperator,
    AbstractPool as AbstractPool,
    AbstractProblem as AbstractProblem,
    AveragePool as AveragePool,
    Chain as Chain,
    Clip as Clip,
    Conv as Conv,
    Coupling as Coupling,
    Dense as Dense,
    EnergyNetwork as EnergyNetwork,
    Fixed as Fixed,
    HardSigmoid as HardSigmoid,
    Identity as Identity,
    Layer as Layer,
    MaxPool as MaxPool,
    Module as Module,
    Multiplier as Multiplier,
    Network as Network,
    Readout as Readout,
    ReLU as ReLU,
    ReLU6 as ReLU6,
    Sigmoid as Sigmoid,
    Skip as Skip,
    SoftmaxPool as SoftmaxPool,
    Stack as Stack,
    Tanh as Tanh,
    Tied as Tied,
    dirac as dirac,
    edge_of_chaos as edge_of_chaos,
    graph as graph,
    hopfield_resnet as hopfield_resnet,
    mlp as mlp,
    operator_norm as operator_norm,
    residual as residual,
    vgg as vgg,
    weights as weights,
    whitening as whitening,
    with_precision as with_precision,
)

# Nudge: what pulls it.
from ._nudge import (
    AbstractLoss as AbstractLoss,
    AbstractNudge as AbstractNudge,
    CrossEntropy as CrossEntropy,
    Distillation as Distillation,
    Frozen as Frozen,
    Head as Head,
    LocalError as LocalError,
    OutputError as OutputError,
    SquaredError as SquaredError,
    cosine as cosine,
    exponential as exponential,
    linear as linear,
)
from ._parameter import parameter as parameter

# Rule: how rests make a gradient.
from ._rule import (
    AbstractRule as AbstractRule,
    AbstractStencil as AbstractStencil,
    Backprop as Backprop,
    Centered as Centered,
    Coupled as Coupled,
    Estimate as Estimate,
    FeedbackAlignment as FeedbackAlignment,
    Holomorphic as Holomorphic,
    Implicit as Implicit,
    OneSided as OneSided,
    Oscillating as Oscillating,
    Ramped as Ramped,
    RandomSign as RandomSign,
    Task as Task,
    Unrolled as Unrolled,
)

# By its module, since that has its name: the documentation would show the module.
from ._rule.gradient import gradient as gradient

# Solver: how rest is found.
from ._solver import (
    ODE as ODE,
    RESULTS as RESULTS,
    AbstractOrder as AbstractOrder,
    AbstractSolver as AbstractSolver,
    Alternating as Alternating,
    Backward as Backward,
    Equilibrium as Equilibrium,
    FixedPoint as FixedPoint,
    FixedSweeps as FixedSweeps,
    Forward as Forward,
    Phases as Phases,
    Sweeps as Sweeps,
    Synchronous as Synchronous,
)

# Training.
from ._train import (
    CheckpointError as CheckpointError,
    Result as Result,
    Score as Score,
    Watch as Watch,
    predict as predict,
    settle as settle,
)

# By their modules, as above.
from ._train.evaluate import evaluate as evaluate
from ._train.fit import fit as fit
from ._train.restore import restore as restore

# Weights: what they are made of.
from ._weights import (
    contractive as contractive,
    dale as dale,
    frozen as frozen,
    masked as masked,
    mismatched as mismatched,
    noisy as noisy,
    nonnegative as nonnegative,
    quantized as quantized,
    resolve as resolve,
    standardized as standardized,
    weight_norm as weight_norm,
)
