"""Networks of Faster R-CNN and RetinaNet, and weights to begin with, by torchvision.

torchvision is not among the dependencies: `pip install .[detection]`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from phantomscope.config.detectors import Detectors, FasterRcnn
from phantomscope.errors import PhantomscopeError, explain_os_errors

Method = Literal["faster_rcnn", "retinanet"]
# Longer and shorter side of what the network sees, as in torchvision.
LONGEST = 1333 / 800
RANDOM, BACKBONE, DETECTOR = "random", "backbone (ImageNet)", "detector (COCO)"


def check_torchvision() -> None:
    """Make sure that torchvision is there and fits torch.

    Raises
    ------
    PhantomscopeError
        If not.
    """
    try:
        import torchvision.models.detection  # noqa: F401
    except (ImportError, RuntimeError) as error:
        # One of another torch does not find its own operators.
        missing = isinstance(error, ModuleNotFoundError) and "torchvision" in str(error)
        why = "is not installed" if missing else f"does not fit torch ({error})"
        raise PhantomscopeError(
            f"`faster_rcnn` and `retinanet` need torchvision, which {why}",
            where="filter.methods",
            fix="`pip install .[detection]` where the project lies, or leave them out",
        ) from error


def build(
    method: Method, own: FasterRcnn, shared: Detectors, classes: int, start: str,
    seed: int,
) -> nn.Module:  # fmt: skip
    """Build a detector with random weights.

    Parameters
    ----------
    method : {"faster_rcnn", "retinanet"}
        Which one.
    own, shared : FasterRcnn, Detectors
        Backbone and side; score, overlap and number of boxes.
    classes : int
        Without background.
    start : str
        What weights it is to get: with `RANDOM` all layers learn; else batch statistics
        and the first two stages stay.
    seed : int
        Of the weights.
    """
    check_torchvision()
    from torchvision.models.detection import FasterRCNN, RetinaNet
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7
    from torchvision.ops.misc import FrozenBatchNorm2d

    body: dict[str, Any] = {
        "backbone_name": own.backbone, "weights": None,
        "norm_layer": nn.BatchNorm2d if start == RANDOM else FrozenBatchNorm2d,
        "trainable_layers": 5 if start == RANDOM else 3,
    }  # fmt: skip
    sides = {"min_size": own.side, "max_size": round(own.side * LONGEST)}
    values = (shared.score, shared.overlap, shared.most)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if method == "faster_rcnn":
            names = ("box_score_thresh", "box_nms_thresh", "box_detections_per_img")
            found: nn.Module = FasterRCNN(
                resnet_fpn_backbone(**body), num_classes=classes + 1, **sides,
                **dict(zip(names, values, strict=True)),
            )  # fmt: skip
        else:
            names = ("score_thresh", "nms_thresh", "detections_per_img")
            # Of the pyramid's levels 3 to 7, as published.
            body |= {"returned_layers": [2, 3, 4]}
            body |= {"extra_blocks": LastLevelP6P7(256, 256)}
            found = RetinaNet(
                resnet_fpn_backbone(**body), num_classes=classes + 1, **sides,
                **dict(zip(names, values, strict=True)),
            )  # fmt: skip
    if start == DETECTOR:
        # As torchvision does with these weights, which were trained so.
        for part in found.modules():
            if isinstance(part, FrozenBatchNorm2d):
                part.eps = 0.0
    return found


def read_weights(path: Path) -> tuple[dict[str, Tensor], str]:
    """Read a file of torchvision's weights, and say what they are of.

    Raises
    ------
    PhantomscopeError
        If it is missing, or holds neither a ResNet nor a detector on one.
    """
    with explain_os_errors(path):
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except OSError:
            raise
        except Exception as error:  # damaged files raise anything
            raise _no_weights(path, f"{type(error).__name__}") from error
    if not isinstance(state, dict):
        raise _no_weights(path, "it holds no named tensors")
    if "backbone.body.conv1.weight" in state:
        return dict(state), DETECTOR
    if "conv1.weight" in state:
        return {f"backbone.body.{key}": value for key, value in state.items()
                if not key.startswith("fc.")}, BACKBONE  # fmt: skip
    raise _no_weights(path, "no layer of it is called `conv1`")


def _no_weights(path: Path, why: str) -> PhantomscopeError:
    return PhantomscopeError(
        f"these are no weights of torchvision that fit ({why})",
        where=path,
        fix="give a `.pth` of the detector or of its backbone in "
        "`filter.detectors`, or leave `weights` empty",
    )


def take_weights(
    network: nn.Module, weights: dict[str, Tensor], kind: str, path: Path
) -> None:
    """Put weights into a detector; only layers that depend on the classes stay random.

    Raises
    ------
    PhantomscopeError
        If a layer of the backbone, or of the detector, gets none.
    """
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    taken = {
        key: value for key, value in weights.items()
        if key not in shapes or shapes[key] == value.shape
    }  # fmt: skip
    result = network.load_state_dict(taken, strict=False)
    lacking = [
        key for key in result.missing_keys
        if not key.endswith("num_batches_tracked")
        and (key.startswith("backbone.body.")
             or (kind == DETECTOR and key not in weights))
    ]  # fmt: skip
    if lacking:
        raise _no_weights(path, f"nothing for {lacking[0]}, {len(lacking)} such layers")
