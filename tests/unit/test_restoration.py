"""Restoration: pairs, CARE, its measures and tables, against what is known."""

from __future__ import annotations

import math
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from phantomscope.config.load import make_config
from phantomscope.config.model import Config
from phantomscope.config.restoration import Care, PairOptics
from phantomscope.downstream import care
from phantomscope.downstream.pairs import STRUCTURE, cut_pair, light_of, places_of
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import read_json
from phantomscope.images.imageset import ImageSet
from phantomscope.images.join import concatenate
from phantomscope.images.noise import generator
from phantomscope.images.writer import ImageSetWriter
from phantomscope.measure.image import matched_accuracy
from phantomscope.measure.restoration import restoration_row, ring_rows
from phantomscope.planning.sharding import resolved
from phantomscope.stages import restoration
from phantomscope.tables.restoration import (
    restoration_rows,
    restoration_table,
    write_restoration,
)

PIXEL = 27.0
SIDE = 72


def lines(number: int, side: int = SIDE, width: float = 1.5) -> np.ndarray:
    """Straight lines across an image: what they are is known everywhere."""
    rng = generator("lines", number)
    y, x = np.mgrid[:side, :side] - side / 2
    image = np.zeros((side, side))
    for _ in range(5):
        angle, offset = rng.uniform(0, np.pi), rng.uniform(-side / 3, side / 3)
        away = y * np.cos(angle) - x * np.sin(angle) - offset
        image += np.exp(-(away**2) / (2 * width**2))
    return image.astype(np.float32)


def write_set(
    folder: Path, images: dict[str, np.ndarray], info: dict[str, Any] | None = None,
    **columns: Any,
) -> Path:  # fmt: skip
    columns = {"pixel_size": PIXEL / 1000, **columns}
    with ImageSetWriter(folder, info or {}) as writer:
        for name, image in images.items():
            writer.add(name, image, **columns)
    return folder


def config(**restore: Any) -> Config:
    small = {
        "arms": ["experimental"], "pairs": 6, "patch": 48,
        "care": {"steps": 2, "epochs": 1, "batch_size": 2, "patch": 32},
    }  # fmt: skip
    return make_config({"restore": {**small, **restore}, "segment": {"tools": []}})


@cache
def _image(number: int) -> np.ndarray:
    return lines(number)


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """Four images to train on, two to test."""
    with ImageSetWriter(tmp_path / "prepared", {"name": "lines"}) as writer:
        for number in range(6):
            split = "train" if number < 4 else "test"
            writer.add(
                f"cell{number}", _image(number), split=split, pixel_size=PIXEL / 1000
            )
    return tmp_path / "prepared"


def hashes(folder: Path) -> list[tuple[str, ...]]:
    images = ImageSet.open(folder)
    images.verify()
    columns = ["id", "parent", "sha256", "target_sha256"]
    return list(images.table[columns].itertuples(index=False, name=None))


# Targets of image sets


def test_a_set_keeps_checks_and_joins_targets(tmp_path):
    image = _image(0)
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
    image = _image(1)
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
    images = {f"sketch-{n:03d}": _image(n) for n in range(5)}
    names = list(images)
    one = write_set(tmp_path / "one", images)
    parts = [
        write_set(tmp_path / f"part{n}", {k: images[k] for k in keys})
        for n, keys in enumerate((names[3:], names[:3]))
    ]
    make = partial(
        restoration.make_pairs, config(), prepared=prepared, pairs_of="mathematical"
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


def test_arms_match_in_light_and_have_no_test_image(prepared, tmp_path):
    options = config(pairs=24)
    sketches = {f"sketch-{n}": _image(10 + n) for n in range(4)}
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
    folder = write_set(tmp_path / "checked", {"a": _image(0), "empty": corner})
    call = partial(restoration.make_pairs, config(), prepared=prepared,
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
        make(config(), "real")
    with pytest.raises(PhantomscopeError, match="need the folders"):
        make(config(), "diffusion")
    with pytest.raises(PhantomscopeError, match="is smaller"):
        make(config(patch=80), "experimental")
    unknown = write_set(
        tmp_path / "u", {"a": _image(0)}, split="train", pixel_size=None
    )
    with pytest.raises(PhantomscopeError, match="pixel_size_um") as raised:
        make(config(), "experimental", real=unknown)
    assert "side of a pixel" in raised.value.what
    nm = {"organism": "microtubules", "structures": {"pixel": 32.0}}
    drawn = {"stage": "simulate", "options": nm}
    sketches = write_set(tmp_path / "s", {"a": _image(0)}, drawn)
    with pytest.raises(PhantomscopeError, match="pixels of 32 nm, the images of 27 nm"):
        make(config(), "mathematical", sketches)
    flat = {"a": np.full((SIDE, SIDE), 3.0, np.float32)}
    dark = write_set(tmp_path / "d", flat, split="test")
    with pytest.raises(PhantomscopeError, match="the same everywhere"):
        make(config(), "test", real=dark)
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"segment": {"tools": []}}, "nothing to train"),
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


