"""A statistical shape model of an organ: its surface as radii in many directions."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from phantomscope.errors import PhantomscopeError, explain_os_errors
from phantomscope.images.files import atomic_file
from phantomscope.simulate.meristem_outline import (
    Origin,
    Pose,
    directions,
    find_pose,
    surface_radii,
    unit_vectors,
)

Array = NDArray[np.float64]
SAMPLES, COMPONENTS = 5000, 3
FORMAT = "phantomscope shape model 1"
MEND = "learn the model again, or leave it out: there is a built-in one"


@dataclass(frozen=True, eq=False)
class ShapeModel:
    """Mean surface of an organ and how specimens vary.

    A specimen is r = mean + components^T (sqrt(variances) * z), z normal (Eschweiler &
    Stegmaier 2023 and its code).

    Attributes
    ----------
    angles : ndarray, shape (n, 2)
        theta and phi of the directions.
    mean : ndarray, shape (n,)
        Mean radius in each direction. The unit is that of the masks' spacing; only
        relative sizes matter, since an organ is scaled to its volume.
    components : ndarray, shape (k, n)
        Orthonormal; k may be 0.
    variances : ndarray, shape (k,)
        Of the weights of the components (`sv` of the released code).
    origin : {"base", "centroid"}
        Where radii begin: the middle of the face where the field of view cuts the
        organ, which then is the half space above; or the centroid of a whole organ.
    specimens : int
        Masks that it was learnt from; 0 for the built-in model.
    """

    angles: Array
    mean: Array
    components: Array
    variances: Array
    origin: Origin
    specimens: int

    def draw(self, rng: np.random.Generator) -> Array:
        """Draw the radii (n,) of a new specimen, never negative."""
        weights = np.sqrt(self.variances) * rng.standard_normal(len(self.variances))
        return np.asarray(np.maximum(self.mean + weights @ self.components, 0.0))

    def save(self, path: Path) -> None:
        """Write a compressed ``.npz`` file, atomically."""
        head = {
            "format": FORMAT, "origin": self.origin, "specimens": self.specimens,
        }  # fmt: skip
        with atomic_file(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(
                file, head=np.array(json.dumps(head)), angles=self.angles,
                mean=self.mean, components=self.components, variances=self.variances,
            )  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> ShapeModel:
        """Read and check a file that `save` wrote.

        Raises
        ------
        PhantomscopeError
            If it is missing, damaged, or no shape model.
        """
        names = ("head", "angles", "mean", "components", "variances")
        with explain_os_errors(path):
            try:
                with np.load(path, allow_pickle=False) as file:
                    stored = {name: file[name] for name in names}
                head = json.loads(str(stored.pop("head")))
                return _checked(head, stored)
            except OSError as error:
                if error.errno is not None:
                    raise
                reason = str(error)
            except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
                reason = " ".join(str(error).split())
        raise PhantomscopeError(
            f"this is no shape model ({reason})", where=path, fix=MEND
        )


def _checked(head: Any, stored: dict[str, NDArray[Any]]) -> ShapeModel:
    """Make a model of what a file holds; a `ValueError` says what is wrong."""
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise ValueError(f"it does not say `{FORMAT}`")
    origin, specimens = head.get("origin"), head.get("specimens")
    if origin not in ("base", "centroid") or not isinstance(specimens, int):
        raise ValueError("`origin` or `specimens` is wrong")
    for name, array in stored.items():
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise ValueError(f"`{name}` must be finite numbers")
    angles, mean = stored["angles"], stored["mean"]
    components, variances = stored["components"], stored["variances"]
    n, k = len(mean), len(variances)
    shapes = (angles.shape, mean.shape, components.shape, variances.shape)
    if n < 3 or shapes != ((n, 2), (n,), (k, n), (k,)):
        raise ValueError(f"shapes that do not fit each other: {shapes}")
    if mean.min() < 0 or mean.max() <= 0 or variances.min(initial=0.0) < 0:
        raise ValueError("negative radii or variances")
    return ShapeModel(angles, mean, components, variances, origin, specimens)


def _components(data: Array, count: int, pca: str) -> tuple[Array, Array]:
    """Principal components (k, n) of radii (specimens, n), and their variances."""
    centred = data - data.mean(axis=0)
    freedom = len(data) - 1
    if pca == "data":
        _, sizes, rows = np.linalg.svd(centred, full_matrices=False)
        variances = sizes**2 / freedom
    else:
        # Singular values of the covariance matrix, its column means taken off, without
        # ever making it: it is the product of two thin matrices.
        left = centred.T - centred.T.mean(axis=0)
        _, inner = np.linalg.qr(left)
        _, variances, rows = np.linalg.svd(
            inner @ centred / freedom, full_matrices=False
        )
    k = min(count, freedom)
    return rows[:k], variances[:k]


def learn_shape_model(
    masks: Iterable[NDArray[Any]],
    spacing: tuple[float, float, float] = (1, 1, 1),
    *,
    samples: int = SAMPLES,
    components: int = COMPONENTS,
    pca: Literal["data", "code"] = "data",
    origin: Literal["auto", "base", "centroid"] = "auto",
    align: bool = True,
) -> ShapeModel:
    """Learn the shape of an organ.

    Parameters
    ----------
    masks : iterable of ndarray, shape (Z, Y, X)
        One organ each: a foreground mask or instance labels (0 is background), from
        annotation or found without any. Read one at a time; the largest connected
        part counts.
    spacing : tuple of float
        Size of a voxel in z, y and x.
    samples : int
        Directions (5000 in the paper's code).
    components : int
        Principal components (3). At most one less than there are masks: of a single
        mask only the mean is learnt, and all organs drawn from it are alike.
    pca : {"data", "code"}
        ``data``: components of the radii, with their variances. ``code``: as
        released, components of the covariance matrix as if it were the data, with its
        singular values as variances.
    origin : {"auto", "base", "centroid"}
        See `ShapeModel`. ``auto``: ``base`` if the first or last plane cuts the first
        mask where it is at least half as large as its largest plane.
    align : bool
        Turn each organ's longest axis to x: about z with ``base``, freely else.

    Raises
    ------
    PhantomscopeError
        If there is no mask, or one is empty or not a volume.
    """
    rows: list[Array] = []
    kind, angles = origin, np.zeros((0, 2))
    for number, mask in enumerate(masks, 1):
        pose, kind = _pose(mask, spacing, kind, align, number)
        angles = angles if rows else directions(samples, kind)
        rows.append(surface_radii(pose, unit_vectors(angles)))
    if not rows:
        raise PhantomscopeError(
            "no mask to learn a shape model from",
            fix="give at least one volume with an organ in it",
        )
    data = np.stack(rows)
    parts, variances = np.zeros((0, samples)), np.zeros(0)
    if len(data) > 1 and components > 0:
        parts, variances = _components(data, components, pca)
    kind = cast(Origin, kind)
    return ShapeModel(angles, data.mean(axis=0), parts, variances, kind, len(data))


def _pose(
    mask: NDArray[Any],
    spacing: tuple[float, float, float],
    origin: Literal["auto", "base", "centroid"],
    align: bool,
    number: int,
) -> tuple[Pose, Origin]:
    """Find origin and axes of one organ; settle what `auto` means."""
    where = f"mask {number} of the shape model"
    if mask.ndim != 3:
        raise PhantomscopeError(
            f"a mask of shape {mask.shape} is no volume", where=where,
            fix="give masks with axes (Z, Y, X)",
        )  # fmt: skip
    inside = np.asarray(mask) > 0
    if not inside.any():
        raise PhantomscopeError("this mask is empty", where=where, fix="leave it out")
    if origin == "auto":
        areas = inside.sum(axis=(1, 2))
        cut = max(areas[0], areas[-1]) >= areas.max() / 2
        origin = "base" if cut else "centroid"
    if origin == "base" and not (inside[0].any() or inside[-1].any()):
        raise PhantomscopeError(
            "this organ has no cut base: its mask touches neither the first nor the "
            "last plane", where=where, fix="learn with `origin='centroid'`",
        )  # fmt: skip
    return find_pose(inside, spacing, origin == "base", align), origin


# The paper's synthetic volumes average to 511 x 495 x 221 voxels (x, y, z), and its
# code sizes each by the bounding box of an organ with the origin in its base's middle.
PUBLISHED_SIZE = (511.0, 495.0, 221.0)


def default_model(samples: int = SAMPLES) -> ShapeModel:
    """Return the built-in dome: described by mathematics, not learnt from any data.

    An elliptic paraboloid z = h (1 - (x/a)^2 - (y/b)^2) above its base. Half axes a, b
    and height h follow from the mean size of the paper's synthetic volumes. Three
    smooth components vary it (our choice): height by 8 percent, ellipticity of the base
    by 4, a tilt of the apex by 4 (standard deviations).
    """
    angles = directions(samples, "base")
    z, y, x = unit_vectors(angles).T
    a, b, h = PUBLISHED_SIZE[0] / 2, PUBLISHED_SIZE[1] / 2, PUBLISHED_SIZE[2]
    # r z = h (1 - r^2 q) solved for r, in a form without cancellation.
    q = (x / a) ** 2 + (y / b) ** 2
    mean = 2 * h / (z + np.sqrt(z**2 + 4 * h**2 * q))
    across = np.hypot(x, y)
    azimuth = angles[:, 1]
    modes = (
        (0.08, mean * z**2),
        (0.04, mean * across**2 * np.cos(2 * azimuth)),
        (0.04, mean * z * across * np.cos(azimuth)),
    )
    change = np.stack([share * mode for share, mode in modes])
    sizes = np.linalg.norm(change, axis=1)
    return ShapeModel(angles, mean, change / sizes[:, None], sizes**2, "base", 0)
