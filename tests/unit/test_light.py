"""What intensities mean, how layers come together, and how they are told apart."""

import numpy as np
import pytest
import torch

from phantomscope.errors import PhantomscopeError
from phantomscope.images.light import Light, part_image
from phantomscope.images.normalise import log_unit

LIMITS = (5.0, 40000.0)


def test_a_divisor_becomes_one_and_more_is_clipped():
    light = Light(200.0)
    np.testing.assert_allclose(light.to_unit(np.array([0, 100, 250])), [0, 0.5, 1])
    assert light.scale == 200


def test_a_test_image_has_its_own_percentile():
    image = np.linspace(0, 50, 101).reshape(1, -1)
    unit = Light(255.0).to_unit(image, 99)
    assert unit[0, 99] == pytest.approx(1)
    assert unit[0, 50] == pytest.approx(25 / 49.5)
    np.testing.assert_array_equal(
        Light().to_unit(np.zeros((4, 4)), 99), np.zeros((4, 4))
    )
    spot = np.zeros((20, 20))
    spot[0, 0] = 9
    with pytest.raises(PhantomscopeError, match="percentile 99 of an image is 0"):
        Light().to_unit(spot, 99)


def test_logarithm_takes_the_place_of_the_divisor():
    light = Light(65535.0, log_limits=LIMITS)
    image = np.array([[5.0, 500.0, 40000.0]])
    assert light.scale == 1
    np.testing.assert_allclose(light.to_unit(image), log_unit(image, LIMITS))
    # Of its own percentile the upper limit.
    assert light.to_unit(image / 10, 100)[0, 2] == pytest.approx(1)


@pytest.mark.parametrize("mode", ["add", "multiply", "blend"])
@pytest.mark.parametrize("limits", [None, LIMITS])
def test_layers_are_taken_out_as_they_were_put_in(mode, limits):
    light = Light(mode=mode, log_limits=limits)
    rng = np.random.default_rng(0)
    target = rng.random((6, 6)) * 0.5 + (0.4 if mode == "multiply" else 0.05)
    other = np.full((6, 6), light.empty)
    ground = rng.random((6, 6)) * 0.3 + 0.2
    image = light.join([target, other, ground])
    np.testing.assert_allclose(light.without(image, ground), target, atol=1e-6)
    # Tensors mean the same.
    tensors = [torch.from_numpy(a) for a in (target, other, ground)]
    np.testing.assert_allclose(light.join(tensors).numpy(), image, atol=1e-12)


def test_joined_light_is_linear_in_a_logarithm():
    light = Light(log_limits=LIMITS)
    one, two = np.array([3000.0]), np.array([7000.0])
    joined = light.join([light.to_unit(one), light.to_unit(two)])
    # Either has the lower limit in it.
    np.testing.assert_allclose(joined, light.to_unit(one + two - 5), rtol=1e-5)


def test_an_untrained_network_has_finite_light():
    light = Light(log_limits=LIMITS)
    units = torch.full((1, 1, 2, 2), 40.0, requires_grad=True)
    joined = light.join([units, units])
    joined.sum().backward()
    assert torch.isfinite(joined).all()
    assert torch.isfinite(units.grad).all()


IMAGE = np.full((4, 4), 0.3, np.float32)
IMAGE[1:3, 1:3] = 0.7


def test_the_target_is_what_pairs_share_without_steady_light():
    parted = part_image(IMAGE, IMAGE[None], Light(), "target", level=0.3)
    np.testing.assert_allclose(parted.layer, np.where(IMAGE > 0.5, 0.4, 0), atol=1e-6)
    np.testing.assert_allclose(parted.scene, 0.3, atol=1e-6)
    np.testing.assert_array_equal(parted.kept[0], parted.layer)


@pytest.mark.parametrize("dark", [False, True])
def test_the_target_is_what_a_scene_lacks(dark):
    scene = np.full((1, 4, 4), 0.3 if not dark else 0.7, np.float32)
    parted = part_image(IMAGE, scene, Light(), "scene", dark=dark)
    found = (IMAGE > 0.5) != dark
    np.testing.assert_allclose(parted.layer, np.where(found, 0.4, 0), atol=1e-6)
    np.testing.assert_array_equal(parted.kept, scene)


def test_stains_are_shares_of_light_and_bright_as_objects():
    light = Light(mode="multiply")
    stain = np.where(IMAGE > 0.5, 0.25, 1).astype(np.float32)
    image = 0.8 * stain
    kept = part_image(image, image[None], light, "target", level=0.8)
    np.testing.assert_allclose(kept.kept[0], stain, atol=1e-6)
    np.testing.assert_allclose(kept.layer, 1 - stain, atol=1e-6)
    scene = part_image(image, np.full((1, 4, 4), 0.8, np.float32), light, "scene")
    np.testing.assert_allclose(scene.layer, 1 - stain, atol=1e-6)


def test_three_layers_are_kept_as_they_are():
    layers = np.stack([IMAGE - 0.3, IMAGE * 0, IMAGE * 0 + 0.3])
    parted = part_image(IMAGE, layers, Light(), "target")
    np.testing.assert_array_equal(parted.kept, layers)
    np.testing.assert_allclose(parted.layer, layers[0])
    np.testing.assert_allclose(parted.scene, 0.3, atol=1e-6)
