"""ThunderNet's backbones: ShuffleNetV2 with wider windows and without its wide end, for detection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Gt

from automl_networks.classifier import Classifier, pooled_linear
from automl_networks.conv_norm import conv_norm
from automl_networks.detector import ThunderNetDetector
from automl_networks.hand_designed import DECIDABLE, HandDesigned, Image
from automl_networks.initialisation import initialise
from automl_networks.shuffle_units import Form, shuffle_stages, shuffle_stem, widening

# channels of the stem and of the three stages; then of the last 1 x 1, where there is one
_BACKBONES: dict[str, tuple[tuple[int, int, int, int], int | None]] = {
    "snet49": ((24, 60, 120, 240), 512),
    "snet146": ((24, 132, 264, 528), None),
    "snet535": ((48, 248, 496, 992), None),
}


@dataclass
class ThunderNet(HandDesigned):
    """SNets, the backbones of ThunderNet (Qin et al., 2019), parameters and multiply-adds at 224 x 224 as classifiers.

    ``backbone`` is "snet49" (875,548; 51,205,832), "snet146" (1,572,748; 161,137,848) or "snet535" (4,535,144;
    535,354,640), with 1,000 classes. ``width`` multiplies every number of channels, in multiples of 4. ``form``
    "halves" gives the two paths of a unit with more outputs equal shares; the authors' "release" keeps the inputs'
    number on the first. On small images the stem's stride and pool, then the first stages' strides, are left out.
    """

    backbone: Annotated[Literal["snet49", "snet146", "snet535"], DECIDABLE] = "snet146"
    width: Annotated[float, Gt(0), DECIDABLE] = 1.0
    form: Form = "halves"

    def network(self, image: Image, outputs: int) -> Classifier:
        convolution, pool, *others = self.steps(image)
        channels, last = self._channels()
        stages = shuffle_stages(channels, others, kernel=5, form=self.form)
        if last is not None:
            stages.append(conv_norm(channels[-1], last))
        return Classifier(
            shuffle_stem(image[0], channels[0], convolution, pool),
            stages,
            pooled_linear(last or channels[-1], outputs),
        )

    def detector(self, classes: int = 80) -> ThunderNetDetector:
        """Return the detector of so many kinds of objects on this backbone, for images of about 320 x 320."""
        channels, last = self._channels()
        backbone = self.network((3, 320, 320), 1)
        detector = ThunderNetDetector(backbone, (channels[2], last or channels[-1]), classes)
        initialise(detector)
        return detector

    def _channels(self) -> tuple[list[int], int | None]:
        channels, last = _BACKBONES[self.backbone]
        return widening([width * self.width for width in channels], 4), last and max(4, round(last * self.width))
