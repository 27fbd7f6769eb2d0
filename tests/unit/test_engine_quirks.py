"""What the released code of Eschweiler & Stegmaier does otherwise, as ablations."""

import numpy as np
import pytest
from pydantic import ValidationError

from phantomscope.config.diffusion import Network
from phantomscope.config.synthesis import Synthesise
from phantomscope.engine.model import DiffusionModel
from phantomscope.engine.networks import make_network
from phantomscope.engine.process import Process, ancestral, cosine_alpha_bar
from phantomscope.engine.sample import Sampler
from phantomscope.engine.samplers import plan_steps
from phantomscope.images.noise import NoiseField
from phantomscope.images.normalise import unit_to_network
from phantomscope.stages.synthesis import BLUR_REACH, sketch_values

COSINE = Process.gaussian(cosine_alpha_bar(1000))


def options(**changes) -> Synthesise:
    small = {"sampler": "ddpm", "steps": 3, "spacing": "uniform", "tile": 32,
             "overlap": 8, "fusion": "final", "window": "edt", "device": "cpu",
             "precision": "fp32"}  # fmt: skip
    return Synthesise(**(small | changes))


def model() -> DiffusionModel:
    made = make_network(Network(preset="small", noise_channel=True), 0).eval()
    return DiffusionModel(made, COSINE, (-1.5, 1.5), True, {"fingerprint": "f"})


def test_respacing_of_the_reference_takes_single_steps_for_long_ones():
    steps = plan_steps(COSINE, 400, 40, "ddpm", respacing="reference")
    right = plan_steps(COSINE, 400, 40, "ddpm")
    assert [(s.t, s.u) for s in steps] == [(s.t, s.u) for s in right]
    for step in steps:
        single = ancestral(COSINE, step.t, step.t - 1)
        assert step.sigma == single.sigma
        assert step.on_x == pytest.approx(single.rho)


def test_single_steps_are_the_same_in_both():
    every = [plan_steps(COSINE, 50, 50, "ddpm", respacing=r)
             for r in ("derived", "reference")]  # fmt: skip
    assert every[0] == every[1]


def test_respacing_of_the_reference_leaves_noise():
    """A perfect estimate of an image of zeros should end there; it does not."""
    left = {}
    for respacing in ("derived", "reference"):
        spread = 1.0
        for step in plan_steps(COSINE, 600, 20, "ddpm", respacing=respacing):
            spread = np.hypot(step.on_x * spread, step.sigma)
        left[respacing] = spread
    assert left["derived"] < 1e-6 < 0.1 < left["reference"]


def test_all_steps_are_those_of_t_start():
    assert options(steps="all").evaluations(400) == 400
    assert options(steps=10).evaluations(400) == 10


def test_noise_of_tiles_differs_where_they_overlap():
    sketch = np.zeros((40, 40), np.float32)
    made = model()
    images = {
        noise: Sampler(made, options(noise=noise), 3).from_sketch(sketch, "a", 300)
        for noise in ("image", "tile")
    }
    assert np.isfinite(images["tile"]).all()
    assert not np.allclose(images["image"], images["tile"])
    again = Sampler(made, options(noise="tile", micro_batch=1), 3)
    assert np.allclose(again.from_sketch(sketch, "a", 300), images["tile"], atol=1e-4)


def test_one_tile_has_noise_of_its_own_too():
    """With a single tile both are one chain with other noise: as noisy, not equal."""
    sketch = np.zeros((32, 32), np.float32)
    made, small = model(), {"tile": 32, "overlap": 0}
    spread = [
        Sampler(made, options(noise=n, **small), 3).from_sketch(sketch, "a", 300).std()
        for n in ("image", "tile")
    ]
    assert spread[0] == pytest.approx(spread[1], rel=0.2)


@pytest.mark.parametrize("changes", [
    {"noise": "tile", "fusion": "per_step"},
    {"respacing": "reference", "sampler": "ddim"},
])  # fmt: skip
def test_quirks_that_cannot_be(changes):
    with pytest.raises(ValidationError, match="needs"):
        options(**changes)


def test_a_sketch_enters_in_either_range():
    sketch = np.abs(NoiseField(0, "s").block((0, 0), (8, 8))) / 3
    right = sketch_values(sketch, options(), "linear")
    assert np.array_equal(right, unit_to_network(sketch, "linear"))
    assert np.array_equal(
        sketch_values(sketch, options(sketch_range="unit"), "linear"), sketch
    )


@pytest.mark.parametrize("sigma", [0.7, 1.0, 2.3])
def test_blurred_rows_are_those_of_the_whole(sigma):
    """Volumes are blurred slab by slab: rows need so many around them."""
    volume = NoiseField(0, "v").block((0, 0, 0), (40, 9, 10))
    blurred = options(sketch_blur=sigma)
    whole = sketch_values(volume, blurred, "linear")
    halo = int(np.ceil(BLUR_REACH * sigma))
    for first, stop in ((0, 16), (16, 32), (32, 40)):
        low, high = max(first - halo, 0), min(stop + halo, 40)
        rows = sketch_values(
            volume[low:high], blurred, "linear", slice(first - low, stop - low)
        )
        assert np.allclose(rows, whole[first:stop], atol=1e-6)
