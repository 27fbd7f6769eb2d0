"""Membranes and nuclei together: two channels from sketches to synthetic images."""

import math

import numpy as np
import pytest
import tifffile

from phantomscope.config.load import make_config
from phantomscope.config.meristem import Meristem
from phantomscope.config.simulation import Simulate
from phantomscope.engine.model import DiffusionModel
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import write_json
from phantomscope.images.imageset import ImageSet
from phantomscope.images.noise import generator
from phantomscope.images.normalise import Normalisation, fit_normalisation
from phantomscope.images.writer import ImageSetWriter
from phantomscope.simulate.cell_nuclei import cell_moments, nuclei_of_cells
from phantomscope.simulate.membrane import surface_depth
from phantomscope.simulate.meristem import draw_meristem
from phantomscope.stages import data, diffusion, sketching
from phantomscope.stages.checking import check
from phantomscope.stages.synthesis import make_sampler, synthesise

BOTH = ("membrane", "nuclei")
TISSUE = {"organ": "block", "cell_diameter": 10, "membrane_radius": 1,
          "rounding_radius": 0}  # fmt: skip


def ellipsoid(shape, middle, axes, spacing=(1, 1, 1)):
    """Labels of one turned ellipsoid, in units of the spacing."""
    z, y, x = (
        (g - m) * s for g, m, s in zip(np.indices(shape), middle, spacing, strict=True)
    )
    v, u = 0.8 * y + 0.6 * x, 0.8 * x - 0.6 * y
    inside = (z / axes[0]) ** 2 + (v / axes[1]) ** 2 + (u / axes[2]) ** 2 <= 1
    return inside.astype(np.uint16)


def test_moments_of_an_ellipsoid_are_a_fifth_of_its_squared_axes():
    spacing = (2.0, 1.0, 1.0)
    labels = ellipsoid((31, 61, 61), (15, 30, 30), (24, 20, 12), spacing)
    middles, covariances = cell_moments(labels, spacing)
    np.testing.assert_allclose(middles[1], (30, 30, 30), atol=1e-9)
    found = np.sqrt(5 * np.linalg.eigvalsh(covariances[1]))
    np.testing.assert_allclose(found, (12, 20, 24), rtol=0.02)


@pytest.mark.parametrize("size", [0.4, 0.7, 1.0])
def test_a_nucleus_has_the_shape_of_its_cell_and_the_third_power_of_its_size(size):
    labels = ellipsoid((49, 61, 61), (24, 30, 30), (20, 24, 16))
    depth = surface_depth(labels)
    drawn = nuclei_of_cells(labels, size, 0.0, depth, generator("n"))
    inside = drawn > 0
    assert inside.sum() / labels.sum() == pytest.approx(size**3, rel=0.06)
    assert (labels[inside] == 1).all()
    assert len(np.unique(drawn)) == 2
    assert 0.5 <= drawn.max() <= 0.9


def test_nuclei_are_darker_with_depth():
    labels = np.zeros((60, 60, 60), np.uint16)
    labels[5:55, 5:55, 5:55] = 1
    labels[5:12, 5:55, 5:55] = 2
    depth = surface_depth(labels)
    light = [nuclei_of_cells(labels, 0.5, d, depth, generator("d")) for d in (0.0, 0.8)]
    lost = [1 - light[1][labels == n].max() / light[0][labels == n].max()
            for n in (1, 2)]  # fmt: skip
    assert lost[0] > 0.5 > 0.2 > lost[1]


def test_membranes_are_the_same_with_and_without_nuclei():
    given, shape = Meristem(**TISSUE), (16, 40, 44)
    one, labels = draw_meristem(given, shape, generator("t"))
    two, same = draw_meristem(given, shape, generator("t"), channels=BOTH)
    alone, _ = draw_meristem(given, shape, generator("t"), channels=["nuclei"])
    assert two.shape == (2, *shape)
    np.testing.assert_array_equal(labels, same)
    np.testing.assert_array_equal(two[0], one)
    np.testing.assert_array_equal(two[1], alone)
    # Each cell that is large enough has a nucleus.
    sizes = np.bincount(labels.ravel())
    lit = np.bincount(labels[two[1] > 0], minlength=len(sizes)) > 0
    assert lit[1:][sizes[1:] > 50].all()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"channels": ["nuclei", "membrane"]}, "in this order"),
        ({"channels": ["membrane", "membrane"]}, "in this order"),
        ({"organism": "hela", "size": (64, 64)}, "organism: hela"),
        ({"variant": "fitted"}, "variant: fitted"),
    ],
)
def test_channels_that_cannot_be_are_refused(wrong, told):
    given = {"organism": "meristem", "size": (16, 32, 32), "channels": list(BOTH)}
    with pytest.raises(ValueError, match=told):
        Simulate(**(given | wrong))


def test_sketches_and_images_need_as_many_channels():
    given = {"organism": "meristem", "size": [16, 32, 32], "channels": list(BOTH)}
    with pytest.raises(PhantomscopeError, match="2 channels, of the images 1"):
        make_config({"simulate": given}).check_sketches()
    source = {"kind": "folder", "path": "x", "axes": "CZYX", "channel": [1, 1]}
    with pytest.raises(PhantomscopeError, match="twice"):
        make_config({"source": source})
    source["channel"] = [1, 0]
    both = {"source": source, "simulate": given}
    make_config(both).check_sketches()
    for more in ({"condition": {"kind": "sketch"}},
                 {"publish": {"formats": ["tiff"], "creators": ["Doe"]}}):  # fmt: skip
        with pytest.raises(PhantomscopeError, match="not of several yet"):
            make_config({**both, **more}).check_sketches()


