"""Composed images: layers, pairs, overlap limits, order and speed of nothing else."""

import numpy as np
import pytest
from benchmarks import compose as benchmark
from benchmarks.__main__ import AREAS
from scipy import ndimage

from phantomscope.config.layers import Compose, load_presets, preset
from phantomscope.errors import PhantomscopeError
from phantomscope.images.noise import generator
from phantomscope.images.normalise import log_unit
from phantomscope.simulate.compose import (
    Compositor,
    pack_backgrounds,
    pack_crops,
)
from phantomscope.simulate.compose_place import filling, render

STILL = {"angle": [0, 0], "zoom": [1, 1], "flip": False, "factor": [1, 1],
         "base": [0, 0]}  # fmt: skip


def disc(radius, light=0.3, ground=0.1):
    y, x = np.mgrid[-radius - 2 : radius + 3, -radius - 2 : radius + 3]
    mask = y * y + x * x <= radius * radius
    rng = generator(radius, "disc")
    image = ground + mask * light * rng.random(mask.shape)
    return image.astype(np.float32), mask


def compositor(seed=0, **changes):
    options = Compose(**{"size": 96, "targets": [2, 5], "others": [2, 5], **changes})
    rng = generator(0, "background")
    grounds = [(0.05 + 0.05 * rng.random((120, 140)), None) for _ in range(2)]
    return Compositor(
        pack_crops([disc(r) for r in range(6, 10)], options),
        pack_crops([disc(r) for r in range(12, 15)], options),
        pack_backgrounds(grounds), options, seed,
    )  # fmt: skip


def test_layers_add_up_where_nothing_is_clipped():
    for index in range(3):
        for image in compositor().pair(index):
            total = image.target + image.other + image.background
            assert total.max() > 0.1
            np.testing.assert_allclose(image.image, np.clip(total, 0, 1), atol=1e-6)


def test_stains_multiply():
    options = {"mode": "multiply", "base": [95, 100]}
    rng = generator(1)
    dark = [(1 - image, mask) for image, mask in (disc(8), disc(12))]
    chosen = Compose(size=64, **options)
    ground = pack_backgrounds([(0.8 + 0.1 * rng.random((80, 80)), None)])
    crops = pack_crops(dark, chosen)
    first, _ = Compositor(crops, crops, ground, chosen, 0).pair(0)
    product = first.target * first.other * first.background
    np.testing.assert_allclose(first.image, product, atol=1e-6)
    assert first.target.max() == 1
    assert first.target.min() < 0.95
    assert (first.target[first.target_labels > 0] < 1).any()
    # Two crops of optical density 1 and 2 have 3 together.
    value = np.full((4, 4), 0.1, np.float32)
    drawn, _ = render(
        np.ravel(value), np.ones(16, np.float32), 0, 4, 4, 1.0, 2.0, 0.0,
        (False, False), 1.0, 1, 1.0,
    )  # fmt: skip
    np.testing.assert_allclose(drawn, 0.01, rtol=1e-5)


def test_what_is_blended_covers_and_still_adds_up():
    made = compositor(mode="blend", edge=4, **STILL)
    first, second = made.pair(1)
    np.testing.assert_array_equal(first.target, second.target)
    for image in (first, second):
        total = image.target + image.other + image.background
        np.testing.assert_allclose(image.image, np.clip(total, 0, 1), atol=1e-6)
    # Inside a target, away from its edge, nothing else is seen.
    inside = first.target_labels > 0
    deep = inside & (first.background < 1e-6)
    assert deep.sum() > 0.4 * inside.sum()
    assert np.abs(first.other[deep]).max() == 0


@pytest.mark.parametrize("mode", ["add", "blend"])
@pytest.mark.parametrize("share", ["target", "scene"])
def test_pairs_share_what_they_say_and_nothing_else(share, mode):
    first, second = compositor(share=share, mode=mode).pair(4)
    same = {
        name: np.array_equal(getattr(first, name), getattr(second, name))
        for name in ("target", "other", "background", "image")
    }
    if share == "target":
        assert same == {
            "target": True, "other": False, "background": False, "image": False
        }  # fmt: skip
        assert np.array_equal(first.target_labels, second.target_labels)
    elif mode == "add":
        assert same == {
            "target": False, "other": True, "background": True, "image": False
        }  # fmt: skip
    else:  # moved targets cover other parts of the same scene
        targets = (first.target_labels > 0) | (second.target_labels > 0)
        bare = ~ndimage.binary_dilation(targets, iterations=3)
        assert bare.mean() > 0.3
        assert np.array_equal(first.other[bare], second.other[bare])
        assert not same["target"]


