"""Annotated miniatures noised and brought back by a network that learnt nothing."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from phantomscope.config.load import make_config
from phantomscope.engine.checkpoint import cpu_tensors, save_checkpoint
from phantomscope.engine.networks import make_network
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.images.normalise import Normalisation, fit_normalisation
from phantomscope.images.writer import ImageSetWriter
from phantomscope.interrupt import StopRequestedError
from phantomscope.stages import appearance
from phantomscope.stages.annotation import annotated_part, likeness, load_annotated

SHAPES = {2: (48, 56), 3: (12, 32, 40)}


def scene(dims, seed):
    """Two rows of balls of several intensities: (raw image, labels)."""
    shape, rng = SHAPES[dims], np.random.default_rng(seed)
    grid, labels = np.indices(shape), np.zeros(shape, np.uint16)
    for n, (y, x) in enumerate((y, x) for y in (10, 24) for x in (8, 20, 32)):
        centre = (*([6] if dims == 3 else []), y + rng.uniform(-1, 1), x)
        ball = sum((axis - c) ** 2 for axis, c in zip(grid, centre, strict=True))
        labels[ball < 16] = n + 1
    light = np.concatenate([[0.1], rng.uniform(0.5, 0.9, 6)])[labels]
    raw = rng.poisson(ndimage.gaussian_filter(light, 0.8) * 1000)
    return raw.astype(np.uint16), labels


def experiment(root, dims, **changes):
    """Write prepared images, normalisation and an untrained model."""
    with ImageSetWriter(root / "prepared", {"name": "miniature"}) as writer:
        for n in range(4):
            raw, labels = scene(dims, n)
            split = "test" if n == 3 else "train"
            # An id that reads as a number must stay text.
            writer.add(f"00{n}", raw, labels, split=split, group=f"g{n}", stratum="all")
    options = {
        "network": {"preset": "small"},
        "synthesise": {"steps": 2, "tile": 32, "overlap": 8, "tile_depth": 8,
                       "overlap_depth": 0,
                       "device": "cpu", "precision": "fp32", "compile": "never"},
        "evaluate": {"resamples": 50},
        "appearance": {"times": [100, 800], "bins": [64, 256], "crop": 24,
                       "crop_depth": 8} | changes,
    }  # fmt: skip
    config = make_config(options)
    train = ImageSet.open(root / "prepared").select(split="train")
    test = ImageSet.open(root / "prepared").select(split="test")
    fit_normalisation(train, test, config.normalise).save(root / "normalisation.json")
    network = make_network(config.network, 0, dims)
    about = config.model_dump(include={"network", "process"}) | {
        "value_range": [-1.2, 1.2], "dims": dims, "fingerprint": "untrained",
    }  # fmt: skip
    save_checkpoint(
        root / "model.pt", {"network": cpu_tensors(network.state_dict())}, about
    )
    return config


def forth(root, config):
    appearance.measure_forward(
        config, prepared=root / "prepared", normalisation=root / "normalisation.json",
        forward=root / "tables/forward.csv",
    )  # fmt: skip
    return pd.read_csv(root / "tables/forward.csv")


def back(root, config):
    appearance.measure_backward(
        config, prepared=root / "prepared", normalisation=root / "normalisation.json",
        model=root / "model.pt", backward=root / "tables/backward.csv",
        backward_images=root / "backward",
    )  # fmt: skip
    return pd.read_csv(root / "tables/backward.csv", dtype={"id": str})


@pytest.mark.parametrize("dims", [2, 3])
def test_noised_sketches_come_nearer_to_noised_images(dims, tmp_path, monkeypatch):
    config = experiment(tmp_path, dims)
    table = forth(tmp_path, config).set_index(["bins", "metric", "t"])
    assert sorted(set(table.index)) == sorted(
        (bins, metric, t)
        for bins in (64, 256) for metric in ("kld", "kld_reverse", "bd")
        for t in (100, 800)
    )  # fmt: skip
    for bins in (64, 256):
        for metric in ("kld", "bd"):
            near, far = (table.loc[(bins, metric, t), "value"] for t in (800, 100))
            assert 0 <= near < far
    assert set(table["groups"]) == {3}
    assert set(table["voxels"]) == {3 * math.prod(SHAPES[dims])}
    # Any division of the images gives the same.
    monkeypatch.setattr(appearance, "MOST_VOXELS", 500)
    again = forth(tmp_path, config).set_index(["bins", "metric", "t"])
    pd.testing.assert_frame_equal(again, table)


def test_images_that_are_their_sketches_are_at_no_distance(tmp_path, monkeypatch):
    config = experiment(tmp_path, 2)
    load = appearance.load_annotated

    def same(*given):
        found = load(*given)
        return type(found)(**{**vars(found), "sketch": found.image})

    monkeypatch.setattr(appearance, "load_annotated", same)
    table = forth(tmp_path, config)
    # Not quite 0: each has noise of its own.
    assert table[table["metric"] == "bd"]["value"].max() < 0.02
    monkeypatch.setattr(appearance, "INPUTS", ("real", "real"))
    assert forth(tmp_path, config)["value"].abs().max() < 1e-9


@pytest.mark.parametrize("dims", [2, 3])
def test_real_images_and_sketches_come_back(dims, tmp_path):
    config = experiment(tmp_path, dims)
    table = back(tmp_path, config)
    assert set(table["id"]) == {"003"}
    assert set(table["group"]) == {"g3"}
    counts = table.groupby(["input", "t"])["metric"].nunique()
    assert counts.to_dict() == {
        ("drawn", 0): 9, ("image", 0): 3, ("real", 100): 9, ("real", 800): 9,
        ("sketch", 100): 9, ("sketch", 800): 9,
    }  # fmt: skip
    assert set(table[table["t"] > 0]["sampler"]) == {"dpmpp_2m"}
    images = ImageSet.open(tmp_path / "backward")
    images.verify()
    assert images.shape("003-real-t0100-own") == (8, 24, 24)[-dims:]
    # What is said is true of what was written.
    scale = Normalisation.load(tmp_path / "normalisation.json")
    item = load_annotated(
        annotated_part(tmp_path / "prepared", "test", None), scale, config.appearance,
        "003",
    ).cropped(config.appearance)  # fmt: skip
    unit = scale.to_unit(images.image("003-real-t0100-own"), "003")
    error = np.clip(unit, 0, 1) - np.clip(item.image, 0, 1)
    row = table.query("t == 100 and input == 'real' and metric == 'psnr'")
    assert row["value"].item() == pytest.approx(-10 * np.log10((error**2).mean()), 1e-4)


def test_it_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    config = experiment(tmp_path, 3)
    whole = back(tmp_path, config)
    text = (tmp_path / "backward/manifest.csv").read_text()
    (tmp_path / "again").mkdir()
    config = experiment(tmp_path / "again", 3)
    advance, done = appearance.Progress.advance, []

    def stop(self, *given, **more):
        done.append(self.label)
        if done.count("bringing back") == 2:
            raise StopRequestedError("stopped")
        advance(self, *given, **more)

    monkeypatch.setattr(appearance.Progress, "advance", stop)
    with pytest.raises(StopRequestedError):
        back(tmp_path / "again", config)
    assert not (tmp_path / "again/backward").exists()
    made = []
    bring = appearance._bring_back
    monkeypatch.setattr(
        appearance, "_bring_back", lambda *given: made.append(1) or bring(*given)
    )
    pd.testing.assert_frame_equal(back(tmp_path / "again", config), whole)
    assert len(made) == 2  # of four; the others were there
    assert (tmp_path / "again/backward/manifest.csv").read_text() == text


def test_the_papers_sampler_takes_every_step(tmp_path):
    config = experiment(tmp_path, 2, samplers=["own", "ancestral"], times=[3])
    table = back(tmp_path, config)
    kinds = set(zip(table["sampler"].fillna(""), table["steps"], strict=True))
    assert kinds == {("", 0), ("dpmpp_2m", 2), ("ddpm", 3)}


def test_outside_of_the_annotation_nothing_counts(tmp_path):
    config = experiment(tmp_path, 3, mask_outside=True, stack=8, background="zero")
    images = annotated_part(tmp_path / "prepared", "test", None)
    scale = Normalisation.load(tmp_path / "normalisation.json")
    item = load_annotated(images, scale, config.appearance, "003")
    assert item.image.shape == (8, 32, 40)
    assert (item.labels == item.labels[0]).all()
    other = np.where(item.labels > 0, item.image, 9).astype(np.float32)
    found = likeness(item, other, config.appearance)
    assert found["psnr"] == math.inf
    assert found["ssim"] == pytest.approx(1)
    assert found["bd_intensity"] > 0.1  # realism is of all of the image
    assert "f1" not in found
    assert "dice" in found


def test_what_cannot_be_measured_is_said(tmp_path):
    config = experiment(tmp_path, 2, times=[100, 2000])
    for stage in (forth, back):
        with pytest.raises(PhantomscopeError, match="2000 is beyond the 1000"):
            stage(tmp_path, config)
    with ImageSetWriter(tmp_path / "bare", {}) as writer:
        writer.add("a", scene(2, 0)[0], split="test")
    with pytest.raises(PhantomscopeError, match="part `test` has labels"):
        annotated_part(tmp_path / "bare", "test", 3)
    with ImageSetWriter(tmp_path / "empty", {}) as writer:
        raw, labels = scene(2, 0)
        writer.add("a", raw, labels * 0, split="test")
    scale = Normalisation("dataset", "linear", {"a": (0, 1000)}, "uint16")
    with pytest.raises(PhantomscopeError, match="'a' shows no cell"):
        load_annotated(
            annotated_part(tmp_path / "empty", "test", 1), scale, config.appearance, "a"
        )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bins": [64]}, "must contain 256"),
        ({"times": [5, 5]}, "names something twice"),
    ],
)
def test_bad_options_are_refused(options, words):
    with pytest.raises(PhantomscopeError, match=words):
        make_config({"appearance": options})
