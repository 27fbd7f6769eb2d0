"""What a way back loses against the full chain, measure by measure, with intervals.

Every measure is a function of weights: of crops, of sketches, of real images. All ones
give its value; a bootstrap draws groups of images and gives each the number of times it
came. The same draws serve the full chain and whatever is compared with it, so what two
ways have in common (crops, sketches, real images) does not widen the interval.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from phantomscope.measure.frechet import (
    gaussian_frechet,
    image_features,
    standardise,
)
from phantomscope.measure.spectral import radial_power_spectrum
from phantomscope.measure.statistics import percentiles

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]
Values = dict[str, float]

MEASURES = (
    "psnr", "ssim", "fidelity", "spectrum", "intensity", "frechet", "kernel"
)  # fmt: skip
GOAL = 0.02
RESAMPLES = 500
CONFIDENCE = 0.95
PATCH = 64  # the least that texture features take
GRID = np.linspace(1 / 96, 0.5, 48)  # cycles per pixel
BINS = 64


@dataclass(frozen=True, eq=False)
class Sample:
    """What the distances between sets need of each image, computed once.

    Attributes
    ----------
    groups : ndarray of int, shape (n,)
        Images of a group are drawn together.
    spectra : ndarray, shape (n, 48)
        Radial power spectra at `GRID`.
    counts : ndarray, shape (n, 64)
        Histograms of intensities.
    features : ndarray, shape (patches, 39)
        Texture features of patches of 64 px.
    owner : ndarray of int, shape (patches,)
        Image of each patch.
    """

    groups: Codes
    spectra: Floats
    counts: Floats
    features: Floats
    owner: Codes

    @property
    def n_groups(self) -> int:
        """How many groups there are."""
        return int(self.groups.max()) + 1

    def patches(self, weights: Floats) -> Floats:
        """Return the weights of the patches, given those of the groups."""
        return weights[self.groups][self.owner]


def codes(names: Sequence[str]) -> Codes:
    """Number groups from 0 by their names."""
    found: Codes = np.unique(np.array(names, str), return_inverse=True)[1].ravel()
    return found


def sample(
    images: Sequence[NDArray[Any]], groups: Sequence[str],
    value_range: tuple[float, float], most: int = 9,
) -> Sample:  # fmt: skip
    """Measure images; at most so many patches of each are looked at."""
    spectra, counts, features, owner = [], [], [], []
    for n, image in enumerate(images):
        frequency, power = radial_power_spectrum(image)
        tiny = np.finfo(np.float64).tiny
        logs = np.interp(GRID, frequency, np.log(np.maximum(power, tiny)))
        spectra.append(np.exp(logs))
        clipped = np.clip(image, *value_range)
        counts.append(np.histogram(clipped, BINS, value_range)[0] / image.size)
        found = cut(image, PATCH)
        # An even, empty background has no texture.
        found = [patch for patch in found if np.ptp(patch) > 1e-6]
        found = found[:: max(1, -(-len(found) // most))]
        if found:
            features.append(image_features(found))
            owner += [n] * len(found)
    return Sample(
        codes(groups), np.stack(spectra), np.stack(counts).astype(np.float64),
        np.concatenate(features), np.array(owner),
    )  # fmt: skip


def cut(image: NDArray[Any], side: int) -> list[NDArray[Any]]:
    """Cut an image into squares side by side; what is left over is dropped."""
    height, width = image.shape
    return [
        image[y : y + side, x : x + side]
        for y in range(0, height - side + 1, side)
        for x in range(0, width - side + 1, side)
    ]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came back: scores of each crop and of each sketch, and what was made.

    Attributes
    ----------
    crops : dict of str to ndarray
        Scores of crops of real images against themselves, such as ``psnr``; may be
        empty.
    sketches : dict of str to ndarray
        Scores of single made images, such as ``fidelity``; may be empty.
    made : Sample
        The images made from sketches, each a group of its own.
    """

    crops: dict[str, Floats]
    sketches: dict[str, Floats]
    made: Sample


class _Weights(NamedTuple):
    """Of groups of crops, of sketches, and of groups of real images."""

    crops: Floats
    sketches: Floats
    real: Floats


