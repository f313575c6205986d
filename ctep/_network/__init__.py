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
from .base import (
    AbstractNetwork as AbstractNetwork,
    AbstractProblem as AbstractProblem,
    AbstractPull as AbstractPull,
)
from .builders import graph as graph, mlp as mlp
from .coupling import Coupling as Coupling, Fixed as Fixed, Tied as Tied
from .energy_network import EnergyNetwork as EnergyNetwork
from .layer import Layer as Layer
from .network import Network as Network, Readout as Readout
from .operator import AbstractOperator as AbstractOperator, Dense as Dense
