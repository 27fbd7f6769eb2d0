"""Sketch parameters: a small file that a person can read, edit and run again."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import numpy as np
import scipy
import yaml
from numpy.typing import NDArray
from pydantic import (
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from phantomscope.config.load import read_yaml
from phantomscope.config.meristem import Sides
from phantomscope.config.option import Section
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import write_text
from phantomscope.provenance import file_digest

if TYPE_CHECKING:
    from phantomscope.simulate.meristem_shape import ShapeModel

LEVELS = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
Quantiles = Annotated[list[float], Field(min_length=7, max_length=7)]

HEADER = """\
# Sketch parameters, fitted to unannotated images. Edit what you know better and run the
# same command again: everything after this file is made anew.
# Lists of seven are the 2, 10, 25, 50, 75, 90 and 98 percent quantiles.
# Intensities: 0 and 1 are the low and high limit of the normalisation.
"""


class Correlation(Section):
    """Rank correlation between the properties of a nucleus, -1 to 1."""

    radius_elongation: float = Field(0.0, ge=-0.95, le=0.95)
    radius_intensity: float = Field(0.0, ge=-0.95, le=0.95)
    elongation_intensity: float = Field(0.0, ge=-0.95, le=0.95)

    def matrix(self) -> NDArray[np.float64]:
        """Return the 3 x 3 matrix (radius, elongation, intensity)."""
        a, b, c = (
            self.radius_elongation, self.radius_intensity, self.elongation_intensity,
        )  # fmt: skip
        return np.array([[1, a, b], [a, 1, c], [b, c, 1]])


class Background(Section):
    """Background and camera."""

    level: float = Field(0.05, description="median of the background")
    variation: float = Field(0.0, ge=0, description="sd of its slow change")
    read_noise: float = Field(0.01, ge=0, description="sd of the noise in the dark")
    shot_noise: float = Field(0.0, ge=0, description="noise variance per intensity")


class Volume(Section):
    """What only volumes have."""

    spacing: tuple[float, float, float] = Field(
        description="voxel along z, y, x, as a multiple of its size along y"
    )
    axial: float = Field(
        1.0, gt=0.05, le=20, description="semi-axis along z by those across, in space"
    )
    edge: float = Field(
        0.0, ge=0, le=20, description="blur of the edges along z: sigma in planes"
    )

    @model_validator(mode="after")
    def _relative(self) -> Self:
        if min(self.spacing) <= 0 or self.spacing[1] != 1:
            raise ValueError("`spacing` is relative to y: (z, 1, x), above 0")
        return self


class Tissue(Section):
    """What only a tissue of membranes has, in place of single nuclei."""

    cell_diameter: float = Field(
        gt=1, description="as of the simulator's option, in px of x"
    )
    membrane_radius: float | None = Field(
        None, gt=0, description="likewise; empty: that of the config"
    )
    membrane_sides: Sides | None = Field(
        None, description="likewise; empty: that of the config"
    )
    light: float | None = Field(
        None, gt=0, le=100,
        description="of a wall at the surface, before the blur; empty: the 90 percent "
        "quantile of `intensity`",
    )  # fmt: skip


class SketchType(Section):
    """Nuclei and background of one type of image."""

    name: str
    weight: float = Field(1.0, gt=0, description="share among the simulated images")
    radius: Quantiles = Field(
        description="px, of the circle of the same area, or ball of the same volume"
    )
    elongation: Quantiles = Field(description="major by minor axis, 1 or more")
    intensity: Quantiles = Field(description="above the background")
    correlation: Correlation = Correlation()
    density: Quantiles = Field(
        description="nuclei per million pixels (or voxels), over the images"
    )
    clustering: float = Field(
        ge=0, le=1, description="chance that a nucleus is placed touching another"
    )
    overlap: float = Field(
        0.15, ge=0, le=0.6, description="largest share of a nucleus that may be covered"
    )
    edge: float = Field(1.0, ge=0, le=20, description="blur of the edges: sigma in px")
    background: Background = Background()
    volume: Volume | None = Field(None, description="of volumes; images have none")
    tissue: Tissue | None = Field(None, description="of membranes; nuclei have none")

    @property
    def spacing(self) -> tuple[float, float, float] | None:
        """Voxel along z, y and x by that along y; None for images."""
        return None if self.volume is None else self.volume.spacing

    @property
    def blur(self) -> tuple[float, ...]:
        """Blur of the edges along each axis: sigma in px or planes."""
        if self.volume is None:
            return (self.edge, self.edge)
        return (self.volume.edge, self.edge, self.edge / self.volume.spacing[2])

    @field_validator("radius", "elongation", "intensity", "density")
    @classmethod
    def _rising(cls, values: list[float]) -> list[float]:
        if any(b < a for a, b in itertools.pairwise(values)):
            raise ValueError(f"quantiles must rise: {values}")
        if values[0] < 0:
            raise ValueError(f"quantiles must not be negative: {values}")
        return values

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.radius[0] < 1:
            raise ValueError("`radius` must be at least 1 px")
        if self.elongation[0] < 1:
            raise ValueError("`elongation` is major by minor axis: at least 1")
        if np.linalg.eigvalsh(self.correlation.matrix())[0] < 0:
            raise ValueError("these three correlations contradict each other")
        return self

    def draw(self, rng: np.random.Generator, count: int) -> NDArray[np.float64]:
        """Draw nuclei with these marginals and rank correlations.

        Returns
        -------
        ndarray, shape (count, 3)
            radius (px), elongation, intensity.
        """
        matrix = self.correlation.matrix() + 1e-6 * np.eye(3)
        normal = rng.standard_normal((count, 3)) @ np.linalg.cholesky(matrix).T
        rank = scipy.special.ndtr(normal)
        tables = (self.radius, self.elongation, self.intensity)
        columns = [quantile(t, rank[:, i]) for i, t in enumerate(tables)]
        return np.stack(columns, axis=1)


def quantile(
    values: list[float], rank: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Inverse distribution function from a list of seven quantiles."""
    return np.asarray(np.interp(rank, LEVELS, values))