class Comparison:
    """Compares ways back with the full chain, over the same draws.

    Parameters
    ----------
    real : Sample
        Real images. Where all are of one group they are the same in each draw.
    full : Outcome
        Of the full chain.
    crop_groups : sequence of str
        Source image of each crop; where there is one only, each crop is a group.
    resamples, seed
        Of the bootstrap.
    """

    def __init__(
        self, real: Sample, full: Outcome, crop_groups: Sequence[str] = (),
        resamples: int = RESAMPLES, seed: int = 0,
    ) -> None:  # fmt: skip
        several = len(set(crop_groups)) > 1
        self.crop_unit = "source image" if several else "crop of one image"
        names = crop_groups if several else [str(n) for n in range(len(crop_groups))]
        self.crop_groups = codes(names) if names else np.zeros(0, np.intp)
        self.n_crop_groups = len(set(names))
        self.real, self.n_sketches = real, full.made.n_groups
        self._scale = real.features
        self._real_features = standardise(real.features)[0]
        self._real_kernel = _kernel(self._real_features, self._real_features)
        # Patches of one image are alike; only where there is but one they must do.
        apart = real.groups[real.owner] if real.n_groups > 1 else range(len(real.owner))
        self._real_pairs = _other(np.asarray(apart))
        random = np.random.default_rng(seed)
        sizes = (self.n_crop_groups, self.n_sketches, real.n_groups)
        ones = _Weights(*(np.ones(n) for n in sizes))
        self._draws = [ones] + [
            _Weights(*(_draw(random, n) for n in sizes)) for _ in range(resamples)
        ]
        self.full = self._values(full)

    def values(self, outcome: Outcome) -> Values:
        """Return the value of each measure."""
        return {name: float(v[0]) for name, v in self._values(outcome).items()}

    def losses(self, outcome: Outcome) -> dict[str, float]:
        """Return losses relative to the full chain, with intervals, and the largest.

        For each measure ``loss_NAME``, ``low_NAME`` and ``high_NAME``; ``worst`` is the
        largest loss where one whose interval reaches 0 counts as none, ``raw`` the
        largest as they are. Negative: better than the full chain.
        """
        own, found = self._values(outcome), {}
        judged, raw = [], []
        for name, values in own.items():
            lost = relative_loss(name, values, self.full[name])
            value = float(lost[0])
            low, high = percentiles(lost[1:], CONFIDENCE)
            found |= {f"loss_{name}": value, f"low_{name}": low, f"high_{name}": high}
            judged.append(judge(value, low))
            raw.append(value)
        return found | {"worst": max(judged), "raw": max(raw)}

    def _values(self, outcome: Outcome) -> dict[str, Floats]:
        """Return each measure under all draws; the first are all ones."""
        made, real = outcome.made, self.real
        features = standardise(self._scale, made.features)[1]
        kernels = (_kernel(features, features), _kernel(features, self._real_features))
        pairs = _other(made.groups[made.owner])
        rows = []
        for w in self._draws:
            row: Values = {}
            for name, scores in outcome.crops.items():
                row[name] = float(np.average(scores, weights=w.crops[self.crop_groups]))
            on_made, on_real = w.sketches[made.groups], w.real[real.groups]
            for name, scores in outcome.sketches.items():
                row[name] = float(np.average(scores, weights=on_made))
            row["spectrum"] = _apart(made.spectra, on_made, real.spectra, on_real)
            row["intensity"] = _no_overlap(made.counts, on_made, real.counts, on_real)
            p, q = made.patches(w.sketches), real.patches(w.real)
            row["frechet"] = _frechet(features, p, self._real_features, q)
            row["kernel"] = (
                _mean_pair(kernels[0], pairs, p)
                + _mean_pair(self._real_kernel, self._real_pairs, q)
                - 2 * float(p @ kernels[1] @ q) / float(p.sum() * q.sum())
            )
            rows.append(row)
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def judge(loss: float, low: float) -> float:
    """Return a loss, or none where its interval reaches 0; a gain stays a gain."""
    return min(loss, 0.0) if low <= 0 else loss


def relative_loss(name: str, short: Floats, full: Floats) -> Floats:
    """Return what is lost as a share; the first of each are the values themselves.

    Scores: their share that is missing. The spectrum's distance is a logarithm (in
    decades), so its growth is one of a factor in power; that of intensities is the
    logarithm of what both share, so its growth is a share of that. Other distances grow
    relative to the full chain's own, in all draws the same.
    """
    if name == "spectrum":
        return 10 ** (short - full) - 1
    if name == "intensity":
        return 1 - np.exp(full - short)
    if name in ("frechet", "kernel"):
        return (short - full) / max(abs(float(full[0])), 1e-9)
    # Where the full chain scores nothing there is nothing to lose.
    return 1 - np.divide(short, full, out=np.ones_like(short), where=full != 0)


def _draw(random: np.random.Generator, n: int) -> Floats:
    """Draw n groups with replacement; a single one cannot vary."""
    drawn = random.integers(max(n, 1), size=n)
    return np.bincount(drawn, minlength=n).astype(np.float64)


def _other(groups: Codes) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = groups[:, None] != groups[None, :]
    return found


def _kernel(a: Floats, b: Floats) -> Floats:
    """Cubic kernel, as in `measure.frechet.kernel_distance`."""
    found: Floats = (a @ b.T / a.shape[1] + 1) ** 3
    return found


def _mean_pair(kernel: Floats, pairs: NDArray[np.bool_], p: Floats) -> float:
    """Mean over pairs of different groups; NaN where a draw holds a single one."""
    below = float(p @ pairs @ p)
    return float(p @ (kernel * pairs) @ p) / below if below else float("nan")


def _frechet(a: Floats, p: Floats, b: Floats, q: Floats) -> float:
    moments: list[Floats] = []
    for values, weights in ((a, p), (b, q)):
        with warnings.catch_warnings():
            # A draw of a single patch has no covariance; it is left out as NaN.
            warnings.simplefilter("ignore", RuntimeWarning)
            covariance = np.cov(values, rowvar=False, fweights=weights.astype(np.int64))
        moments += [np.average(values, axis=0, weights=weights), covariance]
    if not all(np.isfinite(m).all() for m in moments):
        return float("nan")
    return gaussian_frechet(*moments)


def _apart(a: Floats, p: Floats, b: Floats, q: Floats) -> float:
    """Mean distance of mean spectra in decades, as `spectral_distance`."""
    means = [np.average(v, axis=0, weights=w) for v, w in ((a, p), (b, q))]
    return float(np.abs(np.log10(means[0]) - np.log10(means[1])).mean())


def _no_overlap(a: Floats, p: Floats, b: Floats, q: Floats) -> float:
    """Bhattacharyya distance of mean histograms."""
    means = [np.average(v, axis=0, weights=w) for v, w in ((a, p), (b, q))]
    return -float(np.log(max(np.sqrt(means[0] * means[1]).sum(), 1e-300)))
