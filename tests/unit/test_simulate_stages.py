"""The stages from prepared images to photographs, for volumes and organisms."""

from pathlib import Path

import numpy as np
import pytest
from benchmarks import simulators

from phantomscope.config.load import make_config
from phantomscope.config.simulation import Simulate
from phantomscope.images.files import read_json
from phantomscope.images.imageset import ImageSet
from phantomscope.images.noise import generator
from phantomscope.images.normalise import Normalisation, fit_normalisation
from phantomscope.images.writer import ImageSetWriter
from phantomscope.simulate.parameters import SketchParameters, SketchType, Volume
from phantomscope.simulate.patches import SketchPatches
from phantomscope.simulate.sketch import camera, simulate_sketch
from phantomscope.stages import sketching

SPACING = (2.0, 1.0, 1.0)
NUCLEI = {
    "name": "real", "radius": [6.0, 6.2, 6.4, 6.6, 6.8, 7.0, 7.2],
    "elongation": [1, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3], "intensity": [0.6] * 7,
    "clustering": 0.0, "edge": 1.0, "background": {"level": 0.1, "read_noise": 0.02},
}  # fmt: skip


def prepared(folder: Path, kind: SketchType, size, config) -> dict[str, Path]:
    """Images of known parameters, as `prepare` would leave them."""
    paths = {"prepared": folder / "prepared", "normalisation": folder / "scale.json"}
    with ImageSetWriter(paths["prepared"], {}) as writer:
        for n in range(2):
            sketch, _, _ = simulate_sketch(
                SketchParameters(types=[kind]), Simulate(size=size), 0, n
            )
            image = 1000 * camera(sketch, kind, generator("camera", n)) + 100
            image = np.clip(image, 0, 65535).astype(np.uint16)
            writer.add(f"image-{n}", image, split="train", stratum="all")
    images = ImageSet.open(paths["prepared"])
    scale = fit_normalisation(images, images.select(split="test"), config.normalise)
    scale.save(paths["normalisation"])
    return paths


def through_stages(folder: Path, kind: SketchType, size, options) -> ImageSet:
    """Fit, draw and photograph; return the photographs."""
    config = make_config(options)
    paths = prepared(folder, kind, size, config)
    sketch, sketches = folder / "sketch.yaml", folder / "sketches"
    sketching.fit_sketch(
        config, **paths, sketch=sketch, fit=folder / "fit.json",
        objects=folder / "objects.csv",
    )  # fmt: skip
    sketching.simulate(config, sketch=sketch, sketches=sketches)
    sketching.photograph(
        config, sketch=sketch, sketches=sketches, photographs=folder / "photographs",
        **paths,
    )  # fmt: skip
    ImageSet.open(sketches).verify()
    return ImageSet.open(folder / "photographs")


def test_volumes_go_through_the_stages(tmp_path):
    kind = SketchType(
        density=[250.0] * 7, volume=Volume(spacing=SPACING, edge=0.7), **NUCLEI
    )
    options = {
        "fit": {"spacing": SPACING, "subvolumes": 3, "calibration_rounds": 0},
        "simulate": {"images": 1, "shards": 1, "size": [12, 48, 56]},
    }
    photographs = through_stages(tmp_path, kind, (20, 90, 100), options)
    fitted = SketchParameters.load(tmp_path / "sketch.yaml").types[0]
    assert fitted.volume is not None
    assert fitted.volume.spacing == SPACING
    assert fitted.radius[3] == pytest.approx(6.6, rel=0.15)
    assert photographs.dims == 3
    assert photographs.shape(photographs.ids[0]) == (12, 48, 56)
    assert photographs.mask(photographs.ids[0]).max() >= 1


@pytest.mark.parametrize("variant", ["paper", "fitted"])
def test_organisms_go_through_the_stages(tmp_path, variant):
    kind = SketchType(density=[600.0] * 7, **NUCLEI)
    options = {
        "fit": {"calibration_rounds": 0},
        "simulate": {"images": 1, "shards": 1, "size": [150, 160], "organism": "hela",
                     "variant": variant},
    }  # fmt: skip
    photographs = through_stages(tmp_path, kind, (200, 210), options)
    (found,) = SketchParameters.load(tmp_path / "sketch.yaml").types
    assert found.name == ("hela" if variant == "paper" else "all")
    assert found.background.read_noise > 0
    assert photographs.row(photographs.ids[0])["type"] == found.name
    assert photographs.mask(photographs.ids[0]).max() > 3
    assert read_json(tmp_path / "fit.json")["types"][0]["drawn"]["coverage"] > 0


def test_parts_of_volumes_are_spread_and_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(sketching, "PART_VOXELS", 4 * 20 * 20)
    monkeypatch.setattr(sketching, "PART_DEPTH", 4)
    config = make_config({"fit": {"subvolumes": 5}})
    kind = SketchType(
        density=[250.0] * 7, volume=Volume(spacing=SPACING, edge=0.7), **NUCLEI
    )
    paths = prepared(tmp_path, kind, (10, 40, 44), config)
    images = ImageSet.open(paths["prepared"])
    scale = Normalisation.load(paths["normalisation"])
    parts = sketching._samples(images, images.ids, scale, config)
    assert [part.shape for part in parts] == [(4, 20, 20)] * 5
    whole = np.stack([scale.to_unit(images.image(i), i) for i in images.ids])
    for part, volume in zip(parts, whole[[0, 0, 0, 1, 1]], strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(volume, part.shape)
        assert (windows == part).all(axis=(3, 4, 5)).any()


def test_patches_of_sketches_may_be_volumes():
    kind = SketchType(density=[250.0] * 7, volume=Volume(spacing=SPACING), **NUCLEI)
    parameters = SketchParameters(types=[kind])
    patches = SketchPatches(parameters, Simulate(), "linear", (8, 32, 40), 0)
    assert patches.batch(0, 2).shape == (2, 1, 8, 32, 40)


def test_rows_of_the_benchmark():
    results = {
        name: {"seconds": seconds, "slowest": 0.2, "objects": 200.0, "peak_mb": 3.0,
               "written_mb": 4.4, "fill_seconds": 0.001}
        for name, seconds in (("code", 0.01), ("paper", 0.02))
    }  # fmt: skip
    row = simulators._row("hela", results)
    assert row.id == "simulate.hela_speedup"
    assert row.value == pytest.approx(70)
    assert row.met
    assert "200 nuclei" in row.what
    row = simulators._row("tribolium", results)
    assert (row.id, row.value, row.goal) == ("simulate.tribolium_seconds", 0.02, "<= 5")
