"""Options of rivals that learn from boxes: Faster R-CNN and RetinaNet."""

from __future__ import annotations

from typing import Literal

from phantomscope.config.option import Section, option


class FasterRcnn(Section):
    """Training of Faster R-CNN with a feature pyramid; defaults: with augmentation."""

    backbone: Literal["resnet50", "resnet18"] = option(
        "resnet50", "Network below the pyramid; `resnet18` is quicker.",
        paper="resnet50",
    )  # fmt: skip
    weights: str | None = option(
        None,
        "File of trained weights (`.pth` of torchvision): of this detector on COCO, or "
        "of its backbone on ImageNet. Then batch statistics and the first two stages "
        "of the backbone stay as they are. Nothing is ever downloaded. Empty: random "
        "weights, all of them trained.",
        paper="COCO or ImageNet",
    )
    epochs: int = option(
        1000, "How often each training image is seen.", ge=1,
        paper="1000; 450 (without augmentation)",
    )  # fmt: skip
    batch_size: int = option(16, "Images per step.", ge=1, paper="16; 6")
    optimiser: Literal["sgd", "adam"] = option(
        "sgd", "Optimiser; `sgd` with a momentum of 0.9.", paper="sgd"
    )
    learning_rate: float = option(
        5e-3, "Learning rate.", gt=0, le=1, paper="5e-3; 5e-4"
    )
    weight_decay: float = option(5e-4, "Weight decay.", ge=0, paper="5e-4")
    decay_every: int = option(
        250, "Epochs after which the learning rate falls to a tenth. 0: never.",
        paper="250; 150", ge=0,
    )  # fmt: skip
    crop: int = option(
        512, "Side of the random crops that are trained on. 0: whole images.",
        unit="px", paper="512; 0", ge=0,
    )  # fmt: skip
    flip: bool = option(True, "Mirror along each axis by chance.", paper="true; false")
    side: int = option(
        800, "Images are scaled to this shorter side before the network sees them, "
        "unless the longer one would be more than 5/3 of it.", unit="px",
        paper="800 (torchvision)", ge=32,
    )  # fmt: skip


class RetinaNet(FasterRcnn):
    """Training of RetinaNet; defaults: without augmentation, which made it unstable."""

    epochs: int = option(
        130, "How often each training image is seen.", ge=1, paper="130"
    )
    batch_size: int = option(4, "Images per step.", ge=1, paper="4")
    optimiser: Literal["sgd", "adam"] = option(
        "adam", "Optimiser; `sgd` with a momentum of 0.9.", paper="adam"
    )
    learning_rate: float = option(1e-4, "Learning rate.", gt=0, le=1, paper="1e-4")
    weight_decay: float = option(0.0, "Weight decay.", ge=0, paper="0")
    decay_every: int = option(
        40, "Epochs after which the learning rate falls to a tenth. 0: never.",
        paper="40", ge=0,
    )  # fmt: skip
    crop: int = option(
        0, "Side of the random crops that are trained on. 0: whole images.",
        unit="px", paper="0", ge=0,
    )  # fmt: skip
    flip: bool = option(False, "Mirror along each axis by chance.", paper="false")


class Detectors(Section):
    """Rivals that learn from boxes, by torchvision (not among the dependencies)."""

    score: float = option(0.5, "Least score of a box that counts as found.", ge=0, lt=1)
    overlap: float = option(
        0.5,
        "Of boxes that overlap (intersection over union) by more, that with the "
        "highest score stays.",
        paper="0.5 (torchvision)", gt=0, le=1,
    )  # fmt: skip
    most: int = option(100, "Most boxes of an image.", paper="100 (torchvision)", ge=1)
    faster_rcnn: FasterRcnn = option(FasterRcnn, "Faster R-CNN.")
    retinanet: RetinaNet = option(RetinaNet, "RetinaNet.")
