"""Tables and figures of the paper, on small experiments in 2D and 3D."""

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from test_appearance import back, experiment, forth, scene
from test_tables import damaged

from phantomscope.config.load import make_config
from phantomscope.config.papers import PAPERS
from phantomscope.errors import PhantomscopeError
from phantomscope.images.files import write_text
from phantomscope.images.imageset import ImageSet
from phantomscope.images.writer import ImageSetWriter
from phantomscope.measure.instance import (
    dice_per_object,
    object_records,
    score_image,
)
from phantomscope.stages.papers import draw_paper, tabulate_paper
from phantomscope.tables.eschweiler import backward_rows, non_dominated
from phantomscope.tables.paper import Part, load_parts
from phantomscope.tables.paper_cells import dice_of_cells, dice_ratio
from phantomscope.tables.papers import MAKERS
from phantomscope.tables.papers import write_tables as write_paper_tables
from phantomscope.tables.results import segmentation_rows, write_tables

PAPER = PAPERS["eschweiler"]
SHARES = {"synthetic": 0.34, "annotated": 0.0}


def finished(root, dims, organism, **changes):
    """Run the stages on a miniature and add what segmentation leaves."""
    config = experiment(root, dims, organism=organism, **changes)
    options = config.model_dump(mode="json") | {"experiment": root.name}
    config = make_config(options)
    write_text(root / "config.yaml", yaml.safe_dump(options))
    forth(root, config)
    back(root, config)
    prepared = ImageSet.open(root / "prepared")
    test = prepared.select(split="test")
    for arm, share in SHARES.items():
        folder = root / f"predictions/cellpose/{arm}/seed0"
        rows, objects = [], []
        with ImageSetWriter(folder, {}) as writer:
            for name in test.ids:
                truth = test.mask(name)
                found = (
                    damaged(truth, share, 0) if dims == 2 else _thinned(truth, share)
                )
                writer.add(name, test.image(name), found)
                row = {"id": name, "group": test.row(name)["group"]}
                rows.append(row | score_image(truth, found))
                objects.append(object_records(truth, found).assign(id=name))
        place = root / f"scores/cellpose/{arm}/seed0"
        write_text(place / "images.csv", pd.DataFrame(rows).to_csv(index=False))
        write_text(place / "objects.csv", pd.concat(objects).to_csv(index=False))
    write_tables(segmentation_rows(root, config), root / "tables/segmentation.csv",
                 root / "tables/segmentation.md")  # fmt: skip
    train = prepared.select(split="train")
    with ImageSetWriter(root / "synthetic/shard-000", {}) as writer:
        for name in train.ids[:2]:
            writer.add(f"sketch-{name}", train.image(name), train.mask(name),
                       type="all", limits=name)  # fmt: skip
    return root, config


def _thinned(labels, share):
    numbers = np.unique(labels)[1:]
    gone = numbers[: round(share * len(numbers))]
    return np.where(np.isin(labels, gone), 0, labels).astype(np.uint16)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    flat = finished(folder / "hela", 2, "hela", times=[100, 600])
    deep = finished(folder / "ath", 3, "ath", data_kind="simulated")
    return {"hela": flat, "ath": deep}


def files(folder):
    return [folder / f"{n}{end}" for n in PAPER.tables for end in (".csv", ".md")]


@pytest.fixture(scope="module")
def tables(parts, tmp_path_factory):
    out = tmp_path_factory.mktemp("tables")
    write_paper_tables(
        "eschweiler", load_parts([root for root, _ in parts.values()]), files(out)
    )
    return out


def read(tables, name):
    return pd.read_csv(tables / f"{name}.csv", keep_default_na=False, na_values=[""])


def test_every_published_value_is_in_one_table(tables):
    found = [read(tables, name) for name in ("fig2", "fig3", "sec4")]
    ids = [i for table in found for i in table["id"] if str(i).startswith("e0")]
    ids.remove("e061/e062")
    assert sorted(ids) == [f"e{n:03d}" for n in range(1, 63)]
    for table in found:
        assert (table["definition"].fillna("") != "").all()
        ours = table[table["ours"].notna()]
        # Every value of ours says in its own row what it was measured on.
        assert (
            ours["remark"]
            .str.contains(r"(?:stand-in|simulated) data \(miniature\)")
            .all()
        )
        assert ours["remark"].str.contains("reduced scale").all()
        assert (table[table["ours"].isna()]["remark"] == "not run").all()


