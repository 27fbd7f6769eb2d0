"""Instance labels without gaps."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from phantomscope.images.labels import compact_labels

SHAPES = npst.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=6)


def test_labels_become_gapless():
    found = compact_labels(np.array([[0, 9], [70000, 9]]))
    assert found.dtype == np.uint16
    assert found.tolist() == [[0, 1], [2, 1]]
    assert compact_labels(np.array([[4, 5]])).tolist() == [[1, 2]]
    many = compact_labels(np.arange(70000).reshape(700, 100))
    assert many.dtype == np.uint32
    assert many.max() == 69999


@given(st.data())
def test_objects_keep_their_pixels_and_their_order(data):
    shape, most = data.draw(SHAPES), data.draw(st.sampled_from([3, 40, 2**31]))
    labels = data.draw(npst.arrays(np.uint32, shape, elements=st.integers(0, most)))
    found = compact_labels(labels)
    assert found.shape == labels.shape
    np.testing.assert_array_equal(found == 0, labels == 0)
    old = np.unique(labels[labels > 0])
    assert list(np.unique(found[found > 0])) == list(range(1, len(old) + 1))
    np.testing.assert_array_equal(found[found > 0], np.searchsorted(
        old, labels[labels > 0]) + 1)  # fmt: skip


def test_an_image_without_objects_stays_empty():
    assert not compact_labels(np.zeros((2, 3), np.int64)).any()
    assert compact_labels(np.zeros((0, 3), np.int64)).shape == (0, 3)
