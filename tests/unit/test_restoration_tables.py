"""Rows, tables, figures and the report of restoration, on scores that are made up."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tests.restoring import PIXEL, image_of, restoring

from phantomscope.config.load import make_config
from phantomscope.config.model import Config
from phantomscope.errors import PhantomscopeError
from phantomscope.images.writer import ImageSetWriter
from phantomscope.measure.restoration import ring_rows
from phantomscope.tables.figures import FIGURES, available
from phantomscope.tables.report import write_report
from phantomscope.tables.restoration import (
    restoration_cautions,
    restoration_rows,
    restoration_table,
    write_restoration,
)
from phantomscope.tables.style import LIMIT


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
            writer.add(f"pair-{number}", image_of(0), snr=4.0 + number)
    return tmp_path


def test_rows_hold_means_intervals_and_what_is_missing(scored):
    rows = restoration_rows(scored, restoring())
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
    rows = [r for r in restoration_rows(scored, restoring()) if r.metric != "snr"]
    assert all(math.isnan(row.ci_low) for row in rows)
    assert {row.n for row in rows} == {2}


def test_the_table_a_person_reads(scored, tmp_path):
    rows = restoration_rows(scored, restoring())
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
        restoration_rows(scored, restoring())


@pytest.fixture
def pictured(scored: Path) -> Path:
    """The images behind the scores: the input is the truth with noise."""
    rng = np.random.default_rng(3)
    with ImageSetWriter(scored / "pairs/test", {}) as writer:
        for number, name in enumerate("abcd"):
            truth = image_of(number)
            noisy = (100 + 50 * truth + rng.normal(0, 5, truth.shape)).astype("uint16")
            writer.add(
                name, noisy, target=truth, pixel_size=PIXEL / 1000, snr=8.0, group=name
            )
    for path in scored.glob("restoration/*/*/*/images.csv"):
        method, arm, seed = path.parent.parts[-3:]
        rings = [
            ring_rows(image_of(n), image_of(n) + rng.normal(0, 0.2, (72, 72)), PIXEL)
            .assign(id=name) for n, name in enumerate("abcd")
        ]  # fmt: skip
        pd.concat(rings).to_csv(path.with_name("rings.csv"), index=False)
        if method == "care":
            with ImageSetWriter(
                scored / "restored" / method / arm / seed, {}
            ) as writer:
                for number, name in enumerate("abcd"):
                    writer.add(name, image_of(number))
    return scored


@pytest.mark.parametrize("name", ["restoration", "frc_curves"])
def test_figures(pictured, tmp_path, name):
    assert name in available(pictured)
    out = tmp_path / f"{name}.png"
    FIGURES[name][0](pictured, restoring(), out)
    assert out.stat().st_size <= LIMIT
    picture = np.asarray(Image.open(out).convert("L"))
    assert picture.shape[1] > 600
    assert picture.std() > 5


def _report(root: Path, options: Config) -> str:
    write_report(root, options, root / "report.html")
    return (root / "report.html").read_text()


def test_the_report_speaks_of_restoration_only_where_it_is(pictured):
    text = _report(pictured, restoring(arms=["mathematical", "diffusion"]))
    assert 'id="restoration"' in text
    assert "widefield images resolve 330 nm [300, 350]" in text
    assert "Not measured" not in text
    assert "Weigert" in text
    assert "CARE was trained once per arm" in text
    # Files of a run before do not count: the config asks for none.
    other = _report(pictured, make_config({}))
    assert 'id="restoration"' not in other
    assert "Weigert" not in other
    assert "Not measured" in other


def test_three_trainings_need_no_caution(scored):
    rows = restoration_rows(scored, restoring())
    said = restoration_cautions(rows, restoring(seeds=[0, 1, 2]))
    assert len(said) == 1
    assert "3 independent image groups" in said[0]
    assert restoration_cautions([], restoring()) == []
