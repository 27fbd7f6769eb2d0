"""Parameters of the simulator from a real table of localisations.

Blinking is measured as in Annibale et al. (PLOS ONE 6, e22678, 2011): localisations
within reach are joined over dark times up to t, and the number of molecules that is
left falls as N (1 + n exp(-t / T)), with n further blinks of each and dark times of T.
Here times exp(-c t): different molecules that happen to lie near are joined too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import scipy
from numpy.typing import NDArray

from phantomscope.config.superresolution import Blinking
from phantomscope.errors import PhantomscopeError
from phantomscope.simulate.precision import localisation_precision

Floats = NDArray[np.float64]
FEWEST = 100
# Two localisations of one molecule are joined within this many standard deviations of
# their distance along an axis: exp(-r^2 / (2 s^2)) leaves out 1% of them.
REACH = 3.035
# The reach of rows that are less precise, in median precisions: else they join all.
COARSEST = 3.0
MOST_PAIRS = 50_000_000


@dataclass(frozen=True)
class Measured:
    """What a table of localisations tells.

    Attributes
    ----------
    rows, frames : int
        Localisations, and frames from the first to the last.
    photons, photon_spread : float
        Mean photons, and the standard deviation of their logarithm (of a lognormal
        distribution with the same mean and median).
    photon_distribution : {"exponential", "lognormal"}
        The likelier of the two, above the least number of photons.
    least_photons : float
        Of which a hundredth of the rows have fewer.
    precision : float
        Median, nm.
    background : float
        Variance per pixel (photons^2) with which the formula of precision, for a spot
        of `psf_sigma`, gives that median; 0 if it is below what photons alone give.
    psf_sigma : float
        Median, nm; as given if the table has none.
    blinks, lit, dark : float
        Mean blinks of a molecule, mean lit and dark times in frames.
    """

    rows: int
    frames: int
    photons: float
    photon_spread: float
    photon_distribution: Literal["exponential", "lognormal"]
    least_photons: float
    precision: float
    background: float
    psf_sigma: float
    blinks: float
    lit: float
    dark: float

    def options(self, base: Blinking) -> Blinking:
        """Return options of the simulator with what was measured.

        Parameters
        ----------
        base : Blinking
            The rest: pixel, formula, activation, false localisations.
        """
        found = {k: v for k, v in asdict(self).items() if k in Blinking.model_fields}
        return Blinking.model_validate({**base.model_dump(), **found})


def _column(table: Mapping[str, Any] | pd.DataFrame, name: str) -> Floats | None:
    """Return a column without checking more than its presence."""
    values = table[name] if name in table else None
    return None if values is None else np.asarray(values, float)


def _needed(table: Mapping[str, Any] | pd.DataFrame, name: str) -> Floats:
    values = _column(table, name)
    if values is None:
        raise PhantomscopeError(
            f"a calibration needs the column `{name}`; there are "
            f"{', '.join(map(str, list(table)[:20])) or 'none'}",
            where=name,
            fix="give a table with x, y, precision (nm), frame and photons",
        )
    if len(values) < FEWEST or not np.isfinite(values).all():
        raise PhantomscopeError(
            f"`{name}` has {len(values)} rows, of which "
            f"{int((~np.isfinite(values)).sum())} are no finite numbers",
            where=name,
            fix=f"give {FEWEST} rows or more, all finite",
        )
    return values


def _pairs(
    points: Floats, frame: Floats, precision: Floats, most: int
) -> NDArray[np.int64]:
    """Pairs of rows within reach and up to so many frames apart, and how many.

    Returns
    -------
    ndarray, shape (n, 3)
        int64: two rows and the frames between them, 1 or more.
    """
    # Time is a third axis, so that the search is local in it too.
    radius = REACH * np.sqrt(2) * float(precision.max())
    space = np.column_stack([points / radius, frame / (most + 1)])
    found = scipy.spatial.KDTree(space).query_pairs(np.sqrt(2), output_type="ndarray")
    if len(found) > MOST_PAIRS:
        raise PhantomscopeError(
            "the localisations are too dense to tell molecules apart",
            where="x, y",
            fix="calibrate on a part of the table, or on sparser data",
        )
    a, b = found.T
    apart = np.abs(frame[a] - frame[b]).astype(np.int64)
    limit = REACH**2 * (precision[a] ** 2 + precision[b] ** 2)
    near = ((points[a] - points[b]) ** 2).sum(axis=1) <= limit
    # Two of one frame are two molecules.
    kept = near & (apart >= 1) & (apart <= most)
    return np.asarray(np.stack([a, b, apart], axis=1)[kept])


def molecule_counts(
    points: Floats, frame: Floats, precision: Floats, dark: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Count what is left when localisations are joined over dark times.

    Parameters
    ----------
    points : ndarray, shape (n, 2)
        nm.
    frame : ndarray, shape (n,)
        Frames.
    precision : ndarray, shape (n,)
        nm; two rows are joined within 3 standard deviations of their distance.
    dark : ndarray, shape (k,)
        int64: longest dark time in frames over which is joined; 0: only neighbouring
        frames.

    Returns
    -------
    ndarray, shape (k,)
        int64, number of molecules for each.

    Raises
    ------
    PhantomscopeError
        If too many localisations are near each other.
    """
    pairs = _pairs(points, frame, precision, int(dark.max()) + 1)
    counts = []
    for longest in dark:
        a, b, _ = pairs[pairs[:, 2] <= longest + 1].T
        graph = scipy.sparse.coo_array((np.ones(len(a)), (a, b)), (len(frame),) * 2)
        found = scipy.sparse.csgraph.connected_components(graph, directed=False)
        counts.append(int(found[0]))
    return np.array(counts)