def test_a_missing_or_damaged_network_is_explained(tmp_path):
    with pytest.raises(PhantomscopeError, match="no trained CARE network"):
        care.load(tmp_path / "seed0", 512, 1)
    for name in ("config.json", care.WEIGHTS):
        (tmp_path / name).write_text("{}")
    with pytest.raises(PhantomscopeError, match="cannot be loaded"):
        care.load(tmp_path, 512, 1)
    images = ImageSet.open(write_set(tmp_path / "one", {"a": _image(0)}, parent="a"))
    with pytest.raises(PhantomscopeError, match="does not say the target"):
        care.train(images, Care(), folder=tmp_path / "m", seed=0, threads=1)


# CARE


def test_the_network_is_that_of_the_library(tmp_path):
    model = care.new_model(Care(), tmp_path / "seed0")
    assert model.keras_model.count_params() == 922_977
    assert model.config.train_loss == "mae"
    assert (model.config.train_epochs, model.config.train_steps_per_epoch) == (100, 20)
    assert care.schedule(Care(steps=40_000)) == (100, 400)
    assert care.schedule(Care(steps=3)) == (3, 1)


def test_tiles_leave_no_seams(tmp_path):
    model = care.new_model(Care(), tmp_path / "seed0")
    model.keras_model.save_weights(str(tmp_path / "seed0" / care.WEIGHTS))
    image = lines(3, 250)[:, :190]
    whole = care.load(tmp_path / "seed0", 512, 1)(image)
    tiled = care.load(tmp_path / "seed0", 128, 1)(image)
    assert whole.shape == image.shape
    assert np.ptp(whole) > 0
    np.testing.assert_allclose(tiled, whole, atol=1e-4 * np.ptp(whole))


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """A short training on lines, and the pairs that it has not seen."""
    folder = tmp_path_factory.mktemp("learnt")
    with ImageSetWriter(folder / "prepared", {}) as writer:
        for number in range(14):
            split = "train" if number < 12 else "test"
            writer.add(f"i{number}", _image(number), split=split, pixel_size=0.027)
    options = make_config({
        "segment": {"tools": []},
        "restore": {
            "arms": ["experimental"], "pairs": 24, "patch": 48,
            "optics": {"snr": [2.0, 3.0]},
            "care": {"steps": 150, "epochs": 5, "batch_size": 8, "patch": 32,
                     "learning_rate": 1e-3},
        },
    })  # fmt: skip
    for of in ("experimental", "test"):
        restoration.make_pairs(
            options, prepared=folder / "prepared", pairs=folder / of, pairs_of=of
        )
    # What a killed training left does not count.
    (folder / ".seed0.partial").mkdir()
    (folder / ".seed0.partial/weights_worst.h5").write_text("torn")
    restoration.train_restorer(
        options, pairs=folder / "experimental", folder=folder / "seed0"
    )
    restoration.restore(
        options, pairs=folder / "test", folder=folder / "seed0",
        restored=folder / "restored",
    )  # fmt: skip
    return folder, options


