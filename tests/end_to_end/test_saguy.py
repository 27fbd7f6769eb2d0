"""The paper at smoke scale, from archives in ShareLoc's layout to its tables."""

import re

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from tests.server import serve
from tests.shareloc_archives import ARCHIVES, write_archives

from phantomscope.config.papers import PAPERS
from phantomscope.images.imageset import ImageSet
from phantomscope.verify import verify

pytestmark = pytest.mark.end_to_end
PARTS = ("mt", "mito", "mt_1")


@pytest.fixture(scope="module")
def finished(root, snakemake, tmp_path_factory):
    """All parts, downloaded from a server on this machine."""
    folder = tmp_path_factory.mktemp("saguy")
    write_archives(folder / "archives")
    options = yaml.safe_load((root / "config/saguy/smoke.yaml").read_text())
    with serve(folder / "archives", ARCHIVES) as registry:
        for part in options["parts"].values():
            part["source"]["registry"] = str(registry)
        path = folder / "smoke.yaml"
        path.write_text(yaml.safe_dump(options))
        process = snakemake(folder, "--cores", 2, "--configfile", path, "--", "saguy")
    assert process.returncode == 0, process.stdout + process.stderr
    return folder / "results/saguy"


def read(finished, name):
    return pd.read_csv(finished / f"tables/{name}.csv").set_index("id")


def test_all_published_values_are_in_the_tables(finished):
    found = []
    for name in PAPERS["saguy"].tables:
        table = read(finished, name)
        found += [key for key in table.index if str(key).startswith("s0")]
        ours = table[table["ours"].notna()]
        assert set(ours["data_kind"]) <= {"simulated"}
        assert ours["remark"].str.contains(r"simulated data \(").all()
        assert ours["remark"].str.contains("reduced scale").all()
        assert (finished / f"tables/{name}.md").read_text().startswith("|")
    assert sorted(found) == [f"s{n:03d}" for n in range(1, 20)]


def test_copies_are_looked_for_in_every_part(finished):
    table = read(finished, "memorisation")
    for key in ("s001", "s002", "s003", "s004", "s005", "s006", "s007", "s008"):
        assert 0 < table.loc[key, "ours"] <= 1
    assert table.loc["s002", "ours"] <= table.loc["s001", "ours"]
    assert table.loc["s002", "ci_low"] <= table.loc["s002", "ours"]
    assert (table.loc["s012", "ours"], table.loc["s013", "ours"]) == (4, 8)
    for part in PARTS:
        own = table[table.index.str.contains(f"/{part}/")]
        assert {"ncc_mean", "ncc_gap", "ncc_flagged"} <= set(own["metric"])
        both = own[own["metric"].eq("ncc_mean") & own["method"].str.contains("lag")]
        assert len(both) == 2  # generated and held-out images
    cut = table["condition"].str.contains("1 training image")
    assert cut.sum() == 13


def test_training_says_what_went_in(finished):
    table = read(finished, "training")
    # 3 of 5 images of 193 px, on a grid of 48 px, under 8 symmetries.
    assert table.loc["s014", "ours"] == 3 * 9 * 8
    assert table.loc["s018", "ours"] > 0
    assert table.loc["s019", "ours"] > 0
    numbers = table.set_index(["metric", "condition"])["ours"]
    assert numbers["train_steps", "diffusion model"].tolist() == [40, 40]
    assert numbers["train_images", "diffusion model, 1 training image"].item() == 1


def test_resolutions_stand_beside_the_published_ones(root, finished):
    parts = yaml.safe_load((root / "config/saguy/smoke.yaml").read_text())["parts"]
    table, training = read(finished, "resolution"), read(finished, "training")
    for key, pairs, part, arm in (("s009", "s016", "mt", "diffusion"),
                                  ("s010", "s016", "mt", "mathematical"),
                                  ("s011", "s017", "mito", "diffusion")):  # fmt: skip
        arms = parts[part].get("restore", {}).get("arms", [])
        if arm not in arms:
            assert table.loc[key, "remark"] == "not run"
            continue
        assert (table.loc[key, "method"], table.loc[key, "scale"]) == ("care", "smoke")
        assert training.loc[pairs, "ours"] == parts[part]["restore"]["pairs"]
        own = table[table["experiment"] == f"saguy/best/{part}"]
        assert {"frc_nm", "restored_psnr", "snr"} <= set(own["metric"])
        assert {"widefield", "care"} <= set(own["method"])


@pytest.mark.parametrize("part", PARTS)
def test_parts_are_whole_experiments(part, finished):
    results = finished / "best" / part
    assert (results / "report.html").stat().st_size > 10_000
    synthetic = ImageSet.open(results / "checked")
    assert len(synthetic) == 4
    synthetic.verify()
    prepared = ImageSet.open(results / "prepared")
    count = prepared.table["split"].value_counts()
    assert (count["train"], count["test"]) == ((1, 2) if part == "mt_1" else (3, 2))
    report = verify(results)
    assert report.ok, report.render()


def test_test_images_train_no_arm(finished):
    results = finished / "best/mt"
    test = ImageSet.open(results / "pairs/test")
    test.verify()
    prepared = ImageSet.open(results / "prepared")
    assert test.ids == prepared.select(split="test").ids
    for arm in ("mathematical", "diffusion", "experimental"):
        pairs = ImageSet.open(results / "pairs" / arm)
        pairs.verify()
        assert len(pairs) == 8
        assert not set(pairs.table["parent"]) & set(test.ids)


def test_the_report_shows_restoration_and_no_segmentation(finished):
    page = (finished / "best/mt/report.html").read_text()
    assert 'id="restoration"' in page
    assert 'id="results"' not in page
    assert "Not measured" not in page
    heading = re.search(r"<h1>(.*?)</h1>", page, re.S)
    assert heading is not None
    assert "widefield images resolve" in heading[1]
    for arm in ("mathematical", "diffusion", "experimental"):
        assert f"CARE, {arm}" in page


def test_fewer_images_are_among_more(finished):
    all_of, one = (
        ImageSet.open(finished / "best" / part / "prepared").select(split="train").ids
        for part in ("mt", "mt_1")
    )
    assert set(one) < set(all_of)


@pytest.mark.parametrize("figure", PAPERS["saguy"].figures)
def test_figures_are_drawn(figure, finished):
    pixels = np.asarray(Image.open(finished / f"figures/{figure}.png").convert("L"))
    assert pixels.std() > 5
