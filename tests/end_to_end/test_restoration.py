"""Restoration from a folder of images to the report: all arms, no segmentation."""

from __future__ import annotations

import re

import pandas as pd
import pytest
import tifffile
import yaml

from phantomscope.config.structures import Filaments
from phantomscope.images.imageset import ImageSet
from phantomscope.simulate.filaments import numbered_microtubules
from phantomscope.simulate.tubes import length_map
from phantomscope.verify import verify

pytestmark = pytest.mark.end_to_end

PIXEL, SIDE = 27.0, 96
ARMS = ("mathematical", "diffusion", "experimental")
CONFIG = {
    "experiment": "tubules",
    "scale": "smoke",
    "split": {"by": "group"},
    "simulate": {
        "organism": "microtubules", "images": 3, "size": [SIDE, SIDE], "shards": 1,
        "structures": {"pixel": PIXEL, "filaments": {"cell_diameter": 12}},
    },
    "network": {"preset": "small"},
    "train": {"steps": 8, "batch_size": 2, "patch": 32, "warmup": 2},
    "start": {
        "candidates": [100], "max_distance": 1.0, "min_fidelity": 0.01, "images": 1,
    },
    "synthesise": {"steps": 2, "tile": 64, "overlap": 8},
    "check": {"max_vanished": 1.0, "max_phantoms": 1000, "min_agreement": 0.0},
    "segment": {"tools": []},
    "evaluate": {"resamples": 50},
    "restore": {
        "arms": list(ARMS), "pairs": 6, "patch": 64,
        "care": {"steps": 6, "epochs": 2, "batch_size": 2, "patch": 32},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def results(snakemake, tmp_path_factory):
    folder = tmp_path_factory.mktemp("restoration")
    (folder / "images").mkdir()
    field = (SIDE * PIXEL, SIDE * PIXEL)
    for number in range(6):
        drawn = numbered_microtubules(Filaments(cell_diameter=12), field, 7, number)
        light = length_map(drawn.lines, field, PIXEL).astype("float32")
        tifffile.imwrite(folder / f"images/cell{number}.tif", light)
    source = {"kind": "folder", "path": "images", "pixel_size_um": PIXEL / 1000}
    (folder / "mine.yaml").write_text(yaml.safe_dump({**CONFIG, "source": source}))
    process = snakemake(folder, "--cores", 2, "--configfile", folder / "mine.yaml")
    assert process.returncode == 0, process.stdout + process.stderr
    return folder / "results/tubules"


def test_every_arm_is_measured_beside_its_input(results):
    table = pd.read_csv(results / "tables/restoration.csv")
    assert table["id"].is_unique
    means = table[(table["metric"] == "psnr") & (table["seed"] == "all")]
    found = set(zip(means["method"], means["condition"], strict=True))
    assert found == {("widefield", "none"), *(("care", arm) for arm in ARMS)}
    assert set(means["n"]) == {2}
    assert set(table.loc[table["metric"] == "snr", "condition"]) == {*ARMS, "test"}
    ratios = table.loc[table["metric"] == "frc_ratio", "condition"]
    assert set(ratios) == {"diffusion / mathematical", "diffusion / experimental"}


def test_test_images_train_no_arm(results):
    test = ImageSet.open(results / "pairs/test")
    test.verify()
    for arm in ARMS:
        pairs = ImageSet.open(results / "pairs" / arm)
        pairs.verify()
        assert len(pairs) == 6
        assert not set(pairs.table["parent"]) & set(test.ids)
    prepared = ImageSet.open(results / "prepared")
    assert test.ids == prepared.select(split="test").ids


def test_the_report_shows_restoration_and_no_segmentation(results):
    page = (results / "report.html").read_text()
    assert 'id="restoration"' in page
    assert 'id="results"' not in page
    assert "Not measured" not in page
    heading = re.search(r"<h1>(.*?)</h1>", page, re.S)
    assert heading is not None
    assert "widefield images resolve" in heading[1]
    for arm in ARMS:
        assert f"CARE, {arm}" in page


def test_every_file_is_accounted_for(results):
    report = verify(results)
    assert report.ok, report.render()
    assert not report.unaccounted
    assert not report.unrecorded
