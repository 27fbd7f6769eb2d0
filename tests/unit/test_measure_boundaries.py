"""Boundaries of instances, and instances from boundaries."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from phantomscope.config.simulation import Simulate
from phantomscope.errors import PhantomscopeError
from phantomscope.measure.boundaries import (
    boundary_map,
    decode_boundaries,
    instances_from_outlines,
)
from phantomscope.measure.instance import iou_matrix, score_image
from phantomscope.simulate.parameters import SketchType
from phantomscope.simulate.sketch import draw_sketch

REAL = Path(__file__).parents[3] / "shared/data/D-cellpainting-brightfield-BR00143976"
Y, X = np.mgrid[:80, :100]


def disc(y, x, radius):
    return np.hypot(Y - y, X - x) <= radius


def drawn(*masks):
    labels = np.zeros(Y.shape, np.uint16)
    for number, mask in enumerate(masks, 1):
        labels[mask & (labels == 0)] = number
    return labels


TOUCHING = drawn(disc(40, 30, 14), disc(40, 56, 14))
CUT = drawn(disc(0, 50, 15), disc(79, 99, 12), disc(40, 0, 10))
# Three discs that touch, and the space between them.
POCKET = drawn(disc(25, 30, 15), disc(25, 60, 15), disc(51, 45, 15))
NESTED = drawn(disc(40, 50, 8), disc(40, 50, 30) & ~disc(40, 50, 20))
ALONE = drawn(disc(40, 50, 20))


def same(truth, found, least=1.0):
    iou = iou_matrix(truth, found)
    return iou.shape[0] == iou.shape[1] and bool((iou.max(axis=1) >= least).all())


def damaged(values, share, seed=0):
    lost = np.random.default_rng(seed).random(values.shape) < share
    return np.where(lost & (values > 0), -1, values)


def test_boundary_of_a_square():
    labels = np.zeros((7, 8), int)
    labels[1:5, 2:6] = 3
    found = boundary_map(labels)
    assert found.dtype == np.float32
    assert set(np.unique(found)) == {-1, 1}
    expected = labels > 0
    expected[2:4, 3:5] = False
    assert np.array_equal(found > 0, expected)
    wide = boundary_map(labels, 3) > 0
    assert wide[0:6, 1:7].all()
    assert wide.sum() == 36


def test_touching_objects_keep_their_own_boundaries_and_borders_close():
    labels = np.repeat([[1] * 5 + [2] * 5], 8, axis=0)
    found = boundary_map(labels) > 0
    assert np.array_equal(np.flatnonzero(found[4]), [0, 4, 5, 9])
    assert found[0].all()
    assert found[-1].all()


@pytest.mark.parametrize("labels", [TOUCHING, CUT, POCKET, NESTED, ALONE])
@pytest.mark.parametrize(("width", "least"), [(1, 0.97), (3, 0.9)])
def test_whole_boundaries_give_the_objects_back(labels, width, least):
    assert same(labels, decode_boundaries(boundary_map(labels, width), width), least)


@pytest.mark.parametrize("labels", [TOUCHING, CUT, NESTED, ALONE])
def test_erased_and_noisy_boundaries(labels):
    whole = boundary_map(labels)
    assert same(labels, decode_boundaries(damaged(whole, 0.05)), 0.8)
    noise = np.random.default_rng(1).normal(0, 0.4, labels.shape)
    assert same(labels, decode_boundaries(whole + noise), 0.8)


def test_ring_with_a_gap_where_the_published_decoder_finds_a_line():
    values = boundary_map(ALONE)
    values[30:50, 60:] = -1
    assert same(ALONE, decode_boundaries(values), 0.9)
    published = decode_boundaries(values, variant="published")
    assert iou_matrix(ALONE, published).max() < 0.5


def test_the_published_decoder_fills_outer_contours():
    apart = drawn(disc(40, 20, 12), disc(40, 70, 12))
    assert same(apart, decode_boundaries(boundary_map(apart), variant="published"))
    merged = decode_boundaries(boundary_map(TOUCHING), variant="published")
    assert merged.max() == 1


def test_nothing_comes_of_nothing():
    empty = np.full((40, 50), -1.0)
    noise = np.random.default_rng(2).normal(-0.9, 0.5, empty.shape)
    for values in (empty, -empty, noise):
        found = decode_boundaries(values)
        assert found.shape == empty.shape
        assert not found.any()
    line = empty.copy()
    line[20, 5:45] = 1
    assert not decode_boundaries(line).any()


def test_an_object_without_an_inside():
    thin = drawn((abs(Y - 20) < 1) & (abs(X - 50) < 10), disc(50, 50, 10))
    thin[21][thin[20] == 1] = 1
    assert same(thin, decode_boundaries(boundary_map(thin)))


def test_seeds_divide_what_no_boundary_divides():
    both = drawn(TOUCHING > 0)
    values = boundary_map(both)
    assert decode_boundaries(values).max() == 1
    seeds = np.where(disc(40, 30, 4), 7, np.where(disc(40, 56, 4), 3, 0))
    found = decode_boundaries(values, seeds=seeds)
    assert set(np.unique(found)) == {0, 3, 7}
    assert same(TOUCHING, found, 0.8)
    assert (found[seeds > 0] == seeds[seeds > 0]).all()


KIND = SketchType.model_validate({
    "name": "a", "radius": [6, 7, 8, 9, 10, 11, 12],
    "elongation": [1, 1.1, 1.2, 1.3, 1.4, 1.6, 2], "intensity": [0.5] * 7,
    "density": [900.0] * 7, "clustering": 0.6, "edge": 1.0,
    "background": {"level": 0.1, "read_noise": 0.02},
})  # fmt: skip


@given(st.integers(0, 10_000))
@settings(max_examples=15)
def test_simulated_nuclei_come_back(seed):
    rng = np.random.default_rng(seed)
    _, labels = draw_sketch(KIND, Simulate(), (128, 128), rng)
    sizes = np.bincount(labels.ravel())
    labels = np.where(sizes[labels] >= 40, labels, 0)
    values = boundary_map(labels)
    found = decode_boundaries(values)
    assert len(np.unique(labels)) > 5
    score = score_image(labels, found, (0.5,))
    assert score["fn_0.50"] <= 1
    assert score["fp_0.50"] <= 1
    assert np.array_equal(found, decode_boundaries(values.copy()))


def test_outlines_of_one_colour_numbers_and_open_borders():
    inside = boundary_map(np.pad(POCKET, 0)) > 0
    assert same(POCKET, instances_from_outlines(inside), 0.97)
    colour = np.stack([np.full(Y.shape, 90), np.where(inside, 255, 90), Y + 10], -1)
    colour[~inside] = 90
    assert same(POCKET, instances_from_outlines(colour), 0.97)
    numbers = np.where(inside, POCKET * 5, 0)
    assert np.array_equal(instances_from_outlines(numbers), POCKET * 5)
    # Cut by a crop, outlines end at the border.
    outlines = (boundary_map(POCKET) > 0)[30:, 20:]
    assert same(POCKET[30:, 20:], instances_from_outlines(outlines), 0.95)
    assert not instances_from_outlines(np.zeros((20, 30), np.uint8)).any()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: boundary_map(ALONE, 2),
        lambda: boundary_map(ALONE.astype(float)),
        lambda: decode_boundaries(np.zeros((3, 4, 5))),
        lambda: decode_boundaries(np.full((9, 9), np.nan)),
        lambda: decode_boundaries(np.zeros((9, 9)), seeds=np.zeros((8, 9), int)),
        lambda: instances_from_outlines(np.zeros((5, 5, 2))),
    ],
)
def test_errors_say_how_to_mend(wrong):
    with pytest.raises(PhantomscopeError) as caught:
        wrong()
    assert caught.value.fix


def test_real_outlines_of_cellprofiler():
    if not REAL.is_dir():
        pytest.skip("the shared real outlines are not here")
    nuclei, cells = (
        instances_from_outlines(
            tifffile.imread(REAL / f"{name}_outlines_x0000-0799.tif")
        )
        for name in ("nuclei", "cells")
    )
    # Counted by eye; outlines of cells tie off a few thin ends.
    nuclei_sizes, cell_sizes = (
        np.bincount(labels.ravel())[1:] for labels in (nuclei, cells)
    )
    assert len(nuclei_sizes) == 28
    cell_sizes = cell_sizes[cell_sizes > 500]
    assert len(cell_sizes) == 23
    assert 1000 < np.median(nuclei_sizes) < 3000
    assert np.median(cell_sizes) > 3 * np.median(nuclei_sizes)
