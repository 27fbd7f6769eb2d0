"""Saguy et al.: presets, tables and figures on small hand-made results."""

from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from phantomscope.config.load import make_config
from phantomscope.config.papers import PAPERS, load_paper, parts_of
from phantomscope.engine.model import DiffusionModel
from phantomscope.engine.networks import make_network
from phantomscope.engine.process import make_process
from phantomscope.engine.sample import Sampler
from phantomscope.engine.samplers import plan_steps
from phantomscope.images.files import write_json, write_text
from phantomscope.images.imageset import ImageSet
from phantomscope.images.normalise import fit_normalisation
from phantomscope.images.writer import ImageSetWriter, write_manifest
from phantomscope.planning.sources import source_images, split_images
from phantomscope.stages.papers import draw_paper, tabulate_paper
from phantomscope.tables.headline import cautions
from phantomscope.tables.paper import Part
from phantomscope.tables.published import load_published
from phantomscope.tables.results import ResultRow
from phantomscope.tables.saguy import memorisation_rows, resolution_rows

ABOUT = PAPERS["saguy"]
SIDE = 48


def parts(scale, *presets):
    options = {"scale": scale, "presets": list(presets)}
    return {
        (p.preset, p.name): p.config
        for p in parts_of(load_paper("saguy", options, "shipped"), "shipped")
    }


def test_published_values_are_those_of_the_paper():
    rows = load_published("saguy")
    assert [row.id for row in rows] == [f"s{n:03d}" for n in range(1, 20)]
    values = {row.id: row.value for row in rows}
    assert values["s001"] == 0.345
    assert values["s008"] == 0.510
    assert (values["s009"], values["s010"], values["s011"]) == (100, 140, 110)
    assert sum(values.values()) == pytest.approx(10251.773)


def test_the_preset_of_the_paper_is_what_the_paper_says():
    found = parts("paper", "paper")
    assert {name for _, name in found} == {"mt", "mito", "mt_1", "mt_3"}
    for config in found.values():
        train, sampling = config.train, config.synthesise
        assert (train.steps, train.batch_size, train.learning_rate) == (80000, 10, 1e-5)
        assert (train.ema, train.weight_decay, train.patch) == (0.9999, 0, 256)
        assert (train.optimiser, train.augment, train.symmetries) == (
            "adamw", True, "all",
        )  # fmt: skip
        assert (config.process.timesteps, config.process.schedule) == (2000, "cosine")
        assert (sampling.sampler, sampling.variance, sampling.steps) == (
            "ddpm", "large", "all",
        )  # fmt: skip
        assert config.start.value == 2000
        network = make_network(config.network, 0, 2, timesteps=2000)
        assert sum(w.numel() for w in network.parameters()) == 8_913_793
        train_part, test_part = split_images(config, source_images(config))
        sizes = {"mt": (7, 5), "mito": (3, 2)}[config.appearance.organism]
        most = config.split.most_train or sizes[0]
        assert (train_part.count, test_part.count) == (most, sizes[1])
    assert found["paper", "mt"].source.localisations.pixel_size_nm == 27
    assert found["paper", "mito"].source.localisations.pixel_size_nm == 32
    # 2000 and 800 patches of the paper, as far as a whole grid can give them.
    for name, images, count in (("mt", 7, 2000), ("mito", 3, 800)):
        audit = found["paper", name].audit
        step = audit.patch * (1 - audit.overlap)
        along = (1216 - audit.patch) // step + 1
        assert 8 * images * along**2 == pytest.approx(count, rel=0.1)


def test_the_notebook_takes_a_thousand_of_two_thousand_steps():
    config = parts("paper", "notebook")["notebook", "mt"]
    assert config.train.symmetries == "flip"
    assert (config.train.steps, config.train.learning_rate) == (30000, 1e-5)
    plan = plan_steps(make_process(config.process), 2000, 1000, "ddpm")
    assert [step.t for step in plan][:3] == [2000, 1998, 1996]


def test_ours_begins_with_a_sketch():
    config = parts("paper", "best")["best", "mt"]
    assert config.start.value == "auto"
    assert (config.synthesise.sampler, config.synthesise.steps) == ("dpmpp_2m", 10)


