"""The noise field and the tiles."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phantomscope.errors import PhantomscopeError
from phantomscope.images.noise import NoiseField, derive_key, generator
from phantomscope.images.philox import philox
from phantomscope.images.tiles import even_tile, reflect_index, tile_grid, tile_window

# Noise


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        (
            (0, 0, 0, 0),
            (0, 0),
            (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
        ),
        (
            (0xFFFFFFFF,) * 4,
            (0xFFFFFFFF,) * 2,
            (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        ),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_known_answers_of_random123(counter, key, expected):
    words = philox(*(np.uint64(word) for word in (*counter, *key)))
    assert tuple(int(word) for word in words) == expected


@settings(max_examples=40, deadline=None)
@given(
    y=st.integers(-70, 70),
    x=st.integers(-70, 70),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
)
def test_noise_block_is_a_window_on_one_field(y, x, height, width):
    field = NoiseField(7, "a", "step")
    whole = field.block((-80, -80), (180, 180), 3)
    block = field.block((y, x), (height, width), 3)
    np.testing.assert_array_equal(
        block, whole[80 + y : 80 + y + height, 80 + x : 80 + x + width]
    )


def test_noise_is_the_same_in_three_dimensions_at_z_0():
    field = NoiseField(7, "a")
    flat = field.block((3, 5), (8, 9), 2)
    deep = field.block((-1, 3, 5), (3, 8, 9), 2)
    np.testing.assert_array_equal(deep[1], flat)
    assert not np.array_equal(deep[0], flat)


def test_noise_has_the_moments_of_a_normal_distribution():
    noise = NoiseField(1, "a").block((0, 0), (600, 600)).astype(float)
    count = noise.size
    assert abs(noise.mean()) < 4 / np.sqrt(count)
    assert abs(noise.var() - 1) < 4 * np.sqrt(2 / count)
    assert abs((noise**3).mean()) < 4 * np.sqrt(15 / count)
    assert abs((noise**4).mean() - 3) < 4 * np.sqrt(96 / count)
    for axis in (0, 1):
        for lag in (1, 2, 3, 4):
            product = noise * np.roll(noise, lag, axis)
            assert abs(product.mean()) < 4.5 / np.sqrt(count)


def test_noise_differs_between_seed_image_stream_and_step():
    def block(*names, step=0):
        return NoiseField(*names).block((0, 0), (64, 64), step).ravel()

    blocks = [
        block(0, "a", "start"),
        block(1, "a", "start"),
        block(0, "b", "start"),
        block(0, "a", "step"),
        block(0, "a", "start", step=1),
    ]
    correlation = np.corrcoef(blocks) - np.eye(len(blocks))
    assert np.abs(correlation).max() < 0.08


def test_keys_do_not_collide_in_text_or_type():
    keys = {derive_key(1, 23), derive_key(12, 3), derive_key("1", 23), derive_key(123)}
    assert len(keys) == 4
    assert 0 <= min(keys) <= max(keys) < 2**64
    assert generator(1, "a").random() == generator(1, "a").random()


# Tiles


@pytest.mark.parametrize("window", ["cosine", "uniform"])
@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    overlap=st.integers(0, 7),
    core=st.integers(8, 40),
)
def test_windows_are_a_partition_of_unity(window, shape, overlap, core):
    # Neighbours share 2 x overlap; the ramps of both ends must not meet.
    core = max(core, 2 * overlap)
    tile = (core + 2 * overlap,) * 2
    weights = tile_window(tile, (overlap,) * 2, window)
    total = np.zeros(shape)
    for one in tile_grid(shape, tile, (overlap,) * 2):
        total[one.target] += weights[one.inside]
    # At the edge of the image there is no neighbour: the weight may be lower there,
    # which the division by the sum evens out.
    inner = tuple(slice(overlap, max(s - overlap, overlap)) for s in shape)
    np.testing.assert_allclose(total[inner], 1, atol=1e-5)
    assert total.min() > 0


@pytest.mark.parametrize("window", ["cosine", "edt", "uniform"])
@pytest.mark.parametrize("shape", [(50, 71), (9, 30, 31)])
def test_blended_tiles_give_the_image_back(window, shape):
    image = np.random.default_rng(0).random(shape)
    tile, overlap = (24,) * len(shape), (4,) * len(shape)
    weights = tile_window(tile, overlap, window)
    total, norm = np.zeros(shape), np.zeros(shape)
    for one in tile_grid(shape, tile, overlap):
        patch = image[np.ix_(*one.index)]
        assert patch.shape == tile
        total[one.target] += (patch * weights)[one.inside]
        norm[one.target] += weights[one.inside]
    np.testing.assert_allclose(total / norm, image, rtol=1e-5)


def test_tiles_without_core_are_refused():
    with pytest.raises(PhantomscopeError, match="leave nothing between overlaps"):
        tile_grid((64, 64), (16, 16), (8, 8))


def test_reflection_repeats_no_edge():
    assert reflect_index(-3, 7, 4).tolist() == [3, 2, 1, 0, 1, 2, 3, 2, 1, 0]
    assert reflect_index(-2, 3, 1).tolist() == [0] * 5


@pytest.mark.parametrize(
    ("size", "tile", "overlap", "expected"),
    [(192, 224, 16, 224), (256, 224, 16, 160), (1024, 128, 16, 128), (50, 48, 8, 48),
     (40, 224, 16, 72)],
)  # fmt: skip
def test_tiles_are_as_even_as_the_stride_allows(size, tile, overlap, expected):
    found = even_tile(size, tile, overlap, 8)
    assert found == expected
    assert found % 8 == 0
    # No more tiles than the largest ones would need.
    most = -(-size // (tile - 2 * overlap))
    assert -(-size // (found - 2 * overlap)) == most
