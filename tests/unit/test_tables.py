"""Tables, figures and report, on a small fake tree in the formats of the stages."""

import base64
import io
import json
import math
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import ndimage
from skimage.measure import label as components

from phantomscope.config.load import make_config
from phantomscope.config.papers import PAPERS
from phantomscope.images.files import write_json, write_text
from phantomscope.images.imageset import ImageSet
from phantomscope.images.normalise import fit_normalisation
from phantomscope.images.writer import ImageSetWriter, write_manifest
from phantomscope.measure.instance import object_records, pool, score_image
from phantomscope.measure.statistics import bootstrap_interval
from phantomscope.stages.populations import measure_populations
from phantomscope.tables.figures import FEW, FIGURES, available
from phantomscope.tables.figures_curves import duration, stage_costs
from phantomscope.tables.figures_images import compare
from phantomscope.tables.report import write_report
from phantomscope.tables.results import (
    per_image_table,
    segmentation_rows,
    wide_table,
    write_tables,
)
from phantomscope.tables.style import LIMIT, spread


def blobs(size=96, count=9, seed=0):
    """Discs on a jittered grid: (raw image, labels)."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((size, size), np.uint16)
    y, x = np.mgrid[:size, :size]
    across = math.ceil(math.sqrt(count))
    step = size / across
    for n in range(count):
        centre = (np.array(divmod(n, across)) + 0.5) * step + rng.uniform(-3, 3, 2)
        labels[np.hypot(y - centre[0], x - centre[1]) < step * 0.3] = n + 1
    unit = ndimage.gaussian_filter((labels > 0) * 0.6, 1.2) + 0.05
    raw = rng.poisson(unit * 200).astype(np.uint16)
    return raw, labels


def damaged(labels, share, seed):
    """Drop a share of the objects and shift the others by a pixel."""
    rng = np.random.default_rng(seed)
    numbers = np.unique(labels)[1:]
    gone = rng.choice(numbers, round(share * len(numbers)), replace=False)
    found = np.where(np.isin(labels, gone), 0, labels)
    found = np.roll(found, 1, axis=1)
    speck = found[:8, :8]
    speck[speck == 0] = found.max() + 1
    return components(found, connectivity=1).astype(np.uint16)


POPULATIONS = {
    "prepared": "prepared", "normalisation": "normalisation.json", "checked": "checked",
    "sketch": "sketch.yaml", "populations": "tables/populations.csv",
    "histograms": "populations.json",
}  # fmt: skip
SKILL = {
    ("cellpose", "synthetic"): 0.22, ("cellpose", "annotated"): 0.11,
    ("cellpose", "sketch"): 0.45, ("stardist", "synthetic"): 0.11,
    ("stardist", "annotated"): 0.0, ("stardist", "sketch"): 0.34,
    ("otsu_watershed", "annotated"): 0.22,
}  # fmt: skip


def make_tree(root, tests, *, sketch_side=96, seeds=(0,), labelled=True):
    """Write an experiment as the stages would; `tests` are (raw, labels) pairs."""
    with ImageSetWriter(root / "prepared", {"name": "fake nuclei", "licence": "CC0",
                        "citation": "Nobody 2026"}) as writer:  # fmt: skip
        for n, (raw, labels) in enumerate(tests):
            for split in ("train", "test"):
                writer.add(f"im{n}-{split}", raw, labels if labelled else None,
                           split=split, group=f"g{n}", stratum="all")  # fmt: skip
    prepared = ImageSet.open(root / "prepared")
    train, test = prepared.select(split="train"), prepared.select(split="test")
    config = make_config({
        "experiment": root.name, "evaluate": {"resamples": 200},
        "segment": {"seeds": list(seeds)},
    })  # fmt: skip
    norm = fit_normalisation(train, test, config.normalise)
    norm.save(root / "normalisation.json")
    _sketches(root, tests, norm, train.ids[0], sketch_side)
    _curves(root)
    names = ("radius", "density", "elongation", "intensity")
    nuclei = {"name": "all", "clustering": 0.0, **dict.fromkeys(names, [1.0] * 7)}
    write_json(root / "sketch.yaml", {"types": [nuclei]})
    measure_populations(config, **{k: root / v for k, v in POPULATIONS.items()})
    if labelled:
        _scores(root, test, seeds)
    return config


def _sketches(root, tests, norm, like, side):
    raw, labels = tests[0]
    for shard in range(2):
        sketches = ImageSetWriter(root / f"sketches/shard-{shard:03d}", {})
        synthetic = ImageSetWriter(root / f"synthetic/shard-{shard:03d}", {})
        with sketches, synthetic:
            for n in range(shard * 4, shard * 4 + 4):
                turned = np.roll(np.rot90(raw, n), n * 17, 1)[:side, :side]
                mask = np.roll(np.rot90(labels, n), n * 17, 1)[:side, :side]
                flat = ndimage.gaussian_filter((mask > 0) * 0.45, 1) + 0.05
                name = f"sketch-{n:06d}"
                sketches.add(name, flat.astype(np.float32), mask, type="all")
                synthetic.add(name, np.ascontiguousarray(turned), mask, type="all",
                              limits=like)  # fmt: skip
    parts = [ImageSet.open(p) for p in sorted((root / "synthetic").iterdir())]
    rows = []
    for n, name in enumerate(i for part in parts for i in part.ids):
        rows.append({"id": name, "objects": 20, "vanished": n % 4, "phantoms": n % 3,
                     "agreement": 0.9 - 0.05 * n, "contrast": 4.0 + n})  # fmt: skip
    found = [
        {**part.row(name), **row, "image": f"../synthetic/shard-{n:03d}/images/{name}"
         ".ome.tif", "mask": f"../synthetic/shard-{n:03d}/labels/{name}.ome.tif"}
        for n, part in enumerate(parts)
        for name, row in ((row["id"], row) for row in rows)
        if name in part.table.index
    ]  # fmt: skip
    write_manifest(root / "checked", found[:7], {"stage": "check"})
    rejected = pd.DataFrame([{**found[7], "reason": "disagreement"}])
    write_text(root / "checked/rejected.csv", rejected.to_csv(index=False))
    contrast = np.random.default_rng(0).gamma(4, 1.5, 160)
    objects = pd.DataFrame({"id": "x", "label": 1, "contrast": contrast})
    write_text(root / "checked/objects.csv", objects.to_csv(index=False))
    write_json(root / "checked/summary.json", {
        "images": 8, "kept": 7, "rejected": 1, "objects": 160, "erased_labels": 5,
        "reasons": {"disagreement": 1}})  # fmt: skip
    with ImageSetWriter(root / "pseudo", {}) as writer:
        flat = ndimage.gaussian_filter((labels > 0) * 0.45, 1) + 0.05
        writer.add(like, flat.astype(np.float32), labels, type="all")
    with ImageSetWriter(root / "start", {}) as writer:
        for t in range(100, 900, 100):
            soft = ndimage.gaussian_filter(raw[:side, :side] * 1.0, 5 - t / 200)
            writer.add(f"t{t:04d}-0", soft.astype(np.uint16), labels[:side, :side],
                       t=t, sketch=0)  # fmt: skip
    with ImageSetWriter(root / "memorisation", {}) as writer:
        for n in range(FEW + 1):
            tile = raw[n * 8 : n * 8 + 64, n * 8 : n * 8 + 64].astype(np.float32)
            writer.add(f"pair-{n:02d}-sample", tile, score=0.6)
            patch = np.ascontiguousarray(np.rot90(np.roll(tile, 2, 0)))
            writer.add(f"pair-{n:02d}-patch", patch, score=0.6)


def _curves(root):
    rng = np.random.default_rng(1)
    nuclei = pd.DataFrame({
        "source": ["real", "sketch"] * 200, "type": "all",
        "radius": rng.normal(9, 2, 400), "elongation": 1 + rng.gamma(2, 0.15, 400),
        "intensity": rng.gamma(3, 0.12, 400)})  # fmt: skip
    write_text(root / "fit_objects.csv", nuclei.to_csv(index=False))
    side = {"density": 480.0, "coverage": 0.21, "touching": 0.3, "edge": 1.2}
    write_json(root / "fit.json", {"types": [
        {"name": "all", "distances": [0.31, 0.12, 0.05], "real": side,
         "drawn": {**side, "coverage": 0.2}}]})  # fmt: skip
    steps = range(20, 2400, 20)
    lines = [{"step": s, "loss": 0.6 / (1 + s / 60) + 0.03 + 0.006 * rng.normal(),
              "learning_rate": 1e-3 * min(1, s / 100, (2420 - s) / 800),
              "images_per_second": 40, "seconds": s} for s in steps]  # fmt: skip
    write_text(root / "diffusion/metrics.jsonl",
               "".join(json.dumps(line) + "\n" for line in lines))  # fmt: skip
    write_json(root / "start.json", {
        "value": 300, "reason": "the smallest t whose distances are below 0.01",
        "max_distance": 0.01, "min_fidelity": 0.85})  # fmt: skip
    t = np.arange(100, 900, 100)
    table = pd.DataFrame({"t": t, "fidelity": 0.95 - (t / 1000) ** 3})
    table["fidelity_relative"] = table["fidelity"] / table["fidelity"].max()
    table["bd_intensity"], table["bd_texture"] = np.exp(-t / 90), 0.3 * np.exp(-t / 75)
    table["bd_intensity_real"] = table["bd_texture_real"] = 1e-4
    table["kl_intensity"] = table["kl_texture"] = 0.1
    write_text(root / "tables/t_start.csv", table.to_csv(index=False))
    edges = np.linspace(0, 1, 65)
    middle = (edges[1:] + edges[:-1]) / 2
    shape = {"real": np.exp(-((middle - 0.05) ** 2) / 0.004) + 0.02 * (middle < 0.7)}
    shape["synthetic"] = np.roll(shape["real"], 1)
    shape["camera"] = np.exp(-((middle - 0.08) ** 2) / 0.002)
    grid = np.linspace(0.02, 0.5, 60)
    near = {"intensity_bhattacharyya": 0.01, "intensity_wasserstein": 0.005,
            "spectral": 0.3}  # fmt: skip
    write_json(root / "realism.json", {
        "intensity": {"edges": edges.tolist()} | {k: v.tolist()
                                                  for k, v in shape.items()},
        "spectrum": {"frequency": grid.tolist(), "real": (grid**-2.5).tolist(),
                     "synthetic": (1.1 * grid**-2.4).tolist(),
                     "camera": (grid**-2 + 9).tolist()},
        "distances": {"synthetic": near,
                      "camera": {k: 4 * v for k, v in near.items()}}})  # fmt: skip
    kinds = ["synthetic"] * 40 + ["held_out"] * 30
    copies = pd.DataFrame({"id": range(70), "kind": kinds,
                           "score": rng.beta(8, 6, 70)})  # fmt: skip
    write_text(root / "memorisation.csv", copies.to_csv(index=False))
    for name, seconds in {"train_diffusion": 412.3, "synthesise.000": 90.0,
                          "synthesise.001": 95.0, "fit_sketch": 21.0,
                          "train_segmenter.stardist": 77.0}.items():  # fmt: skip
        write_text(root / f"benchmarks/{name}.tsv",
                   f"s\th:m:s\tmax_rss\n{seconds}\t0:00:01\t812.5\n")  # fmt: skip


def _scores(root, test, seeds):
    for (tool, arm), share in SKILL.items():
        for seed in seeds if tool in ("cellpose", "stardist") else (0,):
            place = f"{tool}/{arm}/seed{seed}"
            rows, objects = [], []
            with ImageSetWriter(root / "predictions" / place, {}) as writer:
                for n, name in enumerate(test.ids):
                    truth = test.mask(name)
                    found = damaged(truth, share, 10 * seed + n)
                    writer.add(name, test.image(name), found)
                    group = test.row(name)["group"]
                    scored = score_image(truth, found)
                    rows.append({"id": name, "group": group, **scored})
                    objects.append(object_records(truth, found).assign(id=name))
            folder = root / "scores" / place
            write_text(folder / "images.csv", pd.DataFrame(rows).to_csv(index=False))
            write_text(folder / "objects.csv", pd.concat(objects).to_csv(index=False))
            write_json(root / "models" / place / "training.json", {
                "tool": tool, "seconds": 61.2, "images": 7, "objects": 140,
                "versions": {tool: "1.0"}})  # fmt: skip
    reason = root / "scores/generalist/none/seed0/absent.txt"
    write_text(reason, "weights not present\n")


@pytest.fixture(scope="module")
def one_image(tmp_path_factory):
    root = tmp_path_factory.mktemp("results") / "single"
    return root, make_tree(root, [blobs(count=9)])


@pytest.fixture(scope="module")
def four_groups(tmp_path_factory):
    root = tmp_path_factory.mktemp("results") / "four"
    tests = [blobs(count=9, seed=s) for s in range(4)]
    return root, make_tree(root, tests, seeds=(0, 1))


def find(rows, metric, method, condition, seed="all"):
    return next(r for r in rows if (r.metric, r.method, r.condition, r.seed)
                == (metric, method, condition, seed))  # fmt: skip


def test_ap_is_that_of_counting_by_hand(one_image):
    root, config = one_image
    rows = segmentation_rows(root, config)
    # Nine discs: one lost, eight found; the corner is one false object.
    row = find(rows, "ap_0.50", "stardist", "synthetic")
    assert row.value == pytest.approx(8 / 10)
    assert (row.n, row.unit_of_n) == (9, "object of one image")
    assert row.ci_low < row.value < row.ci_high
    assert (row.data_kind, row.scale, row.dataset) == ("real", "demo", "fake nuclei")
    assert math.isnan(find(rows, "seg", "stardist", "synthetic").ci_low)
    assert find(rows, "recall_0.50", "stardist", "synthetic").value == 8 / 9
    assert len({r.id for r in rows}) == len(rows)


def test_values_are_those_of_pool_and_intervals_of_the_bootstrap(four_groups):
    root, config = four_groups
    rows = segmentation_rows(root, config)
    table = pd.read_csv(root / "scores/cellpose/sketch/seed1/images.csv")
    records = table.sort_values("id").to_dict("records")
    pooled = pool(records)
    for metric in ("ap_0.50", "ap_0.95", "ap_mean", "pq_0.50", "seg", "dice", "splits"):
        row = find(rows, metric, "cellpose", "sketch", "1")
        assert row.value == pytest.approx(pooled[metric])
    expected = bootstrap_interval(
        records, lambda chosen: pool(chosen)["ap_0.50"],
        groups=[r["group"] for r in records], resamples=200,
    )  # fmt: skip
    row = find(rows, "ap_0.50", "cellpose", "sketch", "1")
    assert (row.ci_low, row.ci_high) == pytest.approx((expected.low, expected.high))
    assert (row.n, row.unit_of_n) == (4, "image group")
    seeds = [find(rows, "ap_0.50", "cellpose", "sketch", s).value for s in "01"]
    every = find(rows, "ap_0.50", "cellpose", "sketch")
    assert every.value == pytest.approx(np.mean(seeds))


def test_ratios_name_both_methods_and_the_better_tool(one_image):
    root, config = one_image
    rows = segmentation_rows(root, config)
    ratio = find(rows, "ap_0.50 synthetic/annotated", "stardist",
                 "stardist synthetic / stardist annotated (better tool)")  # fmt: skip
    assert ratio.value == pytest.approx((8 / 10) / (9 / 10))
    assert ratio.ci_low <= ratio.value <= ratio.ci_high
    against = find(rows, "ap_0.50 synthetic/otsu_watershed", "cellpose",
                   "cellpose synthetic / otsu_watershed annotated")  # fmt: skip
    # The same predictions: the paired true objects leave only the false ones to vary.
    assert against.value == pytest.approx(1.0)


def test_tables(one_image, tmp_path):
    root, config = one_image
    rows = segmentation_rows(root, config)
    write_tables(rows, tmp_path / "a.csv", tmp_path / "a.md")
    table = pd.read_csv(tmp_path / "a.csv")
    assert len(table) == len(rows)
    assert set(table["seed"]) == {"0", "all"}
    text = (tmp_path / "a.md").read_text()
    assert "| method | AP50 [95% CI] |" in text
    assert "| StarDist | 0.80 [" in text
    assert "weights not present" in text
    assert "AP = TP / (TP + FP + FN)" in text
    assert "n = 9 true objects of one image" in text
    wide = wide_table(rows)
    assert [line["arm"] for line in wide[:3]] == ["synthetic", "annotated", "sketch"]
    images = per_image_table(root)
    assert list(images.columns[:3]) == ["tool", "arm", "seed"]
    assert len(images) == len(SKILL)


def test_methods_measured_on_other_images_are_refused(one_image, tmp_path):
    import shutil

    from phantomscope.errors import PhantomscopeError

    root, config = one_image
    shutil.copytree(root / "scores", tmp_path / "scores")
    file = tmp_path / "scores/stardist/sketch/seed0/images.csv"
    file.write_text(file.read_text().replace("im0-test", "other"))
    with pytest.raises(PhantomscopeError, match="different images"):
        segmentation_rows(tmp_path, config)


FILTERING = "pairs", "layers", "detections", "quality", "learning_curve", "threshold"
OTHERS = {"restoration", "frc_curves", *PAPERS["cellresdm"].figures, *FILTERING}


@pytest.mark.parametrize("name", sorted({*FIGURES} - OTHERS))
def test_figures(one_image, tmp_path, name):
    root, config = one_image
    assert name in available(root)
    out = tmp_path / f"{name}.png"
    FIGURES[name][0](root, config, out)
    assert out.stat().st_size <= LIMIT
    picture = np.asarray(Image.open(out).convert("L"))
    assert picture.shape[1] > 600
    assert picture.std() > 5


def test_compare_counts_matches_false_and_missed():
    truth = np.zeros((20, 20), int)
    truth[2:8, 2:8], truth[12:18, 2:8] = 5, 9
    found = np.zeros_like(truth)
    found[2:8, 2:8], found[2:6, 12:16] = 3, 4
    assert compare(truth, found) == ({3}, {9}, (1, 1, 1))
    assert compare(truth, found * 0) == (set(), {5, 9}, (0, 0, 2))


def test_costs_and_labels(one_image):
    table = stage_costs(one_image[0]).set_index("stage")
    assert table.loc["synthesise", "seconds"] == 185
    assert table.loc["synthesise", "jobs"] == 2
    said = [duration(s) for s in (4.2, 61, 3700)]
    assert said == ["4.2 s", "1 min 01 s", "1 h 01 min"]
    placed = spread([0.5, 0.5, 0.9], 0.1)
    assert placed == pytest.approx([0.45, 0.55, 0.9])


def test_report(one_image, tmp_path):
    root, config = one_image
    write_report(root, config, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    sections = "results gallery overlays realism populations memorisation t_start fit"
    sections += " checks training costs models data config versions cite"
    for name in sections.split():
        assert f'id="{name}"' in text
    assert "Trained without a single annotation, StarDist reaches" in text
    assert "weights not present" in text
    assert "Only one training (seed) per method" in text
    assert {"one image", "CC0"} <= set(re.findall("one image|CC0", text))
    assert not re.search(r'(?:src|href)="(?!#|data:)', text)
    pictures = re.findall(r"data:image/png;base64,([^\"]+)", text)
    assert len(pictures) == len(available(root)) == len({*FIGURES} - OTHERS)
    for picture in pictures:
        Image.open(io.BytesIO(base64.b64decode(picture))).verify()


def test_report_without_annotation_says_so(tmp_path):
    root = tmp_path / "unlabelled"
    config = make_tree(root, [blobs()], labelled=False)
    assert segmentation_rows(root, config) == []
    write_tables([], tmp_path / "a.csv", tmp_path / "a.md")
    assert "no annotation" in (tmp_path / "a.md").read_text()
    assert len(pd.read_csv(tmp_path / "a.csv")) == 0
    assert list(per_image_table(root).columns[:3]) == ["tool", "arm", "seed"]
    write_report(root, config, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert 'id="overlays"' not in text
    assert "There is no annotation" in text