def _blinking(
    points: Floats, frame: Floats, precision: Floats, longest: int
) -> tuple[float, float, float]:
    """Return mean blinks, lit and dark times."""
    dark = np.unique(np.geomspace(1, longest, 24).astype(np.int64))
    dark = np.concatenate([[0], dark])
    reach = np.minimum(precision, COARSEST * np.median(precision))
    counts = molecule_counts(points, frame, reach, dark).astype(float)

    def model(t: Floats, molecules: float, more: float, off: float, c: float) -> Floats:
        return np.asarray(molecules * (1 + more * np.exp(-t / off)) * np.exp(-c * t))

    start = counts[-1], max(counts[0] / counts[-1] - 1, 1e-3), longest / 10, 0.0
    bounds = ([0, 0, 0.1, 0], [np.inf, 1000, longest, 1.0])
    (_, more, off, _), _ = scipy.optimize.curve_fit(
        model, dark.astype(float), counts, start, bounds=bounds, max_nfev=10_000
    )
    # exp(-1 / T) is the chance that a geometric dark time goes on.
    return (
        1 + float(more),
        float(len(frame) / counts[0]),
        float(1 / -np.expm1(-1 / off)),
    )


def _background(photons: Floats, wanted: float, sigma: float, base: Blinking) -> float:
    """Find the background with which the median precision is as measured."""

    def median(background: float) -> float:
        found = localisation_precision(
            photons, sigma=sigma, pixel=base.pixel, background=background,
            excess=base.excess, formula=base.formula,
        )  # fmt: skip
        return float(np.median(found))

    if median(0.0) >= wanted:
        return 0.0
    high = 1.0
    while median(high) < wanted and high < 1e6:
        high *= 4
    if high >= 1e6:
        return 1e6
    return float(scipy.optimize.brentq(lambda b: median(b) - wanted, 0.0, high))


def _photons(photons: Floats) -> tuple[Literal["exponential", "lognormal"], float]:
    """Tell which distribution is likelier, and the spread of the lognormal one."""
    logs = np.log(photons)
    # Log likelihoods per row, without what both share.
    exponential = -np.log(photons.mean()) - 1
    normal = -logs.mean() - np.log(max(logs.std(), 1e-6) * np.sqrt(2 * np.pi)) - 0.5
    # Mean by median is exp(spread^2 / 2). So both are as measured, whatever the few
    # rows of hardly a photon are that some fits leave behind.
    ratio = max(float(photons.mean() / np.median(photons)), 1.0)
    spread = min(np.sqrt(2 * np.log(ratio)), 3.0)
    return ("lognormal" if normal > exponential else "exponential"), float(spread)


def measure_table(
    table: Mapping[str, Any] | pd.DataFrame, base: Blinking | None = None,
    *, longest_dark: int = 100,
) -> Measured:  # fmt: skip
    """Measure photons, precision and blinking of a table of localisations.

    Where molecules are so dense that most dark times are broken by another one, blinks
    cannot be told from molecules: compare with a part of the table's frames.

    Parameters
    ----------
    table : Mapping or DataFrame
        Columns of one length: ``x``, ``y``, ``precision`` (nm), ``frame``,
        ``photons``; ``sigma`` (nm) if known.
    base : Blinking, optional
        Pixel, excess noise and formula of the precision; ``psf_sigma`` where the table
        has no sigma.
    longest_dark : int
        Longest dark time that is looked at, frames: some times the mean one.

    Returns
    -------
    Measured
        Numbers to look at; `Measured.options` makes options of them.

    Raises
    ------
    PhantomscopeError
        If a column is missing, too short or not finite, if photons are not above 0, or
        if molecules are too dense.
    """
    base = base or Blinking()
    columns = {
        n: _needed(table, n) for n in ("x", "y", "frame", "photons", "precision")
    }
    photons, frame = columns["photons"], columns["frame"]
    if photons.min() <= 0:
        raise PhantomscopeError(
            f"{int((photons <= 0).sum())} rows have no photons",
            where="photons",
            fix="leave them out",
        )
    sigma = _column(table, "sigma")
    # One spot for all, as the simulator has it.
    wide = base.psf_sigma if sigma is None else float(np.median(sigma))
    precision = float(np.median(columns["precision"]))
    points = np.column_stack([columns["y"], columns["x"]])
    blinks, lit, dark = _blinking(points, frame, columns["precision"], longest_dark)
    kind, spread = _photons(photons)
    return Measured(
        rows=len(frame), frames=int(np.ptp(frame)) + 1, photons=float(photons.mean()),
        photon_spread=spread, photon_distribution=kind,
        least_photons=float(np.quantile(photons, 0.01)), precision=precision,
        background=_background(photons, precision, wide, base),
        psf_sigma=wide, blinks=blinks, lit=lit, dark=dark,
    )  # fmt: skip
