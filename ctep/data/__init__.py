"""What is learnt: arrays, the embedded digits, and images of TFDS."""

from .dataset import Dataset as Dataset
from .loading import load as load
from .pipeline import Pipeline as Pipeline
from .records import AbstractRecords as AbstractRecords, ArrayRecords as ArrayRecords