class Gaussian(torch.nn.Module):
    """The exact prediction of noise where images are white noise of this variance."""

    def __init__(self, process, variance):
        super().__init__()
        self.spec = make_network(make_config({}).network, 0, 2).spec
        self.a, self.s = (torch.tensor(v, dtype=torch.float32)
                          for v in (process.a, process.s))  # fmt: skip
        self.variance = variance
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def prepare(self, x, t, condition=None):
        return x, t.float()

    def predict(self, x, t):
        at = t.long()
        a, s = self.a[at].view(-1, 1, 1, 1), self.s[at].view(-1, 1, 1, 1)
        return s * x / (a**2 * self.variance + s**2)


def test_from_pure_noise_nothing_of_a_sketch_is_left():
    config = parts("paper", "paper")["paper", "mt"]
    process = make_process(config.process)
    options = config.synthesise.model_copy(
        update={"device": "cpu", "steps": 200, "tile": 64}
    )
    network = Gaussian(process, 0.09)
    model = DiffusionModel(network, process, (-1.0, 1.0), False, {"fingerprint": "x"})
    sampler = Sampler(model, options, 0, 64**2)
    blank, full = np.full((2, 64, 64), -1, np.float32)
    full[16:48] = 1
    made = [sampler.from_sketch(sketch, "one", 2000) for sketch in (blank, full)]
    # It is a sample of what the model knows, whatever the sketch.
    assert made[0].std() == pytest.approx(0.3, rel=0.1)
    np.testing.assert_allclose(made[0], made[1], atol=1e-3)
    free = sampler.unconditional((64, 64), "one")
    np.testing.assert_allclose(made[0], free, atol=1e-3)
    # From half of the way it is there.
    near = [sampler.from_sketch(sketch, "one", 1000) for sketch in (blank, full)]
    assert np.abs(near[0] - near[1])[20:44].mean() > 0.1


def textures(count, seed):
    rng = np.random.default_rng(seed)
    return [rng.gamma(2, 50, (SIDE, SIDE)).astype(np.float32) for _ in range(count)]


def copies(seed, low):
    """A table as `measure_realism` writes it: four samples, four held-out patches."""
    scores = np.random.default_rng(seed).uniform(low, low + 0.1, 8)
    table = pd.DataFrame({
        "id": [f"{k}-{n:03d}" for k in ("synthetic", "held_out") for n in range(4)],
        "kind": ["synthetic"] * 4 + ["held_out"] * 4, "score": scores,
        "score_zero_lag": scores - 0.1, "flagged": [True] + [False] * 3 + [""] * 4,
        "gap": 0.01, "gap_low": -0.02, "gap_high": 0.03, "nearer": -0.05,
        "nearer_low": -0.1, "nearer_high": 0.0, "side": SIDE,
        "group": [""] * 4 + ["a", "a", "b", "c"],
    })  # fmt: skip
    return table


def restored(root, config):
    """Write what restoration leaves: pairs, restored images, their scores."""
    truth = textures(2, 5)
    target = root / "pairs/test"
    with ImageSetWriter(target, {}) as writer:
        for n, image in enumerate(truth):
            writer.add(f"field-{n}", image * 0.5, pixel_size=0.027)
    rows = []
    for name in ImageSet.open(target).ids:
        row = ImageSet.open(target).row(name)
        rows.append({"id": name, **row, "target": row["image"]})
    write_manifest(target, rows, {})
    scores = []
    for arm, value in (("mathematical", 150.0), ("diffusion", 120.0), ("none", 250.0)):
        method = "widefield" if arm == "none" else "care"
        row = ResultRow(
            f"{config.name}/{arm}", config.name, "miniature", "frc_nm", arm, method,
            value, value - 5, value + 5, 2, "image group", "all", config.data_kind,
            config.scale, "scores",
        )  # fmt: skip
        scores += [row, replace(row, id=f"{row.id}/0", seed="0", value=value + 1)]
        if arm != "none":
            with ImageSetWriter(root / f"restored/care/{arm}/seed0", {}) as writer:
                for n, image in enumerate(truth):
                    writer.add(f"field-{n}", image)
    scores.append(replace(scores[0], id="psnr", metric="psnr", value=20.0))
    scores.append(replace(scores[0], id="ratio", metric="frc_ratio", value=0.8,
                          condition="diffusion / mathematical"))  # fmt: skip
    table = pd.DataFrame([asdict(row) for row in scores])
    write_text(root / "tables/restoration.csv", table.to_csv(index=False))


