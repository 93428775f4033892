"""What a simple classifier makes of the same images: the least that a network found should beat."""

from __future__ import annotations

import warnings

from automl.task import Dataset

NAME = "logistic regression"
_IMAGES = 10_000  # training images, at most: beyond, the solver's time grows and its accuracy hardly does


def accuracy(train: Dataset, test: Dataset) -> tuple[float, int]:
    """Return the test accuracy of logistic regression on raw pixels, and how many images it learnt from."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    step = max(1, -(-len(train) // _IMAGES))
    images, labels = train.images[::step], train.labels[::step]
    model = LogisticRegression(max_iter=200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(images.reshape(len(images), -1) / 255, labels)
    return float(model.score(test.images.reshape(len(test), -1) / 255, test.labels)), len(labels)
