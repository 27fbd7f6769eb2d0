"""CARE: its network, what it learns, its tiles; and how its images are measured."""

from __future__ import annotations

import math
import subprocess
import sys
import time

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml
from tests.restoring import PIXEL, image_of, lines, write_set

from phantomscope.config.load import make_config
from phantomscope.config.restoration import Care
from phantomscope.downstream import care
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import read_json
from phantomscope.images.imageset import ImageSet
from phantomscope.images.writer import ImageSetWriter
from phantomscope.measure.image import matched_accuracy
from phantomscope.measure.restoration import restoration_row, ring_rows
from phantomscope.stages import restoration


def test_a_missing_or_damaged_network_is_explained(tmp_path):
    with pytest.raises(PhantomscopeError, match="no trained CARE network"):
        care.load(tmp_path / "seed0", 512, 1)
    for name in ("config.json", care.WEIGHTS):
        (tmp_path / name).write_text("{}")
    with pytest.raises(PhantomscopeError, match="cannot be loaded"):
        care.load(tmp_path, 512, 1)
    images = ImageSet.open(write_set(tmp_path / "one", {"a": image_of(0)}, parent="a"))
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
            writer.add(f"i{number}", image_of(number), split=split, pixel_size=0.027)
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
    nowhere = {"split": "test", "pixel_size": None, "target": image_of(0)}
    unknown = write_set(tmp_path / "u", {"a": image_of(0)}, **nowhere)
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


def test_a_killed_training_gives_the_same_weights(learnt, tmp_path):
    """It begins anew, and what it left does not count."""
    folder, options = learnt
    few = {"steps": 24, "epochs": 24, "batch_size": 2, "patch": 16}
    content = options.model_dump(mode="json")
    content["restore"]["care"] |= few
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    command = [
        sys.executable, "-m", "phantomscope", "train-restorer", "--config",
        str(tmp_path / "config.yaml"), "--pairs", str(folder / "experimental"),
    ]  # fmt: skip
    disturbed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    process = subprocess.Popen([*command, "--folder", str(disturbed)])
    saved = tmp_path / ".killed.partial/weights_last.h5"
    while not saved.exists():  # of the first epoch
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert not disturbed.exists()
    for place in (disturbed, undisturbed):
        subprocess.run([*command, "--folder", str(place)], check=True)
    for name in ("weights_best.h5", "weights_last.h5"):
        with h5py.File(disturbed / name) as one, h5py.File(undisturbed / name) as other:
            same = []
            one.visititems(
                lambda path, item, other=other, same=same: (
                    same.append(np.array_equal(item, other[path]))
                    if isinstance(item, h5py.Dataset)
                    else None
                )
            )
        assert len(same) > 20
        assert all(same)
