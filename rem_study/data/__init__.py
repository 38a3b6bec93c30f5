"""Images and what is wrong with their labels: sources, data sets, corruptions, batches.

It knows no network. Which samples are known to be corrupted is the trial's matter, not the data's.
"""

from rem_study.data.corruption import Batch, CorruptedTrainingSet, Corruption
from rem_study.data.dataset import Dataset, load_dataset

__all__ = ["Batch", "CorruptedTrainingSet", "Corruption", "Dataset", "load_dataset"]
