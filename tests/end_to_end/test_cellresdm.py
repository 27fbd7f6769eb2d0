"""The paper at smoke scale, from a gallery on this machine to its tables."""

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from tests.plates import (
    PLATES,
    SMALL_ARTEFACTS,
    STAINS,
    Gallery,
    pixels,
    small_plates,
)
from tests.server import Server

from phantomscope.acquire.plates import assert_apart
from phantomscope.config.papers import PAPERS
from phantomscope.config.translation import ALL_DETECTORS, ALL_METHODS
from phantomscope.engine.codec import Codec
from phantomscope.engine.model import DiffusionModel
from phantomscope.engine.pairs import from_stored
from phantomscope.images.files import read_json
from phantomscope.images.imageset import ImageSet
from phantomscope.tables.instances import RATIOS, STARDIST
from phantomscope.tables.translation import TITLES
from phantomscope.verify import verify

pytestmark = pytest.mark.end_to_end
PART = "best/jump"


@pytest.fixture(scope="module")
def finished(root, snakemake, tmp_path_factory):
    """All methods, learnt from plates that a server on this machine has."""
    folder = tmp_path_factory.mktemp("cellresdm")
    gallery = Gallery(folder / "bucket")
    options = yaml.safe_load((root / "config/cellresdm/smoke.yaml").read_text())
    with Server() as server:
        translate = options["parts"]["jump"]["translate"]
        translate["plates"] |= small_plates(server.add_bucket(gallery.root))
        translate["study"] |= SMALL_ARTEFACTS
        path = folder / "smoke.yaml"
        path.write_text(yaml.safe_dump(options))
        process = snakemake(
            folder, "--cores", 2, "--configfile", path, "--", "cellresdm"
        )
    assert process.returncode == 0, process.stdout + process.stderr
    return folder / "results/cellresdm"


def read(finished, name):
    return pd.read_csv(finished / f"tables/{name}.csv").set_index("id")


def test_all_published_values_are_in_the_tables(finished):
    found = []
    for name in PAPERS["cellresdm"].tables:
        table = read(finished, name)
        found += [key for key in table.index if len(str(key)) == 4]
        ours = table[table["ours"].notna()]
        assert set(ours["data_kind"]) <= {"simulated"}
        assert ours["remark"].str.contains("reduced scale").all()
        assert (finished / f"tables/{name}.md").read_text().startswith("|")
    assert sorted(found) == [f"c{n:03d}" for n in range(1, 113)]


def test_every_method_is_measured(finished):
    table = read(finished, "quality")
    for method in ALL_METHODS:
        own = table[table["condition"] == f"all stains, {method}"].set_index("metric")
        assert np.isfinite(own["ours"]).all()
        assert 0 < own.loc["stain_psnr", "ours"] < 60
        assert own.loc["stain_mse", "ours"] > 0
        # Two wells: too few for an interval.
        assert own["n"].eq(2).all()
        assert own["ci_low"].isna().all()
    assert (table["metric"] == "psnr_ratio").sum() == len(ALL_METHODS) - 1


def test_instances_are_read_and_matched(finished):
    table = read(finished, "segmentation")
    assert table.loc[["c106", "c107"], "published"].tolist() == [0.77, 0.63]
    f1 = table[table["metric"] == "f1_0.50"]["ours"]
    # StarDist finds nuclei alone.
    assert len(f1) == 2 * len(ALL_METHODS) + len(ALL_DETECTORS)
    assert f1.between(0, 1).all()


def test_features_are_measured_and_compared(finished):
    table = read(finished, "features")
    # One of the plates is for the test, of U2OS cells; their sites are what counts.
    ours = table.loc[[f"c{n:03d}" for n in range(1, 97)]]
    assert ours.loc[:"c048", "ours"].isna().all()
    assert ours.loc[:"c048", "remark"].eq("not run").all()
    real = pd.read_csv(finished / PART / "profiles/real/shard-000/sites.csv")
    assert len(real) == 4
    assert (real["Nuclei_Count_Objects"] > 0).all()
    there = ours.loc["c049":]
    assert there["dataset"].eq("U2OS").all()
    assert (there["ours"].between(-1, 1) | there["ours"].isna()).all()
    # Each value that there is not has a reason.
    why = there.loc[there["ours"].isna(), "remark"]
    assert why.str.contains("sites|site has").all()
    assert there["ci_low"].isna().all()  # two wells
    again = table[table["metric"] == "replicate_map"]
    assert set(again["method"]) == {"real", *ALL_METHODS}
    assert again["remark"].str.contains("no compound has two wells").all()


