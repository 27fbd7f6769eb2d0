"""Membranes: thickness, agreement with dilation by a ball, decline with depth."""

import numpy as np
import pytest
from scipy import ndimage

from phantomscope.images.noise import generator
from phantomscope.simulate.membrane import (
    FINE,
    ball_offsets,
    dilated,
    eroded,
    membrane_sketch,
    surface_depth,
    wall_partner,
)


def blobs(seed: int, shape: tuple[int, int, int] = (12, 17, 15)) -> np.ndarray:
    """Random labels in lumps, with background between."""
    rng = generator(seed, "blobs")
    coarse = rng.integers(0, 6, [-(-s // 3) for s in shape])
    labels = np.kron(coarse, np.ones((3, 3, 3), int))
    return labels[tuple(slice(s) for s in shape)].astype(np.uint16)


def footprint(radius: float, spacing: tuple[float, float, float]) -> np.ndarray:
    offsets = ball_offsets(radius, spacing)
    half = offsets.max(axis=0)
    ball = np.zeros(2 * half + 1, bool)
    ball[tuple((offsets + half).T)] = True
    return ball


@pytest.mark.parametrize("radius", [1, 2, 3])
def test_two_half_spaces_have_a_wall_of_the_radius(radius):
    labels = np.ones((20, 9, 9), np.uint16)
    labels[10:] = 2
    wall = membrane_sketch(labels, radius, decline=0.0) > 0
    assert (wall.sum(axis=0) == radius).all()
    assert wall[10 - radius : 10].all()  # on the side of the lower label
    both = membrane_sketch(labels, radius, decline=0.0, sides="both") > 0
    assert (both.sum(axis=0) == 2 * radius).all()
    assert both[10 - radius : 10 + radius].all()


def test_the_wall_is_thinner_in_voxels_that_are_deeper():
    labels = np.ones((20, 20, 20), np.uint16)
    labels[10:] = 2
    assert (wall_partner(labels, 3, (1.5, 1, 1)) != labels)[:, 5, 5].sum() == 2
    labels = labels.transpose(2, 1, 0)
    assert (wall_partner(labels, 3, (1.5, 1, 1)) != labels)[5, 5].sum() == 3


@pytest.mark.parametrize("spacing", [(1, 1, 1), (1.57, 1, 1), (0.6, 1, 2)])
@pytest.mark.parametrize("radius", [1, 2, 3.3])
def test_wall_partner_is_grey_dilation(radius, spacing):
    labels = blobs(1)
    ball = footprint(radius, spacing)
    wanted = ndimage.grey_dilation(labels, footprint=ball, mode="constant", cval=0)
    np.testing.assert_array_equal(wall_partner(labels, radius, spacing), wanted)


@pytest.mark.parametrize("radius", [1, 2, 4])
def test_binary_dilation_and_erosion(radius):
    mask = blobs(2) > 3
    ball = footprint(radius, (1, 1, 1))
    np.testing.assert_array_equal(
        dilated(mask, radius), ndimage.binary_dilation(mask, ball)
    )
    np.testing.assert_array_equal(
        eroded(mask, radius), ndimage.binary_erosion(mask, ball, border_value=1)
    )


def test_ball_is_the_usual_one():
    from skimage.morphology import ball

    for radius in (1, 2, 3, 4):
        np.testing.assert_array_equal(footprint(radius, (1, 1, 1)), ball(radius) > 0)


def test_intensity_falls_linearly_with_depth():
    # A cube of unit cells: walls everywhere, so the sketch shows the depth.
    labels = np.zeros((41, 41, 41), np.uint16)
    inner = np.indices((31, 31, 31)).sum(axis=0) % 2 + 1
    labels[5:36, 5:36, 5:36] = inner
    sketch = membrane_sketch(labels, 1, decline=0.8, sides="both")
    line = sketch[20, 20, 5:21]
    # The middle of the first voxel lies half a voxel deep, the deepest one 15.5.
    np.testing.assert_allclose(line, 1 - 0.8 * (np.arange(16) + 0.5) / 15.5, atol=1e-6)
    assert sketch.dtype == np.float32
    assert sketch.max() <= 1
    assert sketch[0].max() == 0


def test_depth_of_a_large_volume_is_measured_coarsely():
    shape = (128, 130, 132)
    assert np.prod(shape) > FINE
    places = [np.arange(n) - (n - 1) / 2 for n in shape]
    radius = np.sqrt(sum(g**2 for g in np.meshgrid(*places, indexing="ij")))
    labels = (radius <= 60).astype(np.uint16)
    labels[labels > 0] += (np.indices(shape).sum(axis=0) % 2)[labels > 0].astype(
        np.uint16
    )
    assert surface_depth(labels).factors == (4, 4, 4)
    sketch = membrane_sketch(labels, 1, decline=1.0, sides="both")
    inside = labels > 0
    depth = np.clip(1 - radius / 60, 0, 1)
    assert np.abs(1 - sketch - depth)[inside].max() < 2.5 / 60


def test_no_surface_no_decline():
    labels = np.ones((8, 8, 8), np.uint16)
    labels[4:] = 2
    assert set(np.unique(membrane_sketch(labels, 2))) == {0.0, 1.0}


def test_random_walls_keep_the_labels_and_are_one_per_pair():
    labels = blobs(3, (30, 30, 30)) + 1
    plain = membrane_sketch(labels, 1, 0.0)
    args = {"wall_variation": 0.5, "missing_walls": 0.3}
    one = membrane_sketch(labels, 1, 0.0, rng=generator(1, "walls"), **args)
    two = membrane_sketch(labels, 1, 0.0, rng=generator(1, "walls"), **args)
    np.testing.assert_array_equal(one, two)
    assert ((one > 0) <= (plain > 0)).all()
    assert one[one > 0].min() >= 0.5
    partner = wall_partner(labels, 1)
    values = {}
    for a, b, v in zip(labels.flat, partner.flat, one.flat, strict=True):
        if a != b:
            assert values.setdefault((int(a), int(b)), v) == v
    assert 0 < sum(v == 0 for v in values.values()) < len(values)
    with pytest.raises(ValueError, match="generator"):
        membrane_sketch(labels, 1, missing_walls=0.1)


def test_blur_keeps_the_light():
    labels = np.ones((30, 30, 30), np.uint16)
    labels[15:] = 2
    sharp, soft = (membrane_sketch(labels, 2, 0.0, blur=b) for b in (0.0, 1.5))
    assert soft.sum() == pytest.approx(sharp.sum(), rel=1e-3)
    assert 0 < soft.max() < 0.7
