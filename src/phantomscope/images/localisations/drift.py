"""Drift of the sample, from the localisations themselves.

Redundant cross-correlation (Wang et al., Optics Express 22, 15982, 2014, doi
10.1364/OE.22.015982): the frames are cut into time bins, each bin becomes an image, and
every pair of images is correlated. The displacements of all pairs, far more than there
are unknowns, give the positions of the bins by least squares; pairs that contradict the
others are left out. A natural cubic spline leads through the middles of the bins.

With 10 bins of 2000 molecules each, a planted drift of some 200 nm is found to 4 nm
(root mean square, pixels of 20 nm); a test holds this.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import scipy
from numpy.typing import NDArray

from phantomscope.errors import PhantomscopeError
from phantomscope.images.localisations.render import Renderer, View
from phantomscope.images.localisations.table import Float, Localisations

FEWEST = 50
MOST_BINS = 100
# Standard deviation, in pixels, by which a correlation is smoothed before its maximum
# is sought: of single molecules it is a sum of spikes.
SMOOTH = 1.0
# Standard deviations of noise above which a maximum is none of chance.
SURE = 5.0


@dataclass(frozen=True)
class Drift:
    """Where the sample was.

    Attributes
    ----------
    frames : ndarray, shape (K,)
        Mean frame of each time bin.
    x, y : ndarray, shape (K,)
        Displacement of the sample since the first frame, nm.
    residual : float
        Root mean square by which the displacements of pairs of bins contradict these
        positions, nm.
    used, pairs : int
        Pairs of bins that were used, and all.
    """

    frames: Float
    x: Float
    y: Float
    residual: float
    used: int
    pairs: int

    def at(self, frame: NDArray[np.int64]) -> tuple[Float, Float]:
        """Return the displacement (x, y) in each frame, nm."""
        x, y = (
            scipy.interpolate.CubicSpline(self.frames, v, bc_type="natural")
            for v in (self.x, self.y)
        )
        return x(frame), y(frame)

    def correct(self, part: Localisations) -> Localisations:
        """Return the molecules where they would be without drift."""
        x, y = self.at(part.field("frame", "drift correction"))
        return part.moved(part.x - x, part.y - y)


class DriftFinder:
    """Collects a table part by part, and finds the drift at the end.

    Parameters
    ----------
    view : View
        Field of view; its pixel size is that of the images that are correlated. Twice
        the precision is a good one.
    frames : tuple of int
        First and last frame of the table.
    bins : int
        Time bins of equal length.
    most : float
        Largest displacement between two bins that is looked for, nm.
    """

    def __init__(
        self, view: View, frames: tuple[int, int], bins: int, most: float = 1000.0
    ) -> None:
        if not 2 <= bins <= MOST_BINS or frames[1] - frames[0] + 1 < bins:
            raise PhantomscopeError(
                f"{bins} time bins of {frames[1] - frames[0] + 1} frames",
                where="drift_bins",
                fix=f"use 2 to {MOST_BINS} bins, and no more than there are frames",
            )
        self.first = frames[0]
        self.most = max(1, round(most / view.pixel_size))
        self._edges = np.linspace(frames[0], frames[1] + 1, bins + 1)
        self._images = [Renderer(view, "histogram") for _ in range(bins)]
        self._frames, self._counts = np.zeros(bins), np.zeros(bins)

    def add(self, part: Localisations) -> None:
        """Draw molecules into the images of their time bins."""
        frame = part.field("frame", "drift correction")
        place = np.searchsorted(self._edges, frame, "right") - 1
        bins = len(self._images)
        self._counts += np.bincount(place, minlength=bins)
        self._frames += np.bincount(place, frame, minlength=bins)
        for number in np.unique(place):
            self._images[number].add(part.take(place == number))

    def find(self) -> Drift:
        """Return the drift since the first frame.

        Raises
        ------
        PhantomscopeError
            If a time bin has too few molecules, or the bins do not hang together: no
            structure is seen again, or it moved farther than `most`.
        """
        poor = int(np.argmin(self._counts))
        if self._counts[poor] < FEWEST:
            raise PhantomscopeError(
                f"{self._counts[poor]:.0f} localisations in time bin {poor + 1} of "
                f"{len(self._counts)} are too few to see drift ({FEWEST} are needed)",
                where="drift_bins",
                fix="use fewer time bins, or no drift correction: `drift_bins: 0`",
            )
        pairs, moves = self._moves()
        places, residual, used = _positions(pairs, moves, len(self._counts))
        size = self._images[0].view.pixel_size
        frames = self._frames / self._counts
        drift = Drift(
            frames, places[:, 0] * size, places[:, 1] * size, residual * size, used,
            len(self._counts) * (len(self._counts) - 1) // 2,
        )  # fmt: skip
        x, y = drift.at(np.array([self.first]))
        return Drift(
            frames, drift.x - x, drift.y - y, drift.residual, used, drift.pairs
        )

    def _moves(self) -> tuple[list[tuple[int, int]], Float]:
        """Displacement (x, y) in pixels of each pair whose correlation has a peak."""
        shape = self._images[0].view.shape
        # Zeros beyond the border, or what leaves on one side would enter on the other.
        padded = tuple(
            scipy.fft.next_fast_len(side + self.most, real=True) for side in shape
        )
        spectra, energy = [], []
        smooth = _gaussian(padded)
        for renderer in self._images:
            image = renderer.image()
            spectra.append(scipy.fft.rfft2(image - image.mean(), padded))
            own = scipy.fft.irfft2(np.abs(spectra[-1]) ** 2 * smooth, padded)
            energy.append(max(float(own[0, 0]), 0.0))
        # Of images without any common structure, the correlation has a standard
        # deviation of one over the root of the number of spots of its own size.
        spots = shape[0] * shape[1] / (4 * np.pi * SMOOTH**2)
        pairs, moves = [], []
        for i, j in combinations(range(len(spectra)), 2):
            product = np.conj(spectra[i]) * spectra[j] * smooth
            least = SURE * np.sqrt(energy[i] * energy[j] / spots)
            peak = _peak(scipy.fft.irfft2(product, padded), self.most, least)
            if peak is not None:
                pairs.append((i, j))
                moves.append(peak)
        return pairs, np.array(moves, float).reshape(-1, 2)


def _gaussian(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Spectrum of a Gaussian of standard deviation `SMOOTH`."""
    v = scipy.fft.fftfreq(shape[0])[:, None]
    u = scipy.fft.rfftfreq(shape[1])[None, :]
    power = np.exp(-2 * (np.pi * SMOOTH) ** 2 * (u**2 + v**2))
    return np.asarray(power, np.float32)


