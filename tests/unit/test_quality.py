"""Quality against steps: measures, paired intervals, and how losses are judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from benchmarks import quality
from benchmarks.laboratory import Laboratory
from benchmarks.quality_losses import (
    MEASURES,
    Comparison,
    Outcome,
    judge,
    relative_loss,
    sample,
)

from phantomscope.images.noise import NoiseField
from phantomscope.measure.distribution import bhattacharyya_distance, shared_histograms
from phantomscope.measure.frechet import (
    frechet_distance,
    image_features,
    kernel_distance,
    standardise,
)
from phantomscope.measure.spectral import spectral_distance

RANGE = (-4.0, 4.0)


def noise(name: str, count: int, side: int, gain: float = 1.0) -> list[np.ndarray]:
    return [
        gain * NoiseField(n, name).block((0, 0), (side, side)) for n in range(count)
    ]


def outcome(images: list[np.ndarray], **scores: np.ndarray) -> Outcome:
    crops = {k: v for k, v in scores.items() if k in ("psnr", "ssim")}
    sketches = {k: v for k, v in scores.items() if k == "fidelity"}
    names = [str(n) for n in range(len(images))]
    return Outcome(crops, sketches, sample(images, names, RANGE))


def test_distances_are_those_of_the_library():
    real, made = noise("real", 12, 64), noise("made", 14, 64, 0.8)
    groups = [str(n) for n in range(12)]
    found = Comparison(sample(real, groups, RANGE), outcome(made), resamples=5)
    values = found.values(outcome(made))
    a, b = standardise(image_features(real), image_features(made))
    frechet, kernel = (
        f(b, a, resamples=2) for f in (frechet_distance, kernel_distance)
    )
    assert values["frechet"] == pytest.approx(frechet.value)
    assert values["kernel"] == pytest.approx(kernel.value)
    p, q = shared_histograms(np.stack(real), np.stack(made), 64, RANGE)
    assert values["intensity"] == pytest.approx(bhattacharyya_distance(p, q))
    # Another grid of frequencies.
    assert values["spectrum"] == pytest.approx(spectral_distance(real, made), rel=0.1)


def test_patches_of_one_image_are_no_pairs():
    groups = ["a", "a", "b"]
    real = sample(noise("real", 3, 128), groups, RANGE)
    assert (real.n_groups, len(real.owner)) == (2, 12)
    found = Comparison(real, outcome(noise("made", 4, 64)), resamples=2)
    assert found._real_pairs.sum() == 2 * 8 * 4


def test_the_full_chain_loses_nothing_and_a_worse_way_something():
    real = sample(noise("real", 1, 512), ["one"], RANGE, 64)
    full = outcome(noise("made", 8, 128), psnr=np.full(6, 30.0) + np.arange(6),
                   ssim=np.full(6, 0.8), fidelity=np.full(8, 0.9))  # fmt: skip
    found = Comparison(real, full, ["x"] * 6, resamples=60)
    assert found.crop_unit == "crop of one image"
    same = found.losses(full)
    assert same["worst"] == same["raw"] == 0
    worse = outcome(noise("made", 8, 128, 1.3), psnr=np.full(6, 28.0) + np.arange(6),
                    ssim=np.full(6, 0.8), fidelity=np.full(8, 0.45))  # fmt: skip
    lost = found.losses(worse)
    assert lost["loss_fidelity"] == pytest.approx(0.5)
    assert lost["low_psnr"] <= lost["loss_psnr"] <= lost["high_psnr"]
    for name in ("spectrum", "intensity", "frechet", "kernel"):
        assert lost[f"low_{name}"] > 0, name
        assert lost[f"low_{name}"] <= lost[f"loss_{name}"] <= lost[f"high_{name}"]
    assert lost["worst"] == lost["raw"] > 0.5


def test_crops_of_one_source_are_drawn_together():
    real = sample(noise("real", 2, 64), ["a", "b"], RANGE)
    full = outcome(noise("made", 3, 64), psnr=np.array([30.0, 30, 30, 30]))
    found = Comparison(real, full, ["x", "x", "y", "y"], resamples=200)
    assert (found.crop_unit, found.n_crop_groups) == ("source image", 2)
    lost = found.losses(
        outcome(noise("made", 3, 64), psnr=np.array([27.0, 27, 30, 30]))
    )
    assert (lost["low_psnr"], lost["high_psnr"]) == pytest.approx((0, 0.1))


def test_a_loss_counts_unless_its_interval_reaches_nothing():
    assert judge(0.5, 0.1) == 0.5
    assert judge(0.5, -0.1) == 0
    assert judge(-0.5, -0.6) == -0.5
    # A single group has no interval.
    assert judge(0.5, float("nan")) == 0.5
    one, two = np.array([0.1]), np.array([0.2])
    assert relative_loss("spectrum", two, one) == pytest.approx(10**0.1 - 1)
    assert relative_loss("intensity", two, one) == pytest.approx(1 - np.exp(-0.1))
    assert relative_loss("kernel", one, -two) == pytest.approx(1.5)
    assert relative_loss("psnr", one, two) == pytest.approx(0.5)


@pytest.fixture(scope="module")
def stored(lab: Laboratory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quality")
    start = lab.folder / "near.json"
    start.write_text('{"value": 4}')
    near = Laboratory(lab.folder, lab.config)
    near.start = start
    small = {"steps": (2, 9), "samplers": ("ddim", "sde_dpmpp_2m"), "threads": 1,
             "compiled": False}  # fmt: skip
    rows = quality.rows(near, "small model", folder, 2, side=96, **small)
    assert [row.id for row in rows] == ["engine.quality_loss"]
    return folder


def test_the_curve_holds_every_sampler_and_the_default(stored: Path):
    table = pd.read_csv(stored / "quality.csv")
    assert list(table["sampler"][:3]) == [quality.FULL, quality.AGAIN, "dpmpp_2m"]
    assert list(table["steps"][:3]) == [4, 4, 4]
    # No more steps than times; the default is not measured twice.
    assert list(table["sampler"][3:]) == ["ddim", "sde_dpmpp_2m"]
    assert list(table["default"]) == [False, False, True, False, False]
    full = table.iloc[0]
    assert (full["worst"], full["raw"]) == (0, 0)
    assert table[[f"loss_{name}" for name in MEASURES]].notna().all(axis=None)
    assert (table["raw"] >= table["worst"]).all()
    assert full["n_sketches"] == 2
    assert (stored / "quality.png").stat().st_size < 150_000
    assert len((stored / "quality.csv").read_text()) < 20_000


def test_ap50_is_merged_when_it_is_of_the_same_setting(stored: Path):
    before = quality.stored_rows(stored, "x", suffix="_other")[0]
    assert before.id == "engine.quality_loss_other"
    assert "no AP50" in before.what
    one = pd.read_csv(stored / "quality.csv").iloc[2]
    row = {name: one[name] for name in quality.KEY}
    row |= {"loss_ap50": 9.0, "low_ap50": 8.0, "high_ap50": 10.0, "n": 7, "images": 4,
            "unit": "image group", "seeds": 3, "tool": "stardist"}  # fmt: skip
    pd.DataFrame([row]).to_csv(stored / "quality_ap50.csv", index=False)
    after = quality.stored_rows(stored, "x")[0]
    assert after.value == 9
    assert "7 x image group" in after.what
    pd.DataFrame([row | {"steps": 99}]).to_csv(stored / "quality_ap50.csv", index=False)
    assert quality.stored_rows(stored, "x")[0].value == before.value
    (stored / "quality_ap50.csv").unlink()
