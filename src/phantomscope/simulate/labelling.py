"""Fluorophores on filaments and tubes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from phantomscope.config.superresolution import Labelling
from phantomscope.simulate.polylines import Polylines, Structure

Floats = NDArray[np.float64]
NM = 1000.0  # per um


@dataclass(frozen=True)
class Fluorophores:
    """Where fluorophores are.

    Attributes
    ----------
    points : ndarray, shape (n, 2)
        float64 (y, x), nm.
    ids : ndarray, shape (n,)
        int64 id of the object that each labels.
    """

    points: Floats
    ids: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)


def label_lines(
    lines: Polylines, options: Labelling, rng: np.random.Generator
) -> Fluorophores:
    """Put fluorophores around lines.

    Places along a line are even and independent (a Poisson process of
    `options.density`). Around it a fluorophore is anywhere on a circle of the line's
    radius and the linker, of which the image sees the part across the line. So a tube
    looks hollow where the precision allows. Ends are half spheres. Where tubes of one
    object join, there are none within it.

    Parameters
    ----------
    lines : Polylines
        In nm, with radii.
    options : Labelling
        Density, linker.
    rng : Generator
        Source of everything random.

    Returns
    -------
    Fluorophores
        Line after line.
    """
    if not len(lines):
        return Fluorophores(np.zeros((0, 2)), np.zeros(0, np.int64))
    arcs, ends = lines.arcs(), lines.starts[1:] - 1
    length = arcs[ends]
    caps = lines.radii[lines.starts[:-1]], lines.radii[ends]
    counts = rng.poisson(options.density / NM * (length + caps[0] + caps[1]))
    line = np.repeat(np.arange(len(lines)), counts)
    place = rng.uniform(-caps[0][line], (length + caps[1])[line])
    # Lines end to end, each begins where the one before ends: one search for all.
    before = np.concatenate([[0.0], np.cumsum(length)])
    along = arcs + np.repeat(before[:-1], np.diff(lines.starts))
    first = np.searchsorted(along, before[line] + place, side="right") - 1
    # What lies beyond an end belongs to the segment there.
    first = np.clip(first, lines.starts[line], lines.starts[line + 1] - 2)
    a, b = lines.points[first], lines.points[first + 1]
    step = np.maximum(arcs[first + 1] - arcs[first], 1e-12)
    share = (place - arcs[first]) / step
    inner = np.clip(share, 0, 1)
    radius = lines.radii[first] + inner * (lines.radii[first + 1] - lines.radii[first])
    # Slices of a sphere of the same height have the same area (Archimedes), so places
    # even along the line are even on its cap.
    beyond = np.maximum(np.maximum(-place, place - length[line]), 0)
    radius = np.sqrt(np.maximum(radius**2 - beyond**2, 0))
    radius += options.linker + options.linker_spread * rng.standard_normal(len(line))
    way = (b - a) / step[:, None]
    normal = np.stack([way[:, 1], -way[:, 0]], axis=1)
    turn = rng.uniform(-np.pi, np.pi, len(line))
    points = a + share[:, None] * (b - a) + (radius * np.sin(turn))[:, None] * normal
    marks = Fluorophores(points, lines.ids[line])
    seen = _outside(lines, marks, radius * np.cos(turn))
    return Fluorophores(marks.points[seen], marks.ids[seen])


def _outside(
    lines: Polylines, marks: Fluorophores, height: Floats
) -> NDArray[np.bool_]:
    """Tell which are not inside their object; `height` is above the plane.

    Their own line's points are a radius away, those of a tube that joins are nearer.
    """
    if len(np.unique(lines.ids)) == len(lines):
        return np.ones(len(marks), bool)
    # Objects as far apart as needed, so that only points of the same one are near.
    far = 10 * float(lines.radii.max())
    owner = np.repeat(lines.ids, np.diff(lines.starts))
    centre = np.column_stack([lines.points, np.zeros(len(owner)), far * owner])
    places = np.column_stack([marks.points, height, far * marks.ids])
    limit = float(lines.radii.max())
    distance, near = scipy.spatial.KDTree(centre).query(
        places, distance_upper_bound=limit
    )
    found = near < len(owner)
    inside = distance[found] < 0.9 * lines.radii[near[found]]
    outside = np.ones(len(marks), bool)
    outside[np.flatnonzero(found)[inside]] = False
    return outside


def label_structure(
    structure: Structure, options: Labelling, rng: np.random.Generator
) -> Fluorophores:
    """Put fluorophores around the lines of a structure; those within its field stay.

    Parameters and result are those of `label_lines`.
    """
    every = label_lines(structure.lines, options, rng)
    seen = ((every.points >= 0) & (every.points < structure.field)).all(axis=1)
    return Fluorophores(every.points[seen], every.ids[seen])
