"""Sketches of annotated images against what they must be, pixel by pixel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import ndimage

from phantomscope.errors import PhantomscopeError
from phantomscope.measure.membranes import ball_radius, ball_volume, segment_membranes
from phantomscope.simulate.annotated import (
    annotated_membranes,
    annotated_sketch,
    crop_annotated,
    stack_slice,
)

SHAPES = st.one_of(
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 6)),
)


@settings(max_examples=40)
@given(st.data())
def test_each_cell_and_the_background_have_their_mean(data):
    shape = data.draw(SHAPES)
    labels = data.draw(npst.arrays(np.uint16, shape, elements=st.integers(0, 5)))
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    sketch = annotated_sketch(image, labels)
    assert sketch.dtype == np.float32
    assert sketch.shape == shape
    for number in np.unique(labels):
        inside = labels == number
        assert sketch[inside] == pytest.approx(image[inside].mean(), abs=1e-5)


def test_background_and_blur():
    image = np.full((20, 20), 0.3, np.float32)
    labels = np.zeros((20, 20), np.uint16)
    labels[5:15, 5:15] = 7
    image[labels > 0] = 0.8
    flat = annotated_sketch(image, labels, background="zero")
    assert set(np.unique(flat)) == {np.float32(0), np.float32(0.8)}
    soft = annotated_sketch(image, labels, background="zero", blur=1.0)
    assert soft == pytest.approx(ndimage.gaussian_filter(flat, 1.0))


def test_labels_far_apart_need_no_table_of_their_size():
    labels = np.array([[5, 5], [4_000_000_000, 4_000_000_000]], np.uint32)
    image = np.array([[0.0, 1.0], [0.2, 0.4]], np.float32)
    found = annotated_sketch(image, labels)
    assert found == pytest.approx(np.array([[0.5, 0.5], [0.3, 0.3]]))
    # "zero" is about the background, and there is none.
    assert (annotated_sketch(image, labels, background="zero") > 0).all()


def test_labels_of_another_image_are_refused():
    with pytest.raises(PhantomscopeError, match=r"has labels of \(3, 4\)"):
        annotated_sketch(np.zeros((3, 3)), np.zeros((3, 4), int))


def test_the_best_annotated_plane_is_stacked():
    image = np.arange(13)[:, None, None] * np.ones((1, 4, 5))
    labels = np.zeros((13, 4, 5), np.uint16)
    labels[2, 0, 0], labels[9, :2] = 1, 2
    planes, stacked = stack_slice(image, labels, 8)
    # Eight planes around the ninth would end beyond the volume.
    assert planes[:, 0, 0].tolist() == list(range(5, 13))
    assert stacked.shape == (8, 4, 5)
    assert (stacked == labels[9]).all()
    flat, same = stack_slice(image[3], labels[9], 8)
    assert flat.shape == same.shape == (8, 4, 5)
    assert (flat == 3).all()
    with pytest.raises(PhantomscopeError, match="does not hold a stack of 14"):
        stack_slice(image, labels, 14)


def test_a_box_is_cut_around_the_middle_of_the_annotation():
    labels = np.zeros((10, 40, 40), np.uint16)
    labels[2:4, 30:36, 10:14] = 1
    grid = np.stack(np.meshgrid(*map(np.arange, labels.shape), indexing="ij"))
    z, y, x, cut = crop_annotated((*grid, labels), labels, (None, 16, 8))
    assert cut.shape == (10, 16, 8)
    assert (y.min(), x.min(), z.min()) == (24, 8, 0)  # within the image
    assert (cut > 0).sum() == (labels > 0).sum()
    (whole,) = crop_annotated((labels,), labels, (None, None, 100))
    assert whole.shape == labels.shape


def test_membranes_of_images_and_volumes():
    pytest.importorskip("phantomscope.simulate.membrane")
    labels = np.ones((16, 16, 16), np.uint16)
    labels[:, :, 8:] = 2
    sketch = annotated_membranes(labels, radius=2, decline=0.0)
    assert sketch.shape == labels.shape
    # A dilation grows the larger label: the wall lies in the cell of the lower one.
    assert sketch[8, 8].tolist() == [0] * 6 + [1] * 2 + [0] * 8
    assert annotated_membranes(labels[0], radius=2, decline=0.0).shape == (16, 16)


def test_balls():
    assert ball_volume(2.0, 2) == pytest.approx(4 * np.pi)
    assert ball_volume(2.0, 3) == pytest.approx(32 / 3 * np.pi)
    for dims in (2, 3):
        assert ball_radius(ball_volume(3.7, dims), dims) == pytest.approx(3.7)


@pytest.mark.parametrize("dims", [2, 3])
def test_cells_between_membranes_are_found_again(dims):
    from phantomscope.measure.instance import match

    size, step = (96, 24) if dims == 2 else (48, 16)
    grid = np.indices((size,) * dims)
    cell = np.zeros((size,) * dims, int)
    for axis in grid:
        cell = cell * (size // step) + axis // step
    labels = cell + 1
    walls = np.zeros(labels.shape, bool)
    for axis in grid:
        walls |= (axis % step < 2) & (axis > 2)
    rng = np.random.default_rng(0)
    image = ndimage.gaussian_filter(walls.astype(float), 1.0)
    image = image + rng.normal(0, 0.03, image.shape)
    radius = ball_radius(step**dims, dims)
    assert match(labels, segment_membranes(image, radius), (0.5,))[0].f1 == 1
    nothing = segment_membranes(rng.normal(0, 1, image.shape), radius)
    assert match(labels, nothing, (0.5,))[0].f1 < 0.5