def test_methods_are_tested_against_each_other(finished):
    table = read(finished, "quality")
    tests = table[table["metric"] == "psnr_paired_t"]
    assert len(tests) == (len(ALL_METHODS) - 1) * (len(STAINS) + 1)
    # Two wells are too few.
    assert tests["ours"].isna().all()
    difference = table[table["metric"] == "psnr_difference"]
    assert np.isfinite(difference["ours"]).all()
    for path in (finished / "tables/quality.md",
                 finished / PART / "tables/translation.md"):  # fmt: skip
        text = path.read_text()
        assert "Tests of residual diffusion against each rival" in text
        assert "Many comparisons are made" in text


def test_stardist_is_measured_on_the_same_images(finished):
    root = finished / PART
    ours = pd.read_csv(root / "translation_scores/cellresdm/seed0/objects.csv")
    nuclei = ours[ours["objects"] == "nuclei"]
    table = read(finished, "segmentation")
    text = (finished / "tables/segmentation.md").read_text()
    for detector in ALL_DETECTORS:
        place = f"{detector}/nuclei/seed0"
        theirs = pd.read_csv(root / "detection_scores" / place / "objects.csv")
        for column in ("id", "group", "n_true"):
            assert list(theirs[column]) == list(nuclei[column])
        record = read_json(root / "detectors" / place / "training.json")
        assert (record["tool"], record["images"]) == ("stardist", 4)
        ratio = f"nuclei cellresdm / {STARDIST[detector]}"
        assert (table["condition"] == ratio).sum() == len(RATIOS)
        assert f"| {TITLES[STARDIST[detector]]} |" in text
    for iou in ("0.50", "0.70", "0.90"):
        assert f"| nuclei | {iou} |" in text
        assert (table["metric"] == f"pq_{iou}_by_image").any()


def test_speed_counts_network_evaluations(finished):
    table = read(finished, "speed")
    assert table.loc["c111", "ours"] == table.loc["c111", "published"] == 15
    assert table.loc["c110", "ours"] == pytest.approx(
        table.loc["c109", "ours"] / table.loc["c108", "ours"]
    )
    assert table.loc["c110", "ours"] > 0


def test_the_mean_of_two_predictions_is_said_to_be_one(finished):
    for name in ("quality", "speed"):
        table = read(finished, name)
        own = table[table["method"].isin(ALL_METHODS)]
        said = own["remark"].str.contains("mean of 2 predictions")
        noisy = own["method"].str.contains("cellresdm|palette|diffusion")
        assert (said == noisy).all()
    text = (finished / PART / "tables/translation.md").read_text()
    assert f"{TITLES['cellresdm']}: the mean of 2 predictions" in text
    assert not read(finished, "artefacts")["remark"].str.contains("mean of").any()


def test_latent_space_stands_beside_pixel_space(finished):
    table = read(finished, "latent")
    ours = table.loc[["c100", "c101", "c102", "c103", "c104", "c105"]]
    assert (ours["ours"] > 0).all()
    assert ours["condition"].tolist() == ["latent_own_vqgan"] * 3 + ["no_vqgan"] * 3
    absent = table.loc[["c097", "c098", "c099"]]
    assert absent["ours"].isna().all()
    assert (
        absent["remark"].str.fullmatch("not run: needs weights .* OpenImages.*").all()
    )
    codec = Codec.load(finished / PART / "codec/codec.pt")
    assert [len(group) for group in codec.groups] == [3, 3, 3]
    assert codec.meta["steps"] == 20
    model = finished / PART / "translators/cellresdm_latent/seed0/model.pt"
    assert DiffusionModel.load(model).meta["codec"] == codec.fingerprint


def test_no_plate_is_on_both_sides(finished):
    images = ImageSet.open(finished / PART / "fields/shard-000")
    assert_apart(images)
    sides = images.table.groupby("split")["plate"].unique()
    assert [len(sides[name]) for name in ("train", "test")] == [1, 1]
    assert set(sides["train"][0]) != set(sides["test"][0])


