"""Which images a training of semantic filtering sees, and which test it."""

import itertools

import numpy as np
import pytest

from phantomscope.acquire import folds
from phantomscope.config.load import make_config
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.images.writer import ImageSetWriter


def filtering(**values):
    given = {"methods": ["filter"], "targets": ["cell"], "truth": "points", **values}
    return make_config({"filter": given}, "test")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Eight images in six groups; two groups share an image, one is for validation."""
    folder = tmp_path_factory.mktemp("folds") / "set"
    groups = ["a", "a", "b", "c", "d", "e", "f", "v"]
    with ImageSetWriter(folder, {"source": "test"}) as writer:
        for number, group in enumerate(groups):
            light = 4 if group == "e" else number  # e is a copy of d
            writer.add(
                f"i{number}", np.full((8, 8), light, np.uint8), group=group,
                split={"v": "validation", "f": "test", "c": "test"}.get(group, "train"),
                fold=6 - number if group != "v" else 1,
            )  # fmt: skip
    return ImageSet.open(folder)


def groups_of(images):
    return set(images.table["group"])


def test_one_fold_is_the_split(images):
    config = filtering()
    assert groups_of(folds.training_images(config, images, 0)) == {"a", "b", "d", "e"}
    assert groups_of(folds.tested_images(config, images, 0)) == {"c", "f"}


@pytest.mark.parametrize("count", [2, 3, 5])
def test_sides_share_no_group_and_each_image_is_tested_once(images, count):
    config, tested = filtering(folds=count), []
    for fold in range(count):
        train = folds.training_images(config, images, fold)
        test = folds.tested_images(config, images, fold)
        for column in ("group", "sha256"):
            assert not set(train.table[column]) & set(test.table[column])
        assert set(train.ids) | set(test.ids) == set(images.ids) - {"i7"}
        tested += test.ids
    assert sorted(tested) == [f"i{n}" for n in range(7)]


def test_folds_follow_their_column_or_else_the_names(images):
    config = filtering(folds=5)
    # By column `fold`: f (0), d and e (1: copies), c (3), b (4), a (5).
    assert groups_of(folds.tested_images(config, images, 0)) == {"f"}
    assert groups_of(folds.tested_images(config, images, 1)) == {"d", "e"}
    bare = ImageSet(images.folder, images.table.drop(columns="fold"), images.info)
    assert groups_of(folds.tested_images(config, bare, 0)) == {"a"}
    assert groups_of(folds.tested_images(config, bare, 3)) == {"d", "e"}


def test_fewer_images_are_among_more(images):
    config = filtering(folds=5)
    found = [
        set(folds.training_images(config, images, 0, str(n)).table["group"])
        for n in range(1, 6)
    ]
    assert [len(part) for part in found] == [1, 2, 3, 4, 5]
    assert all(less < more for less, more in itertools.pairwise(found))
    assert found[-1] == groups_of(folds.training_images(config, images, 0, "all"))
    again = filtering(folds=5)
    assert groups_of(folds.training_images(again, images, 0, "2")) == found[1]


def test_tests_of_known_layers_are_a_composed_set(images):
    config = filtering(truth="layers")
    with pytest.raises(PhantomscopeError, match="layers of these images are not known"):
        folds.tested_images(config, images, 0)
    info = {"source": folds.COMPOSED, "use": "tests"}
    composed = ImageSet(images.folder, images.table, info)
    assert folds.tested_images(config, composed, 0).ids == images.ids


@pytest.mark.parametrize(
    ("values", "fold", "number", "text"),
    [
        ({}, 1, "all", "there is no fold 1"),
        ({}, 0, "9", "9 training images were asked for, there are 4"),
        ({}, 0, "few", "few training images were asked for"),
    ],
)
def test_what_is_not_there_is_named(images, values, fold, number, text):
    config = filtering(**values)
    with pytest.raises(PhantomscopeError, match=text):
        folds.training_images(config, images, fold, number)


def test_a_fold_without_images_is_named(images):
    with pytest.raises(PhantomscopeError, match="no image of 8 is on the side 'test'"):
        folds.tested_images(filtering(folds=9), images, 8)
