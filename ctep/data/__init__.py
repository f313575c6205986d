"""What is learnt: arrays in memory, the embedded digits, and TFDS images."""

from .dataset import Dataset as Dataset
from .load import load as load
from .pipeline import Pipeline as Pipeline
