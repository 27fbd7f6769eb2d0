"""From fluorophores to a table of localisations: blinking, photons, precision.

A fluorophore lights up a geometric number of times, since it bleaches with the same
chance at each end. How long it is lit and dark is geometric too, in whole frames: a
frame is lit or not. What a movie sees of it is a localisation per lit frame.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phantomscope.config.superresolution import Blinking
from phantomscope.images.localisations.table import Localisations, TableSource
from phantomscope.simulate.labelling import Fluorophores
from phantomscope.simulate.precision import localisation_precision

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
COLUMNS = (
    "x", "y", "frame", "photons", "precision", "background", "id", "fluorophore",
)  # fmt: skip


def lit_frames(
    count: int, options: Blinking, rng: np.random.Generator
) -> tuple[Integers, Integers, Integers]:
    """Draw in which frames fluorophores are lit.

    Parameters
    ----------
    count : int
        Fluorophores.
    options : Blinking
        Frames, activation, blinks, lit and dark times.
    rng : Generator
        Source of everything random.

    Returns
    -------
    fluorophore, blink, frame : ndarray, shape (n,)
        int64: number of the fluorophore, which of its blinks it is (from 0), and the
        frame, from 0; a row for each lit frame within the movie.
    """
    if options.activation is None:
        begin = rng.integers(0, options.frames, count)
    else:
        begin = np.floor(rng.exponential(options.activation, count)).astype(np.int64)
    blinks = rng.geometric(1 / options.blinks, count)
    owner = np.repeat(np.arange(count), blinks)
    first = np.cumsum(blinks) - blinks
    on = rng.geometric(1 / options.lit, len(owner))
    off = rng.geometric(1 / options.dark, len(owner))
    # Start of each blink: all on and off times of the same fluorophore before it.
    total = np.cumsum(on + off) - (on + off)
    start = begin[owner] + total - total[first[owner]]
    # Long blinks would fill memory beyond the movie's end.
    on = np.clip(options.frames - start, 0, on)
    blink = np.repeat(np.arange(len(owner)), on)
    frame = start[blink] + np.arange(len(blink)) - (np.cumsum(on) - on)[blink]
    return owner[blink], blink - first[owner[blink]], frame


def drawn_photons(count: int, options: Blinking, rng: np.random.Generator) -> Floats:
    """Draw the photons of localisations, with the mean `options.photons`."""
    if options.photon_distribution == "exponential":
        return rng.exponential(options.photons, count)
    spread = options.photon_spread
    # The mean of a lognormal is exp(mu + spread^2 / 2).
    normal = spread * rng.standard_normal(count) - spread**2 / 2
    return np.asarray(options.photons * np.exp(normal))


def _false(
    field: tuple[float, float], options: Blinking, rng: np.random.Generator
) -> tuple[Floats, Integers, Floats]:
    """Draw places, frames and photons of false localisations."""
    area = field[0] * field[1] / 1e6
    count = int(rng.poisson(options.false_density * area))
    places = rng.uniform(size=(count, 2)) * field
    frames = rng.integers(0, options.frames, count)
    # Above the least number: dimmer ones are not localised either.
    excess = max(options.false_photons - options.least_photons, 1.0)
    return places, frames, options.least_photons + rng.exponential(excess, count)


def localise(
    fluorophores: Fluorophores, field: tuple[float, float], options: Blinking,
    rng: np.random.Generator,
) -> pd.DataFrame:  # fmt: skip
    """Simulate a movie of blinking fluorophores and what is localised in it.

    Two fluorophores that are lit at once nearby are both localised, as if alone.

    Parameters
    ----------
    fluorophores : Fluorophores
        Places in nm, and ids.
    field : tuple of float
        Height and width in nm; false localisations lie in it.
    options : Blinking
        Blinking, photons, camera, false localisations.
    rng : Generator
        Source of everything random.

    Returns
    -------
    DataFrame
        One row per localisation, by frame: ``x``, ``y`` (float64, nm), ``frame``
        (int64, from 0), ``photons`` (float64), ``precision`` (float64, nm: the
        standard deviation of x and of y), ``background`` (float64, photons per pixel),
        ``id`` (int64, of the object; 0: false) and ``fluorophore`` (int64, number;
        -1: false).
    """
    owner, _, frame = lit_frames(len(fluorophores), options, rng)
    photons = drawn_photons(len(owner), options, rng)
    bright = photons >= options.least_photons
    owner, frame, photons = owner[bright], frame[bright], photons[bright]
    places, other, dim = _false(field, options, rng)
    points = np.concatenate([fluorophores.points[owner], places])
    photons = np.concatenate([photons, dim])
    precision = localisation_precision(
        # 0 photons are possible only without `least_photons`.
        np.maximum(photons, 1e-3), sigma=options.psf_sigma, pixel=options.pixel,
        background=options.background, excess=options.excess, formula=options.formula,
    )  # fmt: skip
    points = points + precision[:, None] * rng.standard_normal(points.shape)
    none = np.zeros(len(places), np.int64)
    table = pd.DataFrame(
        {
            "x": points[:, 1],
            "y": points[:, 0],
            "frame": np.concatenate([frame, other]),
            "photons": photons,
            "precision": precision,
            "background": np.full(len(points), float(options.background)),
            "id": np.concatenate([fluorophores.ids[owner], none]),
            "fluorophore": np.concatenate([owner, none - 1]),
        }
    )
    return table.sort_values("frame", kind="stable", ignore_index=True)


def molecules(table: pd.DataFrame) -> Localisations:
    """Return what `localise` gives as a table that can be filtered, drawn and written.

    Frames count from 1, as in tables of ThunderSTORM.
    """
    return Localisations(
        x=table["x"].to_numpy(), y=table["y"].to_numpy(),
        frame=table["frame"].to_numpy() + 1, photons=table["photons"].to_numpy(),
        uncertainty=table["precision"].to_numpy(),
        background=table["background"].to_numpy(),
        source=TableSource(Path("simulated"), {}, {}, len(table), 0),
    )  # fmt: skip