def test_redrawn_layers_are_independent():
    made = compositor(targets=[3, 3], others=[3, 3])
    a, b = [], []
    for index in range(30):
        first, second = made.pair(index)
        a.append(first.other.ravel()[::97])
        b.append(second.other.ravel()[::97])
    assert abs(np.corrcoef(np.ravel(a), np.ravel(b))[0, 1]) < 0.1


def test_a_pair_depends_on_its_index_alone():
    made = compositor()
    one = made.batch(1, 6)
    np.testing.assert_array_equal(one, compositor().batch(1, 6, threads=3))
    np.testing.assert_array_equal(
        one, made.batch(2, 3).tolist() + made.batch(3, 3).tolist()
    )
    np.testing.assert_array_equal(one[2, 1], made.pair(8)[1].image)
    assert not np.array_equal(one[0], one[1])
    assert not np.array_equal(one, compositor(seed=1).batch(1, 6))
    assert made.identity == compositor().identity
    assert made.identity != compositor(outside=0.2).identity


@pytest.mark.parametrize("limit", [0.0, 0.3])
def test_overlap_limits_are_kept(limit):
    made = compositor(
        max_overlap=limit, targets=[5, 5], others=[5, 5], outside=0.0, **STILL
    )
    counted, some = 0, 0
    for index in range(8):
        first, _ = made.pair(index)
        masks = []
        for row in first.placed.itertuples():
            whole = disc((row.height - 5) // 2)[1]
            mask = np.zeros((96, 96), bool)
            mask[row.y : row.y + row.height, row.x : row.x + row.width] = whole
            assert mask.sum() == row.pixels
            # Crops come in the order in which they were placed.
            before = np.any(masks, axis=0) if masks else np.zeros_like(mask)
            assert (mask & before).sum() <= limit * mask.sum()
            for other in masks:
                assert (mask & other).sum() <= limit * other.sum()
            some += (mask & before).any()
            masks.append(mask)
        counted += len(first.placed)
    assert 30 < counted < 80  # some did not find a place
    assert (some > 0) == (limit > 0)


def test_the_second_image_keeps_off_the_first_where_the_released_code_does():
    rules = {"max_overlap": 0.0, "outside": 0.0, "targets": [0, 0], "others": [3, 3]}
    first, second = compositor(carry_over=True, **rules).pair(0)
    assert not ((first.other_labels > 0) & (second.other_labels > 0)).any()
    overlaps = 0
    for index in range(5):
        first, second = compositor(**rules).pair(index)
        overlaps += ((first.other_labels > 0) & (second.other_labels > 0)).sum()
    assert overlaps > 0


def test_crops_stay_as_far_inside_as_asked():
    for outside in (0.0, 0.5):
        made = compositor(outside=outside, max_overlap=1.0)
        rows = [made.pair(i)[0].placed for i in range(10)]
        for row in (r for table in rows for r in table.itertuples()):
            for at, side in ((row.y, row.height), (row.x, row.width)):
                assert at >= -outside * side
                assert at + side <= 96 + outside * side
    assert min(table["y"].min() for table in rows) < 0


def test_a_crop_that_is_not_turned_is_laid_as_it_is():
    image, mask = disc(7)
    options = Compose(size=64, targets=[1, 1], others=[0, 0], outside=0, **STILL)
    crops = pack_crops([(image, mask)], options)
    made = Compositor(
        crops, crops, pack_backgrounds([(np.full((64, 64), 0.5), None)]), options, 0
    )
    first, _ = made.pair(0)
    (row,) = first.placed.itertuples()
    part = first.target[row.y : row.y + row.height, row.x : row.x + row.width]
    expected = np.where(mask, image - image[mask].min(), 0)
    np.testing.assert_allclose(part, expected, atol=1e-6)
    assert first.target.sum() == pytest.approx(expected.sum(), rel=1e-5)
    assert (first.target_labels > 0).sum() == mask.sum() == row.pixels
    np.testing.assert_allclose(first.background, 0.5)


def test_turning_by_a_quarter_moves_pixels_only():
    image, mask = disc(7)
    packed = pack_crops([(image[:-3], mask[:-3])], Compose())
    how = (packed.values, packed.cover, 0, *packed.sizes[0], 0.0, 1.0)
    plain, _ = render(*how, 0.0, (False, False), 1.0, 0, 1.0)
    turned, solid = render(*how, 90.0, (False, False), 1.0, 0, 1.0)
    mirrored, _ = render(*how, 0.0, (False, True), 1.0, 0, 1.0)
    np.testing.assert_allclose(turned, np.rot90(plain), atol=1e-5)
    np.testing.assert_allclose(mirrored, plain[:, ::-1], atol=1e-6)
    large, _ = render(*how, 30.0, (False, False), 2.0, 0, 1.0)
    # Light per area stays, so four times the area has four times the light.
    assert large.sum() == pytest.approx(4 * plain.sum(), rel=0.02)
    assert solid.shape == plain.shape[::-1]


def test_holes_of_the_background_are_filled_with_one_value():
    rng = generator(2)
    image, holes = 0.2 + 0.2 * rng.random((90, 90)), np.zeros((90, 90), bool)
    holes[20:50, 30:60] = True
    packed = pack_backgrounds([(np.where(holes, 9.0, image), holes)])
    options = Compose(size=90, targets=[0, 0], others=[0, 0], angle=[0, 0], flip=False)
    nothing = pack_crops([], options)
    first, second = Compositor(nothing, nothing, packed, options, 0).pair(0)
    for found in (first.background, second.background):
        values = np.unique(found[holes])
        assert values.size == 1
        low, high = np.percentile(image[~holes], [25, 75])
        assert low - 1e-3 <= values[0] <= high + 1e-3
        np.testing.assert_allclose(found[~holes], image[~holes], atol=1e-6)
    shares = np.array([50.0, 50.0])
    middle = filling(packed.values, 0, 90, 0, 0, 90, 90, shares, 0.3)
    assert middle == pytest.approx(np.median(image[~holes]), abs=1e-3)


def test_small_backgrounds_are_mirrored():
    options = Compose(size=64, targets=[0, 0], others=[0, 0])
    ramp = np.linspace(0, 1, 9 * 7).reshape(9, 7)
    nothing = pack_crops([], options)
    first, _ = Compositor(nothing, nothing, pack_backgrounds([(ramp, None)]),
                          options, 0).pair(0)  # fmt: skip
    assert np.isfinite(first.background).all()
    assert 0 <= first.background.min() < first.background.max() <= 1


def test_microglia_are_merged_before_the_logarithm():
    options = preset(Compose, "microglia", {"size": 64, "targets": [1, 1]})
    crops = pack_crops([(1000 * disc(6)[0], disc(6)[1])], options)
    ground = pack_backgrounds([(np.full((64, 64), 200.0), None)])
    first, _ = Compositor(crops, crops, ground, options, 0).pair(0)
    total = first.target + first.other + first.background
    np.testing.assert_allclose(first.image, log_unit(total, [5, 40000]), atol=1e-5)
    ends = log_unit(np.array([5.0, 40000.0]), [5, 40000])
    assert ends == pytest.approx([0, 1], abs=1e-6)


def test_presets_are_the_published_ones():
    assert set(load_presets()) == {"bbbc026", "bbbc042", "microglia"}
    hepatocytes = preset(Compose, "bbbc026")
    assert (hepatocytes.size, hepatocytes.targets, hepatocytes.zoom) == (
        256, [3, 8], [0.75, 1.3]
    )  # fmt: skip
    assert preset(Compose, "bbbc042").max_overlap == 0.5
    with pytest.raises(PhantomscopeError, match="no preset") as caught:
        preset(Compose, "bbbc26")
    assert "bbbc026" in caught.value.fix
    with pytest.raises(PhantomscopeError, match="zoom"):
        preset(Compose, "bbbc026", {"zoom": [2, 1]})


def test_impossible_options_are_refused():
    for bad in ({"targets": [30, 30], "others": [20, 20]}, {"zoom": [0, 1]},
                {"base": [50, 101]}, {"limits": [1, 1]}, {"log_limits": [-2, 3]},
                {"factor": [0, 1]}):  # fmt: skip
        with pytest.raises(ValueError, match="Value error"):
            Compose(**bad)
    image, mask = disc(5)
    with pytest.raises(PhantomscopeError, match="no object"):
        pack_crops([(image, ~mask & mask)], Compose())
    with pytest.raises(PhantomscopeError, match="no light"):
        pack_crops([(image - image, mask)], Compose(mode="multiply"))
    with pytest.raises(PhantomscopeError, match="one hole"):
        pack_backgrounds([(image, np.ones_like(mask))])
    empty = pack_crops([], Compose())
    some = pack_backgrounds([(image, None)])
    with pytest.raises(PhantomscopeError, match="target layer"):
        Compositor(empty, empty, some, Compose(), 0)


def test_the_benchmark_counts_pairs(tmp_path):
    assert AREAS["compose"] is benchmark.rows
    (row,) = benchmark.rows(tmp_path, side=64, pairs=6, repeats=1)
    assert row.id == "compose.pairs_per_second"
    assert row.goal == ">= 500"
    assert row.value > 0
    assert "CPU" in row.floor