def result(folder, name, organism, most=None):
    """Write a small folder of results by hand."""
    root = folder / name
    options = {
        "experiment": f"saguy/best/{name}", "scale": "smoke",
        "source": {"kind": "localisations", "path": "tables"},
        "segment": {"tools": []}, "split": {"most_train": most},
        "simulate": {"organism": "microtubules", "size": [SIDE, SIDE], "images": 4},
        "network": {"preset": "small"},
        "audit": {"patch": 16, "overlap": 0.0, "samples": 4},
        "evaluate": {"resamples": 20},
        "appearance": {"organism": organism, "data_kind": "simulated"},
    }  # fmt: skip
    config = make_config(options)
    write_text(root / "config.yaml", yaml.safe_dump(options))
    with ImageSetWriter(root / "prepared", {"name": "miniature"}) as writer:
        for n, image in enumerate(textures(most or 3, 1)):
            writer.add(f"i{n}", image, split="train", group=f"i{n}", pixel_size=0.027)
    real = ImageSet.open(root / "prepared")
    fit_normalisation(real, real, config.normalise).save(root / "normalisation.json")
    for place in ("synthetic/shard-000", "checked"):
        with ImageSetWriter(root / place, {}) as writer:
            for n, image in enumerate(textures(4, 2)):
                writer.add(f"s{n}", image, limits="i0")
    with ImageSetWriter(root / "memorisation", {}) as writer:
        for n, image in enumerate(textures(4, 3)):
            for kind in ("sample", "patch"):
                writer.add(f"pair-{n:02d}-{kind}", image, score=0.9, flagged=n == 0)
    low = 0.3 + 0.2 / (most or 4)
    write_text(root / "memorisation.csv", copies(0, low).to_csv(index=False))
    network = make_network(config.network, 0, 2, timesteps=1000)
    made = {"network": config.network.model_dump(), "dims": 2, "fingerprint": "x",
            "process": config.process.model_dump(), "value_range": [-1, 1]}  # fmt: skip
    from phantomscope.engine.checkpoint import save_checkpoint

    save_checkpoint(
        root / "diffusion/model.pt", {"network": network.state_dict()}, made
    )
    line = '{"step": 100, "loss": 1, "images_per_second": 2.0}\n'
    write_text(root / "diffusion/metrics.jsonl", line)
    write_json(root / "start.json", {"value": 400})
    write_text(root / "benchmarks/synthesise.000.tsv", "s\tmax_rss\n12\t1\n")
    return root, config


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saguy")
    found = {
        "mt": result(folder, "mt", "mt"), "mito": result(folder, "mito", "mito"),
        "mt_1": result(folder, "mt_1", "mt", 1),
    }  # fmt: skip
    restored(*found["mt"])
    return {name: root for name, (root, _) in found.items()}


@pytest.fixture(scope="module")
def tables(results, tmp_path_factory):
    out = tmp_path_factory.mktemp("tables")
    files = [out / f"{n}{end}" for n in ABOUT.tables for end in (".csv", ".md")]
    tabulate_paper(make_config({}), parts=list(results.values()), tables=files)
    assert "simulated data (miniature)" in (out / "memorisation.md").read_text()
    return {name: pd.read_csv(out / f"{name}.csv").set_index("id")
            for name in ABOUT.tables}  # fmt: skip


