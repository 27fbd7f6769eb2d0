"""Tables and the figure of features, and tests of methods against each other."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats

from phantomscope.config.load import make_config
from phantomscope.images.files import write_text
from phantomscope.measure.features_objects import CATEGORIES
from phantomscope.measure.moments_by_group import Moments
from phantomscope.measure.profiles import category_rows, retrieval_rows
from phantomscope.stages.translated import tabulate_translation
from phantomscope.tables import profiles, significance
from phantomscope.tables.cellresdm import paper_tables
from phantomscope.tables.figures_profiles import plot_features
from phantomscope.tables.paper import Part
from phantomscope.tables.published import load_published

METHODS = ["cellresdm", "unet", "pix2pix"]
LINES = ("A549", "U2OS")
STAINS = ["DNA", "ER"]
DRAWN = {"resamples": 30, "confidence": 0.95, "seed": 0}
# Of our own noise, by method: the less, the better it is.
NOISE = {"cellresdm": 0.0, "unet": 0.5, "pix2pix": 5.0}


def config_of(**options):
    plates = {
        "kind": "fields", "inputs": ["Brightfield"], "stains": STAINS,
        "fields": {"path": "nowhere", "channels": ["Brightfield", *STAINS]},
    }  # fmt: skip
    return make_config({
        "experiment": "here", "scale": "smoke", "evaluate": {"resamples": 30},
        "appearance": {"organism": "jump", "data_kind": "simulated"},
        "translate": {"methods": METHODS, "plates": plates, **options},
    })  # fmt: skip


def write_profiles(root, wells=24):
    """Agreement as it follows from units with known noise."""
    names = [f"Nuclei_{c}_A_X" for c in CATEGORIES]
    random = np.random.default_rng(0)
    groups = np.repeat([f"{n:02d}" for n in range(wells)], 4)
    real = pd.DataFrame(random.normal(size=(len(groups), len(names))), columns=names)
    noise = random.normal(size=real.shape)
    lines = {line: {g for n, g in enumerate(sorted(set(groups))) if n % 2 == i}
             for i, line in enumerate(LINES)}  # fmt: skip
    table = pd.DataFrame({
        "group": sorted(set(groups)), "plate": "p", "compound": "",
        "cell_line": [LINES[n % 2] for n in range(wells)],
    })  # fmt: skip
    for method, size in NOISE.items():
        folder = root / f"profile_scores/{method}/found"
        found = real + size * noise
        one = Moments.of(real, found, groups)
        levels = [category_rows([one], lines, n, **DRAWN)
                  for n in ("object", "site", "well")]  # fmt: skip
        about = {"method": method, "objects": "found objects"}
        again = [retrieval_rows([table], "DMSO", **DRAWN).assign(source=name)
                 for name in ("real", method)]  # fmt: skip
        for name, parts in (("correlations", levels), ("retrieval", again)):
            text = pd.concat(parts).assign(**about).to_csv(index=False)
            write_text(folder / f"{name}.csv", text)


def score(method, well, site, channel, metric):
    random = np.random.default_rng([len(method), well, site, len(channel), len(metric)])
    return 20 - NOISE[method] + 0.2 * well + 0.1 * random.normal()


def write_pixels(root, wells=8, sites=3):
    for method in METHODS:
        rows = [
            {"id": f"{well}-{site}", "group": f"w{well}", "channel": channel,
             **{m: score(method, well, site, channel, m)
                for m in ("mse", "mae", "psnr", "ssim", "correlation")}}
            for well, site, channel in itertools.product(
                range(wells), range(sites), STAINS
            )
        ]  # fmt: skip
        path = root / f"translation_scores/{method}/seed0/pixels.csv"
        write_text(path, pd.DataFrame(rows).to_csv(index=False))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root, config = tmp_path_factory.mktemp("here"), config_of()
    write_profiles(root)
    write_pixels(root)
    (root / "tables").mkdir()
    tabulate_translation(
        config, root=root, csv=root / "tables/translation.csv",
        md=root / "tables/translation.md",
    )  # fmt: skip
    return root, config


def test_every_category_line_level_and_method_has_a_row(study):
    rows = [
        r for r in profiles.profile_rows(*study) if r.metric == profiles.CORRELATION
    ]
    # Objects have no count; AreaShape is not in the published table.
    assert len(rows) == len(METHODS) * 2 * (8 + 9 + 9)
    assert len({row.id for row in rows}) == len(rows)
    for row in rows:
        category, line, level, way = profiles.parts_of(row)
        assert (line in LINES, way) == (True, "found objects")
        assert level in ("objects", "sites", "wells")
        if row.method == "cellresdm" and category != "AreaShape":
            assert [row.value, row.ci_low, row.ci_high] == pytest.approx([1] * 3)
        if category == "AreaShape":
            assert math.isnan(row.value)
            assert "has such features" in row.source
        assert (row.data_kind, row.scale) == ("simulated", "smoke")
    assert {(row.n, row.unit_of_n) for row in rows if row.n} == {(12, "well")}


def test_published_values_stand_beside_sites(study):
    root, config = study
    table = paper_tables({"jump": Part(root, config)})["features"]
    frame = table.frame.set_index("id")
    published = {r.id: r for r in load_published("cellresdm")
                 if r.metric == "feature_correlation"}  # fmt: skip
    assert set(published) <= set(frame.index)
    for key, theirs in published.items():
        row = frame.loc[key]
        assert row["published"] == theirs.value
        assert row["condition"] == f"{theirs.condition}, {theirs.method}"
        assert row["method"] == (theirs.method if theirs.method in METHODS else "")
        assert np.isnan(row["ours"]) == (theirs.method not in METHODS)
        remark = "simulated data" if theirs.method in METHODS else "not run"
        assert row["remark"].startswith(remark)
    ours = frame.loc[[k for k, r in published.items() if r.method == "cellresdm"]]
    assert ours["ours"].to_numpy() == pytest.approx(1)
    alone = frame[frame["metric"] == "replicate_map"]
    assert len(alone) == 2 * (1 + len(METHODS))
    assert alone["remark"].str.contains("no well has a compound").all()
    text = "\n".join(table.text(table.frame, "95%"))
    assert "| c096 |" in text
    assert "no well has a compound" in text


def test_without_true_levels_nothing_published_stands_beside(study):
    root, config = study
    rows = [
        replace(row, condition=row.condition.replace("found", "true"))
        for row in profiles.profile_rows(root, config)
    ]
    found = profiles.feature_rows(rows, load_published("cellresdm"))
    assert all(len(row.id) > 4 for row in found)


def test_p_values_are_those_of_the_means_of_wells(study):
    root, config = study
    rows = {(r.metric, r.condition): r
            for r in significance.significance_rows(root, config)}  # fmt: skip
    assert len(rows) == 3 * 3 * 2 * 7
    means = {
        method: [np.mean([score(method, w, s, "DNA", "psnr") for s in range(3)])
                 for w in range(8)]
        for method in METHODS
    }  # fmt: skip
    row = rows["psnr_paired_t", "DNA, cellresdm / unet"]
    exact = stats.ttest_rel(means["cellresdm"], means["unet"]).pvalue
    assert row.value == pytest.approx(exact)
    assert (row.n, row.unit_of_n, row.method) == (8, "well", "cellresdm")
    row = rows["psnr_difference", "DNA, cellresdm / unet"]
    assert row.value == pytest.approx(0.5, abs=0.1)
    assert row.ci_low < row.value < row.ci_high
    row = rows["psnr_student_t_images", "DNA, cellresdm / unet"]
    assert (row.n, row.unit_of_n) == (24, "image")
    # Eight wells of one sign: 2 of 2^8.
    row = rows["psnr_wilcoxon", "DNA, cellresdm / unet"]
    assert row.value == pytest.approx(2 / 2**8)


def test_holm_is_over_rivals_and_over_rivals_and_stains(study):
    rows = {(r.metric, r.condition): r.value
            for r in significance.significance_rows(*study)}  # fmt: skip
    smallest = 2 / 2**8
    for rival in ("unet", "pix2pix"):
        whole = rows["mse_wilcoxon_holm", f"all stains, cellresdm / {rival}"]
        assert whole == pytest.approx(2 * smallest)
        single = rows["mse_wilcoxon_holm", f"ER, cellresdm / {rival}"]
        assert single == pytest.approx(4 * smallest)


def test_two_wells_are_too_few_to_test(tmp_path):
    write_pixels(tmp_path, wells=2)
    rows = significance.significance_rows(tmp_path, config_of())
    for row in rows:
        if row.metric.endswith("_difference"):
            assert math.isnan(row.ci_low)
        else:
            assert math.isnan(row.value)
        assert row.source == "2 units: a test needs 3"
    text = "\n".join(significance.significance_text(significance.shown(rows)))
    assert "| – |" in text
    alone = config_of(methods=["unet"])
    assert significance.significance_rows(tmp_path, alone) == []


def test_the_tables_show_tests_and_features(study):
    root, config = study
    text = (root / "tables/translation.md").read_text()
    for words in (
        "paired t, Holm", "Many comparisons are made", "| Texture | U2OS |",
        "Retrieval of replicates", "8 wells", "SSIM", "redraw wells",
    ):  # fmt: skip
        assert words in text
    table = paper_tables({"jump": Part(root, config)})["quality"]
    frame = table.frame.set_index("id")
    assert frame["metric"].isin(significance.NAMES).sum() == 3 * 3 * 2 * 7
    assert (frame["definition"] != "").all()
    text = "\n".join(table.text(table.frame, "95%"))
    assert "Tests of residual diffusion" in text
    assert "psnr_paired_t" not in text


def test_the_figure_shows_bars_and_published_marks(study, tmp_path):
    root, config = study
    plot_features(root, config, tmp_path / "features.png")
    plain = config.model_copy(
        update={"appearance": config.appearance.model_copy(update={"organism": None})}
    )
    plot_features(root, plain, tmp_path / "plain.png")
    first, second = (
        np.asarray(Image.open(tmp_path / f"{n}.png").convert("L"))
        for n in ("features", "plain")
    )
    assert first.std() > 20
    assert first.shape != second.shape or (first != second).any()
    plot_features(root, config_of(profiles=[]), tmp_path / "none.png")
    assert np.asarray(Image.open(tmp_path / "none.png").convert("L")).std() > 5


def test_nothing_is_asked_for(tmp_path):
    config = config_of(profiles=[])
    assert profiles.profile_rows(tmp_path, config) == []
    assert profiles.profile_text([], config) == []
    config = config_of(boundaries=[])
    assert config.translate.profiled == []
    (line,) = profiles.profile_text([], config)
    assert "No outlines" in line