def test_channels_are_told_by_each_plate(finished):
    """On one plate channel 8 is in focus, on the other channel 6."""
    images = ImageSet.open(finished / PART / "fields/shard-000")
    wanted = ["Brightfield", "Mito", "AGP", "RNA", "ER", "DNA"]
    for identifier, row in images.table.iterrows():
        plate = next(name for name in PLATES if name.startswith(row["plate"]))
        for number, channel in enumerate(wanted):
            exact = pixels(plate, row["well"], int(row["site"]), channel)
            np.testing.assert_array_equal(images.channels(identifier)[number], exact)


def test_uncertainty_is_measured_of_methods_with_noise(finished):
    scores = finished / PART / "translation_scores"
    for method in ALL_METHODS:
        there = (scores / method / "seed0/uncertainty.csv").exists()
        noisy = ("cellresdm", "cellresdm_latent", "palette", "spade_diffusion")
        assert there == (method in noisy)


def test_fewer_steps_are_measured(finished):
    """The last number is that of all steps: the same predictions as elsewhere."""
    steps = pd.read_csv(finished / PART / "study/steps/seed0/quality.csv")
    scores = finished / PART / "translation_scores/cellresdm/seed0/pixels.csv"
    assert sorted(steps["steps"].unique()) == [1, 4, 15]
    last = steps[steps["steps"] == 15].set_index(["id", "channel"])["psnr"]
    whole = pd.read_csv(scores).set_index(["id", "channel"])["psnr"]
    assert len(last) == 2 * 7
    np.testing.assert_allclose(last, whole.loc[last.index])
    speed = read(finished, "speed")
    for count in ("1 step", "4 steps", "15 steps"):
        own = speed[speed["condition"] == count].set_index("metric")["ours"]
        assert np.isfinite(own).all()
        assert {"stain_psnr", "stain_ssim", "image_seconds"} <= set(own.index)


def test_artefacts_are_planted_translated_and_found_again(finished):
    root = finished / PART / "study"
    places = pd.read_csv(root / "places.csv")
    assert sorted(places["kind"]) == ["debris", "debris", "dust", "dust"]
    pairs, planted = (
        ImageSet.open(finished / PART / "pairs"),
        ImageSet.open(root / "planted"),
    )
    for name in planted.ids:
        clean, dirty = pairs.channels(name)[0].astype(int), planted.image(name)
        change = np.abs(clean - dirty)
        assert change[planted.mask(name) > 0].mean() > 3 * change.mean()
    for method, spreads in (("cellresdm", True), ("pix2pix", False)):
        folder = root / f"artefacts/{method}/seed0"
        table = pd.read_csv(folder / "artefacts.csv")
        assert len(table) == 4 * 7
        assert (table["given"] > 2).all()
        assert table["auc"].between(0, 1).all() == spreads
        picture = ImageSet.open(folder / "picture")
        here = picture.channels(picture.ids[0])[1:]
        there = ImageSet.open(
            finished / PART / f"translated/{method}/seed0/shard-000"
        ).channels(planted.ids[0])
        if spreads:
            # The same two predictions: one of them is studied, their mean is measured.
            np.testing.assert_array_equal(here[7:], there[7:])
            apart = np.abs(from_stored(here[:7]) - from_stored(there[:7]))
            spread = (from_stored(here[7:]) + 1) / 2
            np.testing.assert_allclose(apart, spread / 2**0.5, atol=2e-4)
        else:  # without artefacts it says what it says elsewhere, to the last bit
            np.testing.assert_array_equal(here, there)
    table = read(finished, "artefacts")
    shares = table[table["metric"] == "artefact_share"]["ours"]
    assert len(shares) == 2 * 2 * 8
    assert (shares >= 0).all()


def test_uncertainty_stands_in_a_table(finished):
    table = read(finished, "uncertainty")
    found = table[table["metric"] == "uncertainty_calibration"]["ours"]
    assert len(found) == 4 * 8  # methods with noise; channels and all stains
    assert (found > 0).all()


def test_report_and_figures(finished):
    page = (finished / PART / "report.html").read_text()
    for words in ("Stains from brightfield", "residual diffusion (CellResDM)",
                  "What becomes of planted artefacts"):  # fmt: skip
        assert words in page
    for name in PAPERS["cellresdm"].figures:
        for path in (finished / f"figures/{name}.png",
                     finished / PART / f"figures/{name}.png"):  # fmt: skip
            assert np.asarray(Image.open(path).convert("L")).std() > 5


def test_the_run_is_what_its_records_say(finished):
    found = verify(finished / PART)
    assert found.ok, found.render()