def _peak(
    correlation: NDArray[np.float32], most: int, least: float
) -> tuple[float, float] | None:
    """Return (x, y) of the maximum, between pixels; None if it is none to rely on.

    That is one at the border, or one that is not above `least`.
    """
    height, width = correlation.shape
    rows, columns = (
        np.arange(-m, m + 1)
        for m in (min(most, height // 2 - 1), min(most, width // 2 - 1))
    )
    window = correlation[np.ix_(rows % height, columns % width)].astype(float)
    row, column = np.unravel_index(int(window.argmax()), window.shape)
    if window[row, column] <= least:
        return None
    if not (2 <= row < len(rows) - 2 and 2 <= column < len(columns) - 2):
        return None
    # The vertex of a paraboloid through 5 x 5 pixels, by least squares.
    near = window[row - 2 : row + 3, column - 2 : column + 3]
    v, u = (grid.ravel() for grid in np.mgrid[-2:3, -2:3])
    terms = np.stack([np.ones(25), u, v, u * u, u * v, v * v], axis=1)
    _, b, c, d, e, f = np.linalg.lstsq(terms, near.ravel(), rcond=None)[0]
    bend = 4 * d * f - e * e
    if d >= 0 or bend <= 0:
        return None
    x, y = (e * c - 2 * f * b) / bend, (e * b - 2 * d * c) / bend
    if max(abs(x), abs(y)) > 2:
        return None
    return float(columns[column] + x), float(rows[row] + y)


def _positions(
    pairs: list[tuple[int, int]], moves: Float, bins: int
) -> tuple[Float, float, int]:
    """Positions (K, 2) of the bins by least squares, without pairs that contradict.

    The worst pair goes as long as it is off by more than a pixel and the others still
    tell the position of each bin.
    """
    table = np.zeros((len(pairs), bins))
    for row, (i, j) in enumerate(pairs):
        table[row, i], table[row, j] = -1, 1
    table = table[:, 1:]  # the first bin is the origin
    if len(pairs) < bins - 1 or np.linalg.matrix_rank(table) < bins - 1:
        raise PhantomscopeError(
            f"of {bins} time bins only {len(pairs)} pairs show the same structure: no "
            "drift can be told",
            where="drift_bins",
            fix="use fewer time bins, or no drift correction: `drift_bins: 0`",
        )
    while True:
        found = np.linalg.lstsq(table, moves, rcond=None)[0]
        off = np.hypot(*(table @ found - moves).T)
        kept = np.arange(len(off)) != int(off.argmax())
        alone = np.linalg.matrix_rank(table[kept]) < bins - 1
        if off.max() <= 1 or alone:
            break
        table, moves = table[kept], moves[kept]
    residual = float(np.sqrt(np.mean(off**2)))
    return np.vstack([np.zeros(2), found]), residual, len(moves)
