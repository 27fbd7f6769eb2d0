"""The paper at smoke scale, from a gallery on this machine to its tables."""

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from tests.plates import PLATES, Gallery, pixels, small_plates
from tests.server import Server

from phantomscope.acquire.plates import assert_apart
from phantomscope.config.papers import PAPERS
from phantomscope.config.translation import ALL_METHODS
from phantomscope.engine.codec import Codec
from phantomscope.engine.model import DiffusionModel
from phantomscope.images.imageset import ImageSet
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
        plates = options["parts"]["jump"]["translate"]["plates"]
        plates |= small_plates(server.add_bucket(gallery.root))
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
    assert len(f1) == 2 * len(ALL_METHODS)
    assert f1.between(0, 1).all()


def test_speed_counts_network_evaluations(finished):
    table = read(finished, "speed")
    assert table.loc["c111", "ours"] == table.loc["c111", "published"] == 15
    assert table.loc["c110", "ours"] == pytest.approx(
        table.loc["c109", "ours"] / table.loc["c108", "ours"]
    )
    assert table.loc["c110", "ours"] > 0


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
    images = ImageSet.open(finished / PART / "fields")
    assert_apart(images)
    sides = images.table.groupby("split")["plate"].unique()
    assert [len(sides[name]) for name in ("train", "test")] == [1, 1]
    assert set(sides["train"][0]) != set(sides["test"][0])


def test_channels_are_told_by_each_plate(finished):
    """On one plate channel 8 is in focus, on the other channel 6."""
    images = ImageSet.open(finished / PART / "fields")
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


def test_report_and_figures(finished):
    page = (finished / PART / "report.html").read_text()
    for words in ("Stains from brightfield", "residual diffusion (CellResDM)"):
        assert words in page
    for name in PAPERS["cellresdm"].figures:
        for path in (finished / f"figures/{name}.png",
                     finished / PART / f"figures/{name}.png"):  # fmt: skip
            assert np.asarray(Image.open(path).convert("L")).std() > 5


def test_the_run_is_what_its_records_say(finished):
    found = verify(finished / PART)
    assert found.ok, found.render()
