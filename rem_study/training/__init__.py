"""The training loop, the precision it computes in, and accuracies; shared by originals and methods.

It knows no method and no cell: what is trained on what is handed in.
"""

from rem_study.training.compilation import compiling
from rem_study.training.evaluation import accuracy, given_label_accuracy, predict, predict_training, test_predictions
from rem_study.training.loop import BatchLoader, PairedBatches, scale_momentum, train_classifier, train_epoch
from rem_study.training.precision import computing_in

__all__ = [
    "BatchLoader",
    "PairedBatches",
    "accuracy",
    "compiling",
    "computing_in",
    "given_label_accuracy",
    "predict",
    "predict_training",
    "scale_momentum",
    "test_predictions",
    "train_classifier",
    "train_epoch",
]
