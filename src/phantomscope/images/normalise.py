"""Intensity normalisation: fitted on the training part, saved, exactly invertible."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.config.data import Normalise
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import read_json, write_json
from phantomscope.images.imageset import ImageSet

Float = NDArray[np.float32]


def unit_to_network(unit: NDArray[Any], transform: str) -> Float:
    """Map unit intensities (0: low, 1: high limit) to the network's [-1, 1].

    Values outside the limits stay outside; ``sqrt`` is continued as an odd function,
    so that the map is invertible everywhere.
    """
    unit = np.asarray(unit, np.float32)
    if transform == "sqrt":
        unit = np.sign(unit) * np.sqrt(np.abs(unit))
    return (2 * unit - 1).astype(np.float32)


def network_to_unit(values: NDArray[Any], transform: str) -> Float:
    """Invert `unit_to_network`."""
    unit = (np.asarray(values, np.float32) + 1) / 2
    if transform == "sqrt":
        unit = np.sign(unit) * unit * unit
    return unit.astype(np.float32)


@dataclass(frozen=True)
class Normalisation:
    """Limits of the training images and the transform.

    Attributes
    ----------
    scope : str
        ``dataset`` or ``image``.
    transform : str
        ``linear`` or ``sqrt``.
    limits : dict
        Image id to (low, high) in the units of the image; with scope ``dataset`` all
        are equal.
    dtype : str
        dtype of the training images.
    """

    scope: str
    transform: str
    limits: dict[str, tuple[float, float]]
    dtype: str

    def to_unit(self, image: NDArray[Any], identifier: str) -> Float:
        """Scale an image so that its limits become 0 and 1."""
        low, high = self.limits[identifier]
        return ((image.astype(np.float64) - low) / (high - low)).astype(np.float32)

    def from_unit(self, unit: NDArray[Any], identifier: str) -> NDArray[Any]:
        """Scale back and round to the dtype of the training images."""
        low, high = self.limits[identifier]
        values = unit.astype(np.float64) * (high - low) + low
        dtype = np.dtype(self.dtype)
        if dtype.kind in "ui":
            bounds = np.iinfo(dtype)
            values = np.clip(np.rint(values), bounds.min, bounds.max)
        return values.astype(dtype)

    def forward(self, image: NDArray[Any], identifier: str) -> Float:
        """Bring a raw image to the network's range, float32."""
        return unit_to_network(self.to_unit(image, identifier), self.transform)

    def inverse(self, values: NDArray[Any], identifier: str) -> NDArray[Any]:
        """Bring network values back to raw intensities and dtype."""
        return self.from_unit(network_to_unit(values, self.transform), identifier)

    def save(self, path: Path) -> None:
        """Write as JSON."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Normalisation:
        """Read what `save` wrote."""
        content = read_json(path)
        try:
            limits = {
                k: (float(v[0]), float(v[1])) for k, v in content["limits"].items()
            }
            return cls(content["scope"], content["transform"], limits, content["dtype"])
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise PhantomscopeError(
                f"this normalisation file is incomplete ({error})",
                where=path,
                fix="delete it and run the same command again",
            ) from error


def fit_normalisation(
    training: ImageSet, others: ImageSet, options: Normalise
) -> Normalisation:
    """Fit the limits on the training images.

    Parameters
    ----------
    training : ImageSet
        Images that may be looked at.
    others : ImageSet
        Further images that will be scaled (the test part). With scope ``dataset`` they
        take the limits of the training part; with ``image`` each has its own.
    options : Normalise
        Scope, percentiles and transform.
    """
    quantiles = [options.low_percentile, options.high_percentile]

    def limits_of(identifiers: list[str], source: ImageSet) -> tuple[float, float]:
        # A sample of pixels bounds the memory; the stride is the same in each run.
        samples = [source.image(i).ravel() for i in identifiers]
        stride = max(1, sum(s.size for s in samples) // 20_000_000)
        low, high = np.percentile(
            np.concatenate([s[::stride] for s in samples]), quantiles
        )
        if not high > low:
            pixels = np.concatenate(samples)
            low, high = float(pixels.min()), float(pixels.max())
        if not high > low:
            high = low + 1  # a constant crop: keep the scaling finite
        return float(low), float(high)

    limits: dict[str, tuple[float, float]] = {}
    if options.scope == "dataset":
        shared = limits_of(training.ids, training)
        limits = dict.fromkeys([*training.ids, *others.ids], shared)
    else:
        for part in (training, others):
            limits |= {i: limits_of([i], part) for i in part.ids}
    dtypes = {training.row(i)["dtype"] for i in training.ids}
    dtype = dtypes.pop() if len(dtypes) == 1 else "float32"
    return Normalisation(options.scope, options.transform, limits, dtype)
