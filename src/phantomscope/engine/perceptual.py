"""The perceptual error LPIPS (Zhang et al. 2018), from weights that a user has.

Nothing is downloaded. Two files are read, named as their authors name them: the weights
of VGG-16 that torchvision has, and those of LPIPS 0.1 for its features.
"""

from __future__ import annotations

import hashlib
import itertools
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from phantomscope.errors import PhantomscopeError, explain_os_errors

VGG = "vgg16-397923af.pth"
HEADS = "vgg.pth"
# Width of each level of VGG-16 and its convolutions; levels are joined by max pooling.
LEVELS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
# What LPIPS takes from values of -1 to 1, and divides by: red, green, blue.
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
TINY = 1e-10


class Perceptual(nn.Module):
    """LPIPS of grey channels: how far apart two images are to VGG-16.

    The features of five levels (relu1_2, 2_2, 3_3, 4_3, 5_3) are normed over their
    channels; their squared differences are weighted by channel, and averaged over
    pixels. Each channel of an image is shown to the network as a grey image, as the
    released code of CellResDM does; the mean over channels is taken. The weights are
    constants.

    Parameters
    ----------
    features : mapping of str to Tensor
        ``features.N.weight`` and ``features.N.bias`` of VGG-16, by torchvision's names;
        others, those of its classifier, are left out.
    heads : mapping of str to Tensor
        ``linN.model.1.weight``, shape (1, width, 1, 1), for the five levels.

    Raises
    ------
    LookupError
        If one is missing.
    RuntimeError
        If one has another shape.
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self, features: Mapping[str, Tensor], heads: Mapping[str, Tensor]
    ) -> None:
        super().__init__()
        self.levels, self.heads = nn.ModuleList(), nn.ParameterList()
        place, inputs = 0, 3
        for number, (width, count) in enumerate(LEVELS):
            layers: list[nn.Module] = []
            if number:
                layers.append(nn.MaxPool2d(2))
                place += 1
            for _ in range(count):
                layer = nn.Conv2d(inputs, width, 3, padding=1)
                layer.load_state_dict({
                    name: features[f"features.{place}.{name}"]
                    for name in ("weight", "bias")
                })  # fmt: skip
                layers += [layer, nn.ReLU()]
                place, inputs = place + 2, width
            self.levels.append(nn.Sequential(*layers))
            head = heads[f"lin{number}.model.1.weight"].float()
            self.heads.append(nn.Parameter(head.reshape(1, width, 1, 1)))
        for name, values in (("shift", SHIFT), ("scale", SCALE)):
            self.register_buffer(name, torch.tensor(values).reshape(1, 3, 1, 1))
        self.requires_grad_(requires_grad=False)
        digest = hashlib.sha256()
        for weights in self.parameters():
            digest.update(weights.numpy().tobytes())
        self.fingerprint = digest.hexdigest()

    @classmethod
    def load(cls, folder: Path) -> Perceptual:
        """Read the weights of a folder.

        Raises
        ------
        PhantomscopeError
            If a file is missing, damaged, or holds something else.
        """
        features, heads = (_read(folder / name) for name in (VGG, HEADS))
        for path, missing in (
            (folder / VGG, {"features.0.weight", "features.28.bias"} - set(features)),
            (folder / HEADS, {"lin0.model.1.weight"} - set(heads)),
        ):
            if missing:
                raise _wrong(path, f"it has no {min(missing)!r}")
        try:
            return cls(features, heads)
        except (LookupError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise _wrong(folder / VGG, reason) from error

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Return the mean distance.

        Parameters
        ----------
        one, other : Tensor, shape (N, C, Y, X)
            Images from -1 to 1, of at least 16 x 16 px.

        Returns
        -------
        Tensor
            A scalar: mean over images and channels.
        """
        features = [self._features(images) for images in (one, other)]
        total = one.new_zeros(())
        for head, (a, b) in zip(self.heads, zip(*features, strict=True), strict=True):
            total = total + (head * (a - b) ** 2).sum(dim=1).mean()
        return total

    def _features(self, images: Tensor) -> list[Tensor]:
        grey = images.flatten(0, 1).unsqueeze(1).expand(-1, 3, -1, -1)
        x, found = (grey - self.shift) / self.scale, []
        for level in self.levels:
            x = level(x)
            length = x.square().sum(dim=1, keepdim=True)
            # The root of 0 has no gradient, which a dark image has at some pixel.
            found.append(x / (torch.sqrt(length + TINY**2) + TINY))
        return found


def count_weights() -> tuple[int, int]:
    """Return how many numbers VGG-16's features and the heads of LPIPS have."""
    widths = [3, *(width for width, count in LEVELS for _ in range(count))]
    features = sum(9 * i * o + o for i, o in itertools.pairwise(widths))
    return features, sum(width for width, _ in LEVELS)


def _read(path: Path) -> dict[str, Tensor]:
    """Read named tensors, never anything that runs."""
    if not path.is_file():
        raise PhantomscopeError(
            "weights of the perceptual error are not here",
            where=path,
            fix=f"copy {VGG} (torchvision) and {HEADS} (LPIPS 0.1) into this folder, "
            "or leave the error out",
            example="translate:\n  perceptual:\n    weights: null",
        )
    with explain_os_errors(path):
        try:
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, ValueError, LookupError, TypeError, EOFError,
                pickle.UnpicklingError) as error:  # fmt: skip
            reason = str(error).split("\n")[0][:200] or type(error).__name__
            raise _wrong(path, reason) from error
    if not isinstance(content, Mapping) or not all(
        isinstance(value, Tensor) and bool(torch.isfinite(value).all())
        for value in content.values()
    ):
        raise _wrong(path, "it holds no finite named tensors")
    return dict(content)


def _wrong(path: Path, reason: str) -> PhantomscopeError:
    return PhantomscopeError(
        f"this file is damaged or holds other weights ({reason})",
        where=path,
        fix=f"copy it anew: {VGG} as torchvision has it, {HEADS} as LPIPS 0.1 has it",
    )
