"""Objects of a layer by each rule, scenes by the median, labels of other objects."""

import numpy as np
import pytest

from phantomscope.config.filtering import Objects
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import write_ome_tiff
from phantomscope.images.imageset import ImageSet
from phantomscope.images.join import relative_to
from phantomscope.images.writer import ImageSetWriter
from phantomscope.measure.foreground import find_objects, median_scene

LAYER = np.zeros((64, 64))
LAYER[5:25, 5:25] = 0.8  # 400 px
LAYER[40:46, 40:46] = 0.8  # 36 px
LAYER[60, 60] = 0.8  # 1 px


@pytest.mark.parametrize(
    ("rule", "options", "areas"),
    [
        ("otsu", {"min_area": 0}, [400, 36, 1]),
        ("otsu", {"min_area": 30, "max_area": 100}, [36]),
        ("split", {"min_area": 30, "opening_passes": 1}, [400, 36]),
        ("boxes", {"min_area": 36}, [400]),  # as published, larger ones
        ("boxes", {"min_area": 35, "max_area": 50}, [36]),
        ("removed", {"min_area": 2}, [400, 36]),
    ],
)
def test_each_rule_finds_squares_by_their_area(rule, options, areas):
    """A dark square that is removed is found where the scene is lighter."""
    scene = np.full((64, 64), 0.9)
    labels = find_objects(LAYER, scene - LAYER, scene, Objects(rule=rule, **options))
    found = np.bincount(np.ravel(labels))[1:]
    # An opening rounds the corners of a square.
    tolerance = 12 if rule == "split" else 0
    np.testing.assert_allclose(found, areas, atol=tolerance)


def test_what_was_removed_differs_by_more_than_a_step():
    scene = np.full((8, 8), 0.5)
    image = scene.copy()
    image[:4], image[4:] = 0.45, 0.48
    rule = Objects(rule="removed", step=0.04, min_area=0)
    labels = find_objects(LAYER, image, scene, rule)
    np.testing.assert_array_equal(labels > 0, image < 0.46)
    assert not find_objects(LAYER, scene, image, rule).any()


def test_median_of_frames():
    frames = np.full((5, 4, 4), 7, np.uint8)
    for number in range(4):
        frames[number, number] = 200
    scene = median_scene(frames)
    np.testing.assert_array_equal(scene, np.full((4, 4), 7))
    assert scene.dtype == np.float32
    for wrong in (frames[0], frames[:0]):
        with pytest.raises(PhantomscopeError, match="are no video"):
            median_scene(wrong)


def test_labels_of_other_objects_are_kept_and_checked(tmp_path):
    one, two = np.eye(8, dtype=np.uint16), np.fliplr(np.eye(8, dtype=np.uint16))
    with ImageSetWriter(tmp_path / "set", {"source": "test"}) as writer:
        writer.add("a", one, one, others=two)
        writer.add("b", one, one)
    images = ImageSet.open(tmp_path / "set")
    images.verify()
    np.testing.assert_array_equal(images.others("a"), two)
    np.testing.assert_array_equal(images.seen(0, "others").mask("a"), two)
    with pytest.raises(PhantomscopeError, match="no labels of other objects"):
        images.others("b")
    with pytest.raises(PhantomscopeError, match="no labels of other objects"):
        images.without_masks().others("a")
    edited = relative_to(tmp_path)(images.row("a"), tmp_path / "set/manifest.csv")
    assert edited["others"] == "set/others/a.ome.tif"
    write_ome_tiff(tmp_path / "set/others/a.ome.tif", one, axes="YX")
    with pytest.raises(PhantomscopeError, match="not those that the manifest"):
        images.verify()
