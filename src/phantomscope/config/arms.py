"""Arms: what a segmentation tool is trained on, as one name.

| arm | trained on |
|---|---|
| `synthetic` | the synthetic images |
| `sketch` | the sketches with a camera model, without diffusion |
| `annotated` | the annotated training part |
| `annotated-5` | 5 % of its objects |
| `mixed-5` | the synthetic images and 5 % of the annotated objects |
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from phantomscope.errors import PhantomscopeError

_PERCENT = r"(?:100|[1-9][0-9]?|0\.[0-9]*[1-9])"
ARM_PATTERN = rf"^(?:synthetic|annotated|sketch|(?:annotated|mixed)-{_PERCENT})$"
# In the order in which tables show them; shares of a kind follow by their size.
_ORDER = ("synthetic", "mixed", "annotated", "sketch", "none")
_PLAIN = {
    "synthetic": "synthetic images, no annotation",
    "annotated": "real annotation",
    "sketch": "plain sketches, no annotation",
    "none": "other data sets (zero-shot)",
}


@dataclass(frozen=True)
class ArmParts:
    """What an arm is made of.

    Attributes
    ----------
    sets : tuple of str
        Image sets that it needs, in this order: ``synthetic``, ``sketch``,
        ``annotated``.
    percent : float
        Share of the annotated objects, in percent; 0 without annotation.
    """

    sets: tuple[str, ...]
    percent: float

    @property
    def needs_annotation(self) -> bool:
        """Whether real annotation is used."""
        return self.percent > 0


def parse_arm(arm: str) -> ArmParts:
    """Return what an arm is made of.

    Raises
    ------
    PhantomscopeError
        If there is no such arm.
    """
    if not re.fullmatch(ARM_PATTERN, arm):
        raise PhantomscopeError(
            f"there is no arm {arm!r}",
            where="segment.arms",
            fix="use synthetic, annotated, sketch, or a share of the annotation in "
            "percent such as annotated-5 or mixed-5",
        )
    kind, _, share = arm.partition("-")
    if kind == "mixed":
        return ArmParts(("synthetic", "annotated"), float(share))
    if kind == "annotated":
        return ArmParts(("annotated",), float(share or 100))
    return ArmParts((kind,), 0.0)


def arm_description(arm: str) -> str:
    """Say what an arm is trained on, as tables and captions do."""
    if arm in _PLAIN:
        return _PLAIN[arm]
    parts = parse_arm(arm)
    share = f"{parts.percent:g} % of the real annotation"
    return f"synthetic images and {share}" if "synthetic" in parts.sets else share


def arm_rank(arm: str) -> tuple[int, float, str]:
    """Return a key that sorts arms as tables show them; unknown ones come last."""
    kind, _, share = arm.partition("-")
    rank = _ORDER.index(kind) if kind in _ORDER else len(_ORDER)
    try:
        return rank, -float(share or 100), arm
    except ValueError:
        return rank, 0.0, arm


def _known(arm: str) -> str:
    try:
        parse_arm(arm)
    except PhantomscopeError as error:
        raise ValueError(f"{error.what}: {error.fix}") from None
    return arm


Arm = Annotated[
    str,
    AfterValidator(_known),
    WithJsonSchema({"type": "string", "pattern": ARM_PATTERN}),
]
