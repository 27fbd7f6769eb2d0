"""The simulated tissue: seeds, labels, organ and block, fit of the cells' size."""

import time

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import ndimage
from scipy.spatial.distance import cdist

from phantomscope.errors import PhantomscopeError
from phantomscope.images.noise import generator
from phantomscope.simulate import meristem_cells
from phantomscope.simulate.membrane import dilated, eroded
from phantomscope.simulate.meristem import Meristem, draw_meristem
from phantomscope.simulate.meristem_cells import (
    block_seeds,
    cluster_means,
    distance_weights,
    rounded,
    separated,
    shell_seeds,
    weighted_voronoi,
)
from phantomscope.simulate.meristem_fit import (
    cell_diameter,
    cell_table,
    estimate_cell_diameter,
    fitted,
    organ_mask,
    tissue_distances,
)
from phantomscope.simulate.meristem_outline import place_organ, unit_vectors
from phantomscope.simulate.meristem_pieces import in_one_piece
from phantomscope.simulate.meristem_shape import default_model, learn_shape_model

SMALL = Meristem(cell_diameter=12)
BLOCK = Meristem(organ="block", cell_diameter=12)


def organ_of(extent=(60.0, 130.0, 130.0)):
    model = default_model(1000)
    return place_organ(
        unit_vectors(model.angles), model.mean, extent=extent, base=True, fill=0.95,
        angle=0.3, flip=False,
    )  # fmt: skip


def nearest(seeds):
    gaps = cdist(seeds, seeds)
    np.fill_diagonal(gaps, np.inf)
    return gaps.min(axis=1)


@pytest.mark.parametrize("at_once", [4096, 200])
def test_clusters_are_no_wider_than_the_diameter(monkeypatch, at_once):
    monkeypatch.setattr(meristem_cells, "CLUSTER_AT_ONCE", at_once)
    points = generator(1, "points").uniform(0, 60, (1500, 3))
    means = cluster_means(points, 20.0)
    # Every point lies within a cluster's diameter of some mean, and there are about as
    # many clusters as without division.
    assert cdist(points, means).min(axis=1).max() <= 20.0
    assert 60 < len(means) < 160


def test_complete_linkage_by_hand():
    points = np.array([[0, 0, 0], [1, 0, 0], [2.1, 0, 0], [9, 0, 0]], float)
    found = cluster_means(points, 2.0)
    np.testing.assert_allclose(np.sort(found[:, 0]), [0.5, 2.1, 9])


def test_separated_seeds():
    points = generator(2, "points").uniform(0, 30, (400, 3))
    found = separated(points, 5.0)
    assert nearest(found).min() >= 5.0 - 1e-6
    np.testing.assert_array_equal(separated(found, 5.0), found)
    np.testing.assert_array_equal(separated(points, 0.0), points)


@pytest.mark.parametrize("seed", range(3))
def test_least_distance_of_the_seeds(seed):
    rng = generator(seed, "seeds")
    shells = shell_seeds(organ_of(), True, SMALL, rng)
    block = block_seeds((60.0, 60.0, 60.0), BLOCK, rng)
    for seeds in (shells, block):
        assert len(seeds) > 50
        assert nearest(seeds).min() >= 0.5 * 12 - 1e-6


def test_seeds_lie_in_shells():
    parameters = SMALL.model_copy(update={"cell_decay": 1.0, "shell_decay": 1.0})
    organ = organ_of((90.0, 200.0, 200.0))
    seeds = shell_seeds(organ, True, parameters, generator(1, "seeds"))
    place = seeds - organ.origin
    radius = np.linalg.norm(place, axis=1)
    depth = organ.sample(place / radius[:, None]) - radius
    # The first shell is not jittered: half a diameter below the surface.
    counts, _ = np.histogram(depth, [-5, 0, 3, 9, 12])
    assert counts[0] == 0
    assert counts[2] > 5 * max(counts[1], counts[3])
    assert depth.max() > 60


@pytest.mark.parametrize("start", [(0, 0, 0), (3, 7, 2)])
@pytest.mark.parametrize("spacing", [(1, 1, 1), (1.6, 1, 1)])
def test_labels_are_the_weighted_nearest_of_five(start, spacing):
    rng = generator(3, "seeds")
    extent = np.array([30, 34, 36]) * spacing
    seeds = rng.uniform(0, 1, (60, 3)) * extent
    weights = distance_weights(seeds, SMALL, rng)
    mask = rng.uniform(size=(20, 25, 30)) < 0.9
    labels = weighted_voronoi(seeds, weights, mask, spacing, start)
    grid = np.stack(np.indices(mask.shape), axis=-1).reshape(-1, 3)
    distance = cdist((grid + start + 0.5) * spacing, seeds)
    five = np.argsort(distance, axis=1)[:, :5]
    weighted = np.take_along_axis(distance, five, axis=1) * weights[five]
    best = np.take_along_axis(five, weighted.argmin(axis=1)[:, None], axis=1)[:, 0]
    wanted = np.where(mask, best.reshape(mask.shape) + 1, 0)
    np.testing.assert_array_equal(labels, wanted)


