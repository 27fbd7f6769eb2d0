"""Training on pairs and on layers: tiny networks learn to keep, to remove, to part."""

import numpy as np
import pytest
import torch
from torch import nn

from phantomscope.config.diffusion import Train
from phantomscope.config.layers import Compose
from phantomscope.engine.layers import (
    ComposedLayers,
    ComposedPairs,
    FramePairs,
    Separating,
    steady_light,
)
from phantomscope.engine.process import Process
from phantomscope.engine.train import Trainer
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.images.light import Light, part_image
from phantomscope.images.noise import generator
from phantomscope.images.writer import ImageSetWriter
from phantomscope.measure.image import psnr
from phantomscope.simulate.compose import Compositor, pack_backgrounds, pack_crops

SIDE = 32


def dome(radius, light=0.5, ground=0.1):
    """A round object that is brightest in its middle, and where it is."""
    y, x = np.mgrid[-radius - 1 : radius + 2, -radius - 1 : radius + 2]
    height = 1 - (y * y + x * x) / (radius + 0.5) ** 2
    image = ground + light * np.clip(height, 0, None)
    return image.astype(np.float32), height > 0


def compositor(seed=0, **changes):
    """Large objects are the target, small ones of the same light are not."""
    options = Compose(**{
        "size": SIDE, "targets": [1, 2], "others": [2, 4], "base": [0, 0],
        "factor": [0.8, 1.2], "zoom": [0.9, 1.1], **changes,
    })  # fmt: skip
    rng = generator("ground")
    ground = pack_backgrounds([(0.08 + 0.04 * rng.random((48, 48)), None)])
    sizes = ((6, 7, 8), (3,))
    crops = [pack_crops([dome(r) for r in radii], options) for radii in sizes]
    return Compositor(crops[0], crops[1], ground, options, seed)


class Tiny(nn.Module):
    """Sees 21 px: enough to tell a large object from a small one."""

    def __init__(self, channels=1, width=10):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 5, padding=2), nn.LeakyReLU(0.1),
            nn.Conv2d(width, width, 5, padding=4, dilation=2), nn.LeakyReLU(0.1),
            nn.Conv2d(width, channels, 5, padding=4, dilation=2),
        )  # fmt: skip

    def forward(self, x, t):
        return self.body(x)


def learn(source, state, objective=None, channels=1, steps=250, error="mse"):
    options = Train(
        steps=steps, batch_size=4, patch=SIDE, learning_rate=3e-3, warmup=10,
        optimiser="adam", ema=0, clip=1, precision="fp32", device="cpu",
        checkpoint_every=steps,
    )  # fmt: skip
    trainer = Trainer(
        Tiny(channels), Process.one_step(), source.batch, options, seed=0,
        noise_channel=False, identity={}, state=state,
        objective=objective or Separating(error),
    )  # fmt: skip
    trainer.train()
    return trainer.run.network


@torch.inference_mode()
def applied(network, image, channels=1):
    """Return what a network makes of an image of 0 to 1, in the same unit."""
    x = torch.from_numpy(2 * image - 1).expand(1, channels, *image.shape)
    return (network(x, torch.ones(1))[0].numpy() + 1) / 2


def test_a_network_keeps_the_targets_and_drops_the_rest(tmp_path):
    made, light = compositor(), Light()
    network = learn(ComposedPairs(made), tmp_path)
    level = steady_light(made, light, "mse")
    gains = []
    for number in range(10_000, 10_008):
        image, target = made.layered(number)[0, :2]
        parted = part_image(
            image, applied(network, image), light, "target", level=level
        )
        before = light.without(image, np.full_like(image, level))
        gains.append(psnr(parted.layer, target, 1.0) - psnr(before, target, 1.0))
    assert np.mean(gains) > 4


def test_layers_are_told_apart_and_add_up_to_the_image(tmp_path):
    made, light = compositor(), Light()
    network = learn(
        ComposedLayers(made, light), tmp_path, Separating("mse", light, 1.0), 3
    )
    errors, gains, spread = [], [], []
    for number in range(10_000, 10_008):
        image, *layers = made.layered(number)[0]
        parted = part_image(image, applied(network, image, 3), light, "target")
        errors.append(np.abs(parted.kept.sum(axis=0) - image).mean())
        spread.append(np.abs(image - image.mean()).mean())
        gains.append(psnr(parted.kept[0], layers[0], 1.0) - psnr(image, layers[0], 1.0))
    assert np.mean(errors) < 0.3 * np.mean(spread)
    assert np.mean(gains) > 8


def frames(folder, videos=3, count=6, side=40):
    """Videos of a scene of stripes in which a bright disc moves."""
    y, x = np.mgrid[:side, :side]
    with ImageSetWriter(folder, {"source": "test"}) as writer:
        for video in range(videos):
            scene = 60 + 20 * np.sin(0.7 * x + video)
            for number in range(count):
                # Far enough that it is never in one place twice.
                cy, cx = 8 + 11 * (number % 3), 8 + 12 * (number * 2 % 3)
                inside = (y - cy) ** 2 + (x - cx) ** 2 <= 25
                image = np.where(inside, 220, scene).astype(np.uint8)
                writer.add(f"v{video}-{number}", image, group=f"v{video}", frame=number)
    return ImageSet.open(folder), lambda v: (60 + 20 * np.sin(0.7 * x + v)) / 255