def test_a_set_keeps_all_channels_and_shows_the_first(tmp_path):
    image = generator("i").integers(0, 999, (2, 5, 20, 24)).astype(np.uint16)
    with ImageSetWriter(tmp_path / "set", {}) as writer:
        writer.add("a", image, image[0] // 500, channels=2, pixel_size=(2, 1, 1))
    images = ImageSet.open(tmp_path / "set")
    images.verify()
    assert images.dims == 3
    assert images.shape("a") == (5, 20, 24)
    np.testing.assert_array_equal(images.channels("a"), image)
    np.testing.assert_array_equal(images.image("a"), image[0])
    with images.planes("a") as planes, images.planes("a", "mask") as labels:
        np.testing.assert_array_equal(planes.read(1, 4), image[0, 1:4])
        assert labels.shape == planes.shape == (5, 20, 24)
    with tifffile.TiffFile(tmp_path / "set/images/a.ome.tif") as file:
        assert file.series[0].axes == "CZYX"


def test_each_channel_has_limits_of_its_own(tmp_path):
    image = np.stack([np.linspace(10, 20, 400), np.linspace(1000, 3000, 400)])
    image = image.reshape(2, 20, 20).astype(np.float32)
    with ImageSetWriter(tmp_path / "set", {}) as writer:
        writer.add("a", image, channels=2, split="train")
    images = ImageSet.open(tmp_path / "set")
    options = make_config({"normalise": {"low_percentile": 0, "high_percentile": 100,
                                         "transform": "linear"}})  # fmt: skip
    scale = fit_normalisation(images, images.select(split="test"), options.normalise)
    scale.save(tmp_path / "scale.json")
    scale = Normalisation.load(tmp_path / "scale.json")
    assert (scale.limits["a"], scale.others) == ((10, 20), [{"a": (1000, 3000)}])
    values = scale.forward_channels(image, "a")
    np.testing.assert_allclose(values[0], values[1], atol=1e-5)
    assert (values.min(), values.max()) == pytest.approx((-1, 1))
    np.testing.assert_allclose(scale.inverse_channels(values, "a"), image, rtol=1e-5)


def test_two_channels_go_from_a_folder_to_synthetic_images(tmp_path):
    """The whole way at the smallest scale; the network learns nothing."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for n in range(2):
        drawn, _ = draw_meristem(
            Meristem(**TISSUE), (8, 48, 48), generator("real", n), channels=BOTH
        )
        noise = generator("noise", n).normal(0, 5, drawn.shape)
        raw = 100 + np.array([400, 2000])[:, None, None, None] * drawn + noise
        tifffile.imwrite(folder / f"{n}.tif", np.clip(raw, 0, None).astype(np.uint16))
    config = make_config({
        "source": {"kind": "folder", "path": str(folder), "axes": "CZYX",
                   "channel": [0, 1]},
        "split": {"by": "group", "train_fraction": 0.5},
        "simulate": {"organism": "meristem", "size": [8, 32, 32], "images": 2,
                     "shards": 1, "channels": list(BOTH), "meristem": TISSUE},
        "network": {"preset": "small"},
        "train": {"steps": 2, "batch_size": 1, "patch": 16, "patch_depth": 8,
                  "device": "cpu"},
        "synthesise": {"steps": 2, "tile": 32, "overlap": 8, "tile_depth": 24,
                       "device": "cpu", "precision": "fp32"},
        "start": {"candidates": [100], "images": 1},
    })  # fmt: skip
    config.check_sketches()
    at = {name: tmp_path / name for name in (
        "images", "prepared", "normalisation", "sketch", "fit", "objects", "sketches",
        "model", "metrics", "state", "start", "table", "start_images", "synthetic",
        "checks")}  # fmt: skip

    def stage(function, *names, **more):
        function(config, **{name: at[name] for name in names}, **more)

    stage(data.acquire, "images")
    stage(data.prepare, "images", "prepared", "normalisation")
    stage(sketching.fit_sketch, "prepared", "normalisation", "sketch", "fit", "objects")
    stage(sketching.simulate, "sketch", "sketches")
    stage(diffusion.train_diffusion, "prepared", "normalisation", "model", "metrics",
          "state")  # fmt: skip
    stage(diffusion.choose_start, "prepared", "normalisation", "sketch", "model",
          "start", "table", "start_images")  # fmt: skip
    write_json(at["start"], {"value": 100})
    stage(synthesise, "prepared", "normalisation", "model", "start", "sketches",
          "synthetic")  # fmt: skip
    stage(check, "normalisation", "sketch", "synthetic", "checks")

    assert DiffusionModel.load(at["model"]).channels == 2
    sketches, made = ImageSet.open(at["sketches"]), ImageSet.open(at["synthetic"])
    made.verify()
    for name in made.ids:
        image = made.channels(name)
        assert image.shape == (2, 8, 32, 32)
        assert image.dtype == np.uint16
        np.testing.assert_array_equal(made.mask(name), sketches.mask(name))
        # Each in the units of its channel.
        limits = made.row(name)["limits"]
        scale = Normalisation.load(at["normalisation"])
        for channel, one in enumerate(image):
            low, high = (scale.limits, *scale.others)[channel][limits]
            assert math.fabs(np.median(one) - low) < high - low
    sampler = make_sampler(DiffusionModel.load(at["model"]), config)
    with pytest.raises(PhantomscopeError, match="2 channels in 3 dimensions"):
        sampler.from_sketch(np.zeros((8, 16, 16), np.float32), "a", 100)
