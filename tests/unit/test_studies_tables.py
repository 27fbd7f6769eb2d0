"""Plans and tables of studies of translation."""

from collections import Counter

import pandas as pd
import pytest
from tests.studies import OPTIONS

from phantomscope.config.load import make_config
from phantomscope.images.files import write_text
from phantomscope.planning.rates import packaged_rates
from phantomscope.planning.sharding import resolved
from phantomscope.planning.sources import Images
from phantomscope.planning.translation import translation_works
from phantomscope.tables.studies import (
    CALIBRATION,
    study_rows,
    study_sections,
    write_studies,
)
from phantomscope.tables.translation import ALL


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """What stages leave: three wells, numbers that can be told by heart; its rows."""
    root = tmp_path_factory.mktemp("study")
    config = make_config(OPTIONS)
    images = [(f"image{n}", f"well{n}") for n in range(3)]
    quality, seconds, artefacts, places, sums, ranks = [], [], [], [], [], []
    for n, (name, group) in enumerate(images):
        about = {"id": name, "group": group}
        places.append({"id": name, "number": 1, "kind": "dust", "found": n > 0})
        for steps in (1, 4):
            seconds.append({"id": name, "steps": steps, "seconds": steps + n})
            for c, channel in enumerate(("Mito", "DNA")):
                quality.append({**about, "steps": steps, "channel": channel,
                                "psnr": 20 + steps + n + 2 * c, "ssim": 0.5,
                                "mse": 9.0})  # fmt: skip
        for c, channel in enumerate(("Mito", "DNA")):
            artefacts.append({
                **about, "number": 1, "kind": "dust", "channel": channel,
                "inside": 10.0 * (c + 1), "around": 3.0, "signed": -5.0,
                "given": 60.0, "contrast": 0, "share": 0, "auc": 0.7, "auc_clean": 0.5,
            })  # fmt: skip
            sums.append({**about, "channel": channel, "bin": 9, "pixels": 100,
                         "squared_error": 8.0, "squared_spread": 1.0})  # fmt: skip
            ranks.append({**about, "channel": channel, "rank_correlation": 0.1 * n,
                          "correlation": 1, "calibration": 2})  # fmt: skip
    spots = [{"id": i, "group": g, "spots": 2 * n} for n, (i, g) in enumerate(images)]
    for path, rows in {
        "study/steps/seed0/quality.csv": quality,
        "study/steps/seed0/seconds.csv": seconds,
        "study/places.csv": places, "study/candidates.csv": spots,
        "study/artefacts/cellresdm/seed0/artefacts.csv": artefacts,
        "study/artefacts/unet/seed0/artefacts.csv": [
            {**row, "inside": 0.0, "auc": None, "auc_clean": None} for row in artefacts
        ],
        "translation_scores/cellresdm/seed0/reliability.csv": sums,
        "translation_scores/cellresdm/seed0/uncertainty.csv": ranks,
    }.items():  # fmt: skip
        write_text(root / path, pd.DataFrame(rows).to_csv(index=False))
    return config, study_rows(root, config)


def test_studies_are_planned_with_rates():
    options = OPTIONS["translate"] | {"seeds": [0, 1]}
    config = resolved(make_config({**OPTIONS, "translate": options}))
    images = Images(Counter({(64, 64): 40}), "uint16", 40)
    work = {
        one.name: one
        for one in translation_works(config, images)
        if "stud" in one.rule or "artefacts" in one.rule
    }
    assert len(work) == 6
    for one in work.values():
        assert packaged_rates().find(one.key, gpu=False)[0] is not None, one.key
    steps = work["study_steps.resshift_small-cellresdm.steps"]
    artefacts = work["study_artefacts.resshift_small-cellresdm.cellresdm"]
    once = work["study_artefacts.resshift_small-unet.unet"]
    assert steps.jobs == artefacts.jobs == 2
    # Five steps of 8 images; 15 steps of 4 predictions of each, twice; one, twice.
    assert artefacts.units / steps.units == pytest.approx(15 * 4 * 2 / 5)
    assert artefacts.units / once.units == pytest.approx(15 * 4)


def test_rows_of_studies(measured):
    _, rows = measured
    found = {(r.metric, r.condition, r.method): r for r in rows}
    assert len(found) == len({row.id for row in rows}) == len(rows)
    own = "cellresdm"
    psnr = found["stain_psnr", "4 steps", own]
    assert psnr.value == pytest.approx(26)
    assert 25 <= psnr.ci_low < 26 < psnr.ci_high <= 27
    assert (psnr.n, psnr.unit_of_n) == (3, "well")
    assert found["stain_psnr", "1 step, DNA", own].value == pytest.approx(24)
    took = found["image_seconds", "4 steps", own]
    assert (took.value, took.unit_of_n) == (5, "image")
    assert found[CALIBRATION, ALL, own].value == pytest.approx(2)
    assert found["uncertainty_rank_correlation", "DNA", own].value == pytest.approx(0.1)
    what = f"dust, {ALL}"
    assert found["artefact_change", what, own].value == pytest.approx(15)
    assert found["artefact_contrast", what, own].value == pytest.approx(5)
    assert found["artefact_share", what, own].value == pytest.approx(0.25)
    assert found["artefact_share", "dust, DNA", own].value == pytest.approx(1 / 3)
    assert found["spread_auc", what, own].value == pytest.approx(0.7)
    assert found["artefact_contrast", what, "unet"].value == 0
    assert ("spread_auc", what, "unet") not in found
    rule = "rule for spots"
    assert found["candidate_spots", "real", rule].value == 2
    assert found["artefact_found", "dust", rule].value == pytest.approx(2 / 3)


def test_tables_of_studies_say_what_they_are(measured, tmp_path):
    config, rows = measured
    write_studies(rows, tmp_path / "a.csv", tmp_path / "a.md", config)
    text = (tmp_path / "a.md").read_text()
    titles = [title for title, _ in study_sections(rows)]
    assert len(titles) == 3
    assert all(f"## {title}" in text for title in titles)
    assert "| 4 steps | 26.00 [" in text
    assert "finds 67% of the planted dust" in text
    write_studies([], tmp_path / "b.csv", tmp_path / "b.md", config)
    assert (tmp_path / "b.md").read_text() == "- Nothing was studied.\n"
