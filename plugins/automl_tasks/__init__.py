"""The tasks that come with automl."""

from collections.abc import Mapping

from automl import hookimpl


@hookimpl
def automl_tasks() -> Mapping[str, str]:
    """Return the tasks by name."""
    return {
        "cifar10": "automl_tasks.cifar10:CIFAR10",
        "digits": "automl_tasks.digits:Digits",
        "fashion_mnist": "automl_tasks.mnist:FashionMNIST",
        "image_folder": "automl_tasks.image_folder:ImageFolder",
        "mnist": "automl_tasks.mnist:MNIST",
        "recorded": "automl_tasks.recorded:Recorded",
        "synthetic": "automl_tasks.synthetic:Synthetic",
    }