class LearntShape(Section):
    """A shape model that was learnt from annotation, in a file of its own."""

    file: str = Field(
        pattern=r"^[^/\\]+$", description="name, in the folder of this file"
    )
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of that file")


class SketchParameters(Section):
    """All types of image, and the shape of their organ if it was learnt."""

    types: list[SketchType] = Field(min_length=1)
    shape_model: LearntShape | None = Field(
        None, description="of a meristem; without it the built-in dome is drawn"
    )
    _organ: ShapeModel | None = PrivateAttr(None)

    @property
    def organ(self) -> ShapeModel | None:
        """The learnt shape model, if there is one."""
        return self._organ

    def with_organ(self, path: Path) -> SketchParameters:
        """Return these parameters with the shape model in a file beside them.

        Raises
        ------
        PhantomscopeError
            If the file is missing, damaged, or no shape model.
        """
        from phantomscope.simulate.meristem_shape import ShapeModel  # with numba

        organ = ShapeModel.load(path)
        known = LearntShape(file=path.name, sha256=file_digest(path))
        found = self.model_copy(update={"shape_model": known})
        found._organ = organ
        return found

    def save(self, path: Path) -> None:
        """Write the YAML file."""
        content = self.model_dump(exclude_none=True)
        body = yaml.safe_dump(
            _rounded(content), sort_keys=False, default_flow_style=None, width=88
        )
        write_text(path, HEADER + body)

    @classmethod
    def load(cls, path: Path) -> SketchParameters:
        """Read and check a file, perhaps edited by hand."""
        try:
            loaded = cls.model_validate(read_yaml(path))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            message = first["msg"].removeprefix("Value error, ")
            raise PhantomscopeError(
                f"bad sketch parameter `{key}`: {message}",
                where=path,
                fix="compare with the file that a fit writes "
                "(results/<experiment>/sketch.yaml)",
            ) from error
        known = loaded.shape_model
        if known is None:
            return loaded
        found = loaded.with_organ(path.parent / known.file)
        if found.shape_model != known:
            raise PhantomscopeError(
                f"this is not the shape model that {path.name} was written for",
                where=path.parent / known.file,
                fix="delete both and run the same command again",
            )
        return found


def _rounded(value: object) -> object:
    """Four significant digits: what a person reads."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return value
