"""Pairs of widefield and super-resolution images, and what cannot be paired."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from tests.restoring import PIXEL, SIDE, image_of, restoring, write_set

from phantomscope.config.load import make_config
from phantomscope.config.model import Config
from phantomscope.config.restoration import PairOptics
from phantomscope.downstream.pairs import STRUCTURE, cut_pair, light_of, places_of
from phantomscope.errors import PhantomscopeError
from phantomscope.images.imageset import ImageSet
from phantomscope.images.join import concatenate
from phantomscope.images.writer import ImageSetWriter
from phantomscope.planning.sharding import resolved
from phantomscope.stages import restoration


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """Four images to train on, two to test."""
    with ImageSetWriter(tmp_path / "prepared", {"name": "lines"}) as writer:
        for number in range(6):
            split = "train" if number < 4 else "test"
            writer.add(
                f"cell{number}", image_of(number), split=split, pixel_size=PIXEL / 1000
            )
    return tmp_path / "prepared"


def hashes(folder: Path) -> list[tuple[str, ...]]:
    images = ImageSet.open(folder)
    images.verify()
    columns = ["id", "parent", "sha256", "target_sha256"]
    return list(images.table[columns].itertuples(index=False, name=None))


# Targets of image sets


def test_a_set_keeps_checks_and_joins_targets(tmp_path):
    image = image_of(0)
    with ImageSetWriter(tmp_path / "a", {}) as writer:
        writer.add("x", image, target=2 * image)
    images = ImageSet.open(tmp_path / "a")
    np.testing.assert_array_equal(images.target("x"), 2 * image)
    concatenate(tmp_path / "all", tmp_path / "all", [tmp_path / "a"], {})
    ImageSet.open(tmp_path / "all").verify()
    with ImageSetWriter(tmp_path / "b", {}) as writer:
        writer.add("x", image, target=3 * image)
    (tmp_path / "b/targets/x.ome.tif").replace(tmp_path / "a/targets/x.ome.tif")
    with pytest.raises(PhantomscopeError, match="not those that the manifest"):
        images.verify()
    plain = ImageSet.open(write_set(tmp_path / "c", {"x": image}))
    plain.verify()
    with pytest.raises(PhantomscopeError, match="has no target"):
        plain.target("x")


# Pairs


def test_light_is_the_same_for_any_brightness_scale():
    image = image_of(1)
    np.testing.assert_allclose(light_of(700 * image + 90), light_of(image), atol=1e-5)
    assert light_of(image).min() == 0
    sparse = np.zeros((100, 100), np.uint16)
    sparse[3, 4] = 7  # rarer than the upper percentile
    assert light_of(sparse).max() == 1
    assert not light_of(np.full((9, 9), 5.0)).any()


def test_a_pair_has_structure_in_its_middle():
    light = np.zeros((60, 90), np.float32)
    light[30, 70] = 1
    places = places_of(light, 32)
    for y, x in places:
        assert light[y + 8 : y + 24, x + 8 : x + 24].max() > STRUCTURE
    # All places: the middle half of 16 px covers the only bright pixel.
    wanted = {
        (y, x) for y in range(29) for x in range(59)
        if y + 8 <= 30 < y + 24 and x + 8 <= 70 < x + 24
    }  # fmt: skip
    assert {(int(y), int(x)) for y, x in places} == wanted
    assert not len(places_of(0.3 * light, 32))


def test_a_cut_pair_is_imaged_with_what_lies_around_it():
    """Light from beyond the pair reaches it, and turning turns both."""
    light = np.zeros((96, 96), np.float32)
    light[40, 31] = 1  # one pixel left of the pair
    optics = PairOptics(snr=None, photons=(3e4, 3e4), background=0, perlin=(0, 0))
    pair = cut_pair(light, (32, 32), 32, 0, PIXEL, optics, np.random.default_rng(1))
    assert not pair.target.any()
    row, column = np.unravel_index(np.argmax(pair.counts), pair.counts.shape)
    assert (row, column) == (8, 0)
    light[44, 50] = 0.5
    plain = cut_pair(light, (32, 32), 32, 0, PIXEL, optics, np.random.default_rng(1))
    turned = cut_pair(light, (32, 32), 32, 5, PIXEL, optics, np.random.default_rng(1))
    back = np.rot90(turned.counts[:, ::-1], -1)
    np.testing.assert_array_equal(back, plain.counts)
    np.testing.assert_array_equal(np.rot90(turned.target[:, ::-1], -1), plain.target)


def _killed(folder: Path, pairs: ImageSet) -> None:
    """Leave what a killed job leaves after three pairs."""
    own = ("split", "group", "parent", "seed", "snr", "photons", "top", "left", "turn")
    with ImageSetWriter(folder, pairs.info) as writer:
        for name in pairs.ids[:3]:
            row = pairs.row(name)
            writer.add(
                name, pairs.image(name), target=pairs.target(name),
                pixel_size=PIXEL / 1000, **{key: row[key] for key in own},
            )  # fmt: skip
        raise RuntimeError("killed")


def test_pairs_do_not_depend_on_shards_order_or_a_kill(prepared, tmp_path):
    images = {f"sketch-{n:03d}": image_of(n) for n in range(5)}
    names = list(images)
    one = write_set(tmp_path / "one", images)
    parts = [
        write_set(tmp_path / f"part{n}", {k: images[k] for k in keys})
        for n, keys in enumerate((names[3:], names[:3]))
    ]
    make = partial(
        restoration.make_pairs, restoring(), prepared=prepared, pairs_of="mathematical"
    )
    make(pairs=tmp_path / "a", sources=[one])
    make(pairs=tmp_path / "b", sources=parts)
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    found = ImageSet.open(tmp_path / "a")
    # No image is left out, and none is seen more than once more often than another.
    assert sorted(found.table["parent"].value_counts()) == [1, 1, 1, 1, 2]
    assert found.table["turn"].nunique() > 1
    # Killed after some pairs: the rest is made, and all are the same.
    with pytest.raises(RuntimeError):
        _killed(tmp_path / "c", found)
    make(pairs=tmp_path / "c", sources=[one])
    assert hashes(tmp_path / "c") == hashes(tmp_path / "a")


def test_arms_match_in_light_and_have_no_testimage_of(prepared, tmp_path):
    options = restoring(pairs=24)
    sketches = {f"sketch-{n}": image_of(10 + n) for n in range(4)}
    folder = write_set(tmp_path / "sketches", sketches)
    for arm, sources in (("mathematical", [folder]), ("experimental", [])):
        restoration.make_pairs(
            options, prepared=prepared, pairs=tmp_path / arm, pairs_of=arm,
            sources=sources,
        )  # fmt: skip
    restoration.make_pairs(
        options, prepared=prepared, pairs=tmp_path / "test", pairs_of="test"
    )
    drawn, real = (
        ImageSet.open(tmp_path / a) for a in ("mathematical", "experimental")
    )
    assert drawn.ids == real.ids
    # The ratio of a number is the same in both arms but for what a margin changes.
    both = np.corrcoef(drawn.table["snr"], real.table["snr"])[0, 1]
    assert both > 0.9
    mean = np.mean([drawn.table["snr"].mean(), real.table["snr"].mean()])
    assert abs(drawn.table["snr"].mean() - real.table["snr"].mean()) < 0.1 * mean
    test = ImageSet.open(tmp_path / "test")
    assert test.ids == ["cell4", "cell5"]
    assert test.shape("cell4") == (SIDE, SIDE)
    assert set(real.table["parent"]) == {f"cell{n}" for n in range(4)}
    assert test.voxel_size("cell4") == pytest.approx((0.027, 0.027))


def test_images_without_structure_are_named_not_silently_left_out(
    prepared, tmp_path, capsys
):
    corner = np.zeros((SIDE, SIDE), np.float32)
    corner[0, 0] = 1
    folder = write_set(tmp_path / "checked", {"a": image_of(0), "empty": corner})
    call = partial(restoration.make_pairs, restoring(), prepared=prepared,
                   pairs_of="diffusion")  # fmt: skip
    call(pairs=tmp_path / "p", sources=[folder])
    assert "1 of 2 images show no structure" in capsys.readouterr().out
    info = ImageSet.open(tmp_path / "p").info
    assert (info["sources"], info["used"]) == (2, 1)
    assert info["without_structure"] == ["empty"]
    folder = write_set(tmp_path / "none", {"empty": corner})
    with pytest.raises(PhantomscopeError, match="none of the 1 images"):
        call(pairs=tmp_path / "q", sources=[folder])


# Bad inputs


def test_what_cannot_be_paired_is_refused(prepared, tmp_path):
    def make(options: Config, of: str, *sources: Path, real: Path = prepared) -> None:
        restoration.make_pairs(
            options, prepared=real, pairs=tmp_path / "p", pairs_of=of,
            sources=list(sources),
        )  # fmt: skip

    with pytest.raises(PhantomscopeError, match="there are no pairs of 'real'"):
        make(restoring(), "real")
    with pytest.raises(PhantomscopeError, match="need the folders"):
        make(restoring(), "diffusion")
    with pytest.raises(PhantomscopeError, match="is smaller"):
        make(restoring(patch=80), "experimental")
    unknown = write_set(
        tmp_path / "u", {"a": image_of(0)}, split="train", pixel_size=None
    )
    with pytest.raises(PhantomscopeError, match="pixel_size_um") as raised:
        make(restoring(), "experimental", real=unknown)
    assert "side of a pixel" in raised.value.what
    nm = {"organism": "microtubules", "structures": {"pixel": 32.0}}
    drawn = {"stage": "simulate", "options": nm}
    sketches = write_set(tmp_path / "s", {"a": image_of(0)}, drawn)
    with pytest.raises(PhantomscopeError, match="pixels of 32 nm, the images of 27 nm"):
        make(restoring(), "mathematical", sketches)
    flat = {"a": np.full((SIDE, SIDE), 3.0, np.float32)}
    dark = write_set(tmp_path / "d", flat, split="test")
    with pytest.raises(PhantomscopeError, match="the same everywhere"):
        make(restoring(), "test", real=dark)
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"restore": {"optics": {"binning": 4}}}, "must be 1"),
        ({"restore": {"arms": ["diffusion", "diffusion"]}}, "twice"),
        ({"restore": {"arms": ["drawn"]}}, "restore.arms"),
        (
            {"restore": {"arms": ["diffusion"]}, "simulate": {"size": [16, 64, 64]}},
            "for images",
        ),
    ],
)
def test_configs_that_cannot_be(options, message):
    with pytest.raises(PhantomscopeError, match=message):
        make_config(options)


def test_what_care_sees_fits_into_a_pair():
    options = make_config({"restore": {"arms": ["diffusion"], "patch": 32}})
    with pytest.raises(PhantomscopeError, match="do not fit into pairs"):
        resolved(options)


def test_the_optics_of_pairs_state_a_ratio():
    assert PairOptics().snr == (5.0, 15.0)
    assert make_config({"restore": {"optics": {"gain": 2}}}).restore.optics.snr
    with pytest.raises(ValidationError):
        PairOptics(snr=(9.0, 2.0))
