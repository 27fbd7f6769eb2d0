"""Segmentation tools without training them; see end_to_end/test_segmenters.py."""

from __future__ import annotations

import json

import numpy as np
import pytest

from phantomscope.config.analysis import Segment
from phantomscope.downstream import cellpose, classical, common, generalist, run
from phantomscope.downstream import stardist as stardist_module
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.images.writer import ImageSetWriter

CENTRES = ((20, 22), (20, 38), (50, 20), (60, 60), (24, 74))


def discs(shape=(80, 96), centres=CENTRES, radius=8):
    y, x = np.indices(shape)
    labels = np.zeros(shape, np.uint16)
    for number, (cy, cx) in enumerate(centres, 1):
        labels[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = number
    return labels


def picture(labels, noise=0.0, seed=0):
    clean = np.where(labels > 0, 1000.0, 200.0)
    noisy = clean + np.random.default_rng(seed).normal(0, noise, labels.shape)
    return np.clip(noisy, 0, 65535).astype(np.uint16)


def write_set(folder, labels, images=None, **columns):
    with ImageSetWriter(folder, {"source": "drawn"}) as writer:
        for number, label in enumerate(labels):
            image = picture(np.zeros((80, 96)) if label is None else label, 20, number)
            writer.add(f"i{number}", image, label, split="test", **columns)
    return ImageSet.open(folder)


def same_objects(first, second):
    pairs = set(zip(first.ravel().tolist(), second.ravel().tolist(), strict=True))
    return len(pairs) == len(np.unique(first)) == len(np.unique(second))


@pytest.mark.parametrize("kind", [np.uint16, np.float32, np.uint8])
def test_classical_is_exact_on_touching_discs(kind):
    labels = discs()
    image = (picture(labels) / 4).astype(kind)

    found = classical.otsu_watershed(image, 0.0)

    assert found.dtype == np.uint16
    assert same_objects(labels, found)


def test_classical_drops_small_objects():
    labels = discs()
    image = picture(labels)
    image[70:72, 5:7] = 1000

    assert classical.otsu_watershed(image, 0.0).max() == len(CENTRES)
    everything = classical.otsu_watershed(image, 0.0, min_size=0)
    assert everything.max() == len(CENTRES) + 1


def test_classical_finds_nothing_in_a_constant_image():
    assert not classical.otsu_watershed(np.full((20, 30), 7, np.uint8), 1.0).any()


def test_classical_refuses_a_negative_smoothing_and_channels():
    with pytest.raises(PhantomscopeError, match="smoothing is -1"):
        classical.otsu_watershed(np.zeros((20, 20)), -1)
    with pytest.raises(PhantomscopeError, match="grey image"):
        classical.otsu_watershed(np.zeros((3, 2, 20, 20)), 1)


def test_tune_smooths_noise_and_keeps_small_objects():
    labels = discs()
    noisy = picture(labels, noise=500)
    assert 1 <= classical.tune([noisy], [labels], [0, 1, 2, 30]) <= 2
    # All candidates are right here, so the smallest one is taken.
    assert classical.tune([picture(labels)], [labels], [1, 0.5]) == 0.5


def test_tune_needs_candidates():
    with pytest.raises(PhantomscopeError, match="no smoothing to choose from"):
        classical.tune([picture(discs())], [discs()], [])


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ([np.zeros((9, 9))], [], "do not go together"),
        ([np.zeros((9, 9))], [np.ones((9, 8), int)], "shape of their image"),
        ([np.zeros((9, 9))], [np.ones((9, 9))], "labels are integers"),
        ([np.zeros((9, 9))], [np.zeros((9, 9), int)], "no training image has"),
    ],
)
def test_pairs_are_checked(images, labels, message):
    with pytest.raises(PhantomscopeError, match=message):
        common.check_pairs(images, labels)


def test_mean_diameter_ignores_images_without_objects():
    empty = np.zeros((9, 9), int)
    assert common.mean_diameter([discs(), empty]) == pytest.approx(16, rel=0.05)
    assert common.mean_diameter([empty]) == 0


def test_orientations_differ():
    array = np.arange(6).reshape(2, 3)
    assert len({common.orientation(array, k).tobytes() for k in range(8)}) == 8


def test_cellpose_works_at_a_diameter_that_fits_its_patches():
    options = Segment().cellpose
    small, large = discs(radius=8), discs((200, 200), ((100, 100),), 60)
    assert cellpose._working_diameter([small], options) == pytest.approx(16, rel=0.05)
    assert cellpose._working_diameter([large], options) == options.patch / 2
    chosen = options.model_copy(update={"diameter": 30.0})
    assert cellpose._working_diameter([small], chosen) == 30