def test_fewer_seeds_than_five():
    mask = np.ones((4, 5, 6), bool)
    one = weighted_voronoi(np.array([[2.0, 2, 2]]), np.ones(1), mask, (1, 1, 1))
    assert (one == 1).all()
    two = np.array([[2.0, 2.5, 0], [2, 2.5, 6]])
    halves = weighted_voronoi(two, np.ones(2), mask, (1, 1, 1))
    np.testing.assert_array_equal(halves[0, 0], [1, 1, 1, 2, 2, 2])


def test_weights_of_the_paper():
    seeds = np.array([[0.0, 0, 0], [0, 0, 1], [0, 0, 3]])
    weights = distance_weights(seeds, SMALL, generator(1))
    np.testing.assert_allclose(weights, [1.125, 1.125, 1.25])


def pieces(labels):
    return [ndimage.label(labels == n)[1] for n in range(1, labels.max() + 1)]


def test_fragments_go_to_the_cell_around_them():
    labels = np.ones((7, 9, 20), np.uint16)
    labels[:, :, 10:] = 2
    wanted = labels.copy()
    wanted[:, :, 18:] = 0
    labels[2:5, 3:6, 14:17] = 1  # a fragment inside the second cell
    labels[:, :, 18:] = 0
    labels[3:5, 3:5, 19] = 2  # a fragment that touches no other cell
    np.testing.assert_array_equal(in_one_piece(labels), wanted)


def test_cells_are_in_one_piece():
    parameters = BLOCK.model_copy(update={"size_variation": 0.3})
    loose = parameters.model_copy(update={"one_piece": False})
    labels = draw_meristem(parameters, (40, 40, 40), generator(1))[1]
    assert max(pieces(labels)) == 1
    before = draw_meristem(loose, (40, 40, 40), generator(1))[1]
    assert max(pieces(before)) > 1
    assert len(np.unique(before)) == len(np.unique(labels))


def test_rounding_follows_the_released_rule():
    labels = draw_meristem(
        SMALL.model_copy(update={"rounding_radius": 0.0}), (24, 50, 50), generator(1)
    )[1]
    from skimage.morphology import ball

    wall = ndimage.grey_dilation(labels, footprint=ball(3), mode="constant") != labels
    kept = ndimage.binary_erosion(~wall, ball(3), border_value=1)
    kept = ndimage.binary_dilation(kept, ball(3))
    kept |= ndimage.binary_erosion(labels > 0, ball(4), border_value=1)
    wanted = np.where(kept, labels, 0)
    np.testing.assert_array_equal(rounded(labels.copy(), 3.0, (1, 1, 1)), wanted)
    assert 0 < (wanted > 0).sum() < (labels > 0).sum()


@pytest.mark.parametrize("organ", ["meristem", "block"])
def test_a_pure_function_with_labels_without_gaps(organ):
    parameters = SMALL.model_copy(
        update={"organ": organ, "wall_variation": 0.3, "missing_walls": 0.1}
    )
    drawn = [
        draw_meristem(parameters, (20, 60, 64), generator(7, i)) for i in (0, 0, 1)
    ]
    (sketch, labels), again, other = drawn
    np.testing.assert_array_equal(sketch, again[0])
    np.testing.assert_array_equal(labels, again[1])
    assert (labels != other[1]).any()
    assert sketch.dtype == np.float32
    assert labels.dtype == np.uint16
    assert sketch.shape == labels.shape == (20, 60, 64)
    assert sketch.min() >= 0
    assert sketch.max() <= 1
    present = np.unique(labels)
    np.testing.assert_array_equal(present[present > 0], np.arange(labels.max()) + 1)
    assert (labels.min() == 0) == (organ == "meristem")


def test_the_apex_points_to_the_chosen_face():
    for apex, base in (("last", 0), ("first", -1)):
        parameters = SMALL.model_copy(update={"apex": apex, "rotate": False})
        labels = draw_meristem(parameters, (40, 80, 80), generator(1))[1]
        area = (labels > 0).sum(axis=(1, 2))
        assert area[base] == area.max()
        assert area[-1 - base] == 0


def test_a_window_is_a_part_of_the_whole_organ():
    whole = SMALL.model_copy(update={"rounding_radius": 0.0})
    window = whole.model_copy(update={"organ_shape": (50, 100, 110)})
    for index in range(3):
        sketch, labels = draw_meristem(window, (16, 32, 32), generator(2, index))
        assert labels.max() > 3
        assert sketch.max() > 0.2
    with pytest.raises(PhantomscopeError, match="smaller than the volume"):
        draw_meristem(window, (60, 32, 32), generator(2))


