"""Building blocks of lightweight networks, and the networks that were designed by hand of them."""

from collections.abc import Mapping

from automl import hookimpl

_NETWORKS = {
    "alexnet": "AlexNet",
    "densenet": "DenseNet",
    "densenet_cifar": "DenseNetCifar",
    "espnet": "ESPNet",
    "espnet_v2": "ESPNetV2",
    "gcn": "GCN",
    "googlenet": "GoogLeNet",
    "igcv1": "IGCV1",
    "igcv2": "IGCV2",
    "igcv3": "IGCV3",
    "inception_v3": "InceptionV3",
    "mnasnet": "MnasNet",
    "mobilenet_v1": "MobileNetV1",
    "mobilenet_v2": "MobileNetV2",
    "resnet": "ResNet",
    "resnet_cifar": "ResNetCifar",
    "resnext": "ResNeXt",
    "shufflenet_v1": "ShuffleNetV1",
    "shufflenet_v2": "ShuffleNetV2",
    "squeezenet": "SqueezeNet",
    "thundernet": "ThunderNet",
    "vgg": "VGG",
    "vgg_cifar": "VGGCifar",
    "xception": "Xception",
}


@hookimpl
def automl_spaces() -> Mapping[str, str]:
    """Return the hand-designed networks, each a space of few decisions or none, by name."""
    return {name: f"automl_networks.zoo.{name}:{kind}" for name, kind in _NETWORKS.items()}