def test_figure_2_and_3_hold_what_the_stages_measured(parts, tables):
    fig2, fig3 = (read(tables, name).set_index("id") for name in ("fig2", "fig3"))
    root, _ = parts["ath"]
    forward = pd.read_csv(root / "tables/forward.csv")
    row = forward.query("t == 100 and bins == 256 and metric == 'kld'").iloc[0]
    assert fig2.loc["e037", "ours"] == pytest.approx(row["value"])
    assert (fig2.loc["e037", "n"], fig2.loc["e037", "data_kind"]) == (3, "simulated")
    assert fig2.loc["e001", "ours"] > 0
    assert fig2.loc["e002", "remark"] == "not run"
    backward = pd.read_csv(parts["hela"][0] / "tables/backward.csv")
    row = backward.query("t == 600 and input == 'sketch' and metric == 'psnr'").iloc[0]
    assert fig3.loc["e052", "ours"] == pytest.approx(row["value"])
    assert fig3.loc["e052", "method"] == "dpmpp_2m, 2 steps"
    assert fig3.loc["e049", "remark"] == "not run"
    own = fig3[fig3["published"].isna()]
    assert {"f1", "bd_texture", "spectrum"} <= set(own["metric"])
    assert own["remark"].str.contains("not in the paper").all()


def test_section_4_has_dice_per_cell_and_the_ratio(parts, tables):
    sec4 = read(tables, "sec4").set_index("id")
    root, _ = parts["ath"]
    truth = ImageSet.open(root / "prepared")
    means = {}
    for key, arm in (("e061", "synthetic"), ("e062", "annotated")):
        found = ImageSet.open(root / f"predictions/cellpose/{arm}/seed0")
        dice = dice_per_object(truth.mask("003"), found.mask("003"))
        assert sec4.loc[key, "ours"] == pytest.approx(dice.mean())
        assert sec4.loc[key, "sd"] == pytest.approx(dice.std())
        means[arm] = dice.mean()
    assert sec4.loc["e061", "published_sd"] == 0.265
    ratio = sec4.loc["e061/e062"]
    assert ratio["published"] == pytest.approx(0.627 / 0.837)
    assert ratio["ours"] == pytest.approx(means["synthetic"] / means["annotated"])
    assert ratio["ci_low"] < ratio["ours"] < ratio["ci_high"]
    assert ratio["unit_of_n"] == "cell"  # one image: groups cannot be drawn
    text = (tables / "sec4.md").read_text()
    assert "0.627 ± 0.265" in text
    assert "simulated data (miniature)" in text


def test_a_group_is_drawn_with_all_its_cells(tmp_path):
    config = make_config({"evaluate": {"resamples": 50}})
    with ImageSetWriter(tmp_path / "prepared", {}) as writer:
        for n in range(4):
            raw, labels = scene(2, n)
            writer.add(f"i{n}", raw, labels, split="test", group=f"g{n}")
    truth = ImageSet.open(tmp_path / "prepared")
    cells = {}
    for arm, share in SHARES.items():
        folder = tmp_path / f"predictions/cellpose/{arm}/seed0"
        with ImageSetWriter(folder, {}) as writer:
            for n, name in enumerate(truth.ids):
                found = damaged(truth.mask(name), share, n)
                writer.add(name, truth.image(name), found)
        cells[arm] = dice_of_cells(tmp_path, "cellpose", arm)
    part = Part(tmp_path, config)
    found, unit = dice_ratio(part, cells["synthetic"], cells["annotated"])
    assert (unit, found.n_groups) == ("image group", 4)
    means = [cells[arm]["dice"].mean() for arm in SHARES]
    assert found.value == pytest.approx(means[0] / means[1])
    assert found.low <= found.value <= found.high < 1