def test_training_lowers_the_error_below_that_of_the_input(learnt):
    folder, _ = learnt
    pairs, restored = ImageSet.open(folder / "test"), ImageSet.open(folder / "restored")
    for name in pairs.ids:
        truth = pairs.target(name)
        before = matched_accuracy(truth, pairs.image(name)).psnr
        after = matched_accuracy(truth, restored.image(name)).psnr
        assert after > before + 1
    losses = pd.read_json(folder / "seed0/metrics.jsonl", lines=True)
    assert list(losses["step"]) == [30, 60, 90, 120, 150]
    assert losses["held_out"].iloc[-1] < 0.8 * losses["held_out"].iloc[0]


def test_the_record_names_what_was_held_out(learnt):
    folder, _ = learnt
    record = read_json(folder / "seed0/training.json")
    assert record["parameters"] == 922_977
    assert record["pairs"] + record["held_out"] == 24
    assert record["sources"] == 12
    assert len(record["held_out_sources"]) == 1
    assert {"csbdeep", "keras"} <= set(record["versions"])
    assert {path.name for path in (folder / "seed0").iterdir()} == {
        "config.json", "metrics.jsonl", "training.json", "training.log",
        "weights_best.h5", "weights_last.h5",
    }  # fmt: skip


def test_evaluation_writes_a_row_per_image_and_its_rings(learnt, tmp_path):
    folder, options = learnt
    for name, restored in (("input", None), ("care", folder / "restored")):
        restoration.evaluate_restoration(
            options, pairs=folder / "test", scores=tmp_path / name, restored=restored
        )
    before, after = (
        pd.read_csv(tmp_path / name / "images.csv") for name in ("input", "care")
    )
    assert list(before["id"]) == list(after["id"]) == ["i12", "i13"]
    assert (after["psnr"] > before["psnr"]).all()
    assert set(before["pixel_nm"]) == {27.0}
    rings = pd.read_csv(tmp_path / "care/rings.csv")
    assert set(rings["id"]) == {"i12", "i13"}
    unknown = write_set(tmp_path / "u", {"a": _image(0)}, split="test", pixel_size=None,
                        target="images/a.ome.tif", target_sha256="x")  # fmt: skip
    with pytest.raises(PhantomscopeError, match="no resolution in nm"):
        restoration.evaluate_restoration(options, pairs=unknown, scores=tmp_path / "s")


# Measures


