"""What is learnt: arrays, the embedded digits, and images of TFDS."""

from .dataset import Dataset as Dataset
from .load import load as load
from .pipeline import Pipeline as Pipeline
from .stream import Stream as Stream