def test_the_papers_sampler_stands_beside_the_paper(tmp_path):
    config = experiment(tmp_path, 2, organism="hela", times=[600])
    same = {"id": "a", "group": "a", "t": 600, "input": "sketch", "metric": "psnr"}
    lines = [
        {**same, "sampler": "dpmpp_2m", "steps": 10, "value": 1},
        {**same, "sampler": "ddpm", "steps": 600, "value": 2},
    ]
    write_text(
        tmp_path / "tables/backward.csv", pd.DataFrame(lines).to_csv(index=False)
    )
    rows = backward_rows(
        Part(tmp_path, config), {("hela", "psnr", "sketch_t600"): "e052"}
    )
    assert {row.id: row.value for row in rows if row.id == "e052"} == {"e052": 2}
    assert len({row.id for row in rows}) == 2


def test_pareto(tables):
    assert non_dominated(np.array([[0, 1], [1, 0], [1, 1], [0, 1]])) == [
        True, True, False, True,
    ]  # fmt: skip
    table = read(tables, "pareto")
    assert len(table) == 4
    assert table.groupby("organism")["efficient"].any().all()


def test_without_any_part_nothing_was_run(tmp_path):
    write_paper_tables("eschweiler", {}, files(tmp_path))
    assert len(read(tmp_path, "fig2")) == 48
    assert (read(tmp_path, "fig3")["remark"] == "not run").all()
    assert (tmp_path / "pareto.md").read_text() == "Not run.\n"


def test_stages_write_the_files_that_are_named(parts, tmp_path):
    roots = [root for root, _ in parts.values()]
    config = parts["ath"][1]
    tabulate_paper(config, parts=roots, tables=files(tmp_path))
    assert all(path.stat().st_size for path in files(tmp_path))
    figures = [tmp_path / f"{name}.png" for name in PAPER.figures]
    draw_paper(config, parts=roots, figures=figures)
    for path in figures:
        pixels = np.asarray(Image.open(path).convert("L"))
        assert pixels.std() > 5


def test_what_is_said_of_a_paper_is_what_is_made(tmp_path):
    assert set(MAKERS) == set(PAPERS)
    for name, about in PAPERS.items():
        assert tuple(MAKERS[name].tables({})) == about.tables
        assert tuple(MAKERS[name].figures) == about.figures
        assert set(about.data_sets) == set(about.organisms)


def test_parts_are_of_one_paper(tmp_path):
    for name in ("ce", "mt"):
        write_text(tmp_path / name / "config.yaml", f"appearance: {{organism: {name}}}")
    with pytest.raises(PhantomscopeError, match="of two papers: eschweiler, saguy"):
        load_parts([tmp_path / "ce", tmp_path / "mt"])


def test_wrong_folders_are_refused(parts, tmp_path):
    root, config = parts["ath"]
    with pytest.raises(PhantomscopeError, match=r"two results are of A\. thaliana"):
        tabulate_paper(config, parts=[root, root], tables=[tmp_path / "fig2.csv"])
    with pytest.raises(PhantomscopeError, match="no such table"):
        tabulate_paper(config, parts=[root], tables=[tmp_path / "fig9.csv"])
    with pytest.raises(PhantomscopeError, match="'fig9' is not drawn"):
        draw_paper(config, parts=[root], figures=[tmp_path / "fig9.png"])
    write_text(tmp_path / "a/config.yaml", "")
    with pytest.raises(PhantomscopeError, match="does not say which organism"):
        tabulate_paper(config, parts=[tmp_path / "a"], tables=[tmp_path / "fig2.csv"])
    with pytest.raises(PhantomscopeError, match="no organism has what fig1 shows"):
        draw_paper(config, parts=[_bare(tmp_path)], figures=[tmp_path / "fig1.png"])
    claimed = make_config({"appearance": {"organism": "ce", "data_kind": "real"}})
    with pytest.raises(PhantomscopeError, match=r"not the paper's images of C\. eleg"):
        _ = Part(tmp_path, claimed).data_kind


def _bare(folder):
    write_text(folder / "b/config.yaml", "appearance: {organism: ce}")
    return folder / "b"
