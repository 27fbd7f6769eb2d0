"""Tables and figures of Javer & Rittscher: published values beside ours."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from imageio.v3 import imread
from PIL import Image
from tests.filtering import (
    Shown,
    culture,
    filter_config,
    layered,
    pointed,
    squares,
    worms,
    write_crops,
    write_plate,
    write_run,
    write_tested,
)

from phantomscope.config.papers import PAPERS
from phantomscope.errors import PhantomscopeError
from phantomscope.stages.filter_scores import tabulate_filter
from phantomscope.stages.papers import draw_paper, tabulate_paper
from phantomscope.stages.results import draw_figures, report, write_config
from phantomscope.tables.figures import available
from phantomscope.tables.filter_metrics import define
from phantomscope.tables.paper import load_parts
from phantomscope.tables.published import DEFINITIONS, load_published
from phantomscope.tables.semantic_filtering import paper_tables
from phantomscope.tables.style import LIMIT

ABOUT = PAPERS["semantic_filtering"]
DRAWN = ("pairs", "layers", "detections", "quality", "learning_curve", "threshold")


def config_of(organism, truth, **options):
    about = {"organism": organism, "data_kind": "stand-in"}
    return filter_config(truth, organism, appearance=about, **options)


def finish(root, config):
    write_config(config, resolved=root / "config.yaml")
    tables = root / "tables"
    tabulate_filter(
        config, root=root, csv=tables / "filtering.csv", md=tables / "filtering.md"
    )


def cultures(root):
    config = config_of(
        "bbbc026", "points", folds=3, targets=["hepatocyte", "fibroblast"],
        plate="bbbc026_plate",
        compose={"size": 64, "targets": [1, 2], "others": [1, 2]},
    )  # fmt: skip
    images = pointed()
    kinds = {"cell": "hepatocyte", "debris": "fibroblast"}
    images = {
        name: replace(one, marks=[(y, x, kinds[kind]) for y, x, kind in one.marks])
        for name, one in images.items()
    }
    write_tested(root / "prepared", config, images)
    write_run(root, config, "filter", [{name: images[name]} for name in "abc"])
    write_plate(root, config, {"B01": 2, "C01": 4, "B23": 10, "C23": 12})
    write_crops(root, list("abc"), "hepatocyte", "fibroblast")
    finish(root, config)
    return config


def videos(root):
    config = config_of(
        "worms", "masks", targets=["worm"], methods=["filter", "median"],
        pairs="video", compose={"share": "scene"},
        objects={"rule": "removed", "min_area": 20.0},
    )  # fmt: skip
    frames = worms("f", "g", "h")
    train = {
        f"t{n}": replace(one, columns={"split": "train", "group": "v", "frame": n})
        for n, one in enumerate(worms("x", "y").values())
    }
    write_tested(root / "prepared", config, {**frames, **train})
    write_run(root, config, "filter", [frames])
    still = {
        name: replace(one, found=np.zeros_like(one.found), kept=one.image[None] / 255)
        for name, one in frames.items()
    }
    write_run(root, config, "median", [{**still, "f": frames["f"]}])
    finish(root, config)
    return config


def brains(root):
    config = config_of(
        "bbbc042", "boxes", methods=["filter", "faster_rcnn"], targets=["star"],
        images=[1, 5], iou=[0.01, 0.5],
    )  # fmt: skip
    marks = [(4, 4, 12, 12, "star"), (30, 30, 40, 40, "star")]
    light = (squares((4, 4), (30, 30)) > 0).astype(np.uint8) * 80
    images = {
        n: Shown(culture(n) + light, squares((4, 4)), marks=marks, layer="target")
        for n in "abcd"
    }
    write_tested(root / "prepared", config, images)
    write_run(root, config, "filter", [images], "1")
    both = {
        n: replace(one, found=squares((4, 4), (30, 30))) for n, one in images.items()
    }
    write_run(root, config, "filter", [both], "5")
    boxes = [(4.0, 4.0, 12.0, 12.0), (30.0, 30.0, 34.0, 40.0)]
    rival = {n: replace(one, boxes=boxes, layer="none") for n, one in images.items()}
    write_run(root, config, "faster_rcnn", [rival])
    finish(root, config)
    return config


def composed(root, organism):
    config = config_of(organism, "layers", methods=["filter", "layers"])
    names = ("p", "q", "r")
    write_run(root, config, "layers", [layered(*names, error=0.05)])
    made = {
        name: replace(one, kept=one.kept[:1], layer="target")
        for name, one in layered(*names, error=0.1).items()
    }
    write_run(root, config, "filter", [made])
    finish(root, config)
    return config


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    root = tmp_path_factory.mktemp("parts")
    makers = {"bbbc026": cultures, "worms": videos, "bbbc042": brains}
    made = {name: (root / name, make(root / name)) for name, make in makers.items()}
    for name in ("microglia", "nuclei"):
        made[name] = root / name, composed(root / name, name)
    return made


@pytest.fixture(scope="module")
def tables(parts):
    found = load_parts([root for root, _ in parts.values()])
    return {
        name: table.frame.set_index("id") for name, table in paper_tables(found).items()
    }


def test_the_values_are_those_of_the_paper():
    rows = load_published("semantic_filtering")
    assert [row.id for row in rows] == [f"f{n:03d}" for n in range(1, 37)]
    assert sum(row.value for row in rows if row.metric.startswith("f1_")) == (
        pytest.approx(0.997 + 0.86 + 0.80 + 0.95 + 0.92 + 0.72 + 0.77 + 0.73 + 0.74
                      + 0.77 + 0.82)
    )  # fmt: skip
    found = {row.id: row.value for row in rows}
    some = {
        "f001": 0.995, "f004": 0.850, "f011": 0.95, "f017": 3.1e-10, "f019": 0.28,
        "f025": 0.82, "f035": 291, "f036": 124,
    }  # fmt: skip
    assert {key: found[key] for key in some} == some
    assert {row.dataset for row in rows} <= set(ABOUT.organisms)
    for row in rows:
        assert DEFINITIONS.get(row.metric) or define(row.metric)


def test_every_published_value_has_a_place_without_any_part():
    empty = paper_tables({})
    assert tuple(empty) == ABOUT.tables
    ids = {key for table in empty.values() for key in table.frame.get("id", [])}
    assert ids == {f"f{n:03d}" for n in range(1, 37)}
    for name in ("worms", "bbbc026", "bbbc042", "learning_curve"):
        assert empty[name].frame["remark"].str.startswith("not run").all()
        text = "\n".join(empty[name].text(empty[name].frame, ""))
        assert "- " in text
    assert empty["layers"].text(empty["layers"].frame, "")[0] == "Nothing was run."
    remark = empty["bbbc026"].frame.set_index("id").loc["f008", "remark"]
    assert "CellProfiler" in remark
    assert "two people" in empty["bbbc042"].frame.set_index("id").loc["f033", "remark"]


def test_ours_stand_beside_the_published_ones(tables):
    own = tables["bbbc026"]
    assert own.loc["f007", "ours"] == pytest.approx(0.8)
    assert own.loc["f007", "published"] == 0.86
    assert own.loc["f013", "ours"] == 0
    assert own.loc["f019", "ours"] == pytest.approx(0.25)
    assert own.loc["f036", "ours"] == 9
    assert math.isnan(own.loc["f010", "ours"])
    assert own.loc["f010", "condition"] == "hepatocyte, Logan et al. 2016"
    assert own.loc["f007", "remark"].startswith("stand-in data")
    # One to one, and means over folds, are ours alone.
    alone = own[own["published"].isna()]
    assert "f1_points_one_to_one" in set(alone["metric"])
    assert "f1_points_published_by_fold" in set(alone["metric"])
    assert own["definition"].str.len().min() > 10


def test_worms_have_their_curve(tables):
    own = tables["worms"]
    assert own.loc["f003", "ours"] == 1
    assert own.loc["f004", "ours"] == pytest.approx(0.5)
    curve = own[own["metric"] == "removed_iou"]
    assert len(curve) == 24
    assert (curve["published"].notna()).sum() == 1


def test_the_largest_number_of_images_is_the_published_one(tables):
    own = tables["bbbc042"]
    assert own.loc["f023", "ours"] == 1
    assert own.loc["f023", "method"] == "filter (one layer), 5 training images"
    assert own.loc["f026", "ours"] == 1
    assert "augmented, 5 training images" in own.loc["f026", "method"]
    assert "trained the other way" in own.loc["f029", "remark"]
    assert not own["method"].str.contains(", 1 training").any()
    curve = tables["learning_curve"]
    assert curve.loc["f023", "ours"] == 1
    few = curve[curve["method"] == "filter (one layer), 1 training image"]
    of = few[few["metric"] == "f1_boxes_0.50"]
    assert of["ours"].iloc[0] == pytest.approx(2 / 3)
    assert (curve["metric"] == "f1_boxes_0.50_ratio").sum() == 2


def test_composed_images_are_said_to_be_composed(tables):
    own = tables["layers"]
    assert set(own["experiment"]) == {"microglia", "nuclei"}
    assert set(own["data_kind"]) == {"composed, stand-in"}
    row = own[(own["metric"] == "layer_psnr") & (own["method"] == "image as it is")]
    assert len(row) == 2 * 3


def test_files_are_written_and_figures_open(parts, tmp_path):
    roots = [root for root, _ in parts.values()]
    config = parts["worms"][1]
    files = [tmp_path / f"{n}.{k}" for n in ABOUT.tables for k in ("csv", "md")]
    tabulate_paper(config, parts=roots, tables=files)
    assert all(len(pd.read_csv(path)) for path in files[::2])
    assert "One to one stands beside it" in (tmp_path / "bbbc026.md").read_text()
    figures = [tmp_path / f"{name}.png" for name in ABOUT.figures]
    draw_paper(config, parts=roots, figures=figures)
    for path in figures:
        assert imread(path).std() > 5
        assert path.stat().st_size <= LIMIT
    # Without a part a figure says why.
    other = tmp_path / "other/fig2.png"
    draw_paper(config, parts=[parts["nuclei"][0]], figures=[other])
    assert imread(other).shape[0] < 120
    # 3.1e-10 is not 0.
    assert "| 3.1e-10 |" in (tmp_path / "bbbc026.md").read_text()


@pytest.mark.parametrize("name", ["bbbc026", "worms", "bbbc042", "nuclei"])
def test_figures_of_an_experiment_open(parts, tmp_path, name):
    root, config = parts[name]
    wanted = [n for n in DRAWN if n != "pairs" or name in ("bbbc026", "worms")]
    assert set(wanted) <= set(available(root))
    draw_figures(config, root=root, figures=[tmp_path / f"{n}.png" for n in wanted])
    said = {"learning_curve": name != "bbbc042", "threshold": name != "worms"}
    for figure in wanted:
        picture = imread(tmp_path / f"{figure}.png")
        assert (picture.shape[0] < 120) == said.get(figure, False)
        assert picture.std() > 3


@pytest.mark.parametrize(("name", "words"), [
    ("bbbc026", ("mean over folds", "points that were missed", "Z&#39;", "Zhang J.")),
    ("worms", ("two frames of a video", "worm: filter (one layer) is best")),
    ("bbbc042", ("Fewer images are always among more", "Faster R-CNN: towards")),
    ("nuclei", ("composed of crops of held-out images", "PSNR of the layer")),
])  # fmt: skip
def test_the_report_has_a_section_of_its_own(parts, tmp_path, name, words):
    root, config = parts[name]
    # Figures that are there are taken as they are.
    (root / "figures").mkdir(exist_ok=True)
    for figure in (*DRAWN, "contact_sheet"):
        write_png(root / "figures" / f"{figure}.png")
    report(config, root=root, html=tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    for piece in (*words, 'id="filtering"', "trained once", "Javer A., Rittscher J."):
        assert piece in text
    assert ("learning curve" in text) == (name == "bbbc042")
    assert ('alt="threshold"' in text) == (name == "worms")
    assert 'alt="contact sheet"' in text
    assert "Not measured" not in text


def write_png(path):
    Image.new("RGB", (4, 4)).save(path)


def test_the_papers_own_data_are_believed_by_their_name(parts, tmp_path):
    root, config = parts["bbbc026"]
    about = config.appearance.model_copy(update={"data_kind": "real"})
    false = config.model_copy(update={"appearance": about})
    write_config(false, resolved=tmp_path / "a/config.yaml")
    (tmp_path / "a/tables").mkdir()
    text = (root / "tables/filtering.csv").read_text()
    (tmp_path / "a/tables/filtering.csv").write_text(text)
    with pytest.raises(PhantomscopeError, match="not the paper's images"):
        paper_tables(load_parts([tmp_path / "a"]))
