"""Where images and labels lie inside the archives of a data set, and what they are."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from phantomscope.config.option import Section

Positive = Annotated[float, Field(gt=0)]
# In um: one number for all axes, or (z, y, x).
VoxelSize = Positive | tuple[Positive, Positive, Positive]
Text = Annotated[str, Field(min_length=1)]
Truth = Literal["gold", "silver"]
Reader = Literal["bbbc026_marks", "bbbc026_plate", "bbbc042_boxes"]
# Files that each of them reads, in the order of the registry.
READERS: dict[str, tuple[str, ...]] = {
    "bbbc026_marks": ("images with coloured marks",),
    "bbbc026_plate": ("images of the plate",),
    "bbbc042_boxes": ("images", "text files of positions"),
}
# Parts of a path that tell images apart, and one that tells planes of a volume apart.
FIELDS = ("split", "group", "id", "frame")
PLANE = "plane"
# Suffixes of tables of localised molecules.
TABLES = (
    ".smlm", ".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz", ".hdf5", ".h5",
)  # fmt: skip


def known_axes(axes: str) -> str:
    """Return axes of an image file in upper case; others are a `ValueError`."""
    axes = axes.upper()
    without = sorted(axes.replace("C", "", 1).replace("Z", "", 1))
    if axes and without != ["X", "Y"]:
        raise ValueError(
            f"axes {axes!r} are not supported: use 'YX', 'CYX' or 'YXC', of volumes "
            "'ZYX', 'CZYX', 'ZCYX' or 'ZYXC' (each letter once, Y and X present)"
        )
    return axes


def fields_of(pattern: str) -> list[str]:
    """Return the names in braces of a pattern, in order."""
    return re.findall(r"\{([^{}]*)\}", pattern)


class Layout(Section):
    """Where images and labels lie inside the archives of a data set.

    Attributes
    ----------
    images : str
        Path of a member, with ``{id}`` for the name of the image, or ``{frame}`` for
        its number in a time series; ``{group}`` for what it belongs to (video, plant:
        the unit of statistics), ``{split}`` for the published split and ``*`` for any
        part of a name. In a set of several archives, a path begins with the name of
        its archive. If it ends in ``.smlm``, ``.csv`` or another suffix of `TABLES`,
        members are tables of localised molecules, of which images are drawn.
    labels : dict, optional
        Name of the truth to patterns like that of `images`; a single pattern is the
        only truth, without a name. ``{plane}`` is the number, from 0, of the one plane
        of a volume that a label file holds.
    objects : bool, optional
        Whether each label file is the binary mask of one object, else it holds the
        instance labels of its image; by default, whether there is a ``*`` in it.
    background : int
        A label that is background, besides 0.
    gaps : bool
        Whether numbers of frames may be missing in between.
    axes, channel, pixel_size_um
        As in the section ``source``.
    dtype : str, optional
        Type to store images as; none may lose precision.
    keep : str
        ``fluorescence``: only grey images (R = G = B) with a dark background.
    reader : str, optional
        Set of images with points or boxes that has a reader of its own, which knows
        where its files lie and how they are named: then there is no `images`.
    """

    images: str = ""
    labels: dict[str, Annotated[list[Text], Field(min_length=1)]] | None = None
    objects: bool | None = None
    background: Annotated[int, Field(ge=0)] = 0
    gaps: bool = False
    axes: Annotated[str, AfterValidator(known_axes)] = ""
    channel: Annotated[int, Field(ge=0)] | None = None
    pixel_size_um: VoxelSize | None = None
    dtype: Literal["uint8", "uint16", "float32"] | None = None
    keep: Literal["all", "fluorescence"] = "all"
    reader: Reader | None = None

    @field_validator("labels", mode="before")
    @classmethod
    def _named_lists(cls, given: Any) -> Any:
        if isinstance(given, (str, list)):
            given = {"": given}
        if not isinstance(given, dict):
            return given
        return {k: [v] if isinstance(v, str) else v for k, v in given.items()}

    @property
    def truths(self) -> list[str]:
        """Names of the truths; the first one is used where none is chosen."""
        return list(self.labels or {})

    def patterns(self, truth: str) -> list[str]:
        """Patterns of the label files of one truth."""
        return (self.labels or {}).get(truth, [])

    @property
    def of_tables(self) -> bool:
        """Whether members are tables of localised molecules."""
        return self.images.lower().endswith(TABLES)

    @property
    def by_frame(self) -> bool:
        """Whether images are frames of time series."""
        return "frame" in fields_of(self.images)

    @property
    def one_mask_per_object(self) -> bool:
        """Whether each label file is the binary mask of one object."""
        if self.objects is not None:
            return self.objects
        return any(
            "*" in p for patterns in (self.labels or {}).values() for p in patterns
        )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = {truth for truth in self.truths if truth not in ("", "gold", "silver")}
        if names:
            raise ValueError(f"truths are `gold` and `silver`, not {sorted(names)}")
        if ("C" in self.axes) != (self.channel is not None):
            raise ValueError("`axes` with a `C` and `channel` go together")
        if self.keep == "fluorescence" and self.axes not in ("", "YX", "YXC"):
            raise ValueError("`keep: fluorescence` needs the axes YX or YXC")
        if isinstance(self.pixel_size_um, tuple) and "Z" not in self.axes:
            raise ValueError("`pixel_size_um: [z, y, x]` needs `axes` with a Z")
        return self

    @model_validator(mode="after")
    def _tables_are_plain(self) -> Self:
        strange = sorted(self.model_fields_set - {"images"})
        if self.of_tables and strange:
            raise ValueError(
                f"`{strange[0]}` is of images: tables of localisations are drawn as "
                "`source.localisations` says"
            )
        return self

    @model_validator(mode="after")
    def _reader_stands_alone(self) -> Self:
        strange = sorted(self.model_fields_set - {"reader", "pixel_size_um"})
        if self.reader and strange:
            raise ValueError(
                f"`{strange[0]}`: with `reader: {self.reader}` nothing else but "
                "`pixel_size_um` is said"
            )
        return self

    @model_validator(mode="after")
    def _patterns_fit(self) -> Self:
        if self.reader:
            return self
        own = _checked("images", self.images, FIELDS)
        if ("id" in own) == ("frame" in own):
            raise ValueError("`images` needs {id} exactly once, or {frame} instead")
        key = "frame" if self.by_frame else "id"
        for pattern in (p for ps in (self.labels or {}).values() for p in ps):
            found = _checked("labels", pattern, (*FIELDS, PLANE))
            if key not in found:
                raise ValueError(f"`labels` needs {{{key}}} exactly once, as `images`")
            for name in found:
                if name not in (*own, PLANE):
                    raise ValueError(f"`labels` has a {{{name}}}, `images` has none")
            if PLANE in found and ("Z" not in self.axes or self.one_mask_per_object):
                raise ValueError(
                    "{plane} needs `axes` with a Z, and instance labels in each file"
                )
        return self


def _checked(key: str, pattern: str, known: tuple[str, ...]) -> list[str]:
    """Return the names in braces; a `ValueError` for unknown ones or two of a kind."""
    found = fields_of(pattern)
    for name in found:
        if name not in known:
            braces = ", ".join(f"{{{field}}}" for field in known)
            raise ValueError(f"`{key}` has {{{name}}}, which is none of {braces}")
        if found.count(name) > 1:
            raise ValueError(f"`{key}` has {{{name}}} twice")
    return found
