"""The stages of semantic filtering: from labelled images to objects that are found."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from tests.cultures import (
    SIDE,
    compose,
    config,
    find,
    same,
    train,
    train_both,
    weights,
    write_cultures,
)

from phantomscope.acquire import folds
from phantomscope.engine import layers
from phantomscope.engine.checkpoint import load_checkpoint
from phantomscope.engine.model import DiffusionModel
from phantomscope.engine.networks import count_parameters
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.images.writer import ImageSetWriter
from phantomscope.stages import filtered, filtering


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_cultures(tmp_path_factory.mktemp("filtering"))


@pytest.fixture(scope="module")
def trained(made):
    return train_both(made)


def test_crops_know_their_images_and_are_shown(made):
    crops = ImageSet.open(made / "crops")
    assert len(crops) == 30
    assert set(crops.table["type"]) == {"large", "small"}
    assert set(crops.table["fold"]) == {1, 2, 3}
    assert (made / "sheet.png").stat().st_size > 10_000
    behind = ImageSet.open(made / "backgrounds")
    prepared = ImageSet.open(made / "prepared")
    columns = ["id", "split", "group", "fold", "sha256"]
    pd.testing.assert_frame_equal(behind.table[columns], prepared.table[columns])


@pytest.mark.parametrize("count", [1, 3])
def test_no_image_is_on_both_sides_of_composed_sets(made, tmp_path, count):
    options = config(filter={"folds": count})
    prepared = ImageSet.open(made / "prepared")
    for fold in range(count):
        parents = {}
        for use in ("tests", "taught"):
            compose(options, made, tmp_path / use, use, fold)
            table = pd.read_csv(tmp_path / use / "objects.csv")
            parents[use] = set(table["parent"])
        assert not parents["tests"] & parents["taught"]
        held = folds.held_out(options, prepared, fold)
        assert parents["tests"] <= set(held.ids)
        seen = folds.training_images(options, prepared, fold)
        assert parents["taught"] <= set(seen.ids)


def test_composed_layers_add_up_and_have_labels(made):
    images = ImageSet.open(made / "tests")
    images.verify()
    assert images.ids == ["tests-00000", "tests-00001", "tests-00002"]
    assert folds.tested_images(config(), images, 0).ids == images.ids
    table = pd.read_csv(made / "tests/objects.csv")
    for name in images.ids:
        image, target, other, ground = images.channels(name).astype(int)
        np.testing.assert_allclose(image, target + other + ground, atol=2)
        own = table[table["id"] == name]
        for kind, labels, layer in (
            ("target", images.mask(name), target),
            ("other", images.others(name), other),
        ):
            rows = own[own["type"] == kind].set_index("label")
            assert set(rows.index) == set(np.unique(labels)) - {0}
            # Beyond an outline is a pixel of interpolation, which a zoom widens.
            near = ndimage.binary_dilation(labels > 0, np.ones((5, 5)))
            assert not layer[~near].any()
            assert layer[labels > 0].mean() > 1000
            for label, row in rows.iterrows():
                assert row["area"] == (labels == label).sum()
                assert row["crop"].startswith(row["parent"])
    assert table["type"].value_counts().min() >= 3
    with pytest.raises(PhantomscopeError, match="no labels of other objects"):
        ImageSet.open(made / "taught").others("taught-00000")


def test_rivals_are_taught_all_objects(made):
    images = ImageSet.open(made / "taught")
    table = pd.read_csv(made / "taught/objects.csv")
    for name in images.ids:
        labels, target = images.mask(name), images.channels(name)[1]
        own = table[table["id"] == name].set_index("label")
        assert set(own.index) == set(np.unique(labels)) - {0}
        kinds = own["type"].to_dict()
        # Where the target layer has much light, the label is that of a target.
        bright = target > 0.3 * target.max()
        assert {kinds.get(label) for label in labels[bright]} == {"target"}
    assert set(table["type"]) == {"target", "other"}


def test_composing_again_gives_the_same_and_another_fold_another(made, tmp_path):
    options = config(filter={"folds": 3})
    for name, fold in (("a", 0), ("b", 0), ("c", 1)):
        compose(options, made, tmp_path / name, "tests", fold)
    one, again, other = (ImageSet.open(tmp_path / n).table["sha256"] for n in "abc")
    assert list(one) == list(again)
    assert not set(one) & set(other)


def test_network_of_the_paper_sees_its_image_once(made, tmp_path):
    options = config(
        network={"preset": "noise2noise"}, train={"steps": 1, "batch_size": 1},
        synthesise={"overlap": 0, "tile": 32},
    )  # fmt: skip
    model = DiffusionModel.load(train(options, made, tmp_path))
    assert count_parameters(model.network) == 988_609
    assert (model.conditions, model.shown, model.channels) == (0, False, 1)


class Killed(Exception):
    pass


@pytest.mark.parametrize("method", ["filter", "layers"])
def test_killed_and_resumed_training_gives_the_same_model(
    made, trained, tmp_path, monkeypatch, method
):
    kind = layers.ComposedPairs if method == "filter" else layers.ComposedLayers
    batch = kind.batch

    def failing(self, step, size):
        if step == 3:
            raise Killed
        return batch(self, step, size)

    monkeypatch.setattr(kind, "batch", failing)
    with pytest.raises(Killed):
        train(config(), made, tmp_path, method)
    assert not (tmp_path / "model.pt").exists()
    monkeypatch.setattr(kind, "batch", batch)
    # And with another number of threads that compose.
    monkeypatch.setattr(filtering, "composing_threads", lambda config: 3)
    model = train(config(), made, tmp_path, method)
    assert same(weights(model), weights(trained[method]))
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 4]


def test_what_decides_the_model(made, trained, tmp_path):
    for name, changes in (
        ("seed", {"seed": 1}), ("images", {"images": "2"}), ("target", {}),
    ):  # fmt: skip
        options = config(filter={"targets": ["large", "small"]})
        if name == "target":
            changes = {"target": "small"}
        model = train(options, made, tmp_path / name, **changes)
        assert not same(weights(model), weights(trained["filter"])), name


@pytest.mark.parametrize(("method", "channels"), [("filter", 1), ("layers", 3)])
def test_each_test_image_is_told_apart(made, trained, tmp_path, method, channels):
    found = find(config(), made, tmp_path / "found", trained[method], method)
    found.verify()
    assert found.ids == ImageSet.open(made / "tests").ids
    for name in found.ids:
        kept = found.channels(name)
        assert kept.shape == (channels, SIDE, SIDE)
        assert kept.dtype == np.float32
        assert 0 <= kept.min() <= kept.max() <= 1
        assert found.has_mask(name)
    expected = "target" if method == "filter" else "all"
    assert set(found.table["layer"]) == {expected}


def test_images_of_any_size_in_any_company_are_filtered_alike(made, trained, tmp_path):
    options = config(filter={"truth": "masks", "scale": {"test_percentile": 99}})
    tested, model = made / "prepared", trained["filter"]
    found = find(options, made, tmp_path / "two", model, tested=tested)
    # Of 48 px, in tiles of 32; the columns are those of the images.
    assert found.ids == ["i4", "i5"]
    assert found.shape("i4") == (48, 48)
    assert set(found.table["control"]) == {"none"}
    whole = find(options, made, tmp_path / "all", model, tested=tested, part="all")
    assert len(whole) == 6
    assert whole.row("i5")["sha256"] == found.row("i5")["sha256"]


def test_images_that_exist_are_not_made_again(made, trained, tmp_path, monkeypatch):
    seen, output = [], filtered._Network.output

    def counting(self, image, name):
        seen.append(name)
        if len(seen) == 3:
            raise Killed
        return output(self, image, name)

    monkeypatch.setattr(filtered._Network, "output", counting)
    with pytest.raises(Killed):
        find(config(), made, tmp_path / "found", trained["filter"])
    find(config(), made, tmp_path / "found", trained["filter"])
    assert seen == [f"tests-{n:05d}" for n in (0, 1, 2, 2)]


def video(folder, side=40):
    """Two videos of stripes, in which a dark disc moves."""
    y, x = np.mgrid[:side, :side]
    with ImageSetWriter(folder, {"source": "test"}) as writer:
        for name, split in (("a", "train"), ("b", "test")):
            for number in range(3):
                inside = (y - 20) ** 2 + (x - 7 - 12 * number) ** 2 <= 25
                image = np.where(inside, 40, 180 + 10 * np.sin(x)).astype(np.uint8)
                writer.add(f"{name}{number}", image, group=name, split=split,
                           frame=number)  # fmt: skip
    return np.trunc(180 + 10 * np.sin(x)).astype(np.uint8)


def of_videos(**changes):
    return config(filter={
        "methods": ["filter", "median"], "pairs": "video", "truth": "masks",
        "compose": {"share": "scene"}, "crops": {"dark": True},
        "objects": {"rule": "removed", "min_area": 20}, **changes,
    })  # fmt: skip


def test_median_of_a_video_removes_what_moves(tmp_path):
    scene = video(tmp_path / "prepared")
    found = find(of_videos(), tmp_path, tmp_path / "found", None, "median",
                 tested=tmp_path / "prepared")  # fmt: skip
    assert found.ids == ["b0", "b1", "b2"]
    assert list(found.table["frame"]) == [0, 1, 2]
    for number, name in enumerate(found.ids):
        np.testing.assert_allclose(found.image(name), scene / 255, atol=1e-6)
        labels = found.mask(name)
        assert labels.max() == 1
        centre = np.argwhere(labels).mean(axis=0)
        np.testing.assert_allclose(centre, [20, 7 + 12 * number], atol=0.01)


def test_a_network_is_trained_on_videos(tmp_path):
    video(tmp_path / "prepared")
    options = of_videos()
    model = train(options, tmp_path, tmp_path / "m", crops=None, backgrounds=None)
    assert load_checkpoint(model)[1]["level"] is None
    found = find(options, tmp_path, tmp_path / "found", model,
                 tested=tmp_path / "prepared")  # fmt: skip
    assert set(found.table["layer"]) == {"scene"}
    again = train(options, tmp_path, tmp_path / "n", crops=None, backgrounds=None)
    assert same(weights(model), weights(again))


@pytest.mark.parametrize("share", ["target", "scene"])
@pytest.mark.parametrize(
    "compose_as",
    [
        {"mode": "multiply", "base": [95, 100]},
        {"mode": "blend", "edge": 2.0},
        {"limits": [0, 255], "log_limits": [5, 200]},
    ],
)
def test_ways_to_compose_go_through_training_and_tests(
    made, tmp_path, share, compose_as
):
    values = {"size": SIDE, "targets": [1, 2], "others": [1, 2], "share": share}
    options = config(
        filter={"compose": {**values, **compose_as}, "tests": 1}, train={"steps": 1}
    )
    compose(options, made, tmp_path / "tests", "tests")
    image, target, other, ground = ImageSet.open(tmp_path / "tests").channels(
        "tests-00000"
    ) / np.float32(65535)
    light = filtering.light_of(options)
    joined = light.join([target, other, ground])
    # Layers of a logarithm have its lower limit each.
    atol = 0.15 if "log_limits" in compose_as else 1e-4
    np.testing.assert_allclose(joined, image, atol=atol)
    for method in ("filter", "layers"):
        model = train(options, made, tmp_path / method, method)
        found = find(options, made, tmp_path / f"found-{method}", model, method,
                     tested=tmp_path / "tests")  # fmt: skip
        kept = found.channels("tests-00000")
        assert np.isfinite(kept).all()
        assert kept.max() > kept.min()
        expected = share if method == "filter" else "all"
        assert set(found.table["layer"]) == {expected}