def test_a_learnt_shape_is_drawn():
    z, y, x = np.indices((60, 70, 130)) + 0.5
    mask = ((z - 30) / 25) ** 2 + ((y - 35) / 30) ** 2 + ((x - 65) / 60) ** 2 <= 1
    model = learn_shape_model([mask], samples=4000)
    parameters = Meristem(cell_diameter=12, rotate=False, rounding_radius=0, fill=0.9)
    labels = draw_meristem(parameters, (60, 70, 140), generator(1), model)[1]
    extent = [np.ptp(np.flatnonzero((labels > 0).any(axis=a))) + 1
              for a in ((1, 2), (0, 2), (0, 1))]  # fmt: skip
    np.testing.assert_allclose(extent, [52.5, 63, 126], atol=4)


def test_anisotropic_voxels_show_the_same_tissue():
    deep = BLOCK.model_copy(update={"spacing": (2.0, 1.0, 1.0)})
    labels = draw_meristem(deep, (30, 60, 60), generator(4))[1]
    cubes = draw_meristem(BLOCK, (60, 60, 60), generator(4))[1]
    share = (np.repeat(labels, 2, axis=0) == cubes).mean()
    assert share > 0.8  # voxels at walls are deeper


@pytest.mark.parametrize(
    "bad", [{"spacing": (0, 1, 1)}, {"organ_shape": (0, 1, 1)}, {"cell_size": 3}]
)
def test_bad_parameters(bad):
    with pytest.raises(ValidationError):
        Meristem(**bad)


def test_diameter_of_cubes_is_unbiased():
    # Cubes of 10 px, cut at random: the mean volume is that of one cube.
    index = np.indices((53, 47, 51))
    found = []
    for shift in generator(1, "cut").integers(0, 10, (30, 3)):
        cell = (index + shift[:, None, None, None]) // 10
        labels = np.unique(
            np.ravel_multi_index(cell, (20, 20, 20)), return_inverse=True
        )
        labels = labels[1].reshape(index.shape[1:]) + 1
        found.append(cell_diameter(labels))
    assert np.mean(found) == pytest.approx((6000 / np.pi) ** (1 / 3), rel=0.01)
    with pytest.raises(PhantomscopeError, match="no whole cell"):
        cell_diameter(np.ones((4, 4, 4), int))


def test_size_of_cells_is_found_without_annotation():
    spacing = (1.5, 1.0, 1.0)
    parameters = BLOCK.model_copy(
        update={"spacing": spacing, "membrane_radius": 2.0, "membrane_sides": "both",
                "blur": 1.0, "decline": 0.0}
    )  # fmt: skip
    parameters = fitted(parameters, 24.0, (30, 90, 90), generator(1, "fit"))
    sketch, labels = draw_meristem(parameters, (40, 90, 90), generator(1, "image"))
    noisy = sketch + 0.1 * generator(1, "noise").standard_normal(sketch.shape)
    assert cell_diameter(labels, spacing) == pytest.approx(24, rel=0.12)
    assert estimate_cell_diameter(noisy, spacing) == pytest.approx(24, rel=0.15)


def test_the_fit_reaches_its_diameter_in_an_organ():
    better = fitted(SMALL, 20.0, (60, 120, 120), generator(1, "fit"))
    found = [
        cell_diameter(draw_meristem(better, (60, 120, 120), generator(2, i))[1])
        for i in range(3)
    ]
    assert np.mean(found) == pytest.approx(20, rel=0.15)


def test_an_organ_is_found_in_its_image():
    parameters = SMALL.model_copy(update={"decline": 0.5})
    sketch, labels = draw_meristem(parameters, (40, 80, 80), generator(3))
    noisy = sketch + 0.05 * generator(3, "noise").standard_normal(sketch.shape)
    found = organ_mask(noisy, gap=4)
    truth = eroded(dilated((labels > 0) | (sketch > 0), 3), 3)
    assert (found & truth).sum() > 0.9 * truth.sum()
    assert (found & ~ndimage.binary_dilation(truth, iterations=3)).sum() == 0


def test_table_of_cells():
    labels = np.zeros((6, 6, 12), int)
    labels[1:5, 1:5, 1:4], labels[1:5, 1:5, 4:8], labels[2:4, 2:4, 9:12] = 1, 2, 3
    table = cell_table(labels, (2, 1, 1))
    np.testing.assert_array_equal(table["label"], [1, 2, 3])
    np.testing.assert_array_equal(table["volume"], [96, 128, 24])
    np.testing.assert_array_equal(table["neighbours"], [1, 1, 0])
    np.testing.assert_array_equal(table["border"], [False, False, True])
    np.testing.assert_allclose(table["neighbour_distance"], [3.5, 3.5, 4.5])
    assert set(tissue_distances(table, table).values()) == {0.0}


def test_runtime_of_a_small_volume():
    draw_meristem(SMALL, (16, 32, 32), generator(1))  # compiles
    begin = time.process_time()
    draw_meristem(SMALL, (64, 128, 128), generator(1))
    assert time.process_time() - begin < 5