def test_stardist_holds_out_images_with_objects():
    blank = np.zeros((8, 8), np.uint16)
    pairs = [(blank, blank)] * 9 + [(blank, blank + 1)] * 3
    training, held_out = stardist_module._split(pairs, [1] * 12, seed=1)
    assert (len(training), len(held_out)) == (10, 2)
    assert all(label.any() for _, label in held_out)


def test_stardist_cuts_a_strip_off_a_single_image():
    labels = discs((80, 200), ((40, 20), (40, 100), (40, 185)))
    training, held_out = stardist_module._split([(labels, labels)], [1], seed=0)
    assert training[0][0].shape == (80, 170)
    assert held_out[0][0].shape == (80, 30)
    assert held_out[0][1].max() == 1


def test_stardist_takes_no_loss_in_padding():
    labels = discs((40, 96), ((20, 20),))
    image, padded = stardist_module._padded(labels.astype(np.float32), labels, (64, 64))
    assert image.shape == padded.shape == (64, 96)
    assert (padded[40:] == -1).all()
    assert (padded[:40] == labels).all()


@pytest.mark.parametrize("module", [cellpose, stardist_module])
def test_a_missing_model_is_named(module, tmp_path):
    with pytest.raises(PhantomscopeError, match="no trained"):
        module.load(tmp_path, 1)


def test_generalist_weights_are_found_and_never_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CELLPOSE_LOCAL_MODELS_PATH", str(tmp_path))
    assert generalist.find_weights() is None
    with pytest.raises(PhantomscopeError, match="are not on this machine"):
        generalist.load(None, 1)
    home = tmp_path / "home" / ".cellpose" / "models"
    home.mkdir(parents=True)
    (home / "cyto3").touch()
    assert generalist.find_weights() == home / "cyto3"
    (tmp_path / "cyto3").touch()
    assert generalist.find_weights() == tmp_path / "cyto3"


def test_classical_goes_through_the_image_sets(tmp_path):
    labels = discs()
    training = write_set(tmp_path / "train", [labels, None, np.zeros_like(labels)])
    images = write_set(tmp_path / "test", [labels], group="well A", pixel_size=0.5)
    folder, out = tmp_path / "otsu", tmp_path / "out"

    run.train_tool("otsu_watershed", training, Segment(), folder=folder, seed=3)
    run.predict_tool("otsu_watershed", folder, images, Segment(), out)

    record = json.loads((folder / "training.json").read_text())
    assert (record["tool"], record["seed"]) == ("otsu_watershed", 3)
    assert (record["images"], record["objects"]) == (1, len(CENTRES))
    found = ImageSet.open(out)
    found.verify()
    assert same_objects(found.mask("i0"), labels)
    assert (found.image("i0") == images.image("i0")).all()
    row = found.row("i0")
    assert (row["split"], row["group"], row["pixel_size"]) == ("test", "well A", 0.5)
    assert found.info["prediction"]["tool"] == "otsu_watershed"
    assert not list(tmp_path.glob(".*partial"))


def test_training_without_objects_is_refused(tmp_path):
    training = write_set(tmp_path / "train", [None, np.zeros((80, 96), np.uint16)])
    with pytest.raises(PhantomscopeError, match="none of the 2 training images"):
        run.train_tool(
            "cellpose", training, Segment(), folder=tmp_path / "model", seed=0
        )
    assert not (tmp_path / "model").exists()


def test_unknown_tools_are_refused(tmp_path):
    images = write_set(tmp_path / "set", [discs()])
    with pytest.raises(PhantomscopeError, match="'unet' is no segmentation tool"):
        run.train_tool("unet", images, Segment(), folder=tmp_path / "m", seed=0)
    with pytest.raises(PhantomscopeError, match="'unet' is no segmentation tool"):
        run.predict_tool("unet", None, images, Segment(), tmp_path / "out")
    with pytest.raises(PhantomscopeError, match="needs the folder of its training"):
        run.predict_tool("stardist", None, images, Segment(), tmp_path / "out")


@pytest.mark.parametrize("tool", ["cellpose", "stardist"])
def test_loader_snippet_is_python_without_this_package(tool, tmp_path):
    snippet = run.loader_snippet(tool, tmp_path / "it's a model")
    compile(snippet, tool, "exec")
    assert "phantomscope" not in snippet.replace(str(tmp_path), "")
    with pytest.raises(PhantomscopeError, match="loaded by itself"):
        run.loader_snippet("otsu_watershed", tmp_path)