def test_what_moves_in_a_video_is_removed(tmp_path):
    images, scene = frames(tmp_path / "set")
    light = Light()
    source = FramePairs(images, 1, light, (SIDE, SIDE), 0)
    # The absolute error: its best prediction is the median, where nothing moves.
    network = learn(source, tmp_path / "state", Separating("mae"))
    image = light.to_unit(images.image("v1-2"))
    parted = part_image(image, applied(network, image), light, "scene")
    assert psnr(parted.scene, scene(1), 1.0) > psnr(image, scene(1), 1.0) + 6
    moved = image > 0.8
    assert parted.layer[moved].mean() > 0.3
    assert parted.layer[~moved].mean() < 0.05


def test_pairs_of_frames_are_a_lag_apart_in_one_video(tmp_path):
    images, _ = frames(tmp_path, videos=2, count=3)
    source = FramePairs(images, 2, Light(), (16, 16), 0, augment=False)
    assert source.later == {"v0-0": "v0-2", "v1-0": "v1-2"}
    pairs = source.batch(3, 32)
    np.testing.assert_array_equal(pairs, source.batch(3, 32))
    # The same place of both: unless the disc is there, they are equal.
    still = (pairs < 0.5).all(axis=1)
    np.testing.assert_array_equal(pairs[:, 0][still], pairs[:, 1][still])
    # Either frame comes first.
    whole = FramePairs(images, 2, Light(), (40, 40), 0, augment=False).batch(0, 32)
    first = Light().to_unit(images.image("v0-0")) * 2 - 1
    assert {int(np.allclose(pair[1], first)) for pair in whole if any(
        np.allclose(part, first) for part in pair)} == {0, 1}  # fmt: skip
    with pytest.raises(PhantomscopeError, match="no two frames of 6 are 5 apart"):
        FramePairs(images, 5, Light(), (16, 16), 0)


def test_a_batch_depends_on_its_step_alone():
    made, light = compositor(), Light()
    for one, many in (
        (ComposedPairs(made), ComposedPairs(made, threads=3)),
        (ComposedLayers(made, light), ComposedLayers(made, light, threads=3)),
    ):
        last = one.batch(2, 5)
        many.batch(7, 5)
        np.testing.assert_array_equal(many.batch(2, 5), last)
        # Smaller batches are the same images.
        halves = [one.batch(n, 2) for n in (1, 2)]
        np.testing.assert_array_equal(one.batch(1, 3)[:1], halves[0][1:])
    first, second = made.images(10)
    np.testing.assert_allclose(
        ComposedPairs(made).batch(2, 5)[0], 2 * np.stack([second, first]) - 1, atol=1e-6
    )


def test_pairs_repeat_after_an_epoch():
    made, light = compositor(), Light()
    for source in (ComposedPairs(made, 4), ComposedLayers(made, light, 2)):
        first, second = source.batch(0, 4), source.batch(1, 4)
        np.testing.assert_array_equal(first, second)
        assert not np.array_equal(first[0], first[2])
    endless = ComposedPairs(made)
    assert not np.array_equal(endless.batch(0, 4), endless.batch(1, 4))


@pytest.mark.parametrize(
    ("mode", "limits"), [("add", None), ("blend", None), ("add", (0.0, 1.5))]
)
def test_known_layers_have_no_loss(mode, limits):
    """The layers themselves compose to the image, so both errors vanish."""
    light = Light(mode=mode, log_limits=limits)
    # Without clipping: one object of each kind, dim.
    made = compositor(
        mode=mode, log_limits=limits and list(limits), targets=[1, 1], others=[1, 1],
        factor=[0.5, 0.5], max_overlap=0.0,
    )  # fmt: skip
    objective = Separating("mse", light, 1.0)
    source = ComposedLayers(made, light)
    x, t, target = objective.draw(torch.from_numpy(source.batch(0, 4)), None)
    assert x.shape == (4, 3, SIDE, SIDE)
    assert torch.equal(x[:, 0], x[:, 2])
    assert torch.equal(x[:, :1], target[:, 3:])
    assert float(objective.loss(target[:, :3], t, target)) < 1e-9
    assert float(objective.loss(target[:, :3] + 0.1, t, target)) > 0.01


def test_part_of_a_step_is_the_same_as_within_it():
    x0 = torch.randn(6, 2, 8, 8)
    objective = Separating()
    whole, part = objective.draw(x0, None), objective.draw(x0, None, slice(2, 5))
    assert all(torch.equal(w[2:5], p) for w, p in zip(whole, part, strict=True))
    assert torch.equal(whole[0], x0[:, 1:])
    assert torch.equal(whole[2], x0[:, :1])


@pytest.mark.parametrize("error", ["mse", "mae"])
def test_steady_light_is_what_remains_without_targets(error):
    """Only background beside the targets: their mean and median are known."""
    made = compositor(others=[0, 0])
    found = steady_light(made, Light(), error)
    assert found == pytest.approx(0.1, abs=0.003)
    scene = compositor(share="scene", others=[0, 0])
    light = steady_light(scene, Light(), error)
    values = np.stack([scene.layered(n)[:, 1] for n in range(64)])
    assert light == pytest.approx(np.mean(values) if error == "mse" else 0, abs=1e-6)
    covered = compositor(share="scene", mode="blend")
    assert steady_light(covered, Light(mode="blend"), error) is None


def test_images_without_free_pixels_are_refused():
    made = compositor(targets=[20, 20], factor=[1, 1], zoom=[3, 3], max_overlap=1.0)
    with pytest.raises(PhantomscopeError, match="targets cover all"):
        steady_light(made, Light(), "mse")
