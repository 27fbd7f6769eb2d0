"""Options of the perceptual error of residual diffusion."""

from __future__ import annotations

from phantomscope.config.option import Section, option

LEFT_OUT = (
    "residual diffusion was trained without the perceptual error of the released code: "
    "`translate.perceptual.weights` names no folder"
)


class PerceptualError(Section):
    """The perceptual error LPIPS (Zhang et al. 2018) of residual diffusion."""

    weight: float = option(
        0.0,
        "Its weight beside the other error, in training `cellresdm`; 0: none. Only "
        "where `weights` are; where they are not, tables say that it was left out. "
        "On a CPU it takes longer than the network itself.",
        ge=0,
        le=100,
        paper="0; 1 in its code",
    )
    weights: str | None = option(
        None,
        "Folder with `vgg16-397923af.pth` (VGG-16 as torchvision has it) and `vgg.pth` "
        "(LPIPS 0.1). Nothing is downloaded.",
        min_length=1,
    )
