from .activation import (
    AbstractActivation as AbstractActivation,
    Clip as Clip,
    HardSigmoid as HardSigmoid,
    Identity as Identity,
    ReLU as ReLU,
    ReLU6 as ReLU6,
    Sigmoid as Sigmoid,
    Tanh as Tanh,
)
from .base import AbstractNetwork as AbstractNetwork
from .branches import (
    dirac as dirac,
    residual as residual,
    whitening as whitening,
)
from .builders import graph as graph, mlp as mlp
from .conv import Conv as Conv
from .coupling import Coupling as Coupling, Fixed as Fixed, Tied as Tied
from .decay import weights as weights
from .dense import Dense as Dense, with_precision as with_precision
from .energy_network import EnergyNetwork as EnergyNetwork
from .images import hopfield_resnet as hopfield_resnet, vgg as vgg
from .initial import edge_of_chaos as edge_of_chaos
from .layer import Layer as Layer, Readout as Readout
from .module import Module as Module
from .network import Network as Network
from .norms import operator_norm as operator_norm
from .operator import (
    AbstractLinear as AbstractLinear,
    AbstractOperator as AbstractOperator,
    Chain as Chain,
)
from .paths import closure as closure
from .pool import (
    AbstractPool as AbstractPool,
    AveragePool as AveragePool,
    MaxPool as MaxPool,
    SoftmaxPool as SoftmaxPool,
)
from .problem import (
    AbstractProblem as AbstractProblem,
    AbstractPull as AbstractPull,
)
from .skip import Multiplier as Multiplier, Skip as Skip
from .stack import Stack as Stack
