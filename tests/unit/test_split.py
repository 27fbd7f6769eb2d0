"""The split: disjoint, of the share that was asked for, the same for a seed."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phantomscope.acquire.disjoint import assert_disjoint
from phantomscope.acquire.split import cut, prepare
from phantomscope.config.data import Split
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.images.writer import ImageSetWriter


def make(folder, shapes, groups=None, *, masks=True, seeds=None):
    """A set in which every pixel of every image is another number."""
    with ImageSetWriter(folder, {"source": "test", "licence": "CC0"}) as writer:
        for number, shape in enumerate(shapes):
            seed = seeds[number] if seeds else number
            size = shape[0] * shape[1]
            image = (np.arange(size) + seed * 1_000_000).reshape(shape)
            name = f"i{number:02}"
            writer.add(
                name,
                image.astype(np.float32),
                (image % 7).astype(np.uint16) if masks else None,
                pixel_size=0.5,
                group=groups[number] if groups else name,
                stratum=f"{shape[0]}x{shape[1]}",
            )
    return ImageSet.open(folder)


def divide(images, folder, seed=0, **options):
    prepare(images, Split(**options), seed, folder)
    prepared = ImageSet.open(folder)
    assert_disjoint(prepared)
    return prepared


def sides(prepared):
    return {i: prepared.row(i)["split"] for i in prepared.ids}


# By region


@settings(max_examples=200, deadline=None)
@given(
    height=st.integers(16, 700),
    width=st.integers(16, 700),
    fraction=st.floats(0.05, 0.95),
    margin=st.integers(0, 80),
    first=st.booleans(),
)
def test_cut_is_disjoint_with_the_margin(height, width, fraction, margin, first):
    options = Split(by="region", train_fraction=fraction, margin=margin)
    # Half a pixel is rounded either way, so nothing is asked at the very limit.
    thinner = (max(height, width) - margin) * min(fraction, 1 - fraction)
    if thinner < 63.5:
        with pytest.raises(PhantomscopeError, match="choose a smaller margin"):
            cut((height, width), options, first)
    if thinner < 64.5:
        return
    boxes = cut((height, width), options, first)
    count = np.zeros((height, width), int)
    for (y0, y1), (x0, x1) in boxes.values():
        assert 0 <= y0 < y1 <= height
        assert 0 <= x0 < x1 <= width
        count[y0:y1, x0:x1] += 1
    assert count.max() == 1
    assert (count == 0).sum() == margin * min(height, width)
    sizes = {s: np.prod([end - begin for begin, end in b]) for s, b in boxes.items()}
    share = sizes["train"] / (sizes["train"] + sizes["test"])
    assert abs(share - fraction) <= 0.5 / 128 + 1e-9
    axis = 0 if height >= width else 1
    one, other = sorted(b[axis] for b in boxes.values())
    assert other[0] - one[1] == margin
    assert min(one[1] - one[0], other[1] - other[0]) >= 64
    assert (boxes["train"][axis][0] == 0) == first


@settings(max_examples=15, deadline=None)
@given(
    shapes=st.lists(
        st.tuples(st.integers(20, 300), st.integers(260, 300)), min_size=1, max_size=3
    ),
    fraction=st.floats(0.35, 0.65),
    margin=st.integers(0, 40),
    seed=st.integers(0, 2**63 - 1),
)
def test_no_test_pixel_is_in_the_training_part(shapes, fraction, margin, seed):
    with tempfile.TemporaryDirectory() as name:
        images = make(Path(name) / "set", shapes)
        options = {"by": "region", "train_fraction": fraction, "margin": margin}
        prepared = divide(images, Path(name) / "split", seed, **options)
        prepared.verify()
        pixels = {"train": set(), "test": set()}
        for identifier in prepared.ids:
            row = prepared.row(identifier)
            crop = prepared.image(identifier)
            assert identifier == f"{row['parent']}-{row['split']}"
            box = np.s_[row["y0"] : row["y1"], row["x0"] : row["x1"]]
            whole = images.image(row["parent"])
            np.testing.assert_array_equal(crop, whole[box])
            np.testing.assert_array_equal(
                prepared.mask(identifier), images.mask(row["parent"])[box]
            )
            # The numbers of an image are unique, so this compares places.
            pixels[row["split"]] |= {(row["parent"], value) for value in crop.flat}
        assert not pixels["train"] & pixels["test"]


def test_regions_keep_what_is_known_of_the_parent(tmp_path):
    images = make(tmp_path / "set", [(200, 100)] * 2, ["g", "h"], masks=False)
    prepared = divide(images, tmp_path / "split")
    assert prepared.ids == ["i00-test", "i00-train", "i01-test", "i01-train"]
    row = prepared.row("i00-train")
    assert (row["group"], row["parent"], row["stratum"]) == ("g", "i00", "200x100")
    assert row["pixel_size"] == 0.5
    assert not prepared.has_mask("i00-train")
    assert prepared.info["licence"] == "CC0"
    assert prepared.info["split"]["by"] == "region"
    assert prepared.info["split"]["margin"] == 24


def test_thin_images_are_refused(tmp_path):
    images = make(tmp_path / "set", [(100, 140)])
    with pytest.raises(PhantomscopeError, match="choose a smaller margin") as caught:
        prepare(images, Split(by="region"), 0, tmp_path / "split")
    assert "100 x 140 px leaves 70 px for training and 46 px for test" in str(
        caught.value
    )
    assert not (tmp_path / "split").exists()


def test_copies_of_an_image_are_cut_alike(tmp_path):
    for seed in range(6):
        images = make(tmp_path / f"{seed}", [(300, 200)] * 2, seeds=[5, 5])
        prepared = divide(images, tmp_path / f"split{seed}", seed)
        places = {(row["split"], row["y0"]) for _, row in prepared.table.iterrows()}
        assert len(places) == 2


# By group


@settings(max_examples=30, deadline=None)
@given(
    groups=st.lists(st.integers(0, 9), min_size=2, max_size=24),
    sizes=st.integers(1, 3),
    fraction=st.floats(0.05, 0.95),
    seed=st.integers(0, 100),
)
def test_groups_are_on_one_side(groups, sizes, fraction, seed):
    names = [f"g{g}" for g in groups]
    with tempfile.TemporaryDirectory() as name:
        shapes = [(16, 16 + g % sizes) for g in groups]
        images = make(Path(name) / "set", shapes, names, masks=False)
        options = Split(by="group", train_fraction=fraction)
        if len(set(names)) == 1:
            with pytest.raises(PhantomscopeError, match="one group only"):
                prepare(images, options, seed, Path(name) / "split")
            return
        prepared = divide(
            images, Path(name) / "split", seed, by="group", train_fraction=fraction
        )
        prepared.verify()
        assert prepared.ids == images.ids
        assert set(sides(prepared).values()) == {"train", "test"}
        assert prepared.table.groupby("group")["split"].nunique().max() == 1
        # In each stratum of two groups and more, both sides and the share.
        for _, stratum in prepared.table.groupby("stratum"):
            training = stratum[stratum["split"] == "train"]["group"].nunique()
            count = stratum["group"].nunique()
            if count > 1:
                expected = min(max(round(fraction * count), 1), count - 1)
                assert training == expected


def test_split_by_group_copies_no_pixel(tmp_path):
    images = make(tmp_path / "deep" / "set", [(20, 30)] * 5)
    prepared = divide(images, tmp_path / "split")
    assert prepared.info["split"]["by"] == "group"
    assert not list((tmp_path / "split").rglob("*.tif"))
    assert not list(tmp_path.glob(".*"))
    np.testing.assert_array_equal(prepared.mask("i03"), images.mask("i03"))
    row = prepared.row("i03")
    assert [row[c] for c in ("y0", "x0", "y1", "x1")] == [0, 0, 20, 30]
    assert (row["parent"], row["stratum"]) == ("i03", "20x30")
    assert list(sides(prepared).values()).count("train") == 3


def test_pixels_are_found_behind_a_link(tmp_path):
    images = make(tmp_path / "set", [(20, 30)] * 4)
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "results").symlink_to(tmp_path / "far" / "away")
    prepared = divide(images, tmp_path / "results" / "split")
    prepared.verify()
    np.testing.assert_array_equal(prepared.image("i03"), images.image("i03"))


def test_images_all_of_another_size_keep_the_share(tmp_path):
    images = make(tmp_path / "set", [(20, 20 + n) for n in range(10)])
    prepared = divide(images, tmp_path / "split")
    assert list(sides(prepared).values()).count("train") == 6
    free = divide(images, tmp_path / "free", stratify="none")
    assert list(sides(free).values()).count("train") == 6


def test_lone_sizes_are_for_training(tmp_path):
    images = make(tmp_path / "set", [(20, 20)] * 4 + [(20, 40)])
    for seed in range(5):
        prepared = divide(images, tmp_path / f"split{seed}", seed)
        assert sides(prepared)["i04"] == "train"


def test_copies_of_an_image_are_on_one_side(tmp_path):
    # i00 and i01 are one image, so are i01's group and i02's.
    images = make(
        tmp_path / "set",
        [(20, 20)] * 7,
        ["a", "b", "b", "c", "d", "e", "f"],
        seeds=[9, 9, 1, 2, 3, 4, 5],
    )
    for seed in range(8):
        found = sides(divide(images, tmp_path / f"split{seed}", seed))
        assert found["i00"] == found["i01"] == found["i02"]


@pytest.mark.parametrize(("count", "by"), [(1, "region"), (3, "region"), (4, "group")])
def test_auto_cuts_few_images(tmp_path, count, by):
    images = make(tmp_path / "set", [(256, 200)] * count)
    prepared = divide(images, tmp_path / "split")
    assert prepared.info["split"]["by"] == by


def test_a_set_without_strata_can_be_divided(tmp_path):
    with ImageSetWriter(tmp_path / "set", {}) as writer:
        for number in range(4):
            image = np.arange(600, dtype=np.uint16).reshape(20, 30) + number
            writer.add(f"{number}", image)
    prepared = divide(ImageSet.open(tmp_path / "set"), tmp_path / "split")
    assert prepared.row("2")["x1"] == 30


@pytest.mark.parametrize("by", ["group", "region"])
def test_a_seed_makes_one_split(tmp_path, by):
    images = make(tmp_path / "set", [(160, 200)] * 8)
    options = {"by": by, "margin": 10}
    texts = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4), ("d", 5)):
        divide(images, tmp_path / name, seed, **options)
        texts.append((tmp_path / name / "manifest.csv").read_text())
    assert texts[0] == texts[1]
    assert len(set(texts)) > 1
    # Over an old split, of either kind.
    divide(images, tmp_path / "c", 3, **options)
    assert (tmp_path / "c" / "manifest.csv").read_text() == texts[0]


@pytest.mark.parametrize("by", ["group", "region"])
def test_fewer_training_images_are_among_more(tmp_path, by):
    groups = [f"g{n // 2}" for n in range(12)]
    images = make(tmp_path / "images", [(100, 240)] * 12, groups)
    parts = {
        most: divide(images, tmp_path / f"{most}", by=by, most_train=most)
        for most in (1, 2, 3, None)
    }
    every = parts[None].select(split="test").ids
    training = {}
    for most, prepared in parts.items():
        # The test part stays.
        assert prepared.select(split="test").ids == every
        chosen = prepared.select(split="train").table["group"]
        training[most] = set(chosen)
        assert len(chosen) == 2 * len(training[most])
        assert len(training[most]) == (most or (4 if by == "group" else 6))
    assert training[1] < training[2] < training[3] <= training[None]


def test_an_empty_set_cannot_be_divided(tmp_path):
    images = make(tmp_path / "set", [(20, 20)])
    with pytest.raises(PhantomscopeError, match="no image to divide"):
        prepare(images.select(id="x"), Split(), 0, tmp_path / "split")


# The check


def tampered(prepared, **cells):
    table = prepared.table.copy()
    for cell, value in cells.items():
        identifier, column = cell.split("__")
        table.loc[identifier.replace("_", "-"), column] = value
    return ImageSet(prepared.folder, table, prepared.info)


def test_overlap_is_found(tmp_path):
    images = make(tmp_path / "set", [(300, 200)])
    prepared = divide(images, tmp_path / "split")
    train, test = prepared.row("i00-train"), prepared.row("i00-test")
    low, high = ("train", "test") if train["y0"] == 0 else ("test", "train")
    border = min(train["y1"], test["y1"])
    for end, gap in ((border + 1, 23), (border + 24, 0), (border + 40, -16)):
        with pytest.raises(PhantomscopeError, match=f"are {gap} px apart"):
            assert_disjoint(tampered(prepared, **{f"i00_{low}__y1": end}))
    # Nearer but for the other axis: a margin in one direction is enough.
    assert_disjoint(tampered(prepared, **{f"i00_{high}__x0": 3}))
    with pytest.raises(PhantomscopeError, match="on the side ''"):
        assert_disjoint(tampered(prepared, i00_train__split=""))


def test_groups_and_images_on_both_sides_are_found(tmp_path):
    images = make(tmp_path / "set", [(20, 30)] * 4)
    prepared = divide(images, tmp_path / "split")
    one = prepared.select(split="train").ids[0]
    other = prepared.select(split="test").ids[0]
    for column in ("group", "sha256"):
        value = prepared.row(one)[column]
        with pytest.raises(PhantomscopeError, match=f"the {column} .* both sides"):
            assert_disjoint(tampered(prepared, **{f"{other}__{column}": value}))


def test_manifest_is_plain(tmp_path):
    images = make(tmp_path / "set", [(300, 200)])
    divide(images, tmp_path / "split")
    table = pd.read_csv(tmp_path / "split" / "manifest.csv")
    assert {"parent", "y0", "x0", "y1", "x1", "stratum"} <= set(table.columns)
    info = json.loads((tmp_path / "split" / "info.json").read_text())
    assert info["split"]["seed"] == 0
