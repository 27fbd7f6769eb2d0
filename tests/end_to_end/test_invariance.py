"""The same seed gives the same image, however the work is divided or interrupted."""

import numpy as np
import pandas as pd
import pytest
from benchmarks import invariance, resume
from benchmarks.seams import seam_excess, tile_borders

from phantomscope.images.files import read_json
from phantomscope.images.imageset import ImageSet
from phantomscope.stages import checking

pytestmark = pytest.mark.end_to_end


def test_images_do_not_depend_on_shards_workers_order_or_a_kill(lab, tmp_path):
    share, count = invariance.identical_share(lab, tmp_path)
    assert count == 32
    assert share == 1.0


def test_micro_batch_changes_at_most_rounding(lab):
    assert invariance.micro_batch_difference(lab) <= 1e-4


@pytest.mark.parametrize("fusion", ["per_step", "final"])
@pytest.mark.parametrize("noise", ["ddim", "ddpm", "dpmpp_2m", "sde_dpmpp_2m"])
def test_tile_sizes_agree(lab, fusion, noise):
    sizes = (64, 96) if fusion == "final" else (64, 96, 160)
    found = invariance.tile_size_psnr(
        lab, sizes, overlap=16, fusion=fusion, sampler=noise
    )
    assert found >= 40


def test_seams_do_not_show(lab):
    found = seam_excess(lab, 320, tile=96, overlap=16)
    assert abs(found["excess"] - found["expected"]) <= max(0.02, 3 * found["sd"])
    assert tile_borders(320, 96, 16) == [64, 128, 192, 256]


def test_killed_training_ends_with_the_same_weights(lab, tmp_path):
    assert resume.kills_identical(tmp_path, kills=1, steps=60) == 1


def test_finished_training_stays_and_another_length_starts_anew(lab, tmp_path):
    """The learning rate depends on the length: the old state is kept, not used."""
    config = resume.training_config(tmp_path, 20)
    resume.run(resume.training(lab, tmp_path / "a", config))
    state = tmp_path / "a/model.pt.state/state.pt"
    before = state.read_bytes()
    output = resume.run(resume.training(lab, tmp_path / "a", config))
    assert "superseded" not in output
    assert state.read_bytes() == before  # nothing left to do
    longer = resume.training_config(tmp_path, 30)
    output = resume.run(resume.training(lab, tmp_path / "a", longer))
    assert "belongs to another config" in output
    assert (tmp_path / "a/model.pt.state/superseded-0.pt").exists()


def test_rejects_nothing_and_erases_nothing_at_smoke_limits(lab, tmp_path):
    found = invariance.hashes(lab, tmp_path / "x", shards=2, workers=2, images=4)
    assert len(found) == 4
    parts = [tmp_path / f"x/checks/{n}" for n in (0, 1)]
    for n, part in enumerate(parts):
        checking.check(
            lab.config, normalisation=lab.normalisation, sketch=lab.sketch,
            synthetic=tmp_path / f"x/synthetic-{n}", checks=part,
        )  # fmt: skip
    checking.gather(lab.config, parts=parts, gathered=tmp_path / "x/checked")
    checked = ImageSet.open(tmp_path / "x/checked")
    checked.verify()
    assert pd.read_csv(tmp_path / "x/checked/rejected.csv").empty
    summary = read_json(tmp_path / "x/checked/summary.json")
    assert summary["images"] == summary["kept"] == 4
    objects = pd.read_csv(tmp_path / "x/checked/objects.csv")
    assert summary["objects"] == len(objects)
    assert checked.ids == sorted(found)
    assert {"agreement", "phantoms", "vanished", "contrast"} <= set(checked.table)
    for identifier in checked.ids:
        assert checked.image(identifier).dtype == np.uint16
        assert checked.mask(identifier).shape == checked.image(identifier).shape