def band_limited(cutoff: float, side: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Two images that agree up to this frequency (cycles / px), and not beyond."""
    rng = np.random.default_rng(5)
    first, other = (np.fft.fft2(rng.standard_normal((side, side))) for _ in range(2))
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(side)] * 2))
    second = np.where(frequency < cutoff, first, other)
    return np.fft.ifft2(first).real, np.fft.ifft2(second).real


def test_a_known_cut_off_is_found_in_nm():
    truth, image = band_limited(0.25)
    row = restoration_row(truth, 3 * image + 2, PIXEL)
    # The taper spreads what is common over two rings.
    assert row["frc_nm"] == pytest.approx(PIXEL / 0.25, rel=0.03)
    assert row["frc_reason"] == ""
    assert row["frc_half_bit_nm"] == pytest.approx(PIXEL / 0.25, rel=0.04)
    assert row["frc_map_blocks"] == 10
    assert 0 < row["frc_map_min_nm"] <= row["frc_map_mean_nm"]
    rings = ring_rows(truth, image, PIXEL)
    low = rings["frequency"] < 0.2 / PIXEL * 1000
    assert (rings.loc[low, "correlation"] > 0.99).all()


def test_no_crossing_is_said_not_invented():
    truth, _ = band_limited(0.25)
    same = restoration_row(truth, truth, PIXEL)
    assert math.isnan(same["frc_nm"])
    assert "finer than 2 pixels" in str(same["frc_reason"])
    other = np.random.default_rng(9).standard_normal(truth.shape)
    unlike = restoration_row(truth, other, PIXEL)
    assert not np.isfinite(unlike["frc_nm"]) or unlike["frc_nm"] > 500
    small = restoration_row(truth[:40, :40], truth[:40, :40], PIXEL)
    assert small["frc_map_blocks"] == 5


# Tables


@pytest.fixture
def scored(tmp_path: Path) -> Path:
    """Scores of three groups: the arm `diffusion` is twice as fine as the other."""
    frc = {
        "widefield/none/seed0": [300, 320, 340, 360],
        "care/mathematical/seed0": [200, 220, 240, 260],
        "care/diffusion/seed0": [100, 110, 120, 130],
        "care/diffusion/seed1": [100, 110, 120, np.nan],
    }
    for place, values in frc.items():
        table = pd.DataFrame({"id": list("abcd"), "group": ["p", "q", "r", "r"]})
        for metric in ("frc_half_bit_nm", "frc_map_mean_nm", "frc_map_sd_nm",
                       "frc_map_min_nm", "psnr", "ssim", "nrmse"):  # fmt: skip
            table[metric] = 0.5
        table["frc_nm"] = values
        folder = tmp_path / "restoration" / place
        folder.mkdir(parents=True)
        table.to_csv(folder / "images.csv", index=False)
    with ImageSetWriter(tmp_path / "pairs/diffusion", {}) as writer:
        for number in range(3):
            writer.add(f"pair-{number}", _image(0), snr=4.0 + number)
    return tmp_path


def test_rows_hold_means_intervals_and_what_is_missing(scored):
    rows = restoration_rows(scored, config())
    assert len({row.id for row in rows}) == len(rows)
    by = {(r.metric, r.method, r.condition, r.seed): r for r in rows}
    own = by["frc_nm", "care", "mathematical", "all"]
    assert (own.value, own.n, own.unit_of_n) == (230, 3, "image group")
    assert own.ci_low < own.value < own.ci_high
    assert by["frc_nm", "care", "diffusion", "0"].value == 115
    # One image has no crossing under one seed: it has no mean over seeds.
    mean = by["frc_nm", "care", "diffusion", "all"]
    assert mean.value == 110
    assert mean.source.endswith("; 1 of 4 images without")
    ratio = by["frc_ratio", "care", "diffusion / mathematical", "all"]
    assert (ratio.value, ratio.ci_low, ratio.ci_high) == (0.5, 0.5, 0.5)
    assert by["snr", "pairs", "diffusion", "all"].value == 5
    assert by["snr", "pairs", "diffusion", "all"].unit_of_n == "pair"


def test_two_groups_have_no_interval(scored):
    for path in scored.glob("restoration/*/*/*/images.csv"):
        table = pd.read_csv(path)
        table.assign(group=["p", "p", "q", "q"]).to_csv(path, index=False)
    rows = [r for r in restoration_rows(scored, config()) if r.metric != "snr"]
    assert all(math.isnan(row.ci_low) for row in rows)
    assert {row.n for row in rows} == {2}


def test_the_table_a_person_reads(scored, tmp_path):
    rows = restoration_rows(scored, config())
    lines_ = restoration_table(rows)
    titles = [line["method, trained on"] for line in lines_]
    assert titles == ["widefield input", "CARE, mathematical", "CARE, diffusion"]
    write_restoration(rows, tmp_path / "r.csv", tmp_path / "r.md")
    text = (tmp_path / "r.md").read_text()
    assert "110 [100, 120] (1 of 4 missing)" in text
    assert "- diffusion / mathematical: 0.50 [0.50, 0.50]" in text
    assert len(pd.read_csv(tmp_path / "r.csv")) == len(rows)


def test_scores_of_other_images_are_refused(scored):
    path = scored / "restoration/care/diffusion/seed0/images.csv"
    pd.read_csv(path).iloc[:3].to_csv(path, index=False)
    with pytest.raises(PhantomscopeError, match="same images"):
        restoration_rows(scored, config())
