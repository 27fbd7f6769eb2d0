"""Intensity normalisation: fitted on the training part, saved, exactly invertible."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phantomscope.config.data import Normalise
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import read_json, write_json
from phantomscope.images.imageset import ImageSet, count_channels

Float = NDArray[np.float32]
# Pixels that percentiles are taken of.
SAMPLE = 20_000_000


def unit_to_network(unit: NDArray[Any], transform: str) -> Float:
    """Map unit intensities (0: low, 1: high limit) to the network's [-1, 1].

    Values outside the limits stay outside; ``sqrt`` is continued as an odd function,
    so that the map is invertible everywhere.
    """
    unit = np.asarray(unit, np.float32)
    if transform == "sqrt":
        unit = np.sign(unit) * np.sqrt(np.abs(unit))
    return (2 * unit - 1).astype(np.float32)


def log_unit(image: NDArray[Any], limits: Sequence[float]) -> Float:
    """Return log(1 + intensity), 0 and 1 at these intensities; clipped."""
    low, high = np.log1p(limits[0]), np.log1p(limits[1])
    unit = (np.log1p(np.asarray(image, np.float32)) - low) / (high - low)
    clipped: Float = np.clip(unit, 0, 1).astype(np.float32)
    return clipped


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
    others : list of dict
        Of images with several channels: the limits of the second and further ones.
    path : Path, optional
        The file that it was read from, to name in an error.
    """

    scope: str
    transform: str
    limits: dict[str, tuple[float, float]]
    dtype: str
    others: list[dict[str, tuple[float, float]]] = field(default_factory=list)
    path: Path | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Refuse what no fit writes: a file may have been edited or mixed up."""
        if self.scope not in ("dataset", "image"):
            raise ValueError(f"scope {self.scope!r}")
        if self.transform not in ("linear", "sqrt"):
            raise ValueError(f"transform {self.transform!r}")
        if self.dtype not in ("uint8", "uint16", "float32"):
            raise ValueError(f"dtype {self.dtype!r}")
        for limits in (self.limits, *self.others):
            for identifier, (low, high) in limits.items():
                if not (np.isfinite([low, high]).all() and low < high):
                    raise ValueError(f"limits {low} to {high} of {identifier!r}")

    @property
    def channels(self) -> int:
        """Channels of the images."""
        return 1 + len(self.others)

    def _limits_of(self, identifier: str, channel: int) -> tuple[float, float]:
        try:
            return [self.limits, *self.others][channel][identifier]
        except KeyError as error:
            raise PhantomscopeError(
                f"this normalisation has no limits for the image {identifier!r}",
                where=self.path,
                fix="it belongs to other images: give the file of the same `prepare`, "
                "or delete it and run `prepare` again",
            ) from error

    def to_unit(self, image: NDArray[Any], identifier: str, channel: int = 0) -> Float:
        """Scale a channel of an image so that its limits become 0 and 1."""
        low, high = self._limits_of(identifier, channel)
        return ((image.astype(np.float64) - low) / (high - low)).astype(np.float32)

    def from_unit(
        self, unit: NDArray[Any], identifier: str, channel: int = 0
    ) -> NDArray[Any]:
        """Scale back and round to the dtype of the training images."""
        low, high = self._limits_of(identifier, channel)
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

    def forward_channels(self, image: NDArray[Any], identifier: str) -> Float:
        """Do as `forward` with each channel of an image, shape (C, [Z,] Y, X)."""
        units = [self.to_unit(one, identifier, c) for c, one in enumerate(image)]
        return unit_to_network(np.stack(units), self.transform)

    def inverse_channels(self, values: NDArray[Any], identifier: str) -> NDArray[Any]:
        """Do as `inverse` with each channel of an image, shape (C, [Z,] Y, X)."""
        units = network_to_unit(values, self.transform)
        return np.stack(
            [self.from_unit(one, identifier, c) for c, one in enumerate(units)]
        )

    def save(self, path: Path) -> None:
        """Write as JSON."""
        names = ("scope", "transform", "limits", "dtype")
        content = {name: getattr(self, name) for name in names}
        if self.others:
            content["others"] = self.others
        write_json(path, content)

    @classmethod
    def load(cls, path: Path) -> Normalisation:
        """Read what `save` wrote."""
        content = read_json(path)
        try:
            limits, *others = (
                {k: (float(v[0]), float(v[1])) for k, v in one.items()}
                for one in (content["limits"], *content.get("others", []))
            )
            return cls(
                content["scope"], content["transform"], limits, content["dtype"],
                others, path,
            )  # fmt: skip
        except (
            KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError,
        ) as error:  # fmt: skip
            raise PhantomscopeError(
                f"this normalisation file is incomplete or wrong ({error})",
                where=path,
                fix="delete it and run the same command again",
            ) from error


def intensity_limits(
    images: Iterable[NDArray[Any]], percentiles: Sequence[float], stride: int = 1
) -> tuple[float, float]:
    """Return the intensities that become 0 and 1.

    Parameters
    ----------
    images : iterable of ndarray
        Looked at one after the other.
    percentiles : sequence of float
        Low and high one, of the pixels of all images.
    stride : int
        Step from one pixel that counts to the next.

    Returns
    -------
    low, high : float
        The second is the greater one, also of constant images.
    """
    samples, ends = [], []
    for image in images:
        samples.append(image.ravel()[::stride].copy())
        ends += [float(image.min()), float(image.max())]
        del image  # before the next one is read
    low, high = np.percentile(np.concatenate(samples), percentiles)
    if not high > low:
        low, high = min(ends), max(ends)
    if not high > low:
        high = low + 1  # a constant crop: keep the scaling finite
    return float(low), float(high)


def count_intensities(image: NDArray[Any]) -> NDArray[np.int64]:
    """Count the pixels of each intensity, shape (65536,), of a uint8 or uint16 image.

    Counts of several images, or shards of them, add up, in any order and exactly.
    """
    if image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"intensities of {image.dtype} cannot be counted")
    return np.bincount(image.ravel(), minlength=1 << 16)


def limits_of_counts(
    counts: NDArray[np.int64], percentiles: Sequence[float]
) -> tuple[float, float]:
    """Return what `intensity_limits` returns, of counts of all pixels.

    Percentiles between two intensities are interpolated, as `numpy.percentile` does.
    """
    up_to = np.cumsum(counts)

    def percentile(of: float) -> float:
        rank = (int(up_to[-1]) - 1) * of / 100
        # Intensities of the pixels before and after this rank.
        ranks = [math.floor(rank), math.ceil(rank)]
        low, high = (int(np.searchsorted(up_to, r, side="right")) for r in ranks)
        return low + (high - low) * (rank - ranks[0])

    low, high = map(percentile, percentiles)
    if not high > low:
        there = np.flatnonzero(counts)
        low, high = float(there[0]), float(there[-1])
    return low, high if high > low else low + 1


def fit_normalisation(
    training: ImageSet, others: ImageSet, options: Normalise
) -> Normalisation:
    """Fit the limits on the training images, for each channel by itself.

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

    def limits_of(
        identifiers: list[str], source: ImageSet, channel: int
    ) -> tuple[float, float]:
        # A sample of pixels bounds the memory, with one image at a time; the stride is
        # the same in each run.
        total = sum(math.prod(source.shape(i)) for i in identifiers)
        images = (source.channels(identifier)[channel] for identifier in identifiers)
        return intensity_limits(images, quantiles, max(1, total // SAMPLE))

    def limits_by_id(channel: int) -> dict[str, tuple[float, float]]:
        if options.scope == "dataset":
            shared = limits_of(training.ids, training, channel)
            return dict.fromkeys([*training.ids, *others.ids], shared)
        parts = (training, others)
        return {i: limits_of([i], part, channel) for part in parts for i in part.ids}

    counts = {count_channels(training.row(i)) for i in training.ids}
    if len(counts) != 1:
        raise PhantomscopeError(
            f"the images have {' or '.join(map(str, sorted(counts)))} channels",
            where=training.folder / "manifest.csv",
            fix="give images that all have the same channels",
        )
    first, *further = map(limits_by_id, range(counts.pop()))
    dtypes = {training.row(i)["dtype"] for i in training.ids}
    dtype = dtypes.pop() if len(dtypes) == 1 else "float32"
    return Normalisation(options.scope, options.transform, first, dtype, further)
