"""Figures of volumes: three planes at the right places, and each figure drawn."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import ndimage

from phantomscope.config.load import make_config
from phantomscope.images.files import write_json, write_text
from phantomscope.images.imageset import ImageSet
from phantomscope.images.normalise import fit_normalisation
from phantomscope.images.voxels import aspect, row_voxel_size, voxel_size
from phantomscope.images.writer import ImageSetWriter, write_manifest
from phantomscope.measure.instance import object_records, score_image
from phantomscope.tables.figures import FIGURES
from phantomscope.tables.figures_published import draw_preview
from phantomscope.tables.figures_volumes import (
    GAP,
    Cut,
    as_plane,
    choose_cut,
    orthogonal,
)
from phantomscope.tables.report import write_report
from phantomscope.tables.style import LIMIT

SHAPE = (14, 72, 80)


def balls(seed=0, shape=SHAPE, count=14, flat=3.0):
    """Ellipsoids, flat in z, brighter further down: (raw volume, labels)."""
    rng = np.random.default_rng(seed)
    z, y, x = np.indices(shape)
    labels = np.zeros(shape, np.uint16)
    for n in range(1, count + 1):
        at = rng.uniform((2, 8, 8), np.array(shape) - (2, 8, 8))
        distance = np.sqrt(
            (flat * (z - at[0])) ** 2 + (y - at[1]) ** 2 + (x - at[2]) ** 2
        )
        labels[(distance < rng.uniform(6, 10)) & (labels == 0)] = n
    light = ndimage.gaussian_filter((labels > 0) * 0.6, (0.4, 1.2, 1.2))
    raw = rng.poisson((light + 0.05) * 150).astype(np.uint16)
    return raw, labels


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    """An experiment on volumes, in the formats of the stages."""
    root = tmp_path_factory.mktemp("volumes")
    config = make_config({"experiment": "volumes", "evaluate": {"resamples": 20}})
    sets = [balls(seed) for seed in range(4)]
    with ImageSetWriter(
        root / "prepared", {"name": "fake balls", "licence": "CC0"}
    ) as w:
        for n, split in enumerate(("train", "train", "test", "test")):
            raw, labels = sets[n]
            w.add(f"v{n}", raw, labels, split=split, group=f"g{n}", stratum="all",
                  pixel_size=0.25)  # fmt: skip
    prepared = ImageSet.open(root / "prepared")
    train, test = prepared.select(split="train"), prepared.select(split="test")
    norm = fit_normalisation(train, test, config.normalise)
    norm.save(root / "normalisation.json")
    _synthetic(root, train.ids[0])
    _predictions(root, test)
    write_text(root / "config.yaml", "")
    return root, config


def _synthetic(root, like):
    folders = [root / name for name in ("sketches", "synthetic", "pseudo", "start")]
    writers = [ImageSetWriter(folder, {}) for folder in folders]
    with writers[0] as sketches, writers[1] as synthetic, writers[2] as pseudo:
        for n in range(4):
            raw, labels = balls(10 + n)
            flat = (ndimage.gaussian_filter((labels > 0) * 0.5, 1) + 0.05).astype("f4")
            sketches.add(f"sketch-{n:06d}", flat, labels, type="all")
            synthetic.add(f"sketch-{n:06d}", raw, labels, type="all", limits=like)
        pseudo.add(like, flat, labels, type="all")
    with writers[3] as start:
        for t in (200, 400, 600):
            start.add(f"t{t:04d}-0", raw, labels, t=t, sketch=0)
    made = ImageSet.open(root / "synthetic")
    scores = {"objects": 14, "vanished": 1, "phantoms": 2, "agreement": 0.8}
    rows = [{**made.row(i), **scores, "image": f"../synthetic/images/{i}.ome.tif",
             "mask": f"../synthetic/labels/{i}.ome.tif"} for i in made.ids]  # fmt: skip
    write_manifest(root / "checked", rows[:3], {})
    rejected = pd.DataFrame([{**rows[3], "reason": "disagreement"}])
    write_text(root / "checked/rejected.csv", rejected.to_csv(index=False))
    objects = pd.DataFrame({"id": "x", "label": 1, "contrast": np.linspace(1, 9, 50)})
    write_text(root / "checked/objects.csv", objects.to_csv(index=False))
    with ImageSetWriter(root / "memorisation", {}) as pairs:
        pairs.add("pair-00-sample", raw[:, :64, :64].astype("f4"), score=0.6)
        pairs.add("pair-00-patch", raw[:, :64, :64][:, ::-1].astype("f4"), score=0.6)
    copies = {"id": range(40), "kind": ["synthetic", "held_out"] * 20,
              "score": np.linspace(0.2, 0.7, 40)}  # fmt: skip
    write_text(root / "memorisation.csv", pd.DataFrame(copies).to_csv(index=False))
    start = {"value": 400, "reason": "r", "max_distance": 0.01, "min_fidelity": 0.85}
    write_json(root / "start.json", start)
    curve = pd.DataFrame({"t": [200, 400, 600], "fidelity_relative": [1, 0.9, 0.5]})
    for name in ("intensity", "texture"):
        curve[f"bd_{name}"], curve[f"bd_{name}_real"] = [0.1, 0.01, 0.001], 1e-4
    write_text(root / "tables/t_start.csv", curve.to_csv(index=False))
    fit = {"source": ["real", "sketch"] * 30, "type": "all"}
    fit |= {k: np.linspace(1, 9, 60) for k in ("radius", "elongation", "intensity")}
    write_text(root / "fit_objects.csv", pd.DataFrame(fit).to_csv(index=False))


def _predictions(root, test):
    for tool, shift in (("cellpose", 1), ("stardist", 3)):
        place = f"{tool}/synthetic/seed0"
        rows, objects = [], []
        with ImageSetWriter(root / "predictions" / place, {}) as writer:
            for name in test.ids:
                truth = test.mask(name)
                found = np.roll(np.where(truth == 5, 0, truth), shift, axis=2)
                writer.add(name, test.image(name), found)
                scored = score_image(truth, found)
                rows.append({"id": name, "group": name, **scored})
                objects.append(object_records(truth, found).assign(id=name))
        folder = root / "scores" / place
        write_text(folder / "images.csv", pd.DataFrame(rows).to_csv(index=False))
        write_text(folder / "objects.csv", pd.concat(objects).to_csv(index=False))


SHOW_IMAGES = (
    "gallery",
    "overlays",
    "memorisation",
    "t_start",
    "fit",
    "pseudo",
    "checks",
)


@pytest.mark.parametrize("name", SHOW_IMAGES)
def test_each_figure_that_shows_images_shows_volumes(volumes, tmp_path, name):
    root, config = volumes
    out = tmp_path / f"{name}.png"
    FIGURES[name][0](root, config, out)
    assert out.stat().st_size <= LIMIT
    assert np.asarray(Image.open(out).convert("L")).std() > 5


def test_preview_of_volumes(volumes, tmp_path):
    images = ImageSet.open(volumes[0] / "checked")
    draw_preview(images, (1.0, 0.25, 0.25), tmp_path / "preview.png")
    assert np.asarray(Image.open(tmp_path / "preview.png").convert("L")).std() > 5


def test_report_says_what_figures_of_volumes_show(volumes, tmp_path):
    root, config = volumes
    write_report(root, config, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "beside it YZ and below it XZ" in text
    assert "Voxel size (z, y, x)" in text
    assert "0.25 µm x 0.25 µm x 0.25 µm" in text


def test_three_planes_are_those_of_the_volume():
    volume = np.arange(4 * 6 * 5, dtype=np.float64).reshape(4, 6, 5)
    cut = Cut((slice(0, 4), slice(0, 6), slice(0, 5)), (1, 2, 3), stretch=2.0)
    page = cut(volume)
    assert page.shape == (6 + GAP + 8, 5 + GAP + 8)
    np.testing.assert_array_equal(page[:6, :5], volume[1])
    # Each plane is two pixels thick: what is drawn to scale repeats no other.
    np.testing.assert_array_equal(page[6 + GAP :: 2, :5], volume[:, 2, :])
    np.testing.assert_array_equal(page[7 + GAP :: 2, :5], volume[:, 2, :])
    np.testing.assert_array_equal(page[:6, 5 + GAP :: 2], volume[:, :, 3].T)
    assert np.isnan(page[6 : 6 + GAP]).all()
    assert np.isnan(page[6 + GAP :, 5 + GAP :]).all()
    labels = cut(volume.astype(np.uint16))
    assert (labels[6 : 6 + GAP] == 0).all()
    top = cut.projection(volume)
    np.testing.assert_array_equal(top[:6, :5], volume.max(axis=0))
    np.testing.assert_array_equal(top[6 + GAP :: 2, :5], volume.max(axis=1))


def test_a_volume_read_by_planes_is_cut_like_one_in_memory(volumes):
    images = ImageSet.open(volumes[0] / "synthetic")
    name, size = images.ids[0], (0.5, 0.25, 0.25)
    volume, labels = images.image(name), images.mask(name)
    cut = choose_cut(SHAPE, 20, size, labels)
    with images.planes(name, "mask") as reader:
        assert choose_cut(SHAPE, 20, size, reader) == cut
    with images.planes(name) as reader:
        part = cut.take(reader)
    assert part.shape == (10, 20, 20)
    np.testing.assert_array_equal(cut.within(part), cut(volume))
    np.testing.assert_array_equal(cut.within.projection(part), cut.projection(volume))


def test_orthogonal_views_on_given_axes(volumes):
    from phantomscope.tables.style import canvas

    raw, labels = balls(3)
    figure = canvas(3.0)
    left, right = figure.subplots(1, 2)
    cut = orthogonal(left, raw / 255, (1.0, 0.25, 0.25), labels=labels)
    assert left.images[0].get_array().shape == cut(raw).shape
    assert len(left.collections[0].get_paths()) >= 1
    orthogonal(right, raw / 255, (1.0, 0.25, 0.25), labels=labels, project=True)
    assert not right.collections


def test_the_fullest_planes_are_shown():
    labels = np.zeros((20, 60, 50), np.uint16)
    labels[13:16, 40:48, 10:16] = 7
    cut = choose_cut(labels.shape, 64, (), labels)
    # Of equally full planes that nearest to the middle.
    assert cut.at == (13, 40, 15)
    assert (cut(labels) == 7).sum() == 8 * 6 + 3 * 6 + 3 * 8
    empty = choose_cut(labels.shape, 64, (), labels * 0)
    assert empty.at == (10, 30, 25)
    assert choose_cut(labels.shape, 64).at == (10, 30, 25)


def test_long_volumes_are_cut_around_their_fullest_plane():
    labels = np.zeros((35, 300, 200), np.uint16)
    labels[30:33, 150:160, 100:110] = 1
    cut = choose_cut(labels.shape, 100, (1.0, 0.1, 0.1), labels)
    assert cut.box == (slice(25, 35), slice(100, 200), slice(50, 150))
    assert cut.side == 100
    assert cut(labels).shape == (100 + GAP + 100, 100 + GAP + 100)
    assert (cut(labels) == 1).sum() == 10 * 10 + 2 * 10 * 30
    # Dark below zero, as units are, and with a single brightest plane.
    dark = np.full((9, 40, 40), -1.0)
    dark[6] = -0.5
    assert choose_cut(dark.shape, 40, (), dark).at[0] == 6


def test_images_are_their_central_square():
    image = np.arange(50 * 41).reshape(50, 41)
    for side in (15, 16, 60):
        top, left = (max(0, (n - side) // 2) for n in image.shape)
        part = choose_cut(image.shape, side, (0.5, 0.5), image)(image)
        np.testing.assert_array_equal(part, image[top : top + side, left : left + side])
    assert as_plane(image) is image
    volume = np.zeros((4, 8, 8))
    volume[2] = 1
    np.testing.assert_array_equal(as_plane(volume), volume[2])


def test_voxel_sizes(volumes):
    assert row_voxel_size({"axes": "YX", "pixel_size": "0.5"}) == (0.5, 0.5)
    assert row_voxel_size({"axes": "YX", "pixel_size": ""}) == (None, None)
    row = {"axes": "ZYX", "pixel_size": 0.1, "pixel_size_y": 0.2, "pixel_size_z": "1"}
    assert row_voxel_size(row) == (1.0, 0.2, 0.1)
    assert row_voxel_size({**row, "pixel_size_z": np.nan})[0] is None
    real = ImageSet.open(volumes[0] / "prepared")
    made = ImageSet.open(volumes[0] / "synthetic")
    assert voxel_size(made) == (None, None, None)
    assert voxel_size(made, real) == voxel_size(real)
    assert voxel_size(real)[1:] == (0.25, 0.25)
    assert aspect((2.0, 0.5, 0.5)) == 4
    assert aspect((None, 0.5, 0.5)) == aspect((0.5, 0.5)) == 1
    assert json.dumps(voxel_size(real))
