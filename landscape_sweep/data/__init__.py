"""Images and labels as tensors on a device. A file here without a leading underscore is a data set.

To add one, write `landscape_sweep/data/NAME.py` with a function `source(root, path)` that returns
a `Source` (what the set is, and how to read it), `conf/data/NAME.yaml`, and a test.
"""

from landscape_sweep.data._augment import Augment, augment, flip_crop
from landscape_sweep.data._dataset import Dataset
from landscape_sweep.data._errors import DataError
from landscape_sweep.data._load import describe, load, names
from landscape_sweep.data._source import Arrays, Source, Spec

__all__ = [
    "Arrays",
    "Augment",
    "DataError",
    "Dataset",
    "Source",
    "Spec",
    "augment",
    "describe",
    "flip_crop",
    "load",
    "names",
]
