"""MNIST and Fashion-MNIST: 60,000 grey images of 28 x 28 to train on and 10,000 to test on, in ten classes."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge

from automl_tasks.idx import FILES, IDX


@dataclass(kw_only=True)
class MNIST(IDX):
    """Handwritten digits (LeCun et al., 1998)."""

    crop: Annotated[int, Ge(0)] = 2

    name: ClassVar[str] = "mnist"
    class_names: ClassVar[tuple[str, ...]] = tuple("0123456789")
    subfolder: ClassVar[str] = "MNIST"
    sources: ClassVar[tuple[str, ...]] = (
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
    )
    sha256: ClassVar[dict[str, str]] = dict(
        zip(
            FILES,
            (
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
            strict=True,
        )
    )


@dataclass(kw_only=True)
class FashionMNIST(IDX):
    """Articles of clothing (Xiao et al., 2017)."""

    crop: Annotated[int, Ge(0)] = 2
    flip: bool = True

    name: ClassVar[str] = "fashion_mnist"
    class_names: ClassVar[tuple[str, ...]] = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
    subfolder: ClassVar[str] = "FashionMNIST"
    sources: ClassVar[tuple[str, ...]] = (
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    )
    sha256: ClassVar[dict[str, str]] = dict(
        zip(
            FILES,
            (
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            ),
            strict=True,
        )
    )