def test_correlations_stand_beside_the_published_ones(results, tables):
    table = tables["memorisation"]
    scores = pd.read_csv(results["mt"] / "memorisation.csv").groupby("kind")["score"]
    assert table.loc["s001", "ours"] == pytest.approx(scores.max()["synthetic"])
    assert table.loc["s002", "ours"] == pytest.approx(scores.mean()["synthetic"])
    assert table.loc["s005", "ours"] == pytest.approx(scores.mean()["held_out"])
    # Groups of held-out images are drawn anew, not patches.
    assert (table.loc["s005", "n"], table.loc["s005", "unit_of_n"]) == (
        3,
        "image group",
    )
    assert "held-out images of the same set" in table.loc["s005", "method"]
    assert table.loc["s012", "ours"] == 4
    own = table[table.index.str.startswith("saguy/best/mt/")]
    flagged = own[own["metric"] == "ncc_flagged"].iloc[0]
    assert (flagged["ours"], flagged["n"]) == (1, 4)
    gap = own[own["metric"] == "ncc_gap"].iloc[0]
    assert (gap["ours"], gap["ci_low"], gap["ci_high"]) == (0.01, -0.02, 0.03)
    zero = own[own["method"].str.startswith("zero lag")].set_index("metric")["ours"]
    assert zero["ncc_mean"] == pytest.approx(table.loc["s002", "ours"] - 0.1)


def test_parts_with_fewer_images_claim_no_published_value(tables):
    table = tables["memorisation"]
    own = table[table.index.str.startswith("saguy/best/mt_1/")]
    assert own["published"].isna().all()
    assert own["condition"].str.contains("1 training image").all()
    assert (own["remark"].str.contains("not in the paper")).all()


def test_resolution_is_that_of_all_trainings(results, tables):
    table = tables["resolution"]
    assert (table.loc["s009", "ours"], table.loc["s010", "ours"]) == (120, 150)
    assert (table.loc["s009", "ci_low"], table.loc["s009", "n"]) == (115, 2)
    assert table.loc["s011", "remark"] == "not run"
    assert table.loc["ratio", "ours"] == 0.8
    assert table.loc["saguy/best/mt/none", "method"] == "widefield"
    assert table.loc["psnr", "metric"] == "restored_psnr"
    assert (table["definition"].fillna("") != "").all()
    assert len(resolution_rows(Part.load(results["mt"]), {})) == 5
    assert resolution_rows(Part.load(results["mito"]), {}) == []


def test_training_is_counted(tables):
    table = tables["training"]
    assert table.loc["s014", "ours"] == 3 * (SIDE // 16) ** 2 * 8
    assert table.loc["s018", "ours"] == pytest.approx(2400 * 8 / 2 / 3600)
    assert table.loc["s019", "ours"] == 3
    assert "10 steps from t = 400" in table.loc["s019", "method"]
    assert table.loc["s016", "remark"] == "not run"
    numbers = table[table["metric"] == "parameters"]["ours"]
    assert numbers.nunique() == 1
    assert numbers.iloc[0] > 1e5


def test_figures_show_parts_or_say_why_not(results, tmp_path):
    figures = [tmp_path / f"{name}.png" for name in ABOUT.figures]
    draw_paper(make_config({}), parts=list(results.values()), figures=figures)
    heights = {}
    for path in figures:
        with Image.open(path) as picture:
            assert np.asarray(picture.convert("L")).std() > 5
            heights[path.stem] = picture.size[1]
    # One says that nothing was restored.
    assert heights["fig4"] < 120 < heights["fig3"]
    alone = tmp_path / "alone/sweep.png"
    draw_paper(make_config({}), parts=[results["mt"]], figures=[alone])
    with Image.open(alone) as picture:
        assert picture.size[1] < 120 < heights["sweep"]


def test_a_report_says_that_labels_mean_nothing(tmp_path):
    for value, kind, free in ((1000, "none", True), (400, "none", False),
                              (1000, "sketch", False)):  # fmt: skip
        write_json(tmp_path / "start.json", {"value": value})
        said = cautions(tmp_path, make_config({"condition": {"kind": kind}}), [])
        assert any("labels beside them mean nothing" in one for one in said) == free


def test_without_an_audit_there_are_no_rows(tmp_path):
    write_text(tmp_path / "config.yaml", "appearance: {organism: mt}")
    assert memorisation_rows(Part.load(tmp_path), {}) == []
